"""A registry behind a server, from the catalog into a vault, and from there into a folder, by way of a server of our own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fakes_trees import FolderTree
from muster.adapters import mlflow_rest_source, mlflow_rest_target
from muster.adapters.mlflow_rest_again import AFTER_TRACES, BEFORE_TRACES
from muster.adapters.mlflow_rest_tally import PARTS
from muster.adapters.mlflow_rest_target import MlflowRestStoreTarget
from muster.bootstrap import Platform
from muster.catalog import load_catalog
from muster.codec import from_json
from muster.domain.fidelity import FidelityReport
from muster.errors import IntegrityError, TargetNotEmpty
from muster.operations.conclude import Incident
from muster.operations.kept import kept_documents
from relay import Answer, Asked, Relay
from rest_labelled import without_judges
from rest_registries import Served, capture_by_rest, seen, serving
from vaults import ACTOR, CHEAP

WORKLOAD = """\
workload: models
owner: ops
objectives: {rpo: 1d, rto: 15m}
registry: {server: conn:mlflow, token: conn:token}
vault: primary
targets:
  elsewhere:
    registry: {server: "https://mlflow.example.org", token: conn:token}
"""


def platform_of(folder: Path, server: str) -> Platform:
    catalog = folder / "include" / "catalog"
    (catalog / "workloads").mkdir(parents=True)
    (catalog / "vaults.yaml").write_text("vaults:\n  primary: {url: conn:vault, passphrase: conn:passphrase}\n")
    (catalog / "workloads" / "models.yaml").write_text(WORKLOAD)
    places = {"conn:vault": (folder / "vault").as_uri(), "conn:passphrase": "correct horse battery staple"}
    places |= {"conn:mlflow": server, "conn:token": "t0ken"}
    resolve = lambda reference: places.get(reference, reference)  # noqa: E731
    platform = Platform(load_catalog(catalog), resolve, state=folder / "state", actor=ACTOR)
    platform.create_vault("primary", cost=CHEAP)
    return platform


def test_registry_behind_a_server_goes_through_a_vault(
    rest_source: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Snapshot with a token, restore to a folder: a client sees there what it saw before; the report carries the id map and what changed.
    The second snapshot takes artifacts over. The token is in no file.
    """
    monkeypatch.setattr(mlflow_rest_source, "due", lambda _path, _at: False)
    relay = Relay(rest_source.uri, _guard)
    try:
        platform = platform_of(tmp_path, relay.endpoint)
        workload, vault = platform.catalog.workload("models"), platform.vault("primary")
        status = platform.snapshot(workload)
        relay.asked.clear()
        again = platform.snapshot(workload)
        assert not [asked for asked in relay.asked if "weights.bin" in asked.path]
    finally:
        relay.close()
    assert not status.suspect
    assert [webhook["name"] for webhook in kept_documents(vault, again.point)["webhooks"]] == ["watch"]
    assert "t0ken" not in repr(platform.target(workload, status, "elsewhere"))
    target = platform.target(workload, again, str(tmp_path / "back"))
    started = platform.clock.now()
    platform.restore(vault, again, target, Incident("drill", started, started))
    (fidelity,) = (tmp_path / "state" / "reports").rglob("*-fidelity.json")
    assert json.loads(fidelity.read_text())["identical"]
    (report,) = {*(tmp_path / "state" / "reports").rglob("*.json")} - {fidelity}
    (outcome,) = json.loads(report.read_text())["components"]
    assert outcome["facts"]["fidelity"] == "reduced"
    assert rest_source.names["run"] in outcome["facts"]["id_map"]["runs"]
    assert {item["of"] for item in outcome["facts"]["changed"]} >= {"runs", "versions", "artifacts"}
    files = [path for folder in ("state", "vault", "back") for path in (tmp_path / folder).rglob("*") if path.is_file()]
    assert not [path for path in files if b"t0ken" in path.read_bytes()]
    registry = tmp_path / "back" / "registry"
    with serving(registry / "mlflow.db", registry / "artifacts") as uri:
        assert seen(uri, tmp_path / "new") == without_judges(seen(rest_source.uri, tmp_path / "old"))


def _guard(asked: Asked, ask: object) -> Answer:
    return ask(asked) if asked.headers.get("authorization") == "Bearer t0ken" else Answer(401)  # type: ignore[operator]


def test_a_point_of_before_that_has_none_of_the_further_kinds_comes_back(rest_source: Served, tmp_path: Path) -> None:
    """Labelling, scorers and the like were not asked for then; what the new server makes by itself is no difference."""
    details, tree = capture_by_rest(rest_source.uri, tmp_path / "tree")
    further = {*AFTER_TRACES, *BEFORE_TRACES, "kept"}
    for entry in tree.entries():
        if entry.path.partition("/")[0] in further:
            tree.drop(entry.path)
    parts = {name for _, name in PARTS.values()}
    details["counts"] = {k: n for k, n in details["counts"].items() if k not in further | parts}
    del details["kept"]
    target = MlflowRestStoreTarget(f"sqlite:///{tmp_path}/new/mlflow.db", str(tmp_path / "new" / "artifacts"))
    facts = target.restore(details, tree)
    assert facts["counts"]["traces"] == 1
    assert from_json(FidelityReport, facts["fidelity_report"]).identical


def test_failed_restore_to_a_folder_leaves_it_as_it_was(
    rest_source: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stored artifact that is not what was captured fails the restore: no store, no folder; and both are refused if they are there."""
    details, tree = capture_by_rest(rest_source.uri, tmp_path / "tree")
    target = MlflowRestStoreTarget(f"sqlite:///{tmp_path}/back/mlflow.db", str(tmp_path / "back" / "artifacts"))
    target.check(details)
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "mlflow.db").touch()
    with pytest.raises(TargetNotEmpty, match=r"mlflow\.db"):
        target.check(details)
    shutil.rmtree(tmp_path / "back")
    _lies(tree, monkeypatch)
    with pytest.raises(IntegrityError, match=r"weights\.bin"):
        target.restore(details, tree)
    assert not (tmp_path / "back").exists()


def _lies(tree: FolderTree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are damaged on their way to the server, after they were read and checked."""
    upload = mlflow_rest_target.RestArtifacts.upload

    def damaged(self: object, holder: object, relative: str, file: Path) -> None:
        if relative.endswith("weights.bin"):
            data = bytearray(file.read_bytes())
            data[0] ^= 1
            file.write_bytes(data)
        upload(self, holder, relative, file)  # type: ignore[arg-type]

    monkeypatch.setattr(mlflow_rest_target.RestArtifacts, "upload", damaged)
