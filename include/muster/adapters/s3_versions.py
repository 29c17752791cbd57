"""What a bucket with versions has below the newest: what an attacker, or a server that ignores conditions, has covered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, pairwise
from typing import Any

from muster.adapters.blob_keys import checked_key, is_key
from muster.adapters.s3_admin import S3Admin
from muster.errors import AlreadyExists, NotFound, Refused, StoreUnavailable
from muster.ports import Hidden


@dataclass(frozen=True, slots=True)
class Layer:
    """One version of an object, or a delete marker."""

    path: str
    version: str
    marker: bool
    newest: bool
    at: datetime
    sum: str

    def same(self, other: Layer) -> bool:
        """Whether both have the same bytes, as far as the server's checksum tells; encryption may make equal ones differ."""
        return not (self.marker or other.marker) and self.sum == other.sum


class S3Versions:
    """The `muster.ports.Versions` of a bucket."""

    def __init__(self, admin: S3Admin) -> None:
        self._admin = admin

    def hidden(self, prefix: str = "") -> Iterator[Hidden]:
        location = self._admin.location
        for path, layers in self._objects(location.path(prefix)):
            key, top, oldest = location.key(path), _newest(layers), _oldest(layers)
            if is_key(key) and oldest and top.version != oldest.version and not top.same(oldest):
                yield Hidden(key, "delete marker" if top.marker else "version", top.at)

    def uncover(self, key: str) -> None:
        layers = self.layers(key)
        oldest = _oldest(layers)
        if oldest is None:
            raise NotFound(
                f"there is no version of {key} in {self._admin.location.url}", "fetch the object from a replica"
            )
        above = [layer for layer in layers if layer.version != oldest.version]
        for layer in sorted(above, key=lambda layer: layer.marker):  # markers last: each of them hides, none is locked
            with suppress(Refused):  # locked, by the bucket's default retention
                self.remove(key, layer.version)
        left = self.layers(key)
        if left and not _newest(left).same(oldest):
            self._write_anew(key, oldest)

    def layers(self, key: str) -> list[Layer]:
        """Everything that there is of a key; versions newest first, and then markers newest first."""
        wanted = self._admin.location.path(checked_key(key))
        # Of all that begin so, the path that is no longer comes first.
        path, layers = next(self._objects(wanted), ("", []))
        return layers if path == wanted else []

    def remove(self, key: str, version: str) -> None:
        """
        Delete a version or a marker for good.

        :raises Refused: if it is locked
        """
        path = self._admin.location.path(key)
        self._admin.ask("delete_object", f"version {version} of {key}", Key=path, VersionId=version)

    def remove_all(self, key: str) -> None:
        """
        Delete all that there is of a key. The oldest version, which is ours, goes first: if that is locked, nothing is changed.

        :raises NotFound: if there is nothing
        :raises Refused: if a version is locked
        """
        layers = self.layers(key)
        if not layers:
            raise NotFound(
                f"there is no {key} in {self._admin.location.url}",
                "look at the address of the vault, then list what it holds",
            )
        versions = [layer for layer in layers if not layer.marker]
        for layer in (*reversed(versions), *(layer for layer in layers if layer.marker)):
            self.remove(key, layer.version)

    def settle(self, key: str, version: str, *, again: bool) -> None:
        """
        Say whether a version just written found its key free; if it did not, take it away again.

        For servers that ignore ``If-None-Match`` where they keep versions: of several writers, the one whose version is the oldest
        was the first, and all see the same order. A delete marker frees a key.

        :param again: earlier tries of the same write had no answer, and may have left versions of the same bytes
        :raises AlreadyExists: if the key was taken by another
        :raises StoreUnavailable: if the version is not there any more
        """
        written = _down_to_marker(self.layers(key), version)
        if not written:
            raise StoreUnavailable(f"{key} was written to {self._admin.location.url} and is gone", "try again")
        mine, first = written[0], written[-1]
        surplus = [layer for layer in written[:-1] if layer.same(mine)]
        try:
            for layer in surplus:
                self.remove(key, layer.version)
        except Refused:  # locked, by the bucket's default retention
            self._write_anew(key, first)
        if surplus and not (again and first.same(mine)):
            raise AlreadyExists(f"{key} is already in {self._admin.location.url}", "nothing is ever overwritten")

    def _write_anew(self, key: str, layer: Layer) -> None:
        """
        Put the bytes of an older version on top of what cannot be removed, with the lock that it has.

        Not by a copy within the server: some cannot copy what they have encrypted. No object of a vault is large.
        """
        old = self._admin.ask("get_object", key, Key=layer.path, VersionId=layer.version)
        names = ("ObjectLockMode", "ObjectLockRetainUntilDate", "ObjectLockLegalHoldStatus")
        lock = {name: old[name] for name in names if name in old}
        data = self._admin.body(key, old)
        self._admin.ask("put_object", key, Key=layer.path, Body=data, **lock, **self._admin.encryption())

    def _objects(self, beginning: str) -> Iterator[tuple[str, list[Layer]]]:
        """All that there is of each path that begins so, in the order of the paths."""
        for path, layers in groupby(self._layers(beginning), key=lambda layer: layer.path):
            yield path, sorted(layers, key=lambda layer: layer.marker)

    def _layers(self, beginning: str) -> Iterator[Layer]:
        # An answer has versions and markers apart, each by path and newest first; sorting by path keeps the latter.
        for page in self._admin.pages("list_object_versions", beginning or "the bucket", Prefix=beginning):
            found = [_layer(entry, marker=False) for entry in page.get("Versions", ())]
            found += [_layer(entry, marker=True) for entry in page.get("DeleteMarkers", ())]
            yield from sorted(found, key=lambda layer: layer.path)


def _layer(entry: dict[str, Any], *, marker: bool) -> Layer:
    return Layer(
        path=entry["Key"],
        version=entry["VersionId"],
        marker=marker,
        newest=bool(entry["IsLatest"]),
        at=entry["LastModified"],
        sum=f"{entry.get('ETag')} {entry.get('Size')}",
    )


def _down_to_marker(layers: list[Layer], version: str) -> list[Layer]:
    """The versions from a given one down to the first that was written since the key was last free; newest first."""
    versions = [layer for layer in layers if not layer.marker]
    below = versions[next((n for n, layer in enumerate(versions) if layer.version == version), len(versions)) :]
    for place, (newer, older) in enumerate(pairwise(below), 1):
        if any(layer.marker and older.at <= layer.at <= newer.at for layer in layers):
            return below[:place]
    return below


def _newest(layers: list[Layer]) -> Layer:
    return next((layer for layer in layers if layer.newest), layers[0])


def _oldest(layers: list[Layer]) -> Layer | None:
    """The version that was written first; None if there are only markers."""
    return next((layer for layer in reversed(layers) if not layer.marker), None)
