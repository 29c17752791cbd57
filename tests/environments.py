"""A captured model environment and its interpreter, made once for a test session, and a stored tree in a folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import muster.demo
from muster.adapters.uv_environment import EnvironmentSource, UvEnvironment
from muster.domain.content import ContentRef, TreeEntry
from muster.errors import NotFound, TargetNotEmpty
from muster.ports import Capture, StrPath

MODEL_LOCK = Path(muster.demo.__file__).parent / "model-environment.lock"


class FolderTree:
    """
    A `TreeReader` over a folder. Its entries say what was stored, its bytes are what lies there now: a test that alters a
    file shows what a reader does with bytes that the store did not notice.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._entries: dict[str, TreeEntry] = {}

    def add(self, path: str, content: bytes) -> None:
        """Store a file."""
        digest = hashlib.sha256(content).hexdigest()
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        self._entries[path] = TreeEntry(path, content=ContentRef(len(content), digest, (digest,)), mode=0o644)

    def remove(self, path: str) -> None:
        """Lose a file and its entry."""
        (self.folder / path).unlink()
        del self._entries[path]

    def copy(self, folder: Path) -> FolderTree:
        """The same tree in another folder, to be altered there."""
        shutil.copytree(self.folder, folder)
        twin = FolderTree(folder)
        twin._entries = dict(self._entries)
        return twin

    def stream(self) -> Iterator[TreeEntry]:
        return iter(self.entries())

    def entries(self) -> Sequence[TreeEntry]:
        return [self._entries[path] for path in sorted(self._entries)]

    def entry(self, path: str) -> TreeEntry:
        if path not in self._entries:
            raise NotFound(f"no {path} in the tree")
        return self._entries[path]

    def read(self, entry: TreeEntry) -> bytes:
        return (self.folder / entry.path).read_bytes()

    def extract(self, wanted: Iterable[tuple[TreeEntry, StrPath]]) -> int:
        size = 0
        for entry, place in wanted:
            path = Path(place)
            if path.exists():
                raise TargetNotEmpty(f"{path} is there")
            path.parent.mkdir(parents=True, exist_ok=True)
            size += path.write_bytes(self.read(entry))
        return size


def store(capture: Capture, folder: Path, previous: FolderTree | None = None) -> FolderTree:
    """Store a capture as a vault would: known content is taken from the tree before and not opened."""
    tree = FolderTree(folder)
    for file in capture.files():
        if file.known is not None:
            assert previous is not None
            content = previous.read(previous.entry(file.path))
        else:
            assert file.open is not None
            with file.open() as stream:
                content = stream.read()
        assert file.size is None or file.size == len(content)
        assert file.md5 is None or file.md5 == hashlib.md5(content).hexdigest()
        tree.add(file.path, content)
    capture.confirm()
    return tree


@dataclass(frozen=True)
class CapturedEnvironment:
    """An environment as a recovery point has it, and the cache of wheels that it was fetched into."""

    details: dict[str, Any]
    tree: FolderTree
    wheels: Path


@pytest.fixture(scope="session")
def environment_capture(tmp_path_factory: pytest.TempPathFactory) -> CapturedEnvironment:
    """The demo's model environment (mlflow-skinny, scikit-learn, skops, pandas, numpy), captured once from the package index."""
    folder = tmp_path_factory.mktemp("environment-capture")
    source = EnvironmentSource("models", MODEL_LOCK, "3.11", wheel_cache=folder / "wheels")
    with source.capture(None) as capture:
        tree = store(capture, folder / "tree")
        return CapturedEnvironment(capture.details(), tree, folder / "wheels")


@pytest.fixture(scope="session")
def model_python(environment_capture: CapturedEnvironment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of that environment, rebuilt offline once."""
    directory = tmp_path_factory.mktemp("model-environment") / "environment"
    return UvEnvironment().build(environment_capture.details, environment_capture.tree, directory)


def wheel(
    folder: Path, name: str, version: str = "1.0", needs: str = "", tag: str = "py3-none-any"
) -> tuple[Path, str]:
    """A small wheel, made by hand, and its SHA-256."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + (
        f"Requires-Dist: {needs}\n" if needs else ""
    )
    members = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    members[f"{info}/RECORD"] = "".join(f"{member},,\n" for member in [*members, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(zipfile.ZipInfo(member), content)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index that is a folder, with two wheels, and a lock of both in ``small.lock``."""
    index = tmp_path / "index"
    _, alpha = wheel(index, "alpha", needs="beta")
    _, beta = wheel(index, "beta", "2.0.0")
    lock(tmp_path, ("alpha", "1.0", alpha), ("beta", "2.0", beta))
    only_index(monkeypatch, index)
    return tmp_path


def only_index(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    for key in [key for key in os.environ if key.startswith("PIP_")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))


def lock(folder: Path, *pins: tuple[str, str, str]) -> Path:
    path = folder / "small.lock"
    path.write_text("".join(f"{name}=={version} \\\n    --hash=sha256:{digest}\n" for name, version, digest in pins))
    return path


def source(folder: Path, python: str = "3.11") -> EnvironmentSource:
    return EnvironmentSource("models", folder / "small.lock", python, wheel_cache=folder / "cache")


def captured(folder: Path, name: str = "tree") -> CapturedEnvironment:
    with source(folder).capture(None) as capture:
        return CapturedEnvironment(capture.details(), store(capture, folder / name), folder / "cache")
