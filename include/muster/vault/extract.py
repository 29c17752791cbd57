"""Write files of a tree to a folder: in parallel, each under its name only when it is whole and its digest was checked."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path

from muster.domain.content import TreeEntry
from muster.errors import StoreUnavailable, TargetNotEmpty
from muster.vault.files import SMALL, FileReading, content_of
from muster.vault.reader import ChunkReader

Wanted = tuple[TreeEntry, Path]

_WORKERS = 4
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)


def extract(reader: ChunkReader, wanted: Iterable[Wanted]) -> int:
    """
    Write entries to paths; return the number of plain bytes. See `muster.ports.TreeReader.extract`.

    Links are made after files, so that nothing is written through one. Folders get their modes and times last, so that
    one without write permission can be filled.
    """
    pieces = list(wanted)
    _refuse_what_exists(pieces)
    folders = [(entry, path) for entry, path in pieces if entry.kind == "dir"]
    try:
        for folder in {path.parent for _, path in pieces} | {path for _, path in folders}:
            folder.mkdir(parents=True, exist_ok=True)
        with FileReading(reader) as reading:
            size = _Extraction(reading).run([piece for piece in pieces if piece[0].kind == "file"])
        for entry, path in pieces:
            if entry.kind == "link":
                path.symlink_to(entry.link or "")
        for entry, path in sorted(folders, key=lambda piece: len(piece[1].parts), reverse=True):
            _dress(entry, path)
    except (FileExistsError, NotADirectoryError) as error:
        raise TargetNotEmpty(f"{error.filename} is there already", "restore to an empty folder") from error
    except OSError as error:
        raise StoreUnavailable(
            f"the restore could not write {error.filename or 'a file'}: {error.strerror}",
            "make room or give write permission there, remove what was written, and restore again",
        ) from error
    return size


class _Extraction:
    """Files on their way to disk. The first failure stops the others."""

    def __init__(self, reading: FileReading) -> None:
        self._reading = reading
        self._failure: BaseException | None = None

    def run(self, files: Sequence[Wanted]) -> int:
        small = [piece for piece in files if content_of(piece[0]).size <= SMALL]
        large = [piece for piece in files if content_of(piece[0]).size > SMALL]
        large.sort(key=lambda piece: content_of(piece[0]).size, reverse=True)
        with ThreadPoolExecutor(_WORKERS, "muster-write") as workers:
            futures = [workers.submit(self._guarded, self._write_large, [piece]) for piece in large]
            futures += [
                workers.submit(self._guarded, self._write_small, batch) for batch in self._reading.batches(small)
            ]
        if self._failure:
            raise self._failure
        return sum(future.result() for future in futures)

    def _guarded(self, work: Callable[[Sequence[Wanted]], int], pieces: Sequence[Wanted]) -> int:
        if self._failure:
            return 0
        try:
            return work(pieces)
        except BaseException as error:
            self._failure = self._failure or error
            raise

    def _write_small(self, pieces: Sequence[Wanted]) -> int:
        fetched = self._reading.fetch(entry for entry, _ in pieces)
        return sum(_write(entry, path, [self._reading.small(entry, fetched)]) for entry, path in pieces)

    def _write_large(self, pieces: Sequence[Wanted]) -> int:
        return sum(_write(entry, path, self._unless_stopped(entry)) for entry, path in pieces)

    def _unless_stopped(self, entry: TreeEntry) -> Iterator[bytes]:
        for plain in self._reading.stream(entry):
            if self._failure:
                raise self._failure
            yield plain


def _write(entry: TreeEntry, path: Path, parts: Iterable[bytes]) -> int:
    """Write beside the final name and link to it when all is there: an existing file is never replaced."""
    partial = path.parent / f".muster-{secrets.token_hex(8)}.part"
    try:
        with partial.open("xb", buffering=0) as file:
            size = sum(_write_all(file, part) for part in parts)
        _dress(entry, partial)
        _name(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return size


def _write_all(file: FileIO, part: bytes) -> int:
    view = memoryview(part)
    while view:
        view = view[file.write(view) :]
    return len(part)


def _name(partial: Path, path: Path) -> None:
    try:
        path.hardlink_to(partial)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "it is there already", str(path)) from error
        partial.rename(path)


def _dress(entry: TreeEntry, path: Path) -> None:
    if entry.mode is not None:
        path.chmod(entry.mode & 0o7777)
    if entry.mtime_ns is not None:
        os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))


def _refuse_what_exists(pieces: Iterable[Wanted]) -> None:
    for entry, path in pieces:
        if os.path.lexists(path) and not (entry.kind == "dir" and path.is_dir() and not path.is_symlink()):
            raise TargetNotEmpty(f"{path} is there already", "restore to an empty folder, or remove it first")
