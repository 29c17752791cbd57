"""
How the places that MLflow's tables name are mapped when a store comes back elsewhere.

Three kinds of text can hold a place:

* the location columns below: mapped by what they mean; the spelling stays if it is a usual one;
* what people and clients wrote (tags, parameters, dataset sources, traces, job parameters): history. MLflow never resolves an
  artifact through it, and it says where something *was*; it is carried as it is, and each mention of an old root is counted;
* everything else: an old root there is a place that we do not know to map, so the restore fails and names the column.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from muster.adapters.mlflow_lines import Batch, Row, text_in_line
from muster.adapters.mlflow_locations import Place, Root, place_of
from muster.adapters.mlflow_rows import Table
from muster.domain.restore_target import percent_kept
from muster.errors import IntegrityError

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
        placed = bool(self.places) and table.name in LOCATIONS
        for batch in batches:
            mentioned = any(old in batch.lines for old in olds)
            if mentioned or placed:
                for row in batch.rows:
                    self._inspect(table, row, mentioned=mentioned)
            yield batch

    def _inspect(self, table: Table, row: Sequence[Any], *, mentioned: bool) -> None:
        """Places whichever way they are spelled, and, if some value may mention an old root, every text."""
        for index, column in enumerate(table.names):
            value, where = row[index], f"{table.name}.{column}"
            if not isinstance(value, str):
                continue
            placed = is_location(table, column, row)
            if placed and self._is_old(value):
                raise _forgotten(where)
            if mentioned and self._names_old(value):
                if placed or not _is_history(table.name, column):
                    raise _forgotten(where)
                self.mentions[where] = self.mentions.get(where, 0) + 1

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
    pairs = {old.location: new.location}
    for spelled in (quote, percent_kept):
        for form in ("file://{}", "file:{}"):
            there = form.format(spelled(new.path)) if new.base == "file" else new.location
            pairs[form.format(spelled(old.path))] = there
    return list(pairs.items())


def _written(place: Place, *, as_url: bool) -> str:
    return f"file://{quote(place.path)}" if as_url and place.base == "file" else place.location


def _forgotten(where: str) -> IntegrityError:
    return IntegrityError(
        f"{where} still names an old artifact root after the restore",
        "restore to the same artifact root, and report this column to us",
    )


def _mention(location: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w.\-/]){re.escape(location)}(?![\w.\-])")
