"""
What ``restore.pyz`` runs: an environment in which Muster's command line works, made with nothing but Python.

    python3 restore.pyz FOLDER

It stands in the kit as ``__main__.py``, so it imports nothing of Muster (`muster.adapters.rescue_kit` says what else is in there), and runs
on a machine that has nothing of it. Whatever fails, no half of FOLDER is left.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
import zlib
from pathlib import Path
from typing import Any

FACTS = "kit.json"
LOCK = "requirements.txt"
SITE = "site/"
WHEELS = "wheels/"
_COMMAND = """#!/bin/sh
'''exec' '{python}' -I "$0" "$@"
' '''
from muster.cli.main import main

main()
"""
"""The shell runs the second line, which Python takes for a text: so a path may be long and have spaces. `-I`: no folder is looked into."""


class Failure(Exception):
    """What happened, and what to do next, for people."""


def install(kit: Path, folder: Path) -> Path:
    """
    Make an environment out of a kit; return its command ``muster``.

    :param folder: must not be there
    :raises Failure: if it is, if this machine is another, if the kit is damaged, or if anything cannot be installed
    """
    with zipfile.ZipFile(kit) as archive:
        try:
            damaged = archive.testzip()
        except (zipfile.BadZipFile, zlib.error, OSError) as error:
            damaged = str(error)
        if damaged:
            raise Failure(f"this kit is damaged ({damaged}): take another copy of it, or RESTORE.md's other way")
        facts = json.loads(archive.read(FACTS))
        _require_same(facts)
        if folder.exists() or folder.is_symlink():
            raise Failure(f"{folder} is there already: name a folder that is not")
        try:
            return _installed(archive, folder.absolute(), with_wheels=facts["wheels"])
        except (OSError, shutil.Error) as error:
            raise Failure(
                f"{folder} cannot be filled: {error}: see its disk, or name a folder on another one"
            ) from error
        finally:
            if not (folder / "bin" / "muster").exists():
                shutil.rmtree(folder, ignore_errors=True)


def _require_same(facts: dict[str, Any]) -> None:
    """
    :param facts: of the machine that the kit was made on
    :raises Failure: if what is in it cannot be installed here
    """
    here = {"python": f"{sys.version_info.major}.{sys.version_info.minor}", "platform": sysconfig.get_platform()}
    wanted = {what: facts[what] for what in (here if facts["wheels"] else ["python"])}
    if wanted != {what: here[what] for what in wanted}:
        raise Failure(
            f"this kit is for Python {' on '.join(wanted.values())}, and this is Python {' on '.join(here.values())}: "
            "run it with that Python, or take a kit that was made for this one"
        )
    library, version = platform.libc_ver()
    if facts["wheels"] and facts["glibc"] and (library != "glibc" or _numbers(version) < _numbers(facts["glibc"])):
        raise Failure(
            f"this kit is for machines with glibc {facts['glibc']} or newer, and this one has {library or 'another library'} {version}"
        )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


def _installed(archive: zipfile.ZipFile, folder: Path, *, with_wheels: bool) -> Path:
    try:
        venv.create(folder, with_pip=True, symlinks=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Failure(
            f"no environment can be made at {folder} ({error}): see its disk; Debian and Ubuntu need the package python3-venv"
        ) from error
    python = folder / "bin" / "python"
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        lock, wheels = Path(scratch, LOCK), Path(scratch, WHEELS)
        lock.write_bytes(archive.read(LOCK))
        archive.extractall(scratch, [name for name in archive.namelist() if name.startswith(WHEELS)])
        ours_alone = ["--isolated", "--no-index", "--find-links", str(wheels), "--only-binary", ":all:"]
        source = ours_alone if with_wheels else ["--retries", "2", "--prefer-binary"]
        _run(python, "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--require-hashes",
             "--no-deps", *source, "--requirement", str(lock))  # fmt: skip
        site = _run(python, "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
        ours = [name for name in archive.namelist() if name.startswith(SITE)]
        archive.extractall(scratch, ours)
        shutil.copytree(Path(scratch, SITE), site, dirs_exist_ok=True)
    unproven = folder / "bin" / "muster.new"
    unproven.write_text(_COMMAND.format(python=str(python).replace("'", "'\"'\"'")))
    unproven.chmod(0o755)
    _run(unproven, "--version")
    return unproven.rename(folder / "bin" / "muster")


def _run(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"it ended with {done.returncode}"]
        raise Failure(f"{Path(str(command[0])).name} failed: {' / '.join(said[-4:])}")
    return done.stdout


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """The command: 0 if it is done, 1 if not, 2 if nobody said where to."""
    kit = Path(__file__).parent
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        _say(f"usage: python3 {kit.name} FOLDER\n\nMakes FOLDER, an environment in which FOLDER/bin/muster restores.")
        return 2
    _say("This takes a minute or two.")
    try:
        command = install(kit, Path(sys.argv[1]))
    except Failure as failure:
        sys.stderr.write(f"error: {failure}\n")
        return 1
    _say(f"done. Next: {command} --vault VAULT points\nRESTORE.md in the vault says how to go on.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
