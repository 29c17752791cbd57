"""Single models of a captured registry, brought back into one that is in use."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from muster.adapters.mlflow_access import Access
from muster.adapters.mlflow_closure import Closure
from muster.adapters.mlflow_fetch import fetch
from muster.adapters.mlflow_fill import Here, Stored
from muster.adapters.mlflow_lines import read_lines
from muster.adapters.mlflow_links import Read
from muster.adapters.mlflow_live import alone, require_revision, working
from muster.adapters.mlflow_location_map import TRACE_LOCATION_KEYS, LocationMap
from muster.adapters.mlflow_locations import Place, Root, home_of, place_of, root_place, roots_from_json
from muster.adapters.mlflow_merge_files import Added, FileMerge, Named, look
from muster.adapters.mlflow_merge_rows import RowMerge, TableMerge, choose, put, require_put, weigh
from muster.adapters.mlflow_missing import lacked_at, still_missing
from muster.adapters.mlflow_relations import Relations
from muster.adapters.mlflow_rest_tally import REDUCED
from muster.adapters.mlflow_revisions import require_known
from muster.adapters.mlflow_rows import Table, tables_of
from muster.adapters.mlflow_store import StoreUrl
from muster.adapters.mlflow_tables import same_columns
from muster.domain.merge_plan import UNDER_WAY, Conflict, MergePlan, OnConflict
from muster.domain.restore_plan import without_secrets
from muster.domain.restore_target import RestoreTarget
from muster.domain.selection import Wanted, means
from muster.errors import MusterError, Refused, SourceChanged, SourceInvalid, StoreUnavailable, UsageError
from muster.ports import TreeReader
from muster.scratch import scratch_folder

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True)
class _Work:
    """
    A point's chosen rows, on disk, and where its artifacts belong.

    :param incomplete: whether the point lacks artifacts
    """

    stored: Stored
    closure: Closure
    chosen: list[TableMerge]
    roots: tuple[Root, ...]
    places: list[Place]
    incomplete: bool

    @property
    def relations(self) -> Relations:
        return self.closure.links.relations

    def rows(self, name: str) -> Iterator[dict[str, Any]]:
        """The chosen rows of a table, as they were; none if there is no such table."""
        for table in self.stored.schema.tables:
            if table.name == name:
                chosen = self.closure.picker(table)
                rows = (row for row in read_lines(self.stored.files[name]) if chosen(row))
                yield from (dict(zip(table.names, row, strict=True)) for row in rows)

    def plan(self, rows: RowMerge, files: FileMerge, lacking: Sequence[Conflict]) -> MergePlan:
        models = [
            label if aliases is None else f"{label}@{alias}"
            for label, aliases in sorted(self.closure.models.items())
            for alias in sorted(aliases or {""})
        ]
        return MergePlan(
            models=tuple(models),
            tables=tuple(table.line for table in rows.tables),
            artifacts=files.counts,
            aliases=tuple(rows.aliases),
            added=tuple(rows.added),
            revived=tuple(rows.revived),
            left=tuple(rows.left),
            conflicts=(*rows.conflicts, *files.conflicts, *lacking),
        )


class MlflowMerge:
    """
    An MLflow registry that is in use.

    :param store_url: as for `MlflowSource`; its user may write
    :param artifact_root: the server's ``--artifacts-destination``
    """

    def __init__(self, store_url: str, artifact_root: str) -> None:
        self._store = StoreUrl.parse(store_url)
        self._root = root_place(artifact_root)
        self._access = Access.of(artifact_root)

    @staticmethod
    def of(target: RestoreTarget) -> MlflowMerge:
        """
        The registry of a restore target.

        :raises UsageError: if it has none, or only a server before it
        """
        if target.server or not (target.store and target.artifacts):
            raise UsageError(
                f"the target {target.name} names no registry store",
                "models are moved back in the store itself: name it in the catalog, or with --to STORE --artifacts ROOT",
            )
        return MlflowMerge(target.store, target.artifacts)

    @property
    def shown(self) -> str:
        return f"{self._store.shown}, artifacts at {without_secrets(self._root.location)}"

    def plan(self, details: Mapping[str, Any], tree: TreeReader, wanted: Sequence[Wanted]) -> MergePlan:
        """What `merge` would do now; changes nothing."""
        with self._work(details, tree, wanted) as work:
            _, _, plan = self._looked(work, tree)
            return plan

    def merge(
        self,
        details: Mapping[str, Any],
        tree: TreeReader,
        wanted: Sequence[Wanted],
        rule: OnConflict,
        agreed: MergePlan | None = None,
    ) -> MergePlan:
        """Artifacts first, then all rows in one transaction, read anew before it is committed; as it was, if anything fails."""
        with self._work(details, tree, wanted) as work, alone(self._store):
            rows, files, plan = self._looked(work, tree)
            plan.approve(rule)
            if agreed is not None and plan != agreed:
                raise Refused("the plan is not the one that was agreed to any more", "look at the plan again")
            if plan.changes:
                self._apply(work, rows, Added(files, tree))
            return plan

    def _looked(self, work: _Work, tree: TreeReader) -> tuple[RowMerge, FileMerge, MergePlan]:
        with working(self._store, write=False) as connection:
            rows = weigh(connection, work.relations, work.chosen)
        lacked = [place for _, place in lacked_at(tree).values()] if work.incomplete else []
        files = look(tree, work.roots, work.places, _named(work, lacked), self._access)
        return rows, files, work.plan(rows, files, self._lacking(work, tree))

    def _lacking(self, work: _Work, tree: TreeReader) -> list[Conflict]:
        """Versions that would come back, or get an alias, without their artifacts: the point lacks them, and so does the registry."""
        if not work.incomplete:
            return []
        versions = [(row["name"], row["version"], row["run_id"]) for row in work.rows("model_versions")]
        folders = {root.tree: self._access.open(place) for root, place in zip(work.roots, work.places, strict=True)}
        missing = still_missing(versions, tree, work.roots, folders)
        return [
            Conflict("artifacts", one.path, f"{one.what} was missing at the point", keepable=False) for one in missing
        ]

    def _apply(self, work: _Work, rows: RowMerge, added: Added) -> None:
        try:
            added.put()
            with working(self._store, write=True) as connection:
                require_revision(connection, self._store, work.stored.schema.revisions["alembic_version"])
                self._require_unchanged(weigh(connection, work.relations, work.chosen, lock=True), rows)
                put(connection, rows)
                require_put(connection, work.relations, rows)
                added.confirm()
                self._commit(connection, work, added)
        except BaseException:
            added.give_back()
            raise

    def _require_unchanged(self, now: RowMerge, before: RowMerge) -> None:
        if now != before:
            raise SourceChanged(f"{self.shown} changed just now", "look at the plan again")

    def _commit(self, connection: Connection, work: _Work, added: Added) -> None:
        """A server that is lost in the middle of a commit may have done it: then the artifacts must stay."""
        if self._store.engine != "sqlite":
            added.keep()
        try:
            connection.commit()
        except Exception:
            if self._store.engine == "sqlite":
                raise
            if not self._committed(work):
                raise StoreUnavailable(
                    f"{self.shown} was lost while the rollback was committed, so that nobody knows whether it was",
                    "run it again: it finds what is there, and does the rest",
                ) from None
        added.keep()

    def _committed(self, work: _Work) -> bool:
        try:
            with working(self._store, write=False) as connection:
                now = weigh(connection, work.relations, work.chosen)
        except MusterError:
            return False
        return not any(table.adds or table.changes for table in now.tables)

    @contextmanager
    def _work(self, details: Mapping[str, Any], tree: TreeReader, wanted: Sequence[Wanted]) -> Iterator[_Work]:
        """Choose the rows of a point, as they would be in this registry."""
        if details.get("fidelity") == REDUCED:
            raise SourceInvalid(
                "the registry was captured through its API, which does not give the ids and times that a rollback needs",
                "restore it to a place of its own; or let the catalog name the store, so that later points have them",
            )
        require_known(
            dict(details["revisions"]), "the captured registry", f"mlflow=={details['mlflow_version']} or later"
        )
        tables, relations, here = self._layout(details["revisions"]["alembic_version"])
        with scratch_folder("registry") as scratch:
            stored = fetch(tree, "", self._store, details, scratch)
            closure = Closure.of(relations, reader(stored), wanted)
            _require_meant(details.get("selective"), closure)
            roots = roots_from_json(stored.schema.roots)
            stays = roots[0].place == self._root
            locations = LocationMap(()) if stays else LocationMap.between(roots, self._root)
            chosen = choose(here, stored, closure, locations, scratch)
            for merge in chosen:
                if not same_columns(merge.table, tables[merge.table.name]):
                    raise SourceInvalid(
                        f"the captured table {merge.table.name} has other columns than {self.shown}",
                        "restore the point to a place of its own",
                    )
            places = [root.place if stays else root.moved(self._root) for root in roots]
            yield _Work(stored, closure, chosen, roots, places, bool(details.get("missing")))

    def _layout(self, revision: str) -> tuple[dict[str, Table], Relations, Here]:
        """Tables, how they hang together, and the engine that holds them; the registry is let go of at once."""
        with working(self._store, write=False) as connection:
            require_revision(connection, self._store, revision)
            tables = tables_of(connection)
            return tables, Relations.of(connection, tables), Here.of(connection, self._store, tables.values())


def reader(stored: Stored) -> Read:
    """Gives chosen columns of stored tables."""
    tables = {table.name: table for table in stored.schema.tables}

    def read(name: str, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        if name not in tables:
            return
        names = tables[name].names
        indexes = [names.index(column) if column in names else None for column in columns]
        for row in read_lines(stored.files[name]):
            yield tuple(None if index is None else row[index] for index in indexes)

    return read


def _require_meant(part: Mapping[str, Any] | None, closure: Closure) -> None:
    """
    :raises Refused: if a point was taken of other models, and has of one that is asked for only what those need
    """
    partial = sorted(label for label in closure.models if not means(part, label))
    if partial:
        raise Refused(
            f"the point holds only what others need of {', '.join(partial)}",
            "take it from a point of the whole registry, or of this model; or name the models that the point was taken of",
        )


def _named(work: _Work, lacked: Collection[Place]) -> Named:
    """
    The places of artifacts that chosen rows name. More may lie by now where the point lacked something, or a model was still written.

    :param lacked: where the point lacks artifacts
    """
    runs = {row["run_uuid"]: row["artifact_uri"] for row in work.rows("runs")}
    models = [(row["artifact_location"], row["status"]) for row in work.rows("logged_models")]
    written = [location for location, status in models if status not in UNDER_WAY["logged_models"]]
    of_versions, of_runs = list[str | None](), list[str | None]()
    for row in work.rows("model_versions"):
        of_versions += [row.get("storage_location"), row["source"]]
        run, _, path = str(row["source"]).removeprefix("runs:/").partition("/")
        if run in runs:
            of_versions.append(f"{runs[run]}/{path}")
            of_runs.append(runs[run])
    traces = [row["value"] for row in work.rows("trace_tags") if row["key"] in TRACE_LOCATION_KEYS]
    own = _places([*of_versions, *of_runs, *(location for location, _ in models)])
    closed = _places([*of_versions, *written])
    homes = {home_of(place, work.roots) for place in lacked}
    closed = {place for place in closed if home_of(place, work.roots) not in homes}
    return Named(own | _places([*runs.values(), *traces]), own, closed)


def _places(values: Sequence[str | None]) -> set[Place]:
    return {place for value in values if value and (place := place_of(value))}
