"""A folder as a blob store: on any file system that has hard links."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from muster.adapters.blob_keys import check_range, checked_key, is_key
from muster.adapters.bucket_proofs import overwriting_refused
from muster.adapters.direct_write import write_all
from muster.errors import AlreadyExists, IntegrityError, MusterError, NotFound, Refused, SourceInvalid, StoreUnavailable
from muster.nameless import give_name, open_nameless
from muster.ports import PROBES, BlobInfo, Guarantees, Proof

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.EXDEV, errno.ENOSYS}
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR}
_READ_ONLY = 0o444


class LocalStore:
    """
    A `muster.ports.BlobStore` below one folder, which is made by the first `put`.

    An object is written without a name, synced and linked to its own: a link never replaces anything, no instant shows half an
    object, and a writer that was killed leaves nothing of it. Where the file system has no such files (NFS), it is written under
    a name that begins with a dot, and a killed writer leaves that behind, which no `list` shows; it may be removed by hand when
    no writer runs. Objects are made read-only.
    """

    def __init__(self, path: Path) -> None:
        self._root = Path(path).absolute()

    def __repr__(self) -> str:
        return f"LocalStore({str(self._root)!r})"

    @property
    def url(self) -> str:
        return self._root.as_uri()

    def guarantees(self) -> Guarantees:
        """Create-only, but whoever may write into the folder may delete from it."""
        return Guarantees(immutable=False, conditional_put=True, versioned=False)

    def locks(self) -> None:
        """Nothing in a folder can be locked against whoever may write into it."""

    def versions(self) -> None:
        """What is deleted from a folder is gone."""

    def prove(self) -> Iterator[Proof]:
        key = f"{PROBES}{secrets.token_hex(16)}"
        self.put(key, b"first")
        try:
            yield overwriting_refused(self, key)
        finally:
            self.delete(key)
        yield Proof(
            "a locked object cannot be deleted",
            "absent",
            "a folder has no locks: whoever may write into it can delete what is there",
            "keep a replica in a bucket with Object Lock, or under other credentials",
        )

    def put(self, key: str, data: bytes | memoryview) -> None:
        path = self._path(key)
        with self._translated(key):
            if os.path.lexists(path):
                raise self._taken(path, key)
            try:
                _make_folder(path.parent)
            except FileExistsError:
                raise AlreadyExists(f"a part of {key} is an object in {self.url}", "use another key") from None
            try:
                if not _put_nameless(path, data):
                    self._put_by_a_name(path, data)
            except FileExistsError:
                raise self._taken(path, key) from None
            _sync_folder(path.parent)

    def get(self, key: str) -> bytes:
        with self._translated(key):
            return self._path(key).read_bytes()

    def get_range(self, key: str, start: int, length: int) -> bytes:
        if start < 0 or length < 0:
            raise IntegrityError(f"{length} bytes from {start} of {key} make no sense", "verify the vault")
        with self._translated(key), self._path(key).open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            check_range(self.url, key, size, start, length)
            return _read_exactly(file.fileno(), start, length)

    def info(self, key: str) -> BlobInfo:
        path = self._path(key)
        with self._translated(key):
            if not path.is_file():
                raise FileNotFoundError(errno.ENOENT, "no such object", str(path))
            return _info(key, path.stat())

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        with self._translated(prefix or "the folder"):
            yield from self._below(self._root, "", prefix)

    def delete(self, key: str) -> None:
        path = self._path(key)
        with self._translated(key):
            path.unlink()
            _sync_folder(path.parent)

    def _path(self, key: str) -> Path:
        return self._root / checked_key(key)

    def _below(self, folder: Path, above: str, prefix: str) -> Iterator[BlobInfo]:
        for entry in _sorted_entries(folder):
            key = f"{above}{entry.name}"
            if not is_key(key):
                continue
            if entry.is_dir():
                if f"{key}/".startswith(prefix) or prefix.startswith(f"{key}/"):
                    yield from self._below(Path(entry.path), f"{key}/", prefix)
            elif key.startswith(prefix) and entry.is_file():  # to read a pipe or a device may never end
                try:
                    yield _info(key, entry.stat())
                except FileNotFoundError:  # expired between the two looks
                    continue

    def _put_by_a_name(self, path: Path, data: bytes | memoryview) -> None:
        temporary = path.parent / f".put-{os.getpid()}-{secrets.token_hex(8)}"
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _READ_ONLY)
        try:
            try:
                write_all(handle, data)
                os.fsync(handle)
            finally:
                os.close(handle)
            self._link(temporary, path)
        finally:
            temporary.unlink()

    def _link(self, temporary: Path, path: Path) -> None:
        try:
            path.hardlink_to(temporary)
        except OSError as error:
            if error.errno in _NO_LINKS:
                raise SourceInvalid(
                    f"the file system of {self.url} has no hard links ({error.strerror}), so nothing there is safe "
                    "from being overwritten",
                    "put the vault on ext4, xfs, btrfs, zfs or an NFS export of one, or into a bucket",
                ) from error
            raise

    def _taken(self, path: Path, key: str) -> AlreadyExists:
        # Its writer may not have got as far as this; callers that take "it is there" for success need it to stay.
        _sync_folder(path.parent)
        return AlreadyExists(f"{key} is already in {self.url}", "nothing is ever overwritten")

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._error(error, key) from error

    def _error(self, error: OSError, key: str) -> MusterError:
        what = f"{key} in {self.url}: {error.strerror or error}"
        if error.errno in _FULL:
            return StoreUnavailable(f"there is no space left for {what}", "make room there, then run this again")
        if error.errno in _ABSENT:
            return NotFound(
                f"there is no {key} in {self.url}", "look at the address of the vault, then list what it holds"
            )
        if error.errno in _FORBIDDEN:
            return Refused(f"no permission for {what}", "look at owner, mode and mount of the folder")
        return StoreUnavailable(f"cannot reach {what}", "look at the disk or mount, then run this again")


def _put_nameless(path: Path, data: bytes | memoryview) -> bool:
    """Write a file that is whole before it has a name; whether this file system has such files, and lets them be linked."""
    handle = open_nameless(path.parent, _READ_ONLY)
    if handle is None:
        return False
    try:
        write_all(handle, data)
        os.fsync(handle)
        give_name(handle, path)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS | _ABSENT:
            raise
        return False
    finally:
        os.close(handle)
    return True


def _read_exactly(handle: int, start: int, length: int) -> bytes:
    """`length` bytes of an open file; its size was looked at before, so an early end means that the disk lies."""
    pieces: list[bytes] = []
    while length:
        piece = os.pread(handle, length, start)
        if not piece:
            raise OSError(errno.EIO, "the file ends before its size")
        pieces.append(piece)
        start, length = start + len(piece), length - len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, each durable in its parent."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sorted_entries(folder: Path) -> list[os.DirEntry[str]]:
    """Entries of a folder in the order of their keys, in which a folder counts with its slash; none if it is not there."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name + "/" * entry.is_dir())
    except FileNotFoundError:
        return []


def _info(key: str, status: os.stat_result) -> BlobInfo:
    return BlobInfo(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))
