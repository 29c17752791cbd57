"""
Where MLflow's tables say that artifacts lie, and how these places are mapped when a store comes back elsewhere.

Three kinds of text can hold a place:

* the location columns below: mapped by prefix, and by nothing cleverer;
* what people and clients wrote (tags, parameters, dataset sources, traces, job parameters): history. MLflow never resolves an
  artifact through it, and it says where something *was*; it is carried as it is, and each mention of an old root is counted;
* everything else: an old root there is a place that we do not know to map, so the restore fails and names the column.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from muster.adapters.addresses import for_artifacts
from muster.adapters.azure_location import AZURE_FORM, azure_location
from muster.adapters.mlflow_lines import Batch, Row, text_in_line
from muster.adapters.mlflow_rows import Table
from muster.domain.restore_plan import without_secrets
from muster.errors import IntegrityError, SourceInvalid

LOCATIONS: dict[str, tuple[str, ...]] = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("storage_location", "source"),
    "trace_tags": ("value",),
    "workspaces": ("default_artifact_root", "trace_archival_location"),
}
"""Found by restoring a full store and searching every text column of it for the old root, not by reading the schema."""

TRACE_LOCATION_KEYS = ("mlflow.artifactLocation", "mlflow.trace.archiveLocation")
"""The only trace tags whose value is a location."""

HISTORY: dict[str, tuple[str, ...]] = {
    "runs": ("name", "source_name", "entry_point_name"),
    "experiments": ("name",),
    "logged_models": ("name", "status_message"),
    "model_versions": ("description", "status_message", "run_link"),
    "registered_models": ("description",),
    "trace_info": ("request_preview", "response_preview"),
    "workspaces": ("description",),
    "trace_tags": ("value",),
}
HISTORY_TABLES = frozenset(
    {
        *("tags", "params", "experiment_tags", "registered_model_tags", "model_version_tags", "logged_model_tags"),
        *("logged_model_params", "datasets", "input_tags", "trace_request_metadata", "spans", "assessments", "jobs"),
        *("evaluation_datasets", "evaluation_dataset_records", "evaluation_dataset_tags", "scorer_versions", "issues"),
        *("label_schemas", "mcp_servers", "mcp_server_versions", "mcp_server_tags", "mcp_server_version_tags"),
    }
)

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
        return self.path if self.base == "file" else f"{self.base}://{self.path}"

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
        return Place("file", _folder(value))
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
    require_one_reading("the artifact root", artifact_root)
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


# --- mapping ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class LocationMap:
    """
    Rewrites locations from old roots to new ones, and finds what was forgotten.

    :param mentions: after reading back: history columns that mention an old root, with the number of values
    :param moves: tables, with the number of their values that were mapped
    """

    prefixes: tuple[tuple[str, str], ...]
    places: tuple[tuple[Place, Place], ...] = ()
    mentions: dict[str, int] = field(default_factory=dict)
    moves: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def between(roots: Iterable[Root], new: Place) -> LocationMap:
        """The map of a restore to a new artifact root; roots that stay where they are need none."""
        moves = [(root.place, root.moved(new)) for root in roots if root.moved(new) != root.place]
        pairs = [pair for old, moved in moves for pair in _spellings(old, moved)]
        places = sorted(moves, key=lambda move: -len(move[0].path))
        return LocationMap(tuple(sorted(pairs, key=lambda pair: -len(pair[0]))), tuple(places))

    def apply(self, table: Table, row: Sequence[Any]) -> Row:
        """The row with its locations mapped; every other value is left alone."""
        mapped = list(row)
        for index, column in enumerate(table.names):
            if isinstance(row[index], str) and is_location(table, column, row):
                mapped[index] = self.moved(row[index])
                if mapped[index] != row[index]:
                    self.moves[table.name] = self.moves.get(table.name, 0) + 1
        return mapped

    def applied(self, table: Table, batches: Iterator[Batch]) -> Iterator[Batch]:
        """All rows of a table with their locations mapped."""
        if not self.prefixes or table.name not in LOCATIONS:
            return batches
        return (Batch([self.apply(table, row) for row in batch.rows]) for batch in batches)

    def moved(self, value: str) -> str:
        """A location below its new root: spelled as before if its spelling is a usual one, else as MLflow would write it."""
        for old, new in self.prefixes:
            if value == old or value.startswith(old.rstrip("/") + "/"):
                return new.rstrip("/") + value[len(old.rstrip("/")) :]
        place = place_of(value) if self.places else None
        for root, to in self.places:
            if place and (below := place.below(root)) is not None:
                path = f"{to.path.rstrip('/')}/{below}" if below else to.path
                return _written(Place(to.base, path), as_url=value.startswith("file:"))
        return value

    def inspected(self, table: Table, batches: Iterable[Batch]) -> Iterator[Batch]:
        """
        Restored rows, in every text of which old roots are looked for.

        Most name none, so the lines of some rows are looked at as one first, which takes a hundredth of the time.

        :raises IntegrityError: if one is left where it is not history
        """
        olds = [text_in_line(old) for old, _ in self.prefixes]
        placed = self.places and table.name in LOCATIONS
        for batch in batches:
            if placed:
                for row in batch.rows:
                    self._inspect_places(table, row)
            if any(old in batch.lines for old in olds):
                for row in batch.rows:
                    self._inspect(table, row)
            yield batch

    def _inspect(self, table: Table, row: Sequence[Any]) -> None:
        for index, column in enumerate(table.names):
            if isinstance(row[index], str) and self._names_old(row[index]):
                where = f"{table.name}.{column}"
                if is_location(table, column, row) or not _is_history(table.name, column):
                    raise _forgotten(where)
                self.mentions[where] = self.mentions.get(where, 0) + 1

    def _inspect_places(self, table: Table, row: Sequence[Any]) -> None:
        """The same of values that are places, whichever way they are spelled."""
        for index, column in enumerate(table.names):
            if isinstance(row[index], str) and is_location(table, column, row) and self._is_old(row[index]):
                raise _forgotten(f"{table.name}.{column}")

    def _is_old(self, value: str) -> bool:
        place = place_of(value)
        return place is not None and any(
            place.below(old) is not None and place.below(new) is None for old, new in self.places
        )

    def _names_old(self, text: str) -> bool:
        if not any(old in text for old, _ in self.prefixes):
            return False
        for old, new in self.prefixes:
            if new.startswith(old.rstrip("/") + "/"):  # the new root lies below the old one, and may be named
                text = _mention(new).sub("", text)
        return any(_mention(old).search(text) for old, _ in self.prefixes)


def is_location(table: Table, column: str, row: Sequence[Any]) -> bool:
    """Whether this value of a row is a place of artifacts."""
    if column not in LOCATIONS.get(table.name, ()):
        return False
    return table.name != "trace_tags" or row[table.names.index("key")] in TRACE_LOCATION_KEYS


def _is_history(table: str, column: str) -> bool:
    return table in HISTORY_TABLES or column in HISTORY.get(table, ())


def _spellings(old: Place, new: Place) -> list[tuple[str, str]]:
    """All ways to write an old root, each with the new root written likewise."""
    if old.base != "file":
        return [(old.location, new.location)]
    forms = ["file://{}", "file:{}"]
    url = (lambda form, path: form.format(path)) if new.base == "file" else (lambda _form, _path: new.location)
    plain = [(form.format(old.path), url(form, new.path)) for form in forms]
    quoted = [(form.format(quote(old.path)), url(form, quote(new.path))) for form in forms]
    return list(dict([(old.path, new.location), *quoted, *plain]).items())


def _written(place: Place, *, as_url: bool) -> str:
    return f"file://{quote(place.path)}" if as_url and place.base == "file" else place.location


def _forgotten(where: str) -> IntegrityError:
    return IntegrityError(
        f"{where} still names an old artifact root after the restore",
        "restore to the same artifact root, and report this column to us",
    )


def _mention(location: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w.\-/]){re.escape(location)}(?![\w.\-])")


def require_one_reading(where: str, value: str) -> None:
    """
    :raises SourceInvalid: if it is a plain path that MLflow takes for another one: it reads ``%20`` as a space, in a URL or not
    """
    if value.startswith("/") and unquote(value) != value:
        raise SourceInvalid(
            f"{where} names the path {value}, which MLflow reads as {unquote(value)}",
            "name it as file:// URL, in which % stands for itself as %25, or choose a path without %",
        )


def placed_values(rows: Mapping[str, Iterable[str]]) -> dict[str, list[Place]]:
    """
    The places in location values, by ``table.column``.

    :raises SourceInvalid: if a value is a URL of a store that cannot be read, or a relative path
    """
    found: dict[str, list[Place]] = {}
    for where, values in rows.items():
        for value in values:
            require_one_reading(where, value)
            place = place_of(value)
            if place is not None:
                found.setdefault(where, []).append(place)
            elif not where.startswith("model_versions.") or _ELSEWHERE.match(value):
                raise SourceInvalid(
                    f"{where} names artifacts at {without_secrets(value)}, which cannot be read from here",
                    f"supported are {SUPPORTED}, file: and mlflow-artifacts:/",
                )
    return found
