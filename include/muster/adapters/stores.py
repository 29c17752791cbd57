"""From the address of a vault to the store that it lies in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from muster.adapters.local_store import LocalStore
from muster.errors import UsageError
from muster.ports import BlobStore


def open_store(url: str, *, insecure: bool = False) -> BlobStore:
    """
    The store at an address; nothing is sent or made yet.

    :param url: ``/path``, ``file:///path``, ``s3://[ACCESS:SECRET@]bucket[/prefix][?option=value&…]``,
        ``gs://[KEY@]bucket[/prefix][?…]`` or ``azure://[KEY@]account/container[/prefix][?…]``
    :param insecure: consent to plain HTTP to another machine, as ``insecure=true`` in the address of a bucket
    :raises UsageError: if no store has such an address; the message shows no credentials
    """
    scheme, separator, _ = url.partition("://")
    if not url:
        raise UsageError("the address of the vault is empty", _forms())
    if not separator:
        return LocalStore(_folder(url))
    if scheme not in _OPENERS:
        raise UsageError(f"no store has addresses that begin with {scheme}://", _forms())
    consented = insecure and scheme != "file" and "insecure=" not in url.partition("?")[2]
    return _OPENERS[scheme](f"{url}{'&' if '?' in url else '?'}insecure=true" if consented else url)


def _file_path(url: str) -> Path:
    rest = url.partition("://")[2]
    host, slash, path = rest.partition("/")
    if host not in ("", "localhost") or not slash:
        raise UsageError(f"file://{rest} names no folder of this machine", _forms())
    return _folder(f"/{unquote(path)}")


def _folder(path: str) -> Path:
    try:
        folder = None if "\0" in path else Path(path).expanduser()
    except RuntimeError:  # there is no such ~user
        folder = None
    if folder is None:
        raise UsageError(f"{path!r} names no folder of this machine", _forms())
    return folder


def _s3(url: str) -> BlobStore:
    from muster.adapters.object_store import S3Store
    from muster.adapters.s3_location import s3_location

    return S3Store(s3_location(url))


def _gcs(url: str) -> BlobStore:
    from muster.adapters.gcs_location import gcs_location
    from muster.adapters.gcs_store import gcs_store

    return gcs_store(gcs_location(url))


def _azure(url: str) -> BlobStore:
    from muster.adapters.azure_location import azure_location
    from muster.adapters.azure_store import azure_store

    return azure_store(azure_location(url))


def _forms() -> str:
    from muster.adapters.azure_location import AZURE_FORM
    from muster.adapters.gcs_location import GCS_FORM
    from muster.adapters.s3_location import S3_FORM

    return f"use a path, file:///path, {S3_FORM}; {GCS_FORM}; or {AZURE_FORM}"


_OPENERS: dict[str, Callable[[str], BlobStore]] = {
    "file": lambda url: LocalStore(_file_path(url)),
    "s3": _s3,
    "gs": _gcs,
    "azure": _azure,
}
