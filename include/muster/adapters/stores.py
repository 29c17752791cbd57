"""From the address of a vault to the store that it lies in."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from muster.adapters.local_store import LocalStore
from muster.adapters.object_store import S3Store
from muster.adapters.s3_location import S3_FORM, s3_location
from muster.errors import UsageError
from muster.ports import BlobStore

_FORMS = f"use a path, file:///path, or {S3_FORM}"


def open_store(url: str) -> BlobStore:
    """
    The store at an address; nothing is sent or made yet.

    :param url: ``/path``, ``file:///path``, or ``s3://[ACCESS:SECRET@]bucket[/prefix][?option=value&…]``
    :raises UsageError: if no store has such an address; the message shows no credentials
    """
    scheme, separator, rest = url.partition("://")
    if not url:
        raise UsageError("the address of the vault is empty", _FORMS)
    if not separator:
        return LocalStore(Path(url).expanduser())
    if scheme == "file":
        return LocalStore(_file_path(rest))
    if scheme == "s3":
        return S3Store(s3_location(url))
    raise UsageError(f"no store has addresses that begin with {scheme}://", _FORMS)


def _file_path(rest: str) -> Path:
    host, slash, path = rest.partition("/")
    if host not in ("", "localhost") or not slash:
        raise UsageError(f"file://{rest} names no folder of this machine", _FORMS)
    return Path(f"/{unquote(path)}")
