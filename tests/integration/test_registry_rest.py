"""A registry captured through a server's API and put back through another one's: what survives, what changes, and that it says so."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fakes_trees import FolderTree
from muster.adapters.mlflow_rest_api import RestServer
from muster.adapters.mlflow_rest_reading import ABANDONED
from muster.adapters.mlflow_rest_target import MlflowRestTarget
from muster.codec import from_json
from muster.domain.fidelity import FidelityReport
from muster.errors import IntegrityError, MusterError, SourceInvalid, StoreUnavailable, TargetNotEmpty
from registry_seed import ROWS, Captured, SeededRegistry, capture
from relay import Answer, Asked, Relay
from rest_labelled import without_judges
from rest_registries import OLD_RUN, Served, answers, capture_by_rest, model_digests, seen, small_pages


@pytest.fixture(scope="module")
def captured_rest(rest_source: Served, tmp_path_factory: pytest.TempPathFactory) -> Captured:
    """Captured with every list in several pages."""
    with small_pages():
        return capture_by_rest(rest_source.uri, tmp_path_factory.mktemp("rest") / "tree")


@dataclass(frozen=True)
class Imported:
    """
    :param failures: of two attempts before: one that lost its server, and one whose server changed what it was given
    :param left: what was still there after each of them
    """

    failures: list[MusterError]
    left: list[int]
    details: dict[str, Any]
    tree: FolderTree
    facts: dict[str, Any]


@pytest.fixture(scope="module")
def imported(captured_rest: Captured, rest_target: Served) -> Imported:
    """The registry on the second server, brought there after two attempts that failed."""
    details, tree = captured_rest
    failures, left = [], []
    for rule in (_lost_at_registration, _another_value):
        relay = Relay(rest_target.uri, rule())
        try:
            with pytest.raises(MusterError) as caught:
                MlflowRestTarget(RestServer.parse(relay.endpoint)).restore(details, tree)
        finally:
            relay.close()
        failures.append(caught.value)
        left.append(rest_target.execute("SELECT count(*) FROM registered_models")[0][0])
    target = MlflowRestTarget(RestServer.parse(rest_target.uri))
    target.check(details)
    return Imported(failures, left, details, tree, json.loads(json.dumps(target.restore(details, tree))))


def _lost_at_registration() -> Any:
    """From the second version on the server is out of reach, and comes back after three requests."""
    made, away = [0], [3]

    def rule(asked: Asked, ask: Any) -> Answer:
        made[0] += asked.path.endswith("model-versions/create")
        if made[0] >= 2 and away[0]:
            away[0] -= 1
            return Answer(503)
        return ask(asked)

    return rule


def _another_value() -> Any:
    """A server that rounds the points of one metric."""

    def rule(asked: Asked, ask: Any) -> Answer:
        if asked.path.endswith("runs/log-batch") and b'"loss"' in asked.body:
            asked = Asked(asked.method, asked.target, asked.headers, asked.body.replace(b"0.25", b"0.26"))
        return ask(asked)

    return rule


def test_client_sees_the_same_on_the_new_server(
    rest_source: Served, rest_target: Served, imported: Imported, tmp_path: Path
) -> None:
    """
    Experiments and runs (deleted ones too) with every point of every metric (NaN, infinities, equal times), tags, parameters, datasets,
    links, artifacts byte for byte; logged models; models, versions, aliases, stages, prompts; traces with spans and assessments, linked
    runs and prompts; scorers, evaluation datasets, label schemas, review queues, issues. One scorer asks a gateway that is not there.
    """
    before, after = seen(rest_source.uri, tmp_path / "old"), seen(rest_target.uri, tmp_path / "new")
    assert before.keys() == after.keys()
    assert [number.rpartition("/")[2] for number in sorted(after["scorers"])] == ["2", "4"]
    assert before != without_judges(before)
    before = without_judges(before)
    assert before["linked"][rest_source.names["linked"]] == before["prompts"] == [rest_source.names["trace"]]
    assert {*before["datasets"], *before["queues"], *before["issues"]} == {
        *("hard ones", "first look", "cleo", "empty", "slow", "plain")
    }
    assert before["shown"] == {"slow": 1, "plain": 0}
    assert {name for _, name, *_ in before["schemas"]} == {"right", "answer", "Feedback"}
    for what in before:
        assert after[what] == before[what], what
    assert any(stage == "deleted" for stage, _ in before["experiments"].values())
    assert {run[1][5] for run in before["runs"].values()} == {"active", "deleted"}
    assert len(before["runs"][rest_source.names["run"]][5]["loss"]) == 5


def test_numbers_of_versions_are_kept_and_models_answer_as_before(
    rest_source: Served, rest_target: Served, imported: Imported, seeded_sqlite: SeededRegistry, tmp_path: Path
) -> None:
    """Gaps stay gaps; a champion is loaded from the new server and predicts to the bit; its files are the old ones."""
    import mlflow

    versions = {name: model["versions"] for name, model in imported.facts["models"].items()}
    assert versions["flight-delay"] == [1, 3]
    assert versions["by-run"] == [2, 5]
    assert imported.facts["models"]["by-run"]["aliases"] == {"best": 5}
    with pytest.raises(mlflow.exceptions.MlflowException):
        mlflow.MlflowClient(rest_target.uri, rest_target.uri).get_model_version("by-run", "4")
    old = model_digests(rest_source.uri, "copied", "1", tmp_path / "old")
    assert model_digests(rest_target.uri, "copied", "1", tmp_path / "new") == old != {}
    assert answers(rest_target.uri, "models:/flight-delay@champion", ROWS) == seeded_sqlite.predictions


def test_report_says_what_changed(rest_source: Served, rest_target: Served, imported: Imported) -> None:
    """The capture is labelled; old ids lead to new ones, that exist; what an API cannot set is listed, and counted."""
    assert imported.details["fidelity"] == imported.facts["fidelity"] == "reduced"
    assert any("webhooks" in missing for missing in imported.details["not_given"])
    assert imported.details["kept"] == {"webhooks": 1, "gateway": 4}
    assert imported.details["absent"] == []
    counts = imported.facts["counts"]
    assert (counts["scorers"], counts["scorer_versions"]) == (1, 2)
    assert (counts["evaluation_records"], counts["review_items"], counts["linked_traces"]) == (5, 1, 1)
    assert imported.details["counts"]["traces"] == 1
    ids = imported.facts["id_map"]
    new = ids["runs"][rest_source.names["run"]]
    assert rest_target.execute("SELECT value FROM tags WHERE run_uuid = ? AND key = ?", new, OLD_RUN) == [
        (rest_source.names["run"],)
    ]
    assert len(ids["runs"]) == imported.details["counts"]["runs"] == imported.facts["counts"]["runs"]
    assert ids["logged_models"][rest_source.names["model"]].startswith("m-")
    assert len(set(ids["experiments"].values())) == imported.details["counts"]["experiments"]
    changed = {(item["of"], item["what"]): item["count"] for item in imported.facts["changed"]}
    assert changed["runs", "id"] == len(ids["runs"])
    assert changed["versions", "deleted versions below the highest"] == 4
    assert changed["runs", "name, where there was none"] == 1
    assert changed["scorers", "deleted versions below the highest"] == 2
    assert changed["scorers", "that ask a gateway's endpoint"] == 1
    assert changed["webhooks", "that no API can make again"] == 1
    assert all(changed[kind, "id, times and creator"] for kind in ("issues", "review queues", "evaluation datasets"))
    assert ("logged models", "metrics that no run has") not in changed
    report = from_json(FidelityReport, imported.facts["fidelity_report"])
    assert report.identical
    assert len(report.changed) == len(changed)
    counted = {line.kind: line.restored.count for line in report.entities}
    assert counted["runs"] == len(ids["runs"])
    assert counted["registered models and prompts, with all versions"] == len(imported.facts["models"])
    assert all(len(line.captured.sha256) == 64 and line.captured == line.restored for line in report.entities)
    assert report.artifacts_restored.files == imported.facts["artifacts"]["files"] > 0
    assert "identical but for" in report.line


def test_failed_import_names_the_reason_and_leaves_nothing(imported: Imported, rest_target: Served) -> None:
    """A server that goes away, and one that stores something else: both fail, and the server counts as empty afterwards."""
    lost, altered = imported.failures
    assert isinstance(lost, StoreUnavailable)
    assert "model-versions/create" in lost.message
    assert isinstance(altered, IntegrityError)
    assert re.search(
        r"loss\[\d\] was \[10, 1, 0\.25\] and is \[10, 1, 0\.26\] in metrics/\w+\.jsonl \(1 differences\)",
        altered.message,
    )
    assert imported.left == [0, 0]
    abandoned = rest_target.execute("SELECT count(*) FROM experiment_tags WHERE key = ?", ABANDONED)[0][0]
    assert abandoned >= 4
    active = "SELECT count(*) FROM runs WHERE lifecycle_stage = 'active' AND run_uuid IN (SELECT run_uuid FROM tags WHERE key = ?)"
    assert rest_target.execute(active, ABANDONED) == [(0,)]


def test_second_import_is_refused_and_doubles_nothing(imported: Imported, rest_target: Served) -> None:
    """A server that has the registry already is not empty, whatever is asked of it."""
    target = MlflowRestTarget(RestServer.parse(rest_target.uri))
    before = rest_target.execute("SELECT count(*) FROM runs")
    for attempt in (target.check, lambda details: target.restore(details, imported.tree)):
        with pytest.raises(TargetNotEmpty, match=r"experiment flights|registered model|through the server"):
            attempt(imported.details)
    assert rest_target.execute("SELECT count(*) FROM runs") == before


def test_registry_captured_from_its_store_does_not_go_through_an_api(
    seeded_sqlite: SeededRegistry, rest_target: Served, tmp_path: Path
) -> None:
    """Ids and secrets that were captured would be lost without need: refused, and a place is named where they would not be."""
    details, _ = capture(seeded_sqlite.store, str(seeded_sqlite.artifacts), tmp_path / "tree")
    with pytest.raises(SourceInvalid, match="captured from its store"):
        MlflowRestTarget(RestServer.parse(rest_target.uri)).check(details)


def test_older_server_is_refused(captured_rest: Captured, rest_target: Served) -> None:
    """A registry of a newer MLflow is refused before anything is made, and the version that is needed is named."""
    details = {**captured_rest[0], "mlflow_version": "99.1"}
    with pytest.raises(SourceInvalid, match=r"captured from 99\.1"):
        MlflowRestTarget(RestServer.parse(rest_target.uri)).check(details)
