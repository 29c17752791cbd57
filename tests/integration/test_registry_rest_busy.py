"""Servers and gateways that put requests off: captures and restores wait as long as they are told, and nothing is made twice."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from muster.adapters.mlflow_rest_api import RestServer
from muster.adapters.mlflow_rest_target import MlflowRestTarget
from relay import Answer, Asked, Relay
from rest_registries import OLD_RUN, capture_by_rest, serving

RUNS = 12


def _busy() -> tuple[Any, Counter[int]]:
    """A gateway that puts off the first requests of each kind, in all the ways there are; and how often it did so."""
    asked, said = Counter[str](), Counter[int]()

    def rule(one: Asked, ask: Any) -> Answer:
        asked[one.path] += 1
        soon = format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)
        answers = {1: Answer(429, {"retry-after": "1"}), 2: Answer(503, {"retry-after": soon}), 4: Answer(429)}
        if one.path.endswith(("create", "experiments/search", "runs/search")) and asked[one.path] in answers:
            said[answers[asked[one.path]].status] += 1
            return answers[asked[one.path]]
        return ask(one)

    return rule, said


def test_import_by_way_of_a_busy_gateway_makes_everything_once(tmp_path: Path) -> None:
    """Requests that make something new are sent again if they were put off, and there are as many runs as were captured."""
    from mlflow import MlflowClient
    from mlflow.entities import ViewType

    with serving(tmp_path / "mlflow.db", tmp_path / "artifacts") as uri:
        client = MlflowClient(uri, uri)
        experiment = client.create_experiment("many")
        runs = [client.create_run(experiment).info.run_id for _ in range(RUNS)]
        rule, said = _busy()
        relay = Relay(uri, rule)
        details, tree = capture_by_rest(relay.endpoint, tmp_path / "tree")
        relay.close()
        assert (said[429], said[503]) == (4, 2)
    with serving(tmp_path / "back.db", tmp_path / "back") as uri:
        rule, said = _busy()
        relay = Relay(uri, rule)
        facts = MlflowRestTarget(RestServer.parse(relay.endpoint)).restore(details, tree)
        relay.close()
        assert said[429] + said[503] >= 7
        client = MlflowClient(uri, uri)
        experiments = [e.experiment_id for e in client.search_experiments(view_type=ViewType.ALL)]
        back = client.search_runs(experiments, run_view_type=ViewType.ALL)
        assert sorted(run.data.tags[OLD_RUN] for run in back) == sorted(runs)
    assert facts["counts"]["runs"] == RUNS
