"""A registry that was captured by REST, put back by REST: into an empty server, or into an empty store behind a server of our own."""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from muster.adapters.bulk import in_bulk
from muster.adapters.made_folders import missing_folders, take_back
from muster.adapters.mlflow_build import require_empty
from muster.adapters.mlflow_locations import root_place
from muster.adapters.mlflow_rest_again import AFTER_TRACES, BEFORE_TRACES, Again
from muster.adapters.mlflow_rest_api import MlflowApi, RestServer
from muster.adapters.mlflow_rest_artifacts import RestArtifacts, upload_root
from muster.adapters.mlflow_rest_changes import changes
from muster.adapters.mlflow_rest_compare import Compared
from muster.adapters.mlflow_rest_fill import DEFAULT, DEFAULT_NAME, Filler
from muster.adapters.mlflow_rest_further import Further
from muster.adapters.mlflow_rest_ids import IdMap
from muster.adapters.mlflow_rest_made import Made
from muster.adapters.mlflow_rest_reading import Reading
from muster.adapters.mlflow_rest_register import Registrar
from muster.adapters.mlflow_rest_stored import Stored
from muster.adapters.mlflow_rest_tally import REDUCED
from muster.adapters.mlflow_server import LocalMlflowServer
from muster.adapters.mlflow_store import StoreUrl
from muster.codec import to_json
from muster.errors import NotFound, Refused, SourceInvalid, TargetNotEmpty
from muster.ports import Aside, TreeReader
from muster.scratch import scratch_folder

Json = Any
WRITERS = 4
"""Requests at a time that make something: a server over SQLite lets one write and the others wait, five seconds at the most."""
READY = ("READY", None, "")


class MlflowRestTarget:
    """
    An empty MLflow server which passes artifacts on.

    :param server: see `RestServer.parse`; its user must be allowed to make, rename and delete everything
    """

    def __init__(self, server: RestServer) -> None:
        self._api = MlflowApi(server)
        self._reading = Reading(self._api)

    def check(self, details: Mapping[str, Json]) -> None:
        """
        :raises TargetNotEmpty: if the server has anything but its own default experiment, and what failed imports have left
        :raises SourceInvalid: if the registry was captured from its store, the server is older, has no such workspace, or does not
            pass artifacts on
        """
        require_reduced(details)
        self._require_fit(str(details["mlflow_version"]))
        self._spare()

    def holds(self, details: Mapping[str, Json], tree: TreeReader) -> dict[str, Json] | None:  # noqa: ARG002
        """Not told: ids are others on this side, and nothing says which of them are ours."""
        return None

    def can_tell(self, details: Mapping[str, Json]) -> bool:  # noqa: ARG002
        return False

    def aside(self) -> Aside:
        """:raises Refused: always"""
        raise Refused(
            "what a registry of reduced fidelity would replace cannot be moved aside", "name an empty place for it"
        )

    def restore(self, details: Mapping[str, Json], tree: TreeReader) -> dict[str, Json]:
        """
        Make everything anew, read all of it back and compare; every difference but those in ``changed`` fails.

        :return: what was counted on the server, ``id_map`` (old id to new id), ``changed``, ``missing`` of a point that lacks artifacts,
            and the `FidelityReport` as JSON under ``fidelity_report``
        :raises IntegrityError: if what the server then has is not what was captured
        """
        require_reduced(details)
        self._require_fit(str(details["mlflow_version"]))
        made, ids = Made(self._api, self._spare()), IdMap()
        with scratch_folder("registry") as scratch:
            stored = Stored(tree, scratch)
            self._require_free_traces(str(details["server"]), stored)
            try:
                return self._restored(details, stored, made, ids)
            except BaseException:
                made.take_back()
                raise

    def _restored(self, details: Mapping[str, Json], stored: Stored, made: Made, ids: IdMap) -> dict[str, Json]:
        documents = list(stored.documents("registered_models"))
        registrar = Registrar(self._api, made, ids, documents)
        experiments = list(stored.documents("experiments"))
        filler = Filler(self._api, made, ids, _default_of(experiments, made.spare))
        self._runs_and_models(experiments, stored, filler)
        lost = sum(filler.model_metrics(model, stored.points) for model in stored.documents("logged_models"))
        self._artifacts(stored, made, ids)
        _each(stored, "logged_models", filler.end_model)
        again = Again(self._api, made, ids)
        _further(stored, BEFORE_TRACES, again)
        _each(stored, "traces", functools.partial(_trace, stored, filler))
        registrar.register()
        _each(stored, "logged_models", filler.retag)
        _each(stored, "traces", again.prompts)
        _further(stored, AFTER_TRACES, again)
        self._delete(experiments, stored, filler)
        compared = Compared(stored, ids, registrar, again, made.spare)
        facts, report = compared.reconciled(self._api, self._reading.version(), details, lost)
        unready = sum(v.get("status") not in READY for d in documents for v in d["versions"])
        changed = changes(details, ids, filler, registrar.fillers, lost, unready, again)
        missing = {"missing": details["missing"]} if "missing" in details else {}
        report = replace(report, changed=tuple(f"{c['of']}, {c['what']}: {c['count']}, {c['now']}" for c in changed))
        return {**facts, **missing, "id_map": ids.to_json(), "changed": changed, "fidelity_report": to_json(report)}

    def _runs_and_models(self, experiments: Sequence[Json], stored: Stored, filler: Filler) -> None:
        for experiment in experiments:
            filler.experiment(experiment)
        _each(stored, "runs", filler.run)
        _each(stored, "runs", filler.datasets, at_once=1)
        _each(stored, "logged_models", filler.logged_model)
        _each(stored, "runs", functools.partial(_finish_run, stored, filler))

    def _artifacts(self, stored: Stored, made: Made, ids: IdMap) -> None:
        artifacts = RestArtifacts(self._api)
        for (kind, old), holder in ids.holders.items():
            with stored.artifacts(kind, old) as files:
                if files:
                    made.uploaded.append(holder)
                    in_bulk(
                        lambda path, holder=holder, files=files: artifacts.upload(holder, path, files[path]),  # type: ignore[misc]
                        files,
                    )

    def _delete(self, experiments: Sequence[Json], stored: Stored, filler: Filler) -> None:
        gone = set()
        for experiment in experiments:
            if experiment.get("lifecycle_stage") == "deleted":
                gone.add(str(experiment["experiment_id"]))
                filler.delete_experiment(str(experiment["experiment_id"]))
        _each(stored, "runs", lambda run: filler.settle_run(run, gone=str(run["run"]["info"]["experiment_id"]) in gone))

    # --- the server, before -------------------------------------------------------------------------------------------

    def _require_fit(self, needed: str) -> None:
        from packaging.version import InvalidVersion, Version

        self._api.require_workspace()
        found = self._reading.version()
        try:
            older = Version(found) < Version(needed)
        except InvalidVersion:  # a server that does not tell its version: the comparison at the end will tell
            return
        if older:
            raise SourceInvalid(
                f"{self._api.server.place} runs MLflow {found}, and the registry was captured from {needed}",
                f"restore to a server of mlflow=={needed} or later",
            )

    def _spare(self) -> tuple[str, str] | None:
        """The default experiment that an empty server has, and its name; None if there is none, as in workspaces that were made by hand."""
        experiments = self._reading.experiments()
        named = [id_ for id_, e in experiments.items() if e["name"] == DEFAULT_NAME]
        id_ = DEFAULT if DEFAULT in experiments or not named else named[0]
        default = experiments.pop(id_, None)
        there = [f"experiment {e['name']}" for e in experiments.values()]
        there += [f"registered model {name}" for name in self._reading.models()]
        there += self._further(id_ if default else None)
        if default:
            there += [f"run {run}" for run in self._reading.runs(id_)]
            there += [f"logged model {model}" for model in self._reading.logged_models(id_)]
            there += [f"trace {trace}" for trace in self._reading.traces(id_)]
            if default.get("lifecycle_stage") != "active":
                there.append("a deleted default experiment")
        if there:
            raise TargetNotEmpty(
                f"{self._api.server.place} is not empty: {', '.join(there[:5])}",
                "restore to a server or a workspace that was never used; nothing is merged, and nothing is doubled",
            )
        if default:
            upload_root(str(default.get("artifact_location", "")))
            return id_, str(default["name"])
        if root := self._api.require_workspace():
            upload_root(root)
        return None

    def _further(self, experiment: str | None) -> list[str]:
        """Evaluation datasets, and what labels the default experiment; not what the server makes itself, nor what a failed import left."""
        further = Further(self._reading)
        found = [path for path, _ in further.of_server(())]
        if experiment:
            found += [
                path for path, document in further.of_experiment(experiment, (), ()) if not document.get("is_default")
            ]
        return [path.removesuffix(".json").replace("_", " ").replace("s/", " ", 1) for path in found]

    def _require_free_traces(self, origin: str, stored: Stored) -> None:
        """
        See that the workspace which was captured does not have them any more, if it is one of this server: a trace keeps its id, and a
        server has each id once, in whatever workspace.

        :raises TargetNotEmpty: if it has one
        """
        url, _, workspace = origin.partition("?workspace=")
        traces = stored.paths("traces")
        if url != self._api.server.url or origin == self._api.server.place or not traces:
            return
        there = Reading(MlflowApi(replace(self._api.server, workspace=workspace or None)))
        trace = stored.document(traces[0])["trace_info"]["trace_id"]
        with contextlib.suppress(NotFound, SourceInvalid):
            there.trace(trace, {})
            raise TargetNotEmpty(
                f"{self._api.server.place} cannot take the trace {trace}, which {origin} still has: a server has each of them once",
                "restore to another server",
            )


class MlflowRestStoreTarget:
    """
    An empty SQLite store and an empty folder, filled by way of a server of our own: what drills, and restores to a folder, do.

    :param store_url: an SQLite file that is not there
    :param artifact_root: an empty or missing folder
    """

    def __init__(self, store_url: str, artifact_root: str) -> None:
        self._store_url, self._artifact_root = store_url, artifact_root
        self._store = StoreUrl.parse(store_url)
        self._root = root_place(artifact_root)

    def check(self, details: Mapping[str, Json]) -> None:
        """
        :raises TargetNotEmpty: if file or folder are there
        :raises SourceInvalid: if this is another store, or the installed MLflow is older than the server was
        """
        require_reduced(details)
        if self._store.engine != "sqlite" or self._root.base != "file":
            raise SourceInvalid(
                f"a registry that was captured by REST cannot be put into {self._store.shown} and {self._root.location}",
                "give registry: {server: …} for the target, or an SQLite file and a folder",
            )
        require_empty(self._store)
        folder = Path(self._root.path)
        if folder.is_symlink() or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))):
            raise TargetNotEmpty(f"the artifact root {folder} is not empty", "restore to an empty or missing one")

    def holds(self, details: Mapping[str, Json], tree: TreeReader) -> dict[str, Json] | None:  # noqa: ARG002
        """Not told: ids are others on this side, and nothing says which of them are ours."""
        return None

    def can_tell(self, details: Mapping[str, Json]) -> bool:  # noqa: ARG002
        return False

    def aside(self) -> Aside:
        """:raises Refused: always"""
        raise Refused(
            "what a registry of reduced fidelity would replace cannot be moved aside", "name an empty place for it"
        )

    def restore(self, details: Mapping[str, Json], tree: TreeReader) -> dict[str, Json]:
        """As `MlflowRestTarget.restore`; if it fails, file and folder are as they were."""
        self.check(details)
        with self._own() as uri:
            return MlflowRestTarget(RestServer.parse(uri)).restore(details, tree)

    @contextmanager
    def _own(self) -> Iterator[str]:
        folder = Path(self._root.path)
        made = [*missing_folders(self._store.file.parent), *missing_folders(folder)]
        for path in (self._store.file.parent, folder):
            path.mkdir(parents=True, exist_ok=True)
        try:
            with LocalMlflowServer().serve(self._store_url, self._artifact_root) as uri:
                yield uri
        except BaseException:
            for file in self._store.file.parent.glob(f"{self._store.file.name}*"):
                file.unlink(missing_ok=True)
            for child in folder.iterdir():
                shutil.rmtree(child) if child.is_dir() else child.unlink()
            take_back(made)
            raise


def require_reduced(details: Mapping[str, Json]) -> None:
    """
    :raises SourceInvalid: if a registry was captured from its store, with ids that no API can set
    """
    if details.get("fidelity") != REDUCED:
        raise SourceInvalid(
            "this registry was captured from its store, and an API could not give back its ids, times and secrets",
            "restore to a store and an artifact root: registry: {store: …, artifacts: …} of the target",
        )


def _default_of(experiments: Sequence[Json], spare: tuple[str, str] | None) -> str | None:
    """Old id of the experiment that takes the place of the server's own, `spare`: the default one, or else one of the same name."""
    named = {str(e["experiment_id"]): e["name"] for e in experiments}
    if DEFAULT in named:
        return DEFAULT
    return next((old for old, name in named.items() if spare and name == spare[1]), None)


def _finish_run(stored: Stored, filler: Filler, document: Mapping[str, Json]) -> None:
    run = str(document["run"]["info"]["run_id"])
    with stored.history(run) as lines:
        filler.metrics(document, lines)
    filler.links(document)
    filler.end_run(document)


def _trace(stored: Stored, filler: Filler, document: Mapping[str, Json]) -> None:
    filler.trace(document)
    trace = str(document["trace_info"]["trace_id"])
    with stored.attachments(trace) as files:
        if files:
            filler.attachments(trace, files)


def _further(stored: Stored, folders: Sequence[str], again: Again) -> None:
    for folder in folders:
        work = functools.partial(again.make, folder)
        in_bulk(lambda path, work=work: work(path, stored.document(path)), stored.paths(folder), WRITERS)  # type: ignore[misc]


def _each(stored: Stored, folder: str, work: Any, at_once: int = WRITERS) -> None:
    in_bulk(lambda path: work(stored.document(path)), stored.paths(folder), at_once)
