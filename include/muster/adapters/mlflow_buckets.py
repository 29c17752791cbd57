"""Artifact folders in buckets, whoever's they are: one listing of the root, and reads of the very objects that were listed."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from muster.adapters.bulk import in_bulk
from muster.adapters.mlflow_artifacts import Artifact
from muster.batches import batched_by
from muster.domain.content import TreeEntry
from muster.errors import NotFound, Refused, SourceChanged, SourceInvalid, StoreUnavailable
from muster.ports import TreeReader
from muster.scratch import scratch_folder

BATCH_BYTES = 1 << 30
PART_BYTES = 8 << 20
"""What comes or goes in one request where a cloud's client would else hold a whole object in memory."""
RETRIES = 3
UPLOADS = 4
"""At once: each may itself send several parts."""
_CREDENTIALS_HINT = "see bucket, endpoint and credentials"


class Body(Protocol):
    """The bytes of an object, on their way."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; none at the end."""

    def close(self) -> None: ...


class Objects(Protocol):
    """
    The objects below a root, reached by a cloud's own client. Paths are relative to the root.

    What the client throws passes through, and becomes an error of ours within `errors`.
    """

    @property
    def location(self) -> str:
        """The root, as MLflow writes it."""

    def list(self) -> Iterator[Artifact]:
        """All objects, with what changes when their content does as their version."""

    def open(self, artifact: Artifact) -> Body:
        """The content of the version that was listed, and of no other."""

    def put(self, path: str, file: Path, *, create: bool) -> None:
        """
        Store a file.

        :param create: demand, by the request itself, that there is no such object
        """

    def remove(self, path: str) -> None:
        """Delete an object, if it is there."""

    def errors(self, path: str = "") -> AbstractContextManager[None]:
        """
        Around whatever speaks of an object, or of the root.

        :raises SourceChanged: if the object is not there any more, was replaced, or is there though it must not be
        :raises SourceInvalid: if there is no such bucket, or the credentials are refused
        :raises StoreUnavailable: if it does not answer
        """


class BucketFolder:
    """A root in a bucket."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._received: list[str] = []

    @property
    def location(self) -> str:
        return self._objects.location

    def below(self, named: Sequence[str]) -> Iterator[Artifact]:
        """One listing of the whole root: a request for each named folder would be far more of them."""
        wanted = set(named)
        for artifact in self._list():
            parts = artifact.path.split("/")
            if any("/".join(parts[:n]) in wanted for n in range(len(parts) + 1)):
                yield artifact

    def is_empty(self) -> bool:
        return next(self._list(), None) is None

    def _list(self) -> Iterator[Artifact]:
        """Without the objects that consoles make to show a folder."""
        with self._objects.errors():
            for artifact in self._objects.list():
                if artifact.path and not artifact.path.endswith("/"):
                    yield artifact

    def open(self, artifact: Artifact) -> io.BufferedReader:
        with self._objects.errors(artifact.path):
            body = self._objects.open(artifact)
        return io.BufferedReader(_Stream(self._objects, artifact, body), 1 << 20)

    def unchanged(self, artifacts: Sequence[Artifact]) -> str | None:
        now = {a.path: a.version for a in self._list()}
        return next((f"{self.location}/{a.path}" for a in artifacts if now.get(a.path) != a.version), None)

    def receive(self, wanted: Sequence[tuple[TreeEntry, str]], tree: TreeReader) -> None:
        """Empty folders are left out: a bucket has none."""
        try:
            for batch in extracted(wanted, tree):
                self._received += batch
                self._put_all(batch)
        except BaseException:
            self.give_back()
            raise

    def keep(self) -> None:
        self._received.clear()

    def give_back(self) -> None:
        received, self._received = self._received, []
        in_bulk(self.remove, received)

    def add(self, path: str, file: Path) -> None:
        """
        Store a file, if nothing has its name.

        :raises SourceChanged: if something has
        """
        try:
            self._put(path, file, create=True)
        except SourceChanged:
            raise SourceChanged(f"{self.location}/{path} appeared just now", "run it again") from None

    def remove(self, path: str) -> None:
        """Delete an object, if it is there."""
        with self._objects.errors(path):
            self._objects.remove(path)

    def _put_all(self, files: Mapping[str, Path]) -> None:
        in_bulk(lambda path: self._put(path, files[path], create=False), files, UPLOADS)

    def _put(self, path: str, file: Path, *, create: bool) -> None:
        with self._objects.errors(path):
            self._objects.put(path, file, create=create)


def extracted(wanted: Sequence[tuple[TreeEntry, str]], tree: TreeReader) -> Iterator[dict[str, Path]]:
    """The files of a stored tree, on disk while they are looked at: by their paths below a root, some at a time."""
    files = [(entry, relative) for entry, relative in wanted if entry.kind == "file"]
    for batch in batched_by(_size, files, BATCH_BYTES):
        with scratch_folder("artifacts") as scratch:
            paths = {relative: scratch / relative for _, relative in batch}
            tree.extract((entry, paths[relative]) for entry, relative in batch)
            yield paths


def _size(file: tuple[TreeEntry, str]) -> int:
    return file[0].content.size if file[0].content else 0


@contextmanager
def source_errors(location: str, path: str) -> Iterator[None]:
    """
    Errors that the client of a vault's store would give, as those of a source.

    :param path: of the object that was spoken of, relative to the root at `location`; empty for the root
    """
    try:
        yield
    except NotFound:
        if path:
            raise changed(f"{location}/{path}") from None
        raise SourceInvalid(f"{location} cannot be reached: there is no such bucket", _CREDENTIALS_HINT) from None
    except Refused as error:
        raise SourceInvalid(f"{location} cannot be reached: {error.message}", _CREDENTIALS_HINT) from None


def changed(what: str, why: str = "") -> SourceChanged:
    """An object is not what it was when it was listed."""
    said = f"{what} is not there any more, or was replaced" + (f": {why}" if why else "")
    return SourceChanged(said, "take the snapshot again")


class _Stream(io.RawIOBase):
    """An object being read; what goes wrong on the way is an error of ours. Behind its end nothing is asked for."""

    def __init__(self, objects: Objects, artifact: Artifact, body: Body) -> None:
        super().__init__()
        self._objects, self._artifact, self._body = objects, artifact, body
        self._left = artifact.size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        due = min(len(buffer), self._left)
        if not due:
            return 0
        with self._objects.errors(self._artifact.path):
            block = self._body.read(due)
        if not block:
            raise StoreUnavailable(
                f"{self._objects.location}/{self._artifact.path} broke off {self._left} bytes before its end",
                "try again",
            )
        self._left -= len(block)
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._body.close()
        super().close()
