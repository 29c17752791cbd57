"""Fill a DVC cache and a remote in a folder from the files of a restored workspace, each checked by its MD5 on the way."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from muster.adapters.dvc_objects_map import BLOCK, READERS, FolderStore
from muster.batches import batched
from muster.errors import IntegrityError

PROTECTED = 0o444  # dvc_data.hashfile.db.local.LocalHashFileDB.CACHE_MODE
FICLONE = 0x40049409  # linux/fs.h
LINKS = ("hardlink", "symlink")
BATCH = 64  # files a task: one each would cost more than a small file


class ObjectFill:
    """
    New objects in an empty cache, and in an empty remote if it is a folder.

    A cache object is a reflink of the workspace's file where the file system can do that, a hard link where the repository's
    ``cache.type`` asks for links, else a copy. Objects of cache and remote are the same read-only inodes where both lie on one file
    system, as `git clone` does with the objects of a local repository.

    :param kinds: the repository's ``cache.type``, in order of preference
    """

    def __init__(self, cache: FolderStore, remote: FolderStore | None, kinds: Sequence[str]) -> None:
        self._cache = cache
        self._remote = remote
        self._kinds = [*kinds, "copy"]
        self._reflinks = "reflink" in self._kinds

    def add_files(self, files: Iterable[tuple[str, str]]) -> None:
        """
        Check every file by its MD5 and keep each content once.

        :raises IntegrityError: if a file has another MD5
        """
        first: dict[str, str] = {}
        again: list[tuple[str, str]] = []
        for path, md5 in files:
            if md5 in first:
                again.append((path, md5))
            else:
                first[md5] = path
        self._make_folders(first)
        with ThreadPoolExecutor(READERS, "objects") as pool:
            list(pool.map(self._add_all, _batches(list(first.items()))))
            list(pool.map(_check_all, _batches(again)))

    def add_objects(self, oids: Iterable[str]) -> None:
        """
        Check objects that are in the cache already, protect them, and give them to the remote.

        :raises IntegrityError: if one has another MD5
        """
        for oid in oids:
            path = self._cache.path(oid)
            check_file(path, oid.removesuffix(".dir"))
            os.chmod(path, PROTECTED)  # noqa: PTH101
            self._make_folders([oid])
            self._share(path, oid)

    def _make_folders(self, oids: Iterable[str]) -> None:
        for oid in {oid[:2]: oid for oid in oids}.values():
            for store in (self._cache, self._remote):
                if store is not None:
                    os.makedirs(os.path.dirname(store.path(oid)), exist_ok=True)  # noqa: PTH103, PTH120

    def _add_all(self, files: Iterable[tuple[str, str]]) -> None:
        for md5, path in files:
            cached = self._cache.path(md5)
            found = self._link(path, cached) or _copy(path, cached)
            if found != md5:
                raise _damaged(path, md5, found)
            os.chmod(cached, PROTECTED)  # noqa: PTH101
            self._share(cached, md5)

    def _link(self, path: str, cached: str) -> str | None:
        """Link the file as the cache's type asks for, and hash it; None if it has to be copied."""
        for kind in self._kinds[: self._kinds.index("copy")]:
            if (kind == "reflink" and self._reflink(path, cached)) or (kind in LINKS and _hard_link(path, cached)):
                return _md5(cached)
        return None

    def _reflink(self, path: str, cached: str) -> bool:
        if not self._reflinks:
            return False
        try:
            with open(path, "rb") as source, open(cached, "xb") as sink:  # noqa: PTH123
                fcntl.ioctl(sink.fileno(), FICLONE, source.fileno())
        except OSError:
            self._reflinks = False  # a file system can or cannot; asking for each file costs more than the copy
            Path(cached).unlink(missing_ok=True)
            return False
        return True

    def _share(self, cached: str, oid: str) -> None:
        if self._remote is None:
            return
        shared = self._remote.path(oid)
        if not _hard_link(cached, shared):
            found = _copy(cached, shared)
            if found != oid.removesuffix(".dir"):
                raise _damaged(shared, oid, found)
            os.chmod(shared, PROTECTED)  # noqa: PTH101


def _batches(items: Sequence[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Pieces for the threads; large files are few, so a piece is small where there are few."""
    return batched(items, max(1, min(BATCH, len(items) // (READERS * 4))))


def _check_all(files: Iterable[tuple[str, str]]) -> None:
    for path, md5 in files:
        check_file(path, md5)


def check_file(path: str, md5: str) -> None:
    """
    :raises IntegrityError: if the file has another MD5
    """
    found = _md5(path)
    if found != md5:
        raise _damaged(path, md5, found)


def _hard_link(path: str, to: str) -> bool:
    with suppress(OSError):  # another file system, one without links, or too many of them
        os.link(path, to)
        return True
    return False


def _copy(path: str, to: str) -> str:
    """Copy and return the MD5 of what was copied."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb", buffering=0) as source, open(to, "xb", buffering=0) as sink:  # noqa: PTH123
        while block := source.read(BLOCK):
            digest.update(block)
            _write_all(sink.fileno(), block)
    return digest.hexdigest()


def _write_all(file: int, block: bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(file, rest) :]


def _md5(path: str) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb", buffering=0) as source:  # noqa: PTH123
        while block := source.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _damaged(path: str, md5: str, found: str) -> IntegrityError:
    return IntegrityError(
        f"the restored file {path} has the MD5 {found}, but {md5} was captured",
        "verify the vault; nothing was kept",
    )
