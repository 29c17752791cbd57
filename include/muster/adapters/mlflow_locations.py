"""Where MLflow's stores say that artifacts lie: places, and the roots that they lie below."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from muster.adapters.addresses import for_artifacts
from muster.adapters.azure_location import AZURE_FORM, azure_location
from muster.domain.restore_plan import without_secrets
from muster.domain.restore_target import percent_kept
from muster.errors import IntegrityError, SourceInvalid

_PROXIED = re.compile(r"mlflow-artifacts:(?://[^/]*)?/+(.*)", re.DOTALL)

AZURE_CLOUD = "blob.core.windows.net"
WASBS = re.compile(
    r"(?P<container>[^@/:?]+)@(?P<account>[^.@/:?]+)\."
    r"(?P<domain>blob\.core\.(?:windows\.net|chinacloudapi\.cn|usgovcloudapi\.net))(?=/|\Z)"
)
"""How a place in Azure Blob Storage begins: what MLflow takes."""

SUPPORTED = "absolute folders, s3://bucket/prefix, gs://bucket/prefix and wasbs://container@account.blob.core.windows.net/prefix"

_ELSEWHERE = re.compile(r"(?!runs:|models:)[A-Za-z][\w+.-]*:")


@dataclass(frozen=True, slots=True)
class Place:
    """
    A location, whatever way it was written.

    :param base: ``proxied`` (below the server's artifact root), ``file``, or what stands before the ``://``: ``s3``, ``gs``, ``wasbs``
    :param path: relative for ``proxied``; absolute for ``file``; ``bucket/key``, for Azure ``container@account.domain/key``
    """

    base: str
    path: str

    @property
    def location(self) -> str:
        """As MLflow writes it, without secrets."""
        return percent_kept(self.path) if self.base == "file" else f"{self.base}://{self.path}"

    @property
    def in_bucket(self) -> tuple[str, str]:
        """The bucket, and what the keys below this place begin with."""
        bucket, _, key = self.path.partition("/")
        return bucket, f"{key}/" if key else ""

    def below(self, root: Place) -> str | None:
        """The path relative to a root, empty for the root itself; None if this lies elsewhere."""
        if self.base != root.base:
            return None
        if self.path == root.path:
            return ""
        prefix = root.path.rstrip("/") + "/"
        return self.path[len(prefix) :] if self.path.startswith(prefix) else None


def place_of(value: str) -> Place | None:
    """The place that a value names, or None if it is no place that can be read from here (``models:/…``, ``dummy-source``, ``abfss://…``)."""
    if ".." in value.split("/"):
        return None
    if proxied := _PROXIED.fullmatch(value):
        return Place("proxied", proxied.group(1).strip("/"))
    if value.startswith("file:"):
        path = re.sub(r"^file:(?://(?:localhost)?(?=/))?", "", value)
        elsewhere = re.match(r"file://(?!localhost/|/|\Z)", value)  # on another machine
        return Place("file", _folder(unquote(path))) if path.startswith("/") and not elsewhere else None
    if value.startswith("/"):
        return Place("file", _folder(unquote(value)))  # MLflow reads %20 as a space in a plain path, too
    scheme, separator, rest = value.partition("://")
    path = rest.partition("?")[0].rstrip("/")
    if not separator:
        return None
    if scheme == "wasbs":
        return Place(scheme, path) if WASBS.match(path) else None
    bucket, slash, key = path.partition("/")
    return Place(scheme, bucket.rpartition("@")[2] + slash + key) if scheme in ("s3", "gs") else None


def _folder(path: str) -> str:
    return re.sub(r"/+", "/", path).rstrip("/") or "/"


def root_place(artifact_root: str) -> Place:
    """
    The place of an artifact root as an operator gives it.

    :raises SourceInvalid: if it is relative, proxied, or of a scheme that is not supported
    :raises UsageError: if it is one in Azure that is written as a vault's, and is wrong
    """
    place = _azure_place(artifact_root) if artifact_root.startswith("azure://") else place_of(artifact_root)
    if place is None or place.base == "proxied":
        raise SourceInvalid(
            f"the artifact root {without_secrets(artifact_root)} cannot be read",
            f"give what `mlflow server` has as --artifacts-destination; supported are {SUPPORTED}",
        )
    return place


def _azure_place(artifact_root: str) -> Place | None:
    """The place, as MLflow writes it, of ``azure://[KEY@]account/container[/prefix][?endpoint=URL]``."""
    location = azure_location(for_artifacts(artifact_root, AZURE_FORM, segments=1))
    path = urlsplit(artifact_root).path.strip("/")
    prefix = path.removeprefix(location.container).rstrip("/")
    host = urlsplit(location.server).hostname
    own = place_of(f"wasbs://{location.container}@{host}{prefix}")
    return own or place_of(f"wasbs://{location.container}@{location.account}.{AZURE_CLOUD}{prefix}")


# --- roots ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Root:
    """
    A folder or bucket prefix below which artifacts lie.

    :param tree: the folder of the stored tree that stands for it: ``artifacts`` for the artifact root, ``outside/<8 hex digits>``
    """

    place: Place
    tree: str

    def to_json(self) -> dict[str, Any]:
        return {"location": self.place.location, "tree": self.tree}

    @property
    def folder(self) -> str:
        """Where this root comes to lie below a new artifact root; empty for the artifact root itself."""
        return "" if self.tree == "artifacts" else self.tree.replace("/", "-")

    def moved(self, new: Place) -> Place:
        """Where this root lies after a restore to another artifact root."""
        return Place(new.base, f"{new.path.rstrip('/')}/{self.folder}") if self.folder else new


def roots_of(artifact_root: Place, places: Iterable[Place]) -> tuple[Root, ...]:
    """The artifact root, and the topmost of all places that lie elsewhere."""
    roots = [Root(artifact_root, "artifacts")]
    for place in sorted(set(places), key=lambda p: (p.base, p.path)):
        if place.base != "proxied" and all(place.below(root.place) is None for root in roots):
            digest = hashlib.sha256(place.location.encode()).hexdigest()[:8]
            roots.append(Root(place, f"outside/{digest}"))
    return tuple(roots)


def roots_from_json(data: Any) -> tuple[Root, ...]:
    """
    :raises IntegrityError: if a stored root is not what `Root.to_json` gives
    """
    roots = []
    for item in data:
        place, tree = place_of(item["location"]), item["tree"]
        if place is None or not re.fullmatch(r"artifacts|outside/[0-9a-f]{8}", tree):
            raise IntegrityError(f"the stored artifact root {item!r} is not one", "verify the vault")
        roots.append(Root(place, tree))
    return tuple(roots)


def home_of(place: Place, roots: Iterable[Root]) -> tuple[Root, str]:
    """The root that a place belongs to, and its path below it."""
    for root in roots:
        relative = place.path if place.base == "proxied" else place.below(root.place)
        if relative is not None:
            return root, relative
    raise SourceInvalid(f"{place.location} lies below no known artifact root", "report this location to us")


def placed_values(rows: Mapping[str, Iterable[str]]) -> dict[str, list[Place]]:
    """
    The places in location values, by ``table.column``.

    :raises SourceInvalid: if a value is a URL of a store that cannot be read, or a relative path
    """
    found: dict[str, list[Place]] = {}
    for where, values in rows.items():
        for value in values:
            place = place_of(value)
            if place is not None:
                found.setdefault(where, []).append(place)
            elif not where.startswith("model_versions.") or _ELSEWHERE.match(value):
                raise SourceInvalid(
                    f"{where} names artifacts at {without_secrets(value)}, which cannot be read from here",
                    f"supported are {SUPPORTED}, file: and mlflow-artifacts:/",
                )
    return found
