"""Write files of a tree to a folder: in parallel, each under its name only when it is whole and its digest was checked."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from muster.domain.content import ContentRef, TreeEntry
from muster.errors import IntegrityError, StoreUnavailable, TargetNotEmpty
from muster.vault.reader import SPAN, ChunkReader, digest_mismatch, ids

Wanted = tuple[TreeEntry, Path]

_WORKERS = 4
_FETCHERS = 2
_SMALL = 4 * 1024 * 1024
_BATCH_FILES = 256


def extract(reader: ChunkReader, wanted: Iterable[Wanted]) -> int:
    """
    Write entries to paths; return the number of plain bytes. See `muster.ports.TreeReader.extract`.

    Folders get their modes and times last, so that a folder without write permission can be filled; links come after files, so that
    nothing is written through one.
    """
    pieces = list(wanted)
    _refuse_what_exists(pieces)
    folders = [(entry, path) for entry, path in pieces if entry.kind == "dir"]
    files = [(entry, path) for entry, path in pieces if entry.kind == "file"]
    try:
        for _, path in folders:
            path.mkdir(parents=True, exist_ok=True)
        for parent in {path.parent for _, path in pieces}:
            parent.mkdir(parents=True, exist_ok=True)
        size = _Extraction(reader).run(files)
        for entry, path in pieces:
            if entry.kind == "link":
                path.symlink_to(entry.link or "")
        for entry, path in sorted(folders, key=lambda piece: len(piece[1].parts), reverse=True):
            _dress(entry, path)
    except FileExistsError as error:
        raise TargetNotEmpty(f"{error.filename} is there already", "restore to an empty folder") from error
    except OSError as error:
        raise StoreUnavailable(
            f"the restore could not write {error.filename or 'a file'}: {error.strerror}",
            "make room or give write permission there, remove what was written, and restore again",
        ) from error
    return size


class _Extraction:
    """Files on their way to disk. The first failure stops the others."""

    def __init__(self, reader: ChunkReader) -> None:
        self._reader = reader
        self._failure: BaseException | None = None

    def run(self, files: Sequence[Wanted]) -> int:
        small = [piece for piece in files if _content(piece[0]).size <= _SMALL]
        large = [piece for piece in files if _content(piece[0]).size > _SMALL]
        large.sort(key=lambda piece: _content(piece[0]).size, reverse=True)
        with (
            ThreadPoolExecutor(_FETCHERS, "muster-fetch") as self._fetchers,
            ThreadPoolExecutor(_FETCHERS, "muster-hash") as self._hashers,
            ThreadPoolExecutor(_WORKERS, "muster-write") as workers,
        ):
            futures = [workers.submit(self._guarded, self._write_large, [piece]) for piece in large]
            futures += [workers.submit(self._guarded, self._write_small, batch) for batch in self._batches(small)]
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

    def _batches(self, files: Sequence[Wanted]) -> Iterator[list[Wanted]]:
        """Small files in the order in which their bytes lie in packs, so that one request brings many."""
        batch: list[Wanted] = []
        size = 0
        for piece in sorted(files, key=lambda piece: self._reader.place(_content(piece[0]))):
            batch.append(piece)
            size += _content(piece[0]).size
            if size >= SPAN or len(batch) >= _BATCH_FILES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _write_small(self, pieces: Sequence[Wanted]) -> int:
        try:
            found = self._reader.fetch(list({chunk: None for entry, _ in pieces for chunk in ids(_content(entry))}))
        except IntegrityError:
            found = None  # one by one, to learn which file is hit
        written = 0
        for entry, path in pieces:
            with _naming(entry):
                chunks = ids(_content(entry))
                here = self._reader.fetch(chunks) if found is None else found
                plain = b"".join([here[chunk] for chunk in chunks])
                check_content(entry, plain)
            _write(entry, path, [plain])
            written += len(plain)
        return written

    def _write_large(self, pieces: Sequence[Wanted]) -> int:
        ((entry, path),) = pieces
        with _naming(entry):
            _write(entry, path, self._checked_stream(entry))
        return _content(entry).size

    def _checked_stream(self, entry: TreeEntry) -> Iterator[bytes]:
        """The file's bytes; the end is reached only if they match all that is known of it."""
        sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
        for plain in self._reader.stream(_content(entry), self._fetchers):
            if self._failure:
                raise self._failure
            hashing = self._hashers.submit(md5.update, plain) if entry.md5 else None
            sha256.update(plain)
            size += len(plain)
            yield plain
            if hashing:
                hashing.result()
        check_digests(entry, size, sha256.hexdigest(), md5.hexdigest())


def check_digests(entry: TreeEntry, size: int, sha256: str, md5: str) -> None:
    """
    Compare what was read with what is known of a file.

    :raises IntegrityError: if anything differs
    """
    content = _content(entry)
    if (size, sha256) != (content.size, content.sha256) or entry.md5 not in (None, md5):
        raise digest_mismatch(entry.path, content)


def check_content(entry: TreeEntry, plain: bytes) -> None:
    """Compare the bytes of a small file with what is known of it; IntegrityError if anything differs."""
    md5 = hashlib.md5(plain, usedforsecurity=False).hexdigest() if entry.md5 else ""
    check_digests(entry, len(plain), hashlib.sha256(plain).hexdigest(), md5)


def _write(entry: TreeEntry, path: Path, parts: Iterable[bytes]) -> None:
    """Write beside the final name and link to it when all is there: an existing file is never replaced."""
    partial = path.parent / f".muster-{secrets.token_hex(8)}.part"
    try:
        with partial.open("xb", buffering=0) as file:
            for part in parts:
                _write_all(file, part)
        _dress(entry, partial)
        _rename_new(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _write_all(file: FileIO, part: bytes) -> None:
    view = memoryview(part)
    while view:
        view = view[file.write(view) :]


def _rename_new(partial: Path, path: Path) -> None:
    try:
        path.hardlink_to(partial)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS):
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


def _content(entry: TreeEntry) -> ContentRef:
    if entry.content is None:
        raise IntegrityError(f"{entry.path} is a file without content", "verify the vault; use another point")
    return entry.content


@contextmanager
def _naming(entry: TreeEntry) -> Iterator[None]:
    """Put the file's path before what is said of its chunks."""
    try:
        yield
    except IntegrityError as error:
        if entry.path in error.message:
            raise
        raise IntegrityError(f"{entry.path}: {error.message}", error.hint) from error
