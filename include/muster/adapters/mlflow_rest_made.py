"""What an import has made on a server, and its removal should the import fail, as far as an API can remove anything."""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from muster.adapters.mlflow_rest_api import MlflowApi, proxied_path
from muster.adapters.mlflow_rest_artifacts import upload_root
from muster.adapters.mlflow_rest_reading import ABANDONED, Holder
from muster.errors import MusterError, NotFound, SourceInvalid

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Made:
    """
    Whatever was made is noted here at once.

    :param experiments: new ids, without the default experiment, which was there
    :param runs: new ids
    :param traces: id to the id of its experiment
    :param further: kind and new id of whatever else
    :param spare: id of the default experiment, and the name that it had; None for a server without one
    """

    api: MlflowApi
    spare: tuple[str, str] | None = None
    experiments: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    logged_models: list[str] = field(default_factory=list)
    traces: dict[str, str] = field(default_factory=dict)
    models: list[str] = field(default_factory=list)
    uploaded: list[Holder] = field(default_factory=list)
    further: list[tuple[str, Any]] = field(default_factory=list)

    def note(self, kind: str, what: Any) -> None:
        """Something of a kind that belongs to none of the above: its new id, or of a scorer experiment, name and version."""
        self.further.append((kind, what))

    def take_back(self) -> None:
        """
        Remove what was made. Runs and experiments, which no API removes, are deleted under the tag `ABANDONED`, by which they count for
        nothing; experiments lose their names, so that another import can take them.
        """
        for remove in self._removals():
            self._tried(remove)

    def _removals(self) -> Iterator[Callable[[], object]]:
        for kind, what in reversed(self.further):
            yield partial(self._remove, kind, what)
        for name in self.models:
            yield partial(self.api.ask, "DELETE", _MODELS, body={"name": name})
        for trace, experiment in self.traces.items():
            asked = {"experiment_id": experiment, "request_ids": [trace]}
            yield partial(self.api.post, "2.0/mlflow/traces/delete-traces", asked)
        for model in self.logged_models:
            yield partial(self.api.ask, "DELETE", f"/api/2.0/mlflow/logged-models/{model}")
        for holder in self.uploaded:
            yield partial(self.api.ask, "DELETE", proxied_path(upload_root(holder.root)))
        yield from (partial(self._abandon_run, run) for run in self.runs)
        yield from (partial(self._abandon_experiment, experiment) for experiment in self.experiments)
        if self.spare:
            yield partial(self._rename, *self.spare)

    def _remove(self, kind: str, what: Any) -> None:
        """An issue cannot be removed: it is rejected, and gets a name by which it counts for nothing."""
        if kind == "scorers":
            asked = dict(zip(("experiment_id", "name", "version"), what, strict=True))
            with contextlib.suppress(NotFound):  # a filler
                self.api.ask("DELETE", SCORERS, body=asked)
        elif kind == "label_schemas":
            self.api.ask("DELETE", "/api/3.0/mlflow/label-schemas/delete", body={"schema_id": what})
        elif kind == "review_queues":
            self.api.post("3.0/mlflow/review-queues/delete", {"queue_id": what})
        elif kind == "evaluation_datasets":
            self.api.ask("DELETE", f"/api/3.0/mlflow/datasets/{what}")
        else:
            asked = {"issue_id": what, "name": ABANDONED, "status": "rejected"}
            self.api.ask("PATCH", f"/api/3.0/mlflow/issues/{what}", body=asked)

    def _abandon_run(self, run: str) -> None:
        self.api.post("2.0/mlflow/runs/restore", {"run_id": run})
        self.api.post("2.0/mlflow/runs/set-tag", {"run_id": run, "key": ABANDONED, "value": "true"})
        self.api.post("2.0/mlflow/runs/delete", {"run_id": run})

    def _abandon_experiment(self, experiment: str) -> None:
        asked = {"experiment_id": experiment}
        with contextlib.suppress(NotFound, SourceInvalid):  # it is not deleted yet
            self.api.post("2.0/mlflow/experiments/restore", asked)
        self.api.post("2.0/mlflow/experiments/set-experiment-tag", {**asked, "key": ABANDONED, "value": "true"})
        self._rename(experiment, f"muster-abandoned-{experiment}-{secrets.token_hex(4)}")
        self.api.post("2.0/mlflow/experiments/delete", asked)

    def _rename(self, experiment: str, name: str) -> None:
        self.api.post("2.0/mlflow/experiments/update", {"experiment_id": experiment, "new_name": name})

    def _tried(self, remove: Callable[[], object]) -> None:
        """What cannot be removed stays; the next import then finds it, and refuses."""
        try:
            remove()
        except MusterError as error:
            logger.warning("a failed import left something on %s: %s", self.api.server.place, error.message)


SCORERS = "/api/3.0/mlflow/scorers/delete"
_MODELS = "/api/2.0/mlflow/registered-models/delete"
