"""Environments are rebuilt with no network, and refused when anything does not match."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from environments import CapturedEnvironment, FolderTree, captured, source, store, wheel
from muster.adapters.environment_content import environment_digest
from muster.adapters.environment_place import MARKER
from muster.adapters.uv_environment import EnvironmentTarget, UvEnvironment
from muster.errors import (
    IncompletePoint,
    IntegrityError,
    SourceInvalid,
    TargetNotEmpty,
)

BUILD = """
import json, sys
from pathlib import Path
from environments import FolderTree
from muster.adapters.uv_environment import UvEnvironment
from muster.domain.content import ContentRef, TreeEntry
details, entries, folder, directory = json.load(sys.stdin)
tree = FolderTree(Path(folder))
tree._entries = {p: TreeEntry(p, content=ContentRef(s, d, (d,))) for p, s, d in entries}
print(UvEnvironment().build(details, tree, Path(directory)))
"""


def build_elsewhere(capture: CapturedEnvironment, directory: Path, *prefix: str) -> subprocess.Popen[str]:
    """Start a build in a process of its own."""
    entries = [(e.path, e.content.size, e.content.sha256) for e in capture.tree.entries() if e.content]
    process = subprocess.Popen([*prefix, sys.executable, "-c", BUILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, start_new_session=True,
                               env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(["include", "tests"])})  # fmt: skip
    assert process.stdin
    process.stdin.write(json.dumps([capture.details, entries, str(capture.tree.folder), str(directory)]))
    process.stdin.close()
    process.stdin = None
    return process


def test_rebuilds_with_the_network_cut_off(environment_capture: CapturedEnvironment, tmp_path: Path) -> None:
    """In a network namespace without any interface that is up, the environment is rebuilt and its libraries work."""
    directory = tmp_path / "environment"
    process = build_elsewhere(environment_capture, directory, "unshare", "--net")
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    python = Path(output.strip())
    assert python == directory / "bin" / "python"
    check = "import mlflow.version, sklearn, sys; print(mlflow.version.VERSION, sys.prefix)"
    run = subprocess.run(["unshare", "--net", python, "-I", "-c", check], capture_output=True, text=True)
    assert run.stdout.split() == ["3.17.2", str(directory)]
    assert list(tmp_path.iterdir()) == [directory]


def test_restore_returns_what_was_captured(environment_capture: CapturedEnvironment, tmp_path: Path) -> None:
    """A restored environment, measured anew, has the facts of the captured one; restored again, it is found whole."""
    target = EnvironmentTarget(tmp_path / "environment", UvEnvironment())
    target.check(environment_capture.details)
    facts = target.restore(environment_capture.details, environment_capture.tree)
    assert facts == environment_capture.details
    marker = (tmp_path / "environment" / MARKER).stat()
    assert target.restore(environment_capture.details, environment_capture.tree) == facts
    assert (tmp_path / "environment" / MARKER).stat().st_ino == marker.st_ino


def test_a_killed_build_leaves_nothing_that_looks_whole(
    environment_capture: CapturedEnvironment, tmp_path: Path
) -> None:
    """Killed at any moment, a build leaves its place empty; the next one removes what lies beside and succeeds."""
    directory = tmp_path / "environment"
    for delay in (0.1, 0.5, 1.0):
        process = build_elsewhere(environment_capture, directory)
        deadline = time.monotonic() + 30
        while not list(tmp_path.glob(".environment.building-*")) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert not directory.exists() or (directory / MARKER).exists()
        shutil.rmtree(directory, ignore_errors=True)
    (tmp_path / ".environment.building-abandoned").mkdir()
    python = UvEnvironment().build(environment_capture.details, environment_capture.tree, directory)
    assert python.exists()
    assert list(tmp_path.iterdir()) == [directory]


def test_small_environment_comes_back(small: Path) -> None:
    """A captured environment works: what one wheel needs, another gives."""
    capture = captured(small)
    python = UvEnvironment().build(capture.details, capture.tree, small / "built" / "environment")
    run = subprocess.run(
        [python, "-c", "import alpha, beta; print(alpha.VERSION, beta.VERSION)"], capture_output=True, text=True
    )
    assert run.stdout.split() == ["1.0", "2.0.0"]


@pytest.mark.parametrize("position", [0, 200, -1])
def test_tampered_wheel_is_refused(small: Path, position: int) -> None:
    """One flipped bit in a wheel stops the rebuild before anything is installed, and the wheel is named."""
    capture = captured(small)
    path = capture.tree.folder / "wheels" / "beta-2.0.0-py3-none-any.whl"
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"beta-2\.0\.0-py3-none-any\.whl is not the one that was locked"):
        UvEnvironment().build(capture.details, capture.tree, small / "built" / "environment")
    assert list((small / "built").iterdir()) == []


def test_exchanged_wheel_and_lock_are_refused(small: Path) -> None:
    """A wheel that was exchanged together with its hash in the lock still differs from what the point says."""
    capture = captured(small)
    forged, digest = wheel(small / "forged", "beta", "2.0.1")
    tree = capture.tree.copy(small / "altered")
    tree.remove("wheels/beta-2.0.0-py3-none-any.whl")
    tree.add(f"wheels/{forged.name}", forged.read_bytes())
    old = capture.tree.read(capture.tree.entry("requirements.lock")).decode()
    tree.add("requirements.lock", old.split("beta")[0].encode() + f"beta==2.0.1 --hash=sha256:{digest}\n".encode())
    with pytest.raises(IntegrityError, match="and its point says"):
        UvEnvironment().build(capture.details, tree, small / "built" / "environment")


def test_missing_wheel_or_lock_is_named(small: Path) -> None:
    """A tree that lacks a wheel or the lock is incomplete."""
    capture = captured(small)
    without_wheel, without_lock = capture.tree.copy(small / "a"), capture.tree.copy(small / "b")
    without_wheel.remove("wheels/beta-2.0.0-py3-none-any.whl")
    without_lock.remove("requirements.lock")
    with pytest.raises(IncompletePoint, match="no wheel of beta==2"):
        UvEnvironment().build(capture.details, without_wheel, small / "environment")
    with pytest.raises(IncompletePoint, match=r"no requirements\.lock"):
        UvEnvironment().build(capture.details, without_lock, small / "environment")
    assert not (small / "environment").exists()


def test_lock_that_misses_a_dependency_is_refused(small: Path) -> None:
    """What a wheel needs and a stored lock lacks is told in uv's words, and nothing is left."""
    capture = captured(small)
    tree = capture.tree.copy(small / "altered")
    tree.remove("wheels/beta-2.0.0-py3-none-any.whl")
    alone = capture.tree.read(capture.tree.entry("requirements.lock")).partition(b"beta")[0]
    tree.add("requirements.lock", alone)
    (alpha,) = (e for e in tree.entries() if e.path.startswith("wheels/"))
    assert alpha.content
    wheels = {alpha.path.removeprefix("wheels/"): alpha.content.sha256}
    digest = environment_digest("3.11", hashlib.sha256(alone).hexdigest(), wheels)
    with pytest.raises(SourceInvalid, match="beta"):
        UvEnvironment().build(capture.details | {"digest": digest}, tree, small / "built" / "environment")
    assert list((small / "built").iterdir()) == []


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"python": "3.99"}, "no Python 3.99 on this machine"),
        ({"python": "three"}, "'three' is no Python version"),
        ({"machine": "riscv64"}, "captured for machine riscv64"),
        ({"system": "Darwin"}, "captured for system Darwin"),
        ({"implementation": "PyPy"}, "captured for implementation PyPy"),
        ({"glibc_needed": "9.1"}, "wheels need glibc 9.1"),
    ],
)
def test_another_platform_is_refused_beforehand(small: Path, facts: dict[str, str], says: str) -> None:
    """What this machine cannot run is refused by the check, before anything is read or written."""
    details = {**captured(small).details, **facts}
    with pytest.raises(SourceInvalid, match=says):
        EnvironmentTarget(small / "environment", UvEnvironment()).check(details)


def test_wheel_of_another_platform_is_refused(small: Path) -> None:
    """A wheel that this Python cannot install is named, whatever the details say."""
    capture = captured(small)
    path, digest = wheel(small / "other", "delta", tag="cp39-cp39-win_amd64")
    tree = FolderTree(small / "windows")
    tree.add(f"wheels/{path.name}", path.read_bytes())
    tree.add("requirements.lock", f"delta==1.0 --hash=sha256:{digest}\n".encode())
    with pytest.raises(SourceInvalid, match=f"cannot install {path.name}"):
        UvEnvironment().build(capture.details, tree, small / "environment")


def test_nothing_is_built_over_anything(small: Path) -> None:
    """A folder with files, another environment, or one that was changed is left as it is and refused."""
    capture = captured(small)
    busy = small / "busy"
    busy.mkdir()
    (busy / "thesis.txt").write_text("years of work")
    for refuse in (
        EnvironmentTarget(busy, UvEnvironment()).check,
        lambda d: UvEnvironment().build(d, capture.tree, busy),
    ):
        with pytest.raises(TargetNotEmpty, match="is no environment of ours"):
            refuse(capture.details)
    assert [path.name for path in busy.iterdir()] == ["thesis.txt"]

    directory = small / "environment"
    python = UvEnvironment().build(capture.details, capture.tree, directory)
    with pytest.raises(TargetNotEmpty, match="holds another environment"):
        UvEnvironment().build({**capture.details, "digest": "0" * 64}, capture.tree, directory)
    shutil.rmtree(next(directory.glob("lib/*/site-packages/beta-*.dist-info")))
    with pytest.raises(TargetNotEmpty, match="was changed since it was built"):
        UvEnvironment().build(capture.details, capture.tree, directory)
    assert python.exists()


def test_builds_at_once_end_in_one_environment(small: Path) -> None:
    """Builds of the same environment in the same place do not disturb each other."""
    capture = captured(small)
    found: list[Path | Exception] = []

    def build() -> None:
        try:
            found.append(UvEnvironment().build(capture.details, capture.tree, small / "built" / "environment"))
        except Exception as error:
            found.append(error)

    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [small / "built" / "environment" / "bin" / "python"] * 4
    assert [path.name for path in (small / "built").iterdir()] == ["environment"]


def test_nothing_of_our_settings_reaches_the_build(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of uv, pip and Python from outside neither break nor steer a rebuild."""
    capture = captured(small)
    for key, value in {"UV_INDEX_URL": "http://127.0.0.1:9/", "UV_CONSTRAINT": "/nowhere", "UV_CONFIG_FILE": "/nowhere",
                       "PIP_INDEX_URL": "http://127.0.0.1:9/", "PYTHONHOME": "/nowhere", "VIRTUAL_ENV": "/nowhere"}.items():  # fmt: skip
        monkeypatch.setenv(key, value)
    assert UvEnvironment().build(capture.details, capture.tree, small / "environment").exists()


def test_details_altered_after_sealing_are_noticed(small: Path) -> None:
    """A restore whose facts are not those of the point fails, fact by fact."""
    capture = captured(small)
    target = EnvironmentTarget(small / "environment", UvEnvironment())
    for fact, value in {"packages": 3, "wheels_size": 1, "distributions": {"alpha": "1.0", "beta": "3"}}.items():
        with pytest.raises(IntegrityError, match=f"{fact} of the environment"):
            target.restore({**capture.details, fact: value}, capture.tree)
        assert not (small / "environment").exists()
    for fact in ("python", "digest", "lock_sha256"):
        with pytest.raises(IntegrityError, match=fact):
            target.restore({key: v for key, v in capture.details.items() if key != fact}, capture.tree)


@pytest.mark.parametrize("python", ["3.10", "3.12", "3.13"])
def test_another_python_is_used_or_missed(small: Path, monkeypatch: pytest.MonkeyPatch, python: str) -> None:
    """An environment for another Python is captured for it and built with it, or refused where the machine has none."""
    beside = sorted(str(path) for path in Path(sys.base_prefix).parent.glob(f"{python}.*/bin"))
    monkeypatch.setenv("PATH", os.pathsep.join(beside) or str(small))
    monkeypatch.setenv("HOME", str(small))
    if not beside:
        with (
            pytest.raises(SourceInvalid, match=f"no Python {python} on this machine"),
            source(small, python).capture(None),
        ):
            pass
        return
    with source(small, python).capture(None) as capture:
        stored = CapturedEnvironment(capture.details(), store(capture, small / "tree"), small / "cache")
    assert stored.details["python"] == python
    built = UvEnvironment().build(stored.details, stored.tree, small / "environment")
    check = "import sys, alpha; print('%d.%d' % sys.version_info[:2])"
    run = subprocess.run([built, "-c", check], capture_output=True, text=True)
    assert run.stdout.strip() == python
