"""Real DVC repositories for tests, with and without Git: made once, copied for each test."""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

DVC = Path(sys.executable).with_name("dvc")
FILES = {
    "jan.csv": b"day,delay\n1,17\n",
    "feb.csv": b"day,delay\n1,4\n",
    "north/mar.csv": b"day,delay\r\n1,5\r\n",
    "north/été.bin": bytes(range(256)) * 400,
    "same.csv": b"day,delay\n1,17\n",
    "none.csv": b"",
}


@dataclass(frozen=True)
class Repository:
    """A DVC repository at `root` whose default remote lies beside it, at `remote`."""

    root: Path

    @property
    def remote(self) -> Path:
        return self.root.parent / "remote"

    @property
    def flights(self) -> Path:
        return self.root / "data" / "flights"

    def cached(self, oid: str) -> Path:
        return self.root / ".dvc/cache/files/md5" / oid[:2] / oid[2:]

    def sent(self, oid: str) -> Path:
        return self.remote / "files/md5" / oid[:2] / oid[2:]

    def dvc(self, *arguments: str) -> str:
        """What the DVC command says; in this process, which spares a second of start."""
        from dvc.cli import main

        said = io.StringIO()
        with contextlib.chdir(self.root), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = main(list(arguments))
        assert status == 0, f"dvc {arguments}: {said.getvalue()}"
        return said.getvalue()

    def git(self, *arguments: str) -> str:
        return run(self.root, "git", *arguments)

    def commit(self, message: str = "next") -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD").strip()


def run(folder: Path, *command: str) -> str:
    """What a command printed; it must succeed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def make_repository(root: Path, *, git: bool) -> Repository:
    """Two outputs, a folder and a file, added and pushed."""
    repository = Repository(root)
    root.mkdir(parents=True)
    if git:
        repository.git("init", "--quiet", "--initial-branch", "trunk")
        (root / "train.py").write_text("print('hello')\n")
    repository.dvc("init", "--quiet", *([] if git else ["--no-scm"]))
    for name, content in FILES.items():
        path = repository.flights / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / "airports.csv").write_bytes(b"JFK\nLGA\n")
    repository.dvc("remote", "add", "--quiet", "--default", "store", "../remote")
    repository.dvc("add", "--quiet", "data/flights", "airports.csv")
    repository.dvc("push", "--quiet")
    (repository.flights / "feb.csv").chmod(0o755)
    (repository.flights / "empty" / "deep").mkdir(parents=True)
    if git:
        repository.commit("first")
    return repository


def lay_of(root: Path, *, without: tuple[str, ...] = (".git", ".dvc/cache", ".dvc/tmp")) -> dict[str, object]:
    """Every path below a folder with all that a restore must bring back: kind, bytes, modes, times, link targets."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if name in without or name.startswith(tuple(f"{prefix}/" for prefix in without)):
            continue
        if path.is_symlink():
            found[name] = ("link", str(path.readlink()))
        elif path.is_dir():
            found[name] = ("dir", path.stat().st_mode)
        else:
            found[name] = ("file", path.stat().st_mode, path.read_bytes())
    return found


@pytest.fixture(scope="session")
def dvc_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Settings that keep DVC and Git away from the machine's own."""
    home = tmp_path_factory.mktemp("dvc-site")
    (home / "gitconfig").write_text(
        '[user]\n name = Test\n email = test@example.org\n[protocol "file"]\n allow = always\n'
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_SITE_CACHE_DIR", str(home / "cache"))
        patch.setenv("DVC_GLOBAL_CONFIG_DIR", str(home / "global"))
        patch.setenv("DVC_SYSTEM_CONFIG_DIR", str(home / "system"))
        patch.setenv("DVC_NO_ANALYTICS", "1")
        patch.setenv("GIT_CONFIG_GLOBAL", str(home / "gitconfig"))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        yield home


@pytest.fixture(scope="session")
def dvc_templates(dvc_site: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Repository]:
    """One repository with Git, one without; not to be changed."""
    base = tmp_path_factory.mktemp("dvc-templates")
    return {git: make_repository(base / f"git-{git}" / "repo", git=git) for git in (True, False)}


@pytest.fixture
def git_repository(dvc_templates: dict[bool, Repository], tmp_path: Path) -> Repository:
    """A DVC repository in Git, the test's own."""
    return _copied(dvc_templates[True], tmp_path / "source")


@pytest.fixture
def plain_repository(dvc_templates: dict[bool, Repository], tmp_path: Path) -> Repository:
    """A DVC repository without Git, the test's own."""
    return _copied(dvc_templates[False], tmp_path / "source")


@pytest.fixture(params=[True, False], ids=["git", "no-scm"])
def repository(request: pytest.FixtureRequest, dvc_templates: dict[bool, Repository], tmp_path: Path) -> Repository:
    """A DVC repository with Git, and one without."""
    return _copied(dvc_templates[request.param], tmp_path / "source")


def _copied(template: Repository, to: Path) -> Repository:
    shutil.copytree(template.root.parent, to, symlinks=True, ignore=shutil.ignore_patterns("tmp"))
    return Repository(to / "repo")
