"""Artifacts that a server's registry names and that are not there: they refuse a point, or mark it, and a restore says so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fakes import FrozenClock
from fakes_trees import FolderTree
from muster.adapters import mlflow_rest_source
from muster.adapters.mlflow_rest_target import MlflowRestStoreTarget
from muster.bootstrap import Platform
from muster.catalog import load_catalog
from muster.cli.wording import plan_lines, report_lines
from muster.domain.holdings import ABOUT
from muster.domain.recovery_point import PointStatus
from muster.domain.restore_request import RestoreRequest
from muster.errors import SourceChanged, SourceInvalid, ValidationFailed
from muster.operations.conclude import Incident
from muster.operations.hold import accept_point
from relay import Answer, Asked, Relay
from rest_registries import capture_by_rest, serving
from vaults import ACTOR, CHEAP

PROMISE = b"model_size_bytes: 7\nrun_id: x\n"
MLMODEL = {"MLmodel": PROMISE, "weights.bin": b"weights", "requirements.txt": b"not counted"}


@dataclass
class Site:
    """A server that passes artifacts on, and the folder behind it, into which accidents reach."""

    uri: str
    folder: Path

    @property
    def client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(self.uri, self.uri)

    def version(self, model: str, files: dict[str, bytes]) -> tuple[str, Path]:
        """A version with a run and files of its own; the run, and where the files are."""
        run = self.client.create_run("0").info.run_id
        self._logged(files, lambda folder: self.client.log_artifacts(run, folder, "model"))
        self.client.set_terminated(run)
        self._registered(model, f"runs:/{run}/model", run)
        return run, self.folder / "0" / run / "artifacts" / "model"

    def logged(self, model: str, files: dict[str, bytes]) -> tuple[str, Path]:
        """The same of a logged model."""
        logged = self.client.create_logged_model("0", model).model_id
        self._logged(files, lambda folder: self.client.log_model_artifacts(logged, folder))
        self.client.finalize_logged_model(logged, "READY")
        self._registered(model, f"models:/{logged}", None, logged)
        return logged, self.folder / "0" / "models" / logged / "artifacts"

    def _logged(self, files: dict[str, bytes], log: Any) -> None:
        source = self.folder.parent / "to-log"
        source.mkdir()
        for name, content in files.items():
            (source / name).write_bytes(content)
        log(str(source))
        shutil.rmtree(source)

    def _registered(self, model: str, source: str, run: str | None, logged: str | None = None) -> None:
        if not self.client.search_registered_models(f"name = '{model}'"):
            self.client.create_registered_model(model)
        self.client.create_model_version(model, source, run, model_id=logged)


@pytest.fixture(autouse=True)
def nothing_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """No share is read again today."""
    monkeypatch.setattr(mlflow_rest_source, "due", lambda _path, _at: False)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serving(tmp_path / "site" / "mlflow.db", tmp_path / "site" / "artifacts") as uri:
        yield Site(uri, tmp_path / "site" / "artifacts")


def about(tree: FolderTree) -> Any:
    return json.loads(tree.read(tree.entry(ABOUT)))


def test_all_that_is_missing_is_named_with_path_and_size(site: Site, tmp_path: Path) -> None:
    """
    No file, fewer bytes than an ``MLmodel`` promises, an ``MLmodel`` that the point before had; of a run, of a logged model, and of a
    copied version. Sizes come from the ``MLmodel`` or from the point before. Where nothing is known of what was there, nothing is said.
    """
    gone, gone_at = site.version("delay", {"weights.bin": b"weights"})
    cut, cut_at = site.version("delay", MLMODEL)
    site.version("delay", MLMODEL)
    headless, headless_at = site.logged("delay", MLMODEL)
    site.client.copy_model_version("models:/delay/1", "copied")
    _, whole = capture_by_rest(site.uri, tmp_path / "whole")
    shutil.rmtree(gone_at)
    (cut_at / "weights.bin").write_bytes(b"wei")
    (headless_at / "MLmodel").unlink()
    root = "mlflow-artifacts:/0"
    short = f"version 2 of model delay of run {cut} has 3 of 7 bytes of artifacts at {root}/{cut}/artifacts/model"
    none = f"of run {gone} has no artifacts at {root}/{gone}/artifacts/model"
    with pytest.raises(SourceInvalid) as caught:
        capture_by_rest(site.uri, tmp_path / "first")
    assert caught.value.message == f"version 1 of model copied {none}; version 1 of model delay {none}; {short}"
    assert "missing_artifacts: incomplete" in caught.value.hint
    details, tree = capture_by_rest(site.uri, tmp_path / "next", whole, incomplete=True)
    left = f"version 4 of model delay of logged model {headless} has 18 of {18 + len(PROMISE)} bytes of artifacts"
    known = [
        f"version 1 of model copied {none} (7 bytes)",
        f"version 1 of model delay {none} (7 bytes)",
        f"{left} at {root}/models/{headless}/artifacts",
        short,
    ]
    assert details["missing"] == {"count": 4, "named": known}
    assert [one["what"] for one in about(tree)["missing"]] == [line.partition(" has ")[0] for line in known]
    again, _ = capture_by_rest(site.uri, tmp_path / "again", tree, incomplete=True)
    assert again["missing"] == details["missing"]


def test_an_mlmodel_is_asked_for_only_where_files_changed(site: Site, tmp_path: Path) -> None:
    """A registry that rests costs no request for content, and one in which something is gone one."""
    site.version("delay", MLMODEL)
    run, lost = site.version("delay", MLMODEL)
    relay = Relay(site.uri)
    try:
        _, first = capture_by_rest(relay.endpoint, tmp_path / "first")
        for broken in (False, True):
            if broken:
                (lost / "requirements.txt").unlink()
            relay.asked.clear()
            details, _ = capture_by_rest(relay.endpoint, tmp_path / f"next{broken}", first)
            asked = [a.path for a in relay.asked if a.path.endswith("MLmodel")]
            assert [path for path in asked if run not in path] == []
            assert len(asked) == broken
            assert "missing" not in details
    finally:
        relay.close()


def test_an_incomplete_registry_comes_back_and_says_what_is_missing(site: Site, tmp_path: Path) -> None:
    """The version is there again under its number, with what was left of it; facts name what was missing before, by its old place."""
    gone, gone_at = site.version("delay", {"weights.bin": b"weights"})
    _, cut_at = site.logged("delay", MLMODEL)
    site.version("delay", MLMODEL)
    shutil.rmtree(gone_at)
    (cut_at / "weights.bin").unlink()
    details, tree = capture_by_rest(site.uri, tmp_path / "tree", incomplete=True)
    back = tmp_path / "back"
    facts = MlflowRestStoreTarget(f"sqlite:///{back}/mlflow.db", str(back / "artifacts")).restore(details, tree)
    assert facts["missing"] == details["missing"]
    assert facts["missing"]["count"] == 2
    assert f"run {gone} has no artifacts" in facts["missing"]["named"][0]
    assert facts["models"] == {"delay": {"versions": [1, 2, 3], "aliases": {}}}
    files = {path.name for path in (back / "artifacts").rglob("*") if path.is_file()}
    assert files == {"MLmodel", "weights.bin", "requirements.txt"}


@pytest.mark.parametrize("with_run", [False, True])
def test_what_is_cleared_up_during_the_cut_is_not_missing(site: Site, tmp_path: Path, with_run: bool) -> None:
    """A version that is deleted with its files, or with the logged model that has them, when it was listed already."""
    site.version("delay", {"weights.bin": b"weights"})
    logged, folder = site.logged("delay", {"weights.bin": b"weights"})
    done: list[bool] = []

    def clearing(asked: Asked, ask: Any) -> Answer:
        if "logged-models/search" in asked.path and not done:
            done.append(True)
            site.client.delete_model_version("delay", "2")
            if with_run:
                site.client.delete_logged_model(logged)
            shutil.rmtree(folder)
        return ask(asked)

    relay = Relay(site.uri, clearing)
    try:
        with pytest.raises(SourceChanged, match="version 2 of model delay was deleted while it was captured"):
            capture_by_rest(relay.endpoint, tmp_path / "tree")
    finally:
        relay.close()
    capture_by_rest(site.uri, tmp_path / "next")


def test_a_file_that_vanishes_between_listing_and_reading_moves_the_cut(site: Site, tmp_path: Path) -> None:
    """The cut is taken again then; it is no lie of the server's."""
    run, folder = site.version("delay", {"weights.bin": b"weights"})

    def clearing(asked: Asked, ask: Any) -> Answer:
        if asked.path.endswith("weights.bin"):
            (folder / "weights.bin").unlink(missing_ok=True)
        return ask(asked)

    relay = Relay(site.uri, clearing)
    try:
        with pytest.raises(SourceChanged, match=rf"the artifact model/weights.bin of run {run} vanished"):
            capture_by_rest(relay.endpoint, tmp_path / "tree")
    finally:
        relay.close()


WORKLOAD = """\
workload: models
owner: ops
objectives: {rpo: 1d, rto: 15m}
registry: {server: conn:mlflow, missing_artifacts: incomplete}
vault: primary
"""


def platform_of(folder: Path, server: str) -> Platform:
    catalog = folder / "include" / "catalog"
    (catalog / "workloads").mkdir(parents=True)
    (catalog / "vaults.yaml").write_text("vaults:\n  primary: {url: conn:vault, passphrase: conn:passphrase}\n")
    (catalog / "workloads" / "models.yaml").write_text(WORKLOAD)
    places = {"conn:vault": (folder / "vault").as_uri(), "conn:passphrase": "correct horse", "conn:mlflow": server}
    clock = FrozenClock(datetime.now(UTC))
    platform = Platform(load_catalog(catalog), places.__getitem__, state=folder / "state", actor=ACTOR, clock=clock)
    platform.create_vault("primary", cost=CHEAP)
    return platform


def test_the_catalog_lets_such_a_point_be_taken_and_a_person_accept_it(site: Site, tmp_path: Path) -> None:
    """Suspect with the point before held; accepted it is the latest, and the next one no alarm; plan and reports name what is missing."""
    gone, folder = site.version("delay", {"weights.bin": b"weights"})
    site.version("delay", MLMODEL)
    platform = platform_of(tmp_path, site.uri)
    workload, vault = platform.catalog.workload("models"), platform.vault("primary")

    def night() -> PointStatus:
        platform.clock.advance(3600)  # type: ignore[attr-defined]
        return platform.snapshot(workload)

    good = night()
    shutil.rmtree(folder)
    with pytest.raises(ValidationFailed, match="registry/models is incomplete: version 1 of model delay"):
        night()
    assert vault.point("latest", "models").point == good.point
    assert vault.point("latest", "models").holds
    accept_point(vault, vault.points("models")[-1], "gone for good", platform.clock)
    status = night()
    line = f"registry/models: version 1 of model delay of run {gone} has no artifacts at mlflow-artifacts:/0/{gone}/artifacts/model"
    assert (status.suspect, status.incomplete) == (False, (f"{line} (7 bytes)",))
    target, started = platform.target(workload, status, str(tmp_path / "back")), platform.clock.now()
    plan = platform.plan(vault, status, target, RestoreRequest("restore", started))
    assert any(f"is incomplete: {line}" in str(said) for said in plan_lines(plan))
    report = platform.restore(vault, status, target, Incident("drill", started, started))
    assert f"INCOMPLETE since the point was taken: {line} (7 bytes)" in [*report_lines(report)]
    assert report.summary()["incomplete"] == [f"{line} (7 bytes)"]
    pages = [p.read_text() for p in (tmp_path / "state" / "reports").rglob("*.html")]
    assert any("Missing since the point was taken: registry/models: version 1" in page for page in pages)
