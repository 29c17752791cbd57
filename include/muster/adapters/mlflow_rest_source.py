"""
A living MLflow registry, captured by its REST API: for servers whose store nobody may touch.

An API has no snapshots, and does not give everything (docs/mlflow-rest.md says what is missing), so the capture says that its fidelity
is reduced. The stored tree::

    registered_models/<digest>.json     a registered model or prompt with all its versions
    experiments/<id>.json               an experiment, deleted ones as well
    runs/<run id>.json                  a run with parameters, tags, latest metrics, inputs and outputs
    metrics/<run id>.jsonl              a line for each metric: all its points, as [timestamp in ms, step, value]
    logged_models/<model id>.json
    traces/<digest>.json                a trace with its spans and assessments
    attachments/<digest>/<id>           what the spans of a trace name: pictures, sounds, documents
    trace_links/<run id>.json           traces that are linked to a run and were not made by it
    scorers/, evaluation_datasets/, label_schemas/, review_queues/, issues/<id>.json
    kept/<kind>.json                    what no API can make again: webhooks, the gateway, MCP servers
    artifacts/runs/<run id>/…, artifacts/logged_models/<model id>/…
    about.json                          experiments, which models are prompts, artifacts that are missing (`muster.domain.holdings`)
    index.json                          what everything was like, for the next capture

Consistent it is in this sense: what the registry names was there before the runs were listed, and when all was read, nothing that was
said to have ended, and nothing of the registry, has changed.
"""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from muster.adapters.bulk import REQUESTS_AT_ONCE, in_bulk
from muster.adapters.mlflow_missing import refuse
from muster.adapters.mlflow_rest_api import MlflowApi, RestServer
from muster.adapters.mlflow_rest_artifacts import RemoteFile, RestArtifacts
from muster.adapters.mlflow_rest_attachments import Attachments, folder_of, named_in
from muster.adapters.mlflow_rest_before import INDEX, Before
from muster.adapters.mlflow_rest_further import Further
from muster.adapters.mlflow_rest_held import Holders, is_prompt
from muster.adapters.mlflow_rest_histories import Histories, moved
from muster.adapters.mlflow_rest_kept import Kept, never, opened
from muster.adapters.mlflow_rest_missing import Listed, VersionArtifacts
from muster.adapters.mlflow_rest_reading import Holder, Reading, digest, model_holder, run_holder
from muster.adapters.mlflow_rest_tally import Tally
from muster.adapters.rereading import compared, due
from muster.codec import canonical, to_json
from muster.domain.holdings import ABOUT, Holdings, Missing
from muster.domain.recovery_point import ComponentKind
from muster.errors import NotFound, SourceInvalid
from muster.ports import SourceFile, TreeReader
from muster.scratch import scratch_folder

Json = Any
AT_A_TIME = 128
"""Runs whose histories are in hand at once."""
FORMAT = 2
"""Of what is noted for the next capture; what was noted of traces in another one is not taken over."""
DONE = ("OK", "ERROR")
"""States in which a trace gets no more spans."""


@dataclass(frozen=True, slots=True)
class _Experiment:
    """What lists say of one experiment, by ids."""

    runs: dict[str, Json]
    models: dict[str, Json]
    traces: dict[str, Json]
    further: list[tuple[str, Json]]


class RestCapture:
    """
    A look at a registry through its API. Nothing is asked before `files` is read.

    :param incomplete: whether artifacts may be missing
    :param back: whether this reads back what an import has made, so that what no import makes is left out
    """

    def __init__(
        self,
        api: MlflowApi,
        version: str,
        kept: Kept,
        previous: TreeReader | None,
        *,
        incomplete: bool,
        back: bool = False,
    ) -> None:
        self._back = back
        self.cut_at = datetime.now(UTC)
        self.method = "MLflow's REST API, one request after the other"
        self._api = api
        self._reading = Reading(api)
        self._further = Further(self._reading)
        self._artifacts = RestArtifacts(api)
        self._kept = kept
        self._attachments = Attachments(self._reading, kept)
        self._incomplete = incomplete
        self._before = Before(previous)
        self._tally = Tally(version, api.server.place)
        self._index: dict[str, Any] = {"runs": {}, "logged_models": {}, "traces": {}}
        self._found: dict[tuple[str, str], Listed] = {}
        self._missing: list[Missing] = []
        self._models: dict[str, Json] = {}
        self._experiments: dict[str, Json] = {}

    def files(self) -> Iterator[SourceFile]:
        """The registry first: what it names is there when runs and logged models are listed after it."""
        self._models = self._reading.models()
        self._experiments = self._reading.experiments()
        yield from self._documents(self._further.of_server(self._experiments))
        if not self._back:
            yield from self._documents(self._further.kept())
        for ids in _batches(list(self._experiments), REQUESTS_AT_ONCE):
            for experiment, listed in zip(ids, in_bulk(self._listed, ids), strict=True):
                self._tally.experiment(self._experiments[experiment])
                yield self._document(f"experiments/{experiment}.json", self._experiments[experiment])
                yield from self._runs(experiment, listed.runs)
                yield from self._logged_models(experiment, listed.models)
                yield from self._traces(listed.traces)
                yield from self._documents(listed.further)
                yield from self._documents(self._links(experiment, listed))
        yield from self._registry()
        yield self._document(ABOUT, to_json(self._holdings()))
        self._index |= {"format": FORMAT, "cut_at": self.cut_at.timestamp()}
        yield self._document(INDEX, self._index)

    def _holdings(self) -> Holdings:
        living = {i: e for i, e in self._experiments.items() if e.get("lifecycle_stage") != "deleted"}
        prompts = sorted(name for name, document in self._models.items() if is_prompt(document["model"]))
        names = {i: str(e.get("name", "")) for i, e in living.items()}
        return Holdings(names, tuple(prompts), tuple(self._missing))

    def details(self) -> dict[str, Any]:
        return self._tally.details(sorted(self._reading.absent), [str(one) for one in self._missing])

    def confirm(self) -> None:
        """
        :raises SourceChanged: if the registry moved, or something that had ended; what runs on is not looked at
        """
        if self._reading.models() != self._models:
            raise moved("a registered model, or a version of one,")
        experiments = self._reading.experiments()
        if missing := sorted(self._experiments.keys() - experiments.keys()):
            raise moved(f"experiment {missing[0]}")
        noted: dict[str, dict[tuple[str, str], Holder]] = {experiment: {} for experiment in self._experiments}
        for key, listed in self._found.items():
            noted[self._index[key[0]][key[1]]["experiment"]][key] = listed.holder
        in_bulk(lambda experiment: self._confirm(experiment, noted[experiment]), self._experiments)
        self._kept.forget()

    def _confirm(self, experiment: str, noted: Mapping[tuple[str, str], Holder]) -> None:
        runs, models = self._reading.runs(experiment), self._reading.logged_models(experiment)
        found = [*map(run_holder, runs.values()), *map(model_holder, models.values())]
        states = {(holder.kind, holder.id): holder.state for holder in found}
        for holder in noted.values():
            if states.get((holder.kind, holder.id)) != holder.state and holder.ended is not None:
                raise moved(str(holder))
        late = [h for h in found if (h.kind, h.id) not in noted and h.ended and h.ended < self.cut_at.timestamp()]
        if late:
            raise moved(f"{late[0]}, which had ended before and was not listed,")

    def _listed(self, experiment: str) -> _Experiment:
        reading = self._reading
        runs, models, traces = reading.runs(experiment), reading.logged_models(experiment), reading.traces(experiment)
        living = self._experiments[experiment].get("lifecycle_stage") != "deleted"
        further = self._further.of_experiment(experiment, runs, traces) if living else []
        return _Experiment(runs, models, traces, further)

    def _links(self, experiment: str, listed: _Experiment) -> Iterator[tuple[str, Json]]:
        """Which traces were linked to which run: one request a run, in experiments that have traces."""
        runs = list(listed.runs) if listed.traces else []
        found = in_bulk(lambda run: self._further.links(experiment, run, listed.traces), runs)
        for run, linked in zip(runs, found, strict=True):
            if linked:
                yield f"trace_links/{run}.json", {"run": run, "traces": linked}

    # --- runs ---------------------------------------------------------------------------------------------------------

    def _runs(self, experiment: str, runs: Mapping[str, Json]) -> Iterator[SourceFile]:
        holders = {run: run_holder(document) for run, document in runs.items()}
        histories = Histories(self._reading, self._kept, self._before, lambda path: due(path, self.cut_at))
        for ids in _batches(list(runs)):
            contents = in_bulk(lambda run: histories.of(runs[run], holders[run]), ids)
            for run, content in zip(ids, contents, strict=True):
                document = {"run": runs[run], "model_inputs": content.inputs}
                noted = {"state": holders[run].state, "points": content.points}
                self._index["runs"][run] = {**noted, "experiment": experiment}
                self._tally.run(document, content.points)
                yield self._document(f"runs/{run}.json", document)
                yield content.history
            yield from self._files([holders[run] for run in ids])

    # --- logged models, traces, registry ------------------------------------------------------------------------------

    def _logged_models(self, experiment: str, models: Mapping[str, Json]) -> Iterator[SourceFile]:
        holders = [model_holder(document) for document in models.values()]
        for holder, (model, document) in zip(holders, models.items(), strict=True):
            self._index["logged_models"][model] = {"state": holder.state, "experiment": experiment}
            self._tally.logged_model(document)
            yield self._document(f"logged_models/{model}.json", document)
        for batch in _batches(holders):
            yield from self._files(batch)

    def _traces(self, traces: Mapping[str, Json]) -> Iterator[SourceFile]:
        """Traces whose state is final are taken over if nothing that lists tell of them has changed, assessments and tags among it."""
        states = {
            trace: digest([FORMAT, document]) for trace, document in traces.items() if document.get("state") in DONE
        }
        paths = {trace: f"traces/{_named(trace)}.json" for trace in traces}
        self._index["traces"] |= states
        for ids in _batches(list(traces)):
            known = {t: self._before.trace(t, states.get(t, ""), paths[t]) for t in ids}
            missing = [trace for trace in ids if known[trace] is None or due(paths[trace], self.cut_at)]
            fetched = dict(
                zip(missing, in_bulk(lambda t: self._trace(t, states.get(t), traces[t]), missing), strict=True)
            )
            for trace in ids:
                self._tally.trace()
                if trace in fetched:
                    document, attached = fetched[trace]
                    if len(attached) < len(named_in(trace, document)):
                        self._index["traces"].pop(trace, None)  # asked for again, and named again
                    yield self._document(paths[trace], document)
                else:
                    attached = self._before.below(folder_of(trace))
                    yield SourceFile(paths[trace], never, known=known[trace])
                self._tally.attached(len(attached))
                yield from attached

    def _trace(self, trace: str, state: str | None, listed: Json) -> tuple[Json, list[SourceFile]]:
        ask = functools.partial(self._reading.trace, trace, listed)
        try:
            document = self._kept.document(["trace", self._api.server.place, trace, state], ask) if state else ask()
            return document, self._attachments.of(trace, state, document)
        except NotFound as error:
            raise SourceInvalid(
                f"the trace {trace} is listed, and the server does not have its spans", f"delete it; {error.message}"
            ) from None

    def _registry(self) -> Iterator[SourceFile]:
        """Versions name where their artifacts lie; those must be there, unless they may be missing."""
        versions = VersionArtifacts(self._models, self._reading.models)
        held = versions.held(Holders(self._api, [listed.holder for listed in self._found.values()]))
        self._missing = versions.missing(held, self._found, self._before, self._open)
        if not self._incomplete:
            refuse(self._missing)
        for name, document in self._models.items():
            numbers = [int(version["version"]) for version in document["versions"]]
            ours = {str(n): held[name, n].to_json() for n in numbers if (name, n) in held}
            self._tally.model(name, document)
            yield self._document(f"registered_models/{_named(name)}.json", {**document, "held": ours})

    # --- artifacts ----------------------------------------------------------------------------------------------------

    def _files(self, holders: Sequence[Holder]) -> Iterator[SourceFile]:
        by_id = {holder.id: holder for holder in holders}
        listed = in_bulk(lambda one: self._artifacts.files(by_id[one]), by_id)
        for holder, files in zip(holders, listed, strict=True):
            self._found[holder.kind, holder.id] = Listed(holder, files)
            for file in files:
                self._tally.artifact(file.size)
                yield self._file(holder, file)

    def _file(self, holder: Holder, file: RemoteFile) -> SourceFile:
        path = f"artifacts/{holder.kind}/{holder.id}/{file.path}"
        content = self._before.content(path, file.size) if self._before.note(holder) else None
        opener = functools.partial(self._open, holder, file)
        if content and due(path, self.cut_at):
            return SourceFile(path, compared(opener, content, f"{file.path} of {holder}"), size=file.size)
        return SourceFile(path, opener, size=file.size, known=content)

    def _open(self, holder: Holder, file: RemoteFile) -> BinaryIO:
        fetch = functools.partial(self._artifacts.download, holder, file)
        if holder.ended is None:
            return opened(self._kept.fresh(fetch))
        named = ["artifact", self._api.server.place, holder.kind, holder.id, holder.state, file.path, file.size]
        return opened(self._kept.through(named, fetch))

    def _documents(self, further: Iterable[tuple[str, Json]]) -> Iterator[SourceFile]:
        for path, data in further:
            self._tally.further(path, data)
            yield self._document(path, data)

    def _document(self, path: str, data: Json) -> SourceFile:
        content = canonical(data)
        known = self._before.same(path, hashlib.sha256(content).hexdigest())
        return SourceFile(path, functools.partial(io.BytesIO, content), size=len(content), known=known)


class MlflowRestSource:
    """
    An MLflow registry behind a server, read by its REST API.

    :param server: see `RestServer.parse`; what this user may not read is not captured
    :param kept: folder for what was fetched, so that a capture that was broken off goes on where it was; None keeps nothing
    :param incomplete: take model versions whose artifacts are missing, and say so in the details, instead of refusing them; what an
        API cannot tell of that is in `muster.adapters.mlflow_rest_missing`
    """

    kind: ComponentKind = "registry"

    def __init__(self, name: str, server: RestServer, *, kept: Path | None = None, incomplete: bool = False) -> None:
        self.name = name
        self._incomplete = incomplete
        self._api = MlflowApi(server)
        self._folder = kept / hashlib.sha256(f"{name} {server.place}".encode()).hexdigest()[:16] if kept else None

    @contextmanager
    def capture(self, previous: TreeReader | None) -> Iterator[RestCapture]:
        """
        Open a look at the server; everything is read later, in `RestCapture.files`.

        :raises Refused: if the server wants another user, password or token
        :raises SourceInvalid: if this is no MLflow server, or has no such workspace; from `RestCapture.files` also if a model version lacks
            artifacts
        :raises StoreUnavailable: if it does not answer
        """
        self._api.require_workspace()
        version = Reading(self._api).version()
        self._api.post("2.0/mlflow/experiments/search", {"max_results": 1})
        with scratch_folder("registry") as scratch:
            kept = Kept(self._folder or scratch)
            try:
                yield RestCapture(self._api, version, kept, previous, incomplete=self._incomplete)
            finally:
                kept.forget_fresh()


def _batches(items: Sequence[Any], size: int = AT_A_TIME) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _named(name: str) -> str:
    """A file name for a name that may hold anything."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]
