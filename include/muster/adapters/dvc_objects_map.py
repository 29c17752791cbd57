"""
DVC's content-addressed objects: which ones a version needs, and where copies of them lie.

An object is named by the MD5 of its bytes and lies at ``files/md5/<2 hex>/<the rest>`` in a cache or remote. A tracked folder is an
object, too: ``<md5>.dir``, a JSON list of ``{"md5": …, "relpath": …}`` sorted by path. What a version needs is computed from
these lists alone: `dvc status -c` takes all files of a folder for present as soon as the ``.dir`` object is.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec

from muster.adapters.dvc_repository import dvc_errors
from muster.domain.content import checked_path
from muster.errors import IntegrityError, SourceChanged, SourceInvalid, StoreUnavailable
from muster.ports import LocalFile

BLOCK = 1 << 20
_MD5 = re.compile("[0-9a-f]{32}")
GONE = (404, 410)  # what a web server says of a file that is not there
READERS = max(2, min(8, os.cpu_count() or 2))


class _Listed(msgspec.Struct, gc=False):
    """A file in the list of a tracked folder."""

    md5: str
    relpath: str


_LISTED = msgspec.json.Decoder(list[_Listed])


@dataclass(frozen=True, slots=True)
class Copy:
    """
    One copy of an object.

    :param where: where it lies, for people
    :param size: its length in bytes
    """

    where: str
    size: int
    open: Callable[[], BinaryIO]


class ObjectStore(Protocol):
    """Somewhere DVC keeps objects."""

    def copy(self, oid: str) -> Copy | None:
        """The copy that lies here, or None."""


class FolderStore:
    """A cache or remote in a folder. `folder` is the one above the two-digit folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._prefix = f"{folder}{os.sep}"

    def path(self, oid: str) -> str:
        """Where an object lies, or would. A string: `Path` costs more than the system call that follows."""
        return f"{self._prefix}{oid[:2]}{os.sep}{oid[2:]}"

    def copy(self, oid: str) -> Copy | None:
        path = self.path(oid)
        try:
            size = os.stat(path).st_size  # noqa: PTH116
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SourceInvalid(f"DVC's object {path} cannot be read: {error}", "see to its permissions") from error
        return Copy(path, size, ObjectFile(path))


class CloudStore:
    """A remote behind one of DVC's own file systems: listed once, at the first question; where it cannot be, asked for each object."""

    def __init__(self, odb: Any) -> None:
        self._odb = odb

    def copy(self, oid: str) -> Copy | None:
        """:raises StoreUnavailable: if that cannot be told, which is not the same as no copy"""
        info = self._info(oid)
        return None if info is None else Copy(self._url(oid), int(info["size"]), functools.partial(self._open, oid))

    def etag(self, oid: str) -> str | None:
        """What the server calls its ETag: with S3, the MD5 of an object that was put in one part."""
        etag = (self._info(oid) or {}).get("ETag")
        return None if etag is None else str(etag).strip('"')

    def is_empty(self) -> bool:
        """Whether there is no object at all."""
        return not self._infos

    def _info(self, oid: str) -> dict[str, Any] | None:
        if self._odb.fs.CAN_TRAVERSE:
            return self._infos.get(oid)
        with _answers(self._odb.path):
            return _asked(self._odb.fs.fs, self._odb.oid_to_path(oid))

    @functools.cached_property
    def _infos(self) -> dict[str, dict[str, Any]]:
        with _answers(self._odb.path):
            # DVC's wrapper gives no sizes from find, so the fsspec file system below it is asked, past its cache of listings.
            self._odb.fs.fs.invalidate_cache()
            found = _listed(self._odb.fs.fs, self._odb.path)
        return {"".join(key.rsplit("/", 2)[-2:]): info for key, info in found.items()}

    def _url(self, oid: str) -> str:
        return str(self._odb.fs.unstrip_protocol(self._odb.oid_to_path(oid)))

    def _open(self, oid: str) -> BinaryIO:
        url = self._url(oid)
        try:
            with dvc_errors(url):
                stream = self._odb.fs.open(self._odb.oid_to_path(oid), "rb")
        except SourceInvalid as error:
            raise SourceChanged(f"{url} was there and is not any more: {error.message}", "take it again") from error
        return io.BufferedReader(_TranslatedStream(stream, url), BLOCK)


@contextmanager
def _answers(url: str) -> Iterator[None]:
    """:raises StoreUnavailable: if a remote does not answer, or does not let us look"""
    with dvc_errors(url):
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StoreUnavailable(
                f"the DVC remote {url} cannot be listed: {error}", "see that it is up and lets itself be listed"
            ) from error


def _listed(fs: Any, root: str) -> dict[str, dict[str, Any]]:
    """Every file below a folder; none if that is not there. fsspec's own `find` leaves out what it cannot list, and says nothing."""
    from fsspec import AbstractFileSystem  # type: ignore[import-untyped]
    from fsspec.asyn import AsyncFileSystem  # type: ignore[import-untyped]

    kind = type(fs)
    if getattr(kind, "_find", kind.find) not in (AsyncFileSystem._find, AbstractFileSystem.find):
        found: dict[str, dict[str, Any]] = fs.find(root, detail=True)
        return found
    try:
        return dict(_walk(fs, fs.ls(root, detail=True), root))
    except FileNotFoundError:
        if fs.exists(root):
            raise
        return {}


def _walk(fs: Any, listing: Iterable[dict[str, Any]], above: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for info in listing:
        name = str(info["name"]).rstrip("/")
        if info["type"] != "directory":
            yield name, info
        elif name != above.rstrip("/"):
            yield from _walk(fs, fs.ls(name, detail=True), name)


def _asked(fs: Any, path: str) -> dict[str, Any] | None:
    """
    What the server says of one file; None if it says that it is not there.

    :raises StoreUnavailable: if it says something else, or not how long the file is
    """
    try:
        info: dict[str, Any] = fs.info(path)
    except FileNotFoundError as error:
        cause = error.__cause__  # fsspec takes whatever goes wrong for a missing file
        if cause is None or isinstance(cause, FileNotFoundError) or getattr(cause, "status", None) in GONE:
            return None
        raise StoreUnavailable(f"{path} cannot be looked at: {cause}", "see that the DVC remote is up") from error
    if info.get("size") is None:
        raise StoreUnavailable(f"the server does not say how long {path} is", "let it send a Content-Length")
    return info


class _TranslatedStream(io.RawIOBase):
    """A stream of a cloud client, whose errors become ours."""

    def __init__(self, stream: Any, url: str) -> None:
        self._stream = stream
        self._url = url

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with dvc_errors(self._url):
            data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


class ObjectFile(LocalFile):
    """A file of a living source; opening it raises what `open_file` does."""

    def __call__(self) -> BinaryIO:
        return open_file(self.path)


def open_file(path: str) -> BinaryIO:
    """
    Open a file of a living source.

    :raises SourceChanged: if it is gone
    :raises SourceInvalid: if it cannot be read
    """
    try:
        return open(path, "rb")  # noqa: PTH123
    except FileNotFoundError as error:
        raise SourceChanged(f"{path} was removed while it was being captured", "take the snapshot again") from error
    except OSError as error:
        raise SourceInvalid(f"{path} cannot be read: {error.strerror}", "see to its permissions and kind") from error


def md5_of(stream: BinaryIO) -> str:
    """Hex MD5 of the rest of a stream; DVC's identity of content, no proof against intent."""
    digest = hashlib.md5(usedforsecurity=False)
    while block := stream.read(BLOCK):
        digest.update(block)
    return digest.hexdigest()


def md5_of_file(path: str) -> str:
    """Hex MD5 of a file of a living source."""
    with open_file(path) as stream:
        return md5_of(stream)


def hash_files(paths: list[str]) -> list[str]:
    """Hex MD5 of many files, in parallel, in the order of `paths`."""
    if len(paths) < 2:
        return [md5_of_file(path) for path in paths]
    with ThreadPoolExecutor(READERS, "md5") as pool:
        return list(pool.map(md5_of_file, paths))


def folder_object(files: Mapping[str, str]) -> bytes:
    """The bytes of the ``.dir`` object of a folder, as `dvc_data.hashfile.tree.Tree.as_bytes` has them: path → md5 → JSON."""
    listed = [{"md5": md5, "relpath": path} for path, md5 in sorted(files.items())]
    return json.dumps(listed, sort_keys=True).encode()


def read_folder_object(oid: str, content: bytes) -> dict[str, str]:
    """
    Path to MD5 of the files of a tracked folder.

    :raises IntegrityError: if the bytes are not those of the name, or not a list of files
    """
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != oid.removesuffix(".dir"):
        raise IntegrityError(
            f"DVC's object {oid} is damaged: its bytes have another MD5", "run: dvc fetch, or verify the vault"
        )
    try:
        found = {checked_path(item.relpath): item.md5 for item in _LISTED.decode(content)}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise IntegrityError(
            f"DVC's object {oid} is not a list of files", "run: dvc doctor; was it written by DVC 3?"
        ) from error
    if wrong := [md5 for md5 in found.values() if not _MD5.fullmatch(md5)]:
        raise IntegrityError(f"DVC's object {oid} names {wrong[0]!r}, which is no MD5", "verify the vault")
    return found
