"""What an import has made on a server, and its removal should the import fail, as far as an API can remove anything."""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

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

    def take_back(self) -> None:
        """
        Remove what was made. Runs and experiments, which no API removes, are deleted under the tag `ABANDONED`, by which they count for
        nothing; experiments lose their names, so that another import can take them.
        """
        for name in self.models:
            self._tried(lambda name=name: self.api.ask("DELETE", _MODELS, body={"name": name}))  # type: ignore[misc]
        for trace, experiment in self.traces.items():
            asked = {"experiment_id": experiment, "request_ids": [trace]}
            self._tried(lambda asked=asked: self.api.post("2.0/mlflow/traces/delete-traces", asked))  # type: ignore[misc]
        for model in self.logged_models:
            self._tried(lambda model=model: self.api.ask("DELETE", f"/api/2.0/mlflow/logged-models/{model}"))  # type: ignore[misc]
        for holder in self.uploaded:
            path = upload_root(holder.root)
            self._tried(lambda path=path: self.api.ask("DELETE", proxied_path(path)))  # type: ignore[misc]
        for run in self.runs:
            self._tried(lambda run=run: self._abandon_run(run))  # type: ignore[misc]
        for experiment in self.experiments:
            self._tried(lambda experiment=experiment: self._abandon_experiment(experiment))  # type: ignore[misc]
        if self.spare:
            self._tried(lambda: self._rename(*self.spare))  # type: ignore[misc]

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


_MODELS = "/api/2.0/mlflow/registered-models/delete"
