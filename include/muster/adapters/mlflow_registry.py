"""
A living MLflow registry, captured below its API: every table in one look, then every artifact that the tables name.

MLflow's API cannot give back ids, creation times, deleted versions or secrets; its tables can. They are read by reflection, so that
a table which nobody here has heard of is carried and not lost. The stored tree::

    about.json                  experiments, which models are prompts, artifacts that are missing (`muster.domain.holdings`)
    look.json                   by what an unchanged table is known again
    keys.json                   by what the keys of its server are known again
    versions.json               by what a bucket knows the content of each artifact (ETag, generation)
    schema.json                 revision, tables with columns and keys, engine, MLflow version, sequences, artifact roots
    tables/<table>.jsonl        canonical rows (`muster.adapters.mlflow_rows` describes them)
    auth/schema.json, auth/tables/<table>.jsonl     the basic-auth database, where there is one of its own
    artifacts/<path>            what lies below the artifact root and is named by the tables
    outside/<8 hex digits>/<path>   the same for each root elsewhere, numbered by a digest of its location

Of chosen models alone, all tables are there, with the rows that were chosen; nothing is known again then, and there is no look.json.

Left out, and said so in the details: locks and leases of server processes; folders that no table names; and `registered_model_meta`
beside an ``MLmodel``, which MLflow writes into the stored model whenever somebody loads it by name.
"""

from __future__ import annotations

import functools
import io
import posixpath
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from muster.adapters.mlflow_access import Access
from muster.adapters.mlflow_artifacts import Artifact, ArtifactFolder
from muster.adapters.mlflow_facts import (
    WALKED,
    ModelVersion,
    holdings_of,
    location_values,
    models_of,
    server_keys,
    versions_with_artifacts,
)
from muster.adapters.mlflow_keys import KEYS, Keys, Mark, marks_of, require_opening
from muster.adapters.mlflow_known import VERSIONS, Known, table_path
from muster.adapters.mlflow_locations import Place, Root, home_of, root_place, roots_of
from muster.adapters.mlflow_missing import LOADED_META, MLMODEL, missing_artifacts, refuse, require_root
from muster.adapters.mlflow_restore import MlflowTarget
from muster.adapters.mlflow_rows import tables_of
from muster.adapters.mlflow_store import Copy, StoreUrl, one_look, translated
from muster.adapters.mlflow_tables import LEFT_OUT, Dump, dump_database, schema_document
from muster.adapters.rereading import compared, due
from muster.codec import canonical, to_json
from muster.domain.holdings import ABOUT, Holdings, Missing, counted
from muster.domain.recovery_point import ComponentKind
from muster.domain.selection import Wanted
from muster.errors import SourceChanged
from muster.ports import SourceFile, TreeReader
from muster.scratch import scratch_folder

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["MlflowSource", "MlflowTarget"]

METHODS = {
    "sqlite": "SQLite online backup",
    "postgresql": "REPEATABLE READ READ ONLY transaction",
    "mysql": "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
}


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the tables say of themselves, but for their rows."""

    models: dict[str, Any]
    keys: list[str]
    versions: list[ModelVersion]
    holdings: Holdings
    marks: dict[str, Mark]


@dataclass(slots=True)
class RegistryCapture:
    """
    A cut of a registry: its tables lie in a folder of ours, its artifacts are read from where they are.

    :param versions_now: asks the store anew which versions there are
    :param incomplete: whether artifacts may be missing
    :param only: the models that were asked for, if not all were
    """

    cut_at: datetime
    method: str
    dumps: list[Dump]
    roots: tuple[Root, ...]
    folders: dict[str, ArtifactFolder]
    named: dict[str, list[str]]
    facts: _Facts
    known: Known
    versions_now: Callable[[], list[ModelVersion]]
    incomplete: bool
    only: Sequence[Wanted] = ()
    missing: list[Missing] = field(default_factory=list)
    seen: dict[str, list[Artifact]] = field(default_factory=dict)
    excluded: int = 0

    def files(self) -> Iterator[SourceFile]:
        """Artifacts are listed first: of a registry that lacks some, nothing need be stored."""
        for root in self.roots:
            self.seen[root.tree] = self._listed(self.folders[root.tree], self.named.get(root.tree, []))
        self.missing = self._missing()
        yield _document(ABOUT, to_json(replace(self.facts.holdings, missing=tuple(self.missing))))
        if self.facts.marks:
            yield _document(KEYS, to_json(self.facts.marks))
        for root in self.roots:
            yield from self._artifacts(root, self.known)
        if versions := {f"{tree}/{a.path}": a.version for tree, some in self.seen.items() for a in some if a.version}:
            yield _document(VERSIONS, versions)
        for dump in self.dumps:
            dump.finish()
            for name, total in dump.sums.items():
                path = table_path(dump.prefix, name)
                content = self.known.same_digest(path, total.sha256)
                size = content.size if content else dump.file(name).stat().st_size
                yield SourceFile(path, functools.partial(dump.open, name), size=size, known=content)
            schema = schema_document(dump.schema, self.roots if dump is self.dumps[0] else ())
            yield _document(f"{dump.prefix}schema.json", schema)
            if look := dump.look:
                yield _document(f"{dump.prefix}look.json", look.document())

    def _listed(self, folder: ArtifactFolder, named: Sequence[str]) -> list[Artifact]:
        found = list(folder.below(_topmost(named)))
        models = {posixpath.dirname(a.path) for a in found if posixpath.basename(a.path) == MLMODEL}
        loaded = {posixpath.join(model, LOADED_META) for model in models}
        kept = [artifact for artifact in found if artifact.path not in loaded]
        self.excluded += len(found) - len(kept)
        return kept

    def _missing(self) -> list[Missing]:
        """
        :raises SourceChanged: if a version whose artifacts are missing is not there any more: somebody clears up just now
        :raises SourceInvalid: if artifacts are missing, and that is not to be
        """
        missing = missing_artifacts(self.facts.versions, self.roots, self.folders, self.seen, self.known)
        if missing:
            now = set(self.versions_now())
            gone = [str(v) for v in self.facts.versions if v not in now and str(v) in {one.what for one in missing}]
            if gone:
                raise SourceChanged(f"{gone[0]} was deleted while it was captured", "take the snapshot again")
        if not self.incomplete:
            refuse(missing)
        return missing

    def _artifacts(self, root: Root, known: Known) -> Iterator[SourceFile]:
        folder = self.folders[root.tree]
        for artifact in self.seen[root.tree]:
            path = f"{root.tree}/{artifact.path}"
            if artifact.kind == "dir":
                yield SourceFile(path, kind="dir", mode=artifact.mode, mtime_ns=artifact.mtime_ns)
                continue
            content = known.same_state(path, artifact)
            opener: Callable[[], BinaryIO] = functools.partial(folder.open, artifact)
            if content and due(path, self.cut_at):
                opener, content = compared(opener, content, f"{root.place.location}/{artifact.path}"), None
            yield SourceFile(
                path, opener, size=artifact.size, mode=artifact.mode, mtime_ns=artifact.mtime_ns, known=content
            )

    def details(self) -> dict[str, Any]:
        main, *others = self.dumps
        files = [a for artifacts in self.seen.values() for a in artifacts if a.kind == "file"]
        missing = [str(one) for one in self.missing]
        facts = main.details()
        part = {**facts["selective"], "asked": [str(one) for one in self.only]} if "selective" in facts else None
        return {
            **facts,
            **({"selective": part} if part else {}),
            **counted("missing", missing),
            "alembic_revision": main.schema.revisions["alembic_version"],
            "auth": others[0].details() if others else None,
            "left_out": {
                name: {"rows": rows, "why": LEFT_OUT[name]} for d in self.dumps for name, rows in d.left_out.items()
            },
            "artifacts": {"files": len(files), "bytes": sum(a.size for a in files)},
            "excluded": {LOADED_META: self.excluded},
            "models": self.facts.models,
            "roots": [root.place.location for root in self.roots],
            "server_keys": self.facts.keys,
        }

    def confirm(self) -> None:
        for tree, artifacts in self.seen.items():
            if moved := self.folders[tree].unchanged(artifacts):
                raise SourceChanged(
                    f"the artifact {moved} changed while it was captured", "take the snapshot again when writers rest"
                )


class MlflowSource:
    """
    An MLflow registry: tracking and registry tables, artifacts, and the users of its basic-auth app.

    :param store_url: ``sqlite:////file``, ``postgresql://…`` or ``mysql://…`` (MariaDB too); a user that may read is enough
    :param artifact_root: below which artifacts lie, the server's ``--artifacts-destination``: a folder, or a bucket as docs/artifacts.md
        writes it (``s3://…``, ``gs://…``, ``wasbs://…`` or ``azure://…``)
    :param auth_store_url: the basic-auth database, where it is not the store itself
    :param incomplete: take model versions whose artifacts are missing, and say so in the details, instead of refusing them
    :param only: names or shell patterns of models that are taken alone, with what they need (`muster.adapters.mlflow_closure`); empty
        for the whole store
    :param keys: those of the server that are kept with the registry (`muster.adapters.mlflow_keys`); they must open what is encrypted
    """

    kind: ComponentKind = "registry"

    def __init__(
        self,
        name: str,
        store_url: str,
        artifact_root: str,
        *,
        auth_store_url: str | None = None,
        incomplete: bool = False,
        only: Sequence[str] = (),
        keys: Keys | None = None,
    ) -> None:
        self.name = name
        self._keys = keys or {}
        self._incomplete = incomplete
        self._only = [Wanted(pattern) for pattern in only]
        self._store = StoreUrl.parse(store_url)
        self._auth = StoreUrl.parse(auth_store_url) if auth_store_url else None
        self._root = root_place(artifact_root)
        self._access = Access.of(artifact_root)

    @contextmanager
    def capture(self, previous: TreeReader | None) -> Iterator[RegistryCapture]:
        """
        Read all tables at one moment, then release the store; artifacts are read later, in `RegistryCapture.files`.

        :raises SourceInvalid: if there is no MLflow store, its schema is newer than the installed MLflow, or a key is the wrong one; from
            `RegistryCapture.files` also if a model version lacks artifacts
        :raises StoreUnavailable: if a server does not answer
        """
        with scratch_folder("registry") as scratch, ExitStack() as stack:
            yield self._capture(scratch, previous, stack)

    def _capture(self, scratch: Path, previous: TreeReader | None, stack: ExitStack) -> RegistryCapture:
        cut_at = datetime.now(UTC)
        known = Known(previous)
        with _looking(self._store, scratch / "store") as (connection, copy):
            main = _dump(connection, copy, known, scratch / "tables", cut_at, stack, wanted=self._only)
            require_opening(connection, main.tables, self._keys)
            places = location_values(connection, main.tables)
            versions = versions_with_artifacts(connection, main.tables)
            needed = server_keys(connection, main.tables)
            facts = _Facts(
                models_of(connection, main.tables),
                needed,
                versions,
                holdings_of(connection, main.tables),
                marks_of(needed, self._keys),
            )
            main.let_go(connection)
        dumps = [main, *self._auth_dump(scratch, known, cut_at, stack)]
        every = [*(p for found in places.values() for p in found), *(v.place for v in versions)]
        roots = roots_of(self._root, every)
        folders = {root.tree: self._access.open(root.place) for root in roots}
        require_root(roots, folders, every)
        walked = [p for where, found in places.items() if where.startswith(WALKED) for p in found]
        named = _named([*walked, *(v.place for v in versions)], roots)
        return RegistryCapture(
            cut_at,
            METHODS[self._store.engine] + (f", {', '.join(map(str, self._only))} alone" if self._only else ""),
            dumps,
            roots,
            folders,
            named,
            facts,
            known,
            functools.partial(self._versions_now, scratch / "again"),
            self._incomplete,
            self._only,
        )

    def _versions_now(self, scratch: Path) -> list[ModelVersion]:
        with _looking(self._store, scratch) as (connection, _):
            return versions_with_artifacts(connection, tables_of(connection), lenient=True)

    def _auth_dump(self, scratch: Path, known: Known, cut_at: datetime, stack: ExitStack) -> list[Dump]:
        if self._auth is None or self._auth.url == self._store.url:
            return []
        with _looking(self._auth, scratch / "auth-store") as (connection, copy):
            dump = _dump(connection, copy, known, scratch / "auth-tables", cut_at, stack, prefix="auth/")
            dump.let_go(connection)
        return [dump]


@contextmanager
def _looking(store: StoreUrl, scratch: Path) -> Iterator[tuple[Connection, Copy]]:
    scratch.mkdir()
    with one_look(store, scratch) as (connection, copy), translated(store.shown):
        yield connection, copy


def _document(path: str, content: Any) -> SourceFile:
    data = canonical(content)
    return SourceFile(path, functools.partial(io.BytesIO, data), size=len(data))


def _dump(
    connection: Connection,
    copy: Copy,
    known: Known,
    folder: Path,
    cut_at: datetime,
    stack: ExitStack,
    prefix: str = "",
    wanted: Sequence[Wanted] = (),
) -> Dump:
    table = "alembic_version_auth" if prefix else "alembic_version"
    stamp = cut_at.timestamp()
    return dump_database(
        connection, copy, known, folder, prefix=prefix, version_table=table, cut_at=stamp, stack=stack, wanted=wanted
    )


def _named(places: Sequence[Place], roots: Sequence[Root]) -> dict[str, list[str]]:
    named: dict[str, set[str]] = {}
    for place in set(places):
        root, relative = home_of(place, roots)
        named.setdefault(root.tree, set()).add(relative)
    return {tree: sorted(paths) for tree, paths in named.items()}


def _topmost(paths: Sequence[str]) -> list[str]:
    """The paths that lie below no other one."""
    kept: list[str] = []
    for path in sorted(paths, key=lambda p: p.split("/") if p else []):
        if not any(path == k or path.startswith(f"{k}/") or not k for k in kept[-1:]):
            kept.append(path)
    return kept
