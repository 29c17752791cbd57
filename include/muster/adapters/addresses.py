"""Addresses of vaults in buckets, taken apart: ``scheme://[credentials@]place[/path][?option=value&…]``. No message shows credentials."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from muster.errors import UsageError


@dataclass(frozen=True, slots=True)
class Address:
    """
    The parts of an address.

    :param what: how messages speak of it: ``the S3 address of bucket b``
    :param credentials: what stands before the ``@``, still percent-encoded; None if there is no ``@``
    :param path: without a slash at either end
    """

    what: str
    credentials: str | None = field(repr=False)
    place: str
    path: str
    options: dict[str, str]

    def one_of(self, name: str, allowed: tuple[Any, ...]) -> Any:
        """
        An option that has only a few values; None if it is not given.

        :raises UsageError: if it has another
        """
        value = self.options.get(name)
        if value is not None and value not in allowed:
            raise UsageError(f"{self.what} has {name}={value}", f"{name} is one of {', '.join(allowed)}")
        return value


@dataclass(frozen=True, slots=True)
class Form:
    """
    What the addresses of one kind of store look like.

    :param kind: in messages: ``S3``
    :param place: what stands after ``scheme://``, in messages: ``bucket``
    :param name: which names such a place can have; anything else is not shown, since it may be a piece of a secret
    :param hint: how an address is written
    :param options: those that it may have
    """

    kind: str
    place: str
    name: re.Pattern[str]
    hint: str
    options: Collection[str]

    def taken_apart(self, url: str) -> Address:
        """
        The parts of an address of this form.

        :raises UsageError: if it is of another form
        """
        parts = self._split(url)
        credentials, at, place = parts.netloc.rpartition("@")
        if not self.name.fullmatch(place) or parts.fragment or (at and not credentials):
            raise self.broken()
        what = f"the {self.kind} address of {self.place} {place}"
        return Address(
            what, credentials if at else None, place, parts.path.strip("/"), self._options(parts.query, what, place)
        )

    def broken(self) -> UsageError:
        """An address is not whole. It is not shown: nobody can tell which part of it is the secret."""
        return UsageError(
            f"the {self.kind} address has no {self.place}, or its credentials are not whole",
            f"use {self.hint}; '/', '?' and '#' within a secret are written %2F, %3F and %23",
        )

    def _split(self, url: str) -> SplitResult:
        try:
            return urlsplit(url)
        except ValueError:
            raise UsageError(f"the {self.kind} address cannot be read", f"use {self.hint}") from None

    def _options(self, query: str, what: str, place: str) -> dict[str, str]:
        options = dict(parse_qsl(query, keep_blank_values=True))
        unknown = sorted(set(options) - set(self.options))
        if unknown:
            raise UsageError(f"{what} has the unknown option {unknown[0]!r}", f"use {self.hint}")
        endpoint = options.get("endpoint")
        if endpoint is not None:
            server = self._split(endpoint)
            if server.scheme not in ("http", "https") or not server.netloc or "@" in server.netloc:
                raise UsageError(
                    f"the endpoint of {self.place} {place} is not an address of the form http(s)://host:port",
                    f"use {self.hint}",
                )
        return options


def for_artifacts(url: str, hint: str, segments: int = 0) -> str:
    """
    The address of a folder of artifacts as that of the bucket: its path may hold what a vault's may not, and is left out.

    :param hint: how such an address is written
    :param segments: how many segments of the path belong to the bucket
    :raises UsageError: if it has options that are a vault's alone
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise UsageError("the address of the artifacts cannot be read", f"use {hint}") from None
    foreign = sorted(dict(parse_qsl(parts.query, keep_blank_values=True)).keys() - {"endpoint", "insecure"})
    if foreign:
        raise UsageError(f"an address of artifacts has no option {foreign[0]!r}", "it has endpoint and insecure")
    return parts._replace(path="/".join(parts.path.split("/")[: segments + 1])).geturl()


def is_loopback(endpoint: str) -> bool:
    """Whether a server is on this machine."""
    try:
        host = urlsplit(endpoint).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def in_the_clear(endpoint: str) -> bool:
    """Whether what is sent there can be read on its way to another machine."""
    return endpoint.startswith("http://") and not is_loopback(endpoint)


def checked_transport(endpoint: str | None, *, insecure: bool) -> None:
    """
    Let nothing go in the clear to another machine without consent.

    :raises UsageError: if it would
    """
    if endpoint and not insecure and in_the_clear(endpoint):
        raise UsageError(
            f"{endpoint} would be sent credentials and data in the clear",
            "use https://, or say insecure=true in the address (or --insecure before the command) if the network between is trusted",
        )
