"""Captures through a server's API: what they ask again and what not, what stops them, and what their errors say."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from cloud_servers import running
from fakes_trees import FolderTree
from muster.adapters import mlflow_rest_source
from muster.adapters.mlflow_rest_api import MlflowApi, RestServer
from muster.adapters.mlflow_rest_source import MlflowRestSource
from muster.adapters.rereading import due
from muster.errors import Refused, SourceChanged, SourceInvalid, StoreUnavailable
from muster.loopback import free_port
from relay import Answer, Asked, Relay, Rule
from rest_registries import Served, capture_by_rest

PASSWORD = "p@ss/w?rd#"


@pytest.fixture(autouse=True)
def nothing_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """No share is read again today, unless a test says so."""
    monkeypatch.setattr(mlflow_rest_source, "due", lambda _path, _at: False)


@pytest.fixture
def line(rest_source: Served) -> Iterator[Relay]:
    """A relay to the server, which keeps what was asked."""
    relay = Relay(rest_source.uri)
    yield relay
    relay.close()


def fetched(relay: Relay) -> list[str]:
    """Requests for content: histories, artifacts, traces."""
    ends = ("get-history", "/get-artifact", "artifacts/files", "traces/get")
    return [a.path for a in relay.asked if a.path.endswith(ends) or "mlflow-artifacts/artifacts/" in a.path]


def answering(relay: Relay, rule: Rule) -> None:
    relay._rule = rule


def test_unchanged_registry_is_not_fetched_again(line: Relay, rest_source: Served, tmp_path: Path) -> None:
    """What has ended is taken over from the point before; only the run that goes on is asked again. The second tree is the first."""
    _, first = capture_by_rest(line.endpoint, tmp_path / "first")
    line.asked.clear()
    details, second = capture_by_rest(line.endpoint, tmp_path / "second", first)
    unfinished = rest_source.names["unfinished"]
    asked = [a for a in line.asked if a.path in fetched(line)]
    assert {a.query.get("run_id") for a in asked} <= {unfinished, *_running(rest_source)}
    assert not [path for path in second.opened if path.startswith("artifacts/") or "traces/" in path]
    assert {e.path: e.content.sha256 for e in second.entries() if e.path != "index.json" and e.content} == {
        e.path: e.content.sha256 for e in first.entries() if e.path != "index.json" and e.content
    }
    assert (
        details["counts"]["metric_points"]
        == capture_by_rest(line.endpoint, tmp_path / "third")[0]["counts"]["metric_points"]
    )


def _running(source: Served) -> set[str]:
    return {run for (run,) in source.execute("SELECT run_uuid FROM runs WHERE status = 'RUNNING'")}


def test_tags_of_ended_runs_and_new_points_are_seen(line: Relay, rest_source: Served, tmp_path: Path) -> None:
    """A tag may change at any time and is always read; a later point of an ended run changes its state, and it is fetched anew."""
    from mlflow import MlflowClient

    _, first = capture_by_rest(line.endpoint, tmp_path / "first")
    client, run = MlflowClient(rest_source.uri, rest_source.uri), rest_source.names["run"]
    client.set_tag(run, "seen", str(os.getpid()))
    _, second = capture_by_rest(line.endpoint, tmp_path / "second", first)
    assert {"key": "seen", "value": str(os.getpid())} in document(second, f"runs/{run}.json")["run"]["data"]["tags"]
    assert f"metrics/{run}.jsonl" not in second.opened
    client.log_metric(run, "other", 2.0, timestamp=6, step=1)
    _, third = capture_by_rest(line.endpoint, tmp_path / "third", second)
    lines = third.read(third.entry(f"metrics/{run}.jsonl")).splitlines()
    assert [6, 1, 2.0] in next(json.loads(line)["points"] for line in lines if b'"other"' in line)


def document(tree: FolderTree, path: str) -> Any:
    return json.loads(tree.read(tree.entry(path)))


def test_inputs_of_ended_runs_are_always_read(line: Relay, rest_source: Served, tmp_path: Path) -> None:
    """Models and datasets that a run was given after its end, of which nothing in its state tells: the next point has them."""
    from mlflow import MlflowClient
    from mlflow.entities import Dataset, DatasetInput, LoggedModelInput

    client = MlflowClient(rest_source.uri, rest_source.uri)
    run = client.create_run("0").info.run_id
    client.log_metric(run, "loss", 1.0, timestamp=5, step=0)
    client.set_terminated(run)
    _, first = capture_by_rest(line.endpoint, tmp_path / "first")
    client.log_inputs(
        run,
        datasets=[DatasetInput(Dataset("late", "1", "local", "{}"), [])],
        models=[LoggedModelInput(rest_source.names["model"])],
    )
    try:
        _, second = capture_by_rest(line.endpoint, tmp_path / "second", first)
        assert document(first, f"runs/{run}.json")["model_inputs"] == []
        back = document(second, f"runs/{run}.json")
        assert [given["model_id"] for given in back["model_inputs"]] == [rest_source.names["model"]]
        assert [given["dataset"]["name"] for given in back["run"]["inputs"]["dataset_inputs"]] == ["late"]
        assert f"metrics/{run}.jsonl" not in second.opened
    finally:
        client.delete_run(run)


def test_artifact_replaced_by_one_of_the_same_size_is_found_when_its_day_comes(
    line: Relay, rest_source: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The assumption that ended runs rest is wrong here: the share that is read again each day tells, and names the file."""
    _, first = capture_by_rest(line.endpoint, tmp_path / "first")
    (weights,) = [p for p in rest_source.artifacts.rglob("weights.bin") if rest_source.names["run"] in str(p)]
    before = weights.read_bytes()
    weights.write_bytes(before[::-1])
    try:
        _, second = capture_by_rest(line.endpoint, tmp_path / "second", first)
        assert not [path for path in second.opened if path.endswith("weights.bin")]
        monkeypatch.setattr(mlflow_rest_source, "due", lambda path, _at: path.endswith("weights.bin"))
        with pytest.raises(SourceInvalid, match=r"net/weights\.bin of run"):
            capture_by_rest(line.endpoint, tmp_path / "third", first)
    finally:
        weights.write_bytes(before)


def test_point_logged_behind_the_latest_is_found_when_its_day_comes(
    line: Relay, rest_source: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that has ended and gets another point, older than its latest one: nothing that lists tell of it has changed."""
    from mlflow import MlflowClient

    run = rest_source.names["run"]
    path = f"metrics/{run}.jsonl"
    _, first = capture_by_rest(line.endpoint, tmp_path / "first")
    MlflowClient(rest_source.uri, rest_source.uri).log_metric(run, "loss", 0.125, timestamp=9, step=0)
    try:
        _, second = capture_by_rest(line.endpoint, tmp_path / "second", first)
        assert second.read(second.entry(path)) == first.read(first.entry(path))
        monkeypatch.setattr(mlflow_rest_source, "due", lambda asked, _at: asked == path)
        _, third = capture_by_rest(line.endpoint, tmp_path / "third", second)
        assert b"[9,0,0.125]" in third.read(third.entry(path))
    finally:
        rest_source.execute("DELETE FROM metrics WHERE run_uuid = ? AND key = 'loss' AND timestamp = 9", run)


def test_replaced_spans_are_found_when_their_day_comes(
    line: Relay, rest_source: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trace that has ended and whose spans say something else than they did: nothing that lists tell of it has changed."""
    _, first = capture_by_rest(line.endpoint, tmp_path / "first")
    (path,) = (entry.path for entry in first.entries() if entry.path.startswith("traces/"))
    swap = "UPDATE spans SET content = replace(content, ?, ?)"
    rest_source.execute(swap, "look up", "look out")
    try:
        _, second = capture_by_rest(line.endpoint, tmp_path / "second", first)
        assert document(second, path) == document(first, path)
        monkeypatch.setattr(mlflow_rest_source, "due", lambda asked, _at: asked == path)
        _, third = capture_by_rest(line.endpoint, tmp_path / "third", second)
        assert {span["name"] for span in document(third, path)["spans"]} == {"answer", "look out"}
    finally:
        rest_source.execute(swap, "look out", "look up")


def test_server_whose_store_is_no_database_says_what_it_does_not_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no answer at all to lists that only a database keeps; what it has is captured."""
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    port = free_port()
    store = ["--backend-store-uri", (tmp_path / "runs").as_uri(), "--workers", "1", "--port", str(port)]
    command = [sys.executable, "-m", "mlflow", "server", *store]
    with running(command, f"http://127.0.0.1:{port}") as uri:
        client = MlflowClient(uri, uri)
        client.log_param(client.create_run(client.create_experiment("of files")).info.run_id, "depth", 3)
        details, _ = capture_by_rest(uri, tmp_path / "tree")
    assert (details["counts"]["experiments"], details["counts"]["params"]) == (2, 1)
    assert {"evaluation datasets", "issues", "review queues", "webhooks"} <= set(details["absent"])


def test_what_this_user_may_not_see_is_said(line: Relay, tmp_path: Path) -> None:
    """Webhooks and the gateway are for administrators on many servers: without them the capture goes on, and says so."""

    def forbid(asked: Asked, ask: Any) -> Answer:
        return Answer(403) if "/webhooks" in asked.path or "/gateway/" in asked.path else ask(asked)

    answering(line, forbid)
    details, _ = capture_by_rest(line.endpoint, tmp_path / "tree")
    assert "webhooks (this user may not see them)" in details["absent"]
    assert "kept" not in details


def test_server_that_cannot_list_its_webhooks_is_captured_all_the_same(line: Relay, tmp_path: Path) -> None:
    """It decrypts their secrets to list them, and fails if its key is another one now; what only people need ends no capture."""

    def fail(asked: Asked, ask: Any) -> Answer:
        return Answer(500) if asked.path.endswith("/webhooks") else ask(asked)

    answering(line, fail)
    details, _ = capture_by_rest(line.endpoint, tmp_path / "tree")
    assert details["absent"] == ["webhooks (the server fails when it is asked for them)"]
    assert set(details["kept"]) == {"gateway"}


def test_broken_capture_goes_on_where_it_was(line: Relay, tmp_path: Path) -> None:
    """The server goes away in the middle: the error names it, and the next attempt fetches only what the first had not."""
    whole = Relay(line.endpoint)
    capture_by_rest(whole.endpoint, tmp_path / "whole")
    everything = fetched(whole)
    whole.close()
    line.asked.clear()

    def away(asked: Asked, ask: Any) -> Answer:
        return Answer(503) if len(fetched(line)) > len(everything) * 2 // 3 else ask(asked)

    answering(line, away)
    with pytest.raises(StoreUnavailable, match=line.endpoint):
        capture_by_rest(line.endpoint, tmp_path / "broken", kept=tmp_path / "kept")
    kept = list((tmp_path / "kept").rglob("*"))
    assert kept
    assert not any(path.stat().st_mode & 0o077 for path in kept if path.is_file())
    answering(line, lambda asked, ask: ask(asked))
    line.asked.clear()
    details, tree = capture_by_rest(line.endpoint, tmp_path / "tree", kept=tmp_path / "kept")
    assert len(fetched(line)) < len(everything) * 2 // 3
    assert len([e for e in tree.entries() if e.path.startswith("artifacts/")]) == details["artifacts"]["files"]
    assert not [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]


def test_lost_answers_are_asked_for_again(line: Relay, tmp_path: Path) -> None:
    """A server that fails now and then: nothing is missing."""
    numbers: list[int] = []

    def moody(asked: Asked, ask: Any) -> Answer:
        numbers.append(1)
        return Answer(503 if len(numbers) % 2 else 429) if len(numbers) % 9 == 0 else ask(asked)

    details, _ = capture_by_rest(line.endpoint, tmp_path / "calm")
    answering(line, moody)
    assert capture_by_rest(line.endpoint, tmp_path / "moody")[0] == details


def test_version_without_artifacts_is_named(rest_source: Served, tmp_path: Path) -> None:
    """Artifacts that a version needs are gone: the error names model, version and where they were."""
    (source,) = rest_source.execute("SELECT source FROM model_versions WHERE name = 'flight-delay' AND version = 3")[0]
    model = source.removeprefix("models:/")
    move = "UPDATE logged_models SET artifact_location = ? WHERE model_id = ?"
    ((home,),) = rest_source.execute("SELECT artifact_location FROM logged_models WHERE model_id = ?", model)
    rest_source.execute(move, "/nowhere/at/all", model)
    try:
        with pytest.raises(
            SourceInvalid, match=rf"3 of model flight-delay of logged model {model} has no artifacts at /nowhere/at/all"
        ):
            capture_by_rest(rest_source.uri, tmp_path / "tree")
    finally:
        rest_source.execute(move, home, model)


def test_registry_that_moves_is_noticed(line: Relay, tmp_path: Path) -> None:
    """An alias that is set while artifacts are being read: the cut would not be one."""
    from mlflow import MlflowClient

    client = MlflowClient(line.endpoint, line.endpoint)
    with MlflowRestSource("w", RestServer.parse(line.endpoint)).capture(None) as cut:
        FolderTree(tmp_path / "tree").store(cut.files())
        client.set_registered_model_alias("by-run", "passing", "2")
        try:
            with pytest.raises(SourceChanged, match="registered model"):
                cut.confirm()
        finally:
            client.delete_registered_model_alias("by-run", "passing")


def test_server_wants_a_password(line: Relay, tmp_path: Path) -> None:
    """Without it: refused, with the way out. With it, or a token, in whatever characters: captured. It is in no error and no document."""
    basic = "Basic " + base64.b64encode(f"ada:{PASSWORD}".encode()).decode()

    def guarded(asked: Asked, ask: Any) -> Answer:
        if asked.headers.get("authorization") in (basic, "Bearer t0ken"):
            return ask(asked)
        heard = json.dumps({"error_code": "DENIED", "message": f"you said {asked.headers.get('authorization')}"})
        return Answer(401, {"content-type": "application/json"}, heard.encode())

    answering(line, guarded)
    with pytest.raises(Refused, match="401") as caught:
        capture_by_rest(line.endpoint, tmp_path / "none")
    assert "password" in caught.value.hint
    wrong = f"http://ada:{quote('wr0ng-one', safe='')}@{line.endpoint.removeprefix('http://')}"
    with pytest.raises(Refused) as caught:
        capture_by_rest(wrong, tmp_path / "wrong")
    said = f"{caught.value}{caught.value.__cause__}{caught.value.__context__}"
    assert "wr0ng" not in said
    assert base64.b64encode(b"ada:wr0ng-one").decode() not in said
    right = f"http://ada:{quote(PASSWORD, safe='')}@{line.endpoint.removeprefix('http://')}"
    details, tree = capture_by_rest(right, tmp_path / "right")
    assert capture_by_rest(line.endpoint, tmp_path / "token", token="t0ken")[0] == details
    everything = json.dumps(details).encode() + b"".join(p.read_bytes() for p in (tmp_path / "right").iterdir())
    assert PASSWORD.encode() not in everything
    assert basic.removeprefix("Basic ").encode() not in everything
    assert tree.entries()


def test_redirected_credentials_go_nowhere(line: Relay) -> None:
    """A server that points elsewhere is not followed: the header would go with us."""
    answering(line, lambda _asked, _ask: Answer(302, {"location": "http://127.0.0.1:9/elsewhere"}))
    with pytest.raises(SourceInvalid, match="302"):
        MlflowApi(RestServer.parse(line.endpoint, "t0ken")).get("2.0/mlflow/experiments/search")


def test_page_that_never_ends_is_an_error(line: Relay) -> None:
    """A server that gives one page for ever does not hold us for ever."""
    body = json.dumps({"runs": [{}], "next_page_token": "again"}).encode()
    answering(line, lambda _asked, _ask: Answer(200, {"content-type": "application/json"}, body))
    with pytest.raises(SourceInvalid, match="again and again"):
        list(MlflowApi(RestServer.parse(line.endpoint)).pages("2.0/mlflow/runs/search", "runs", {}))


def test_share_of_a_day_is_a_thirtieth() -> None:
    """What these tests switch off exists: some paths are due today, and most are not."""
    paths = [f"artifacts/runs/{number}/model.bin" for number in range(3000)]
    assert 50 < sum(due(path, datetime.now(UTC)) for path in paths) < 150
