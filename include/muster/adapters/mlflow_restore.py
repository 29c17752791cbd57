"""A captured MLflow registry, put back: same engine or another, same artifact root or another, same MLflow or a newer one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from muster.adapters.mlflow_access import Access
from muster.adapters.mlflow_artifacts import ArtifactFolder, LocalFolder
from muster.adapters.mlflow_aside import database_aside
from muster.adapters.mlflow_build import building, require_empty
from muster.adapters.mlflow_fetch import fetch
from muster.adapters.mlflow_fidelity import compare
from muster.adapters.mlflow_fill import Filled, Stored, already, fill, require_same
from muster.adapters.mlflow_keys import KEYS, Keys, Mark, require_same_keys
from muster.adapters.mlflow_location_map import LocationMap
from muster.adapters.mlflow_locations import Root, root_place, roots_from_json
from muster.adapters.mlflow_received import Received
from muster.adapters.mlflow_revisions import mlflow_version, newest_revision, require_known
from muster.adapters.mlflow_store import StoreUrl, connect, translated
from muster.adapters.moved_aside import MovedPaths, Together
from muster.codec import from_json, to_json
from muster.domain.content import TreeEntry, checked_path
from muster.domain.fidelity import FidelityReport
from muster.domain.restore_plan import without_secrets
from muster.domain.restore_target import sqlite_url
from muster.errors import NotFound, PermanentError, Refused, SourceChanged, SourceInvalid, TargetNotEmpty
from muster.ports import TreeReader
from muster.scratch import scratch_folder


class MlflowTarget:
    """
    An empty place for a registry.

    :param store_url: an SQLite file that is not there, or a PostgreSQL, MySQL or MariaDB database without content
    :param artifact_root: an empty or missing folder, or an empty place in a bucket, as for `MlflowSource`
    :param auth_store_url: where a basic-auth database of its own goes; else ``basic_auth.db`` beside an SQLite store, or the same
        PostgreSQL database
    :param keys: those of the server that will read it, as far as they are here: each must be the one that the rows were encrypted with
    """

    def __init__(
        self, store_url: str, artifact_root: str, *, auth_store_url: str | None = None, keys: Keys | None = None
    ) -> None:
        self._keys = keys or {}
        self._store = StoreUrl.parse(store_url)
        self._root = root_place(artifact_root)
        self._access = Access.of(artifact_root)
        self._auth = StoreUrl.parse(auth_store_url) if auth_store_url else _beside(self._store)

    def check(self, details: Mapping[str, Any]) -> None:
        """
        :raises TargetNotEmpty: if database or artifact root hold something
        :raises SourceInvalid: if the installed MLflow is older than the store was, or cannot make its tables there
        """
        parts = [(self._store, details), *([(self._auth, details["auth"])] if details.get("auth") else [])]
        for store, part in parts:
            if store.engine == "mysql" and "alembic_version_auth" in part["revisions"]:
                raise SourceInvalid(
                    "MLflow cannot make its basic-auth tables on MySQL: its migration gives two foreign keys one name",
                    "let `auth_store` of the target name an SQLite file or a PostgreSQL database",
                )
            needed = f"mlflow=={part['mlflow_version']} or later"
            require_known(dict(part["revisions"]), "the captured registry", needed)
            require_empty(store)
        self._empty_folder()

    def restore(self, details: Mapping[str, Any], tree: TreeReader) -> dict[str, Any]:
        """
        Artifacts first, then the tables that name them. When all is written it is read anew and held against what was captured;
        only then does it count.

        :return: facts, with the `FidelityReport` as JSON under ``fidelity_report``
        :raises Unfaithful: if what was restored is not what was captured; carries the report
        :raises IntegrityError: if what is stored is not what was captured, or an old artifact root is left somewhere
        :raises SourceInvalid: if a key of the server is here and is another; nothing was done. Else as of `check`
        """
        self.check(details)
        known = require_same_keys(_marks(tree), self._keys)
        with self._brought(details, tree) as (databases, roots, locations), ExitStack() as stack:
            received = stack.enter_context(self._artifacts(details, tree, roots))
            filled, facts, report = _restored(databases, locations, received, details)
        return {**self._told(filled, facts, report, details, roots, locations), "keys": known}

    @contextmanager
    def _brought(
        self, details: Mapping[str, Any], tree: TreeReader
    ) -> Iterator[tuple[list[Stored], tuple[Root, ...], LocationMap]]:
        """The stored databases on disk, and where what they name goes."""
        with scratch_folder("registry") as scratch:
            main = fetch(tree, "", self._store, details, scratch)
            databases = [main]
            if details.get("auth"):
                databases.append(fetch(tree, "auth/", self._auth, details["auth"], scratch))
            roots = roots_from_json(main.schema.roots)
            if roots[0].place == self._root:
                roots = _with_artifacts(tree, roots)
            yield databases, roots, LocationMap.between(roots, self._root)

    def _told(
        self,
        filled: Sequence[Filled],
        facts: Mapping[str, Any],
        report: FidelityReport,
        details: Mapping[str, Any],
        roots: tuple[Root, ...],
        locations: LocationMap,
    ) -> dict[str, Any]:
        main, *others = [_facts(one) for one in filled]
        return {
            **main,
            **facts,
            "alembic_revision": filled[0].revisions["alembic_version"],
            "auth": others[0] if others else None,
            "fidelity_report": to_json(report),
            "artifacts": dict(details["artifacts"]),
            "excluded": dict(details["excluded"]),
            "left_out": dict(details["left_out"]),
            "roots": [root.moved(self._root).location for root in roots],
            "mentions": locations.mentions,
        }

    def holds(self, details: Mapping[str, Any], tree: TreeReader) -> dict[str, Any] | None:
        """
        What `restore` would have returned, if these very rows and artifacts are there. Not told for MySQL, nor after an upgrade.
        """
        try:
            with self._brought(details, tree) as (databases, roots, locations):
                filled = [_looked_at(d, locations) for d in databases]
                if not all(filled):
                    return None
                received = Received(self._access.open(self._root), _due(_artifact_entries(tree, roots)))
                whole = [one for one in filled if one is not None]
                places = [d.store for d in databases]
                report, facts = compare(whole, places, locations, received, details["left_out"])
                if report.differing:
                    return None
                report = replace(report, missing=tuple(details.get("missing", {}).get("named", ())))
                told = self._told(whole, facts, report, details, roots, locations)
                return {**told, "keys": require_same_keys(_marks(tree), self._keys)}
        except (PermanentError, SourceChanged):
            return None

    def can_tell(self, details: Mapping[str, Any]) -> bool:
        databases = [details, *([details["auth"]] if details.get("auth") else [])]
        revisions = {table: revision for database in databases for table, revision in database["revisions"].items()}
        newest = all(newest_revision(table) == at for table, at in revisions.items())
        return newest and self._store.engine == details["engine"] != "mysql"

    def aside(self) -> Together:
        """
        :raises Refused: if the store is on MySQL, or the artifacts are in a bucket
        """
        stores = {store.url: store for store in (self._store, self._auth)}.values()
        if not isinstance(folder := self._access.open(self._root), LocalFolder):
            raise Refused(
                f"what lies at {without_secrets(self._root.location)} cannot be moved aside",
                "restore to another artifact root, and let the catalog name that",
            )
        return Together((*(database_aside(store) for store in stores), MovedPaths((folder.root,))))

    def _empty_folder(self) -> ArtifactFolder:
        folder = self._access.open(self._root)
        if not folder.is_empty():
            raise TargetNotEmpty(
                f"the artifact root {self._root.location} is not empty", "restore to an empty or missing one"
            )
        return folder

    @contextmanager
    def _artifacts(self, details: Mapping[str, Any], tree: TreeReader, roots: tuple[Root, ...]) -> Iterator[Received]:
        folder = self._empty_folder()
        wanted = _artifact_entries(tree, roots)
        due = _due(wanted)
        totals = {"files": len(due), "bytes": sum(size for size, _ in due.values())}
        require_same("artifact totals", dict(details["artifacts"]), totals)
        folder.receive(wanted, tree)
        try:
            yield Received(folder, due)
        except BaseException:
            folder.give_back()
            raise
        folder.keep()


def _restored(
    databases: list[Stored], locations: LocationMap, received: Received, details: Mapping[str, Any]
) -> tuple[list[Filled], dict[str, Any], FidelityReport]:
    """Fill all databases, compare all of it, then let it stand; nothing of it is left if anything fails."""
    with ExitStack() as stack:
        builds = {
            d.store.url: stack.enter_context(building(d.store)) for d in {d.store.url: d for d in databases}.values()
        }
        filled = [fill(builds[d.store.url].connection, d, locations) for d in databases]
        committed = {url: build.commit() for url, build in builds.items()}
        places = [committed[d.store.url] for d in databases]
        report, facts = compare(filled, places, locations, received, details["left_out"])
        report = replace(report, missing=tuple(details.get("missing", {}).get("named", ())))
        report.require_identical()
        for build in builds.values():
            build.publish()
    return filled, facts, report


def _facts(filled: Filled) -> dict[str, Any]:
    return {
        "engine": filled.stored.store.engine,
        "mlflow_version": mlflow_version(),
        "revisions": filled.revisions,
        "tables": {name: to_json(total) for name, total in sorted(filled.due.items())},
        "adapted": filled.adapted,
    }


def _looked_at(stored: Stored, locations: LocationMap) -> Filled | None:
    """A database as it would have been filled, if it is there and of the same schema."""
    if stored.store.engine == "sqlite" and not stored.store.file.is_file():
        return None
    with translated(stored.store.shown), connect(stored.store).connect() as connection:
        return already(connection, stored, locations)


def _beside(store: StoreUrl) -> StoreUrl:
    if store.engine != "sqlite":
        return store
    return StoreUrl.parse(sqlite_url(store.file.with_name("basic_auth.db")))


def _due(wanted: Sequence[tuple[TreeEntry, str]]) -> dict[str, tuple[int, str]]:
    return {path: (e.content.size, e.content.sha256) for e, path in wanted if e.content is not None}


def _with_artifacts(tree: TreeReader, roots: tuple[Root, ...]) -> tuple[Root, ...]:
    """
    The artifact root, and those places outside of it of which artifacts are stored.

    Where a registry comes back to its own root, others stay what they were: MLflow's client names ``./mlruns`` for an experiment that
    nobody uses.
    """
    first, *others = roots
    used = {other.tree for other in others if any(e.path.startswith(f"{other.tree}/") for e in tree.entries())}
    return first, *(other for other in others if other.tree in used)


def _artifact_entries(tree: TreeReader, roots: tuple[Root, ...]) -> list[tuple[TreeEntry, str]]:
    """Every stored artifact with its path below the new root."""
    wanted = []
    for entry in tree.entries():
        for root in roots:
            if entry.path.startswith(f"{root.tree}/"):
                relative = checked_path(entry.path[len(root.tree) + 1 :])
                wanted.append((entry, relative if root.tree == "artifacts" else f"{root.folder}/{relative}"))
    return wanted


def _marks(tree: TreeReader) -> dict[str, Mark]:
    """Of the keys that the captured rows were encrypted with; none if the point was taken by an earlier Muster, or none was kept."""
    try:
        entry = tree.entry(KEYS)
    except NotFound:
        return {}
    return {name: from_json(Mark, said) for name, said in json.loads(tree.read(entry)).items()}
