"""From the address of a vault to the store that it lies in."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from muster.adapters.local_store import LocalStore
from muster.adapters.object_store import S3Location, S3Store
from muster.errors import UsageError
from muster.ports import BlobStore

_FORMS = (
    "use a path, file:///path, or s3://bucket/prefix?endpoint=https://host:port&region=name; credentials, if they are "
    "not the environment's, as s3://ACCESS:SECRET@bucket, percent-encoded"
)
_S3_OPTIONS = {"endpoint", "region"}
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")


def open_store(url: str) -> BlobStore:
    """
    The store at an address; nothing is sent or made yet.

    :param url: ``/path``, ``file:///path``, or ``s3://[ACCESS:SECRET@]bucket[/prefix][?endpoint=…&region=…]``
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
        return S3Store(_s3_location(url))
    raise UsageError(f"no store has addresses that begin with {scheme}://", _FORMS)


def _file_path(rest: str) -> Path:
    host, slash, path = rest.partition("/")
    if host not in ("", "localhost") or not slash:
        raise UsageError(f"file://{rest} names no folder of this machine", _FORMS)
    return Path(f"/{unquote(path)}")


def _s3_location(url: str) -> S3Location:
    parts = _split(url)
    credentials, at, bucket = parts.netloc.rpartition("@")
    access, colon, secret = credentials.partition(":")
    # What does not look like a bucket is not shown: it may be one half of a secret that holds a '/'.
    if not _BUCKET.fullmatch(bucket) or parts.fragment or (at and not (access and colon and secret)):
        raise UsageError(
            "the S3 address has no bucket, or its credentials are not whole",
            f"{_FORMS}; '/', '?' and '#' within a secret are written %2F, %3F and %23",
        )
    options = _options(parts, bucket)
    return S3Location(
        bucket,
        parts.path.strip("/"),
        endpoint=options.get("endpoint"),
        region=options.get("region"),
        access_key=unquote(access) if at else None,
        secret_key=unquote(secret) if at else None,
    )


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        raise UsageError("the S3 address cannot be read", _FORMS) from None


def _options(parts: SplitResult, bucket: str) -> dict[str, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(set(options) - _S3_OPTIONS)
    if unknown:
        raise UsageError(f"the S3 address of bucket {bucket} has the unknown option {unknown[0]!r}", _FORMS)
    endpoint = options.get("endpoint")
    if endpoint is not None:
        place = urlsplit(endpoint)
        if place.scheme not in ("http", "https") or not place.netloc or "@" in place.netloc:
            raise UsageError(
                f"the endpoint of bucket {bucket} is not an address of the form http(s)://host:port", _FORMS
            )
    return options
