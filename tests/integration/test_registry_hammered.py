"""Cuts of a registry while somebody trains, registers, deletes and clears up as fast as it goes: nothing that is named is missing."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fakes_trees import FolderTree
from muster.adapters.mlflow_registry import MlflowSource
from muster.errors import SourceChanged
from registry_seed import driven, empty_store

CUTS = 3
TRIES = 12
CLEARED_UP = 2
"""Tries of a cut during which versions are cleared up as well: on a slow machine it would never end otherwise."""


@pytest.fixture(params=["sqlite", "embedded_postgres", pytest.param("mariadb", marks=pytest.mark.servers)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store that MLflow has made, on each engine."""
    url = f"sqlite:///{tmp_path}/mlflow.db"
    if request.param != "sqlite":
        url = str(request.getfixturevalue(request.param).database())
    empty_store(driven(url), tmp_path / "artifacts")
    return url


class Hammer:
    """
    Runs with two files each, registered and made champion; while it clears up, the oldest version, its run and its files are deleted, in
    the order in which `mlflow gc` does it: files first.
    """

    def __init__(self, url: str, root: Path) -> None:
        from mlflow import MlflowClient

        self.client, self.root = MlflowClient(driven(url), driven(url)), root
        self.experiment = self.client.create_experiment("hammered", str(root / "hammered"))
        self.client.create_registered_model("m")
        self.cycles = 0
        self.clears_up = threading.Event()
        self.failure: BaseException | None = None
        self._runs: dict[int, str] = {}

    def cycle(self) -> None:
        self.cycles += 1
        run = self.client.create_run(self.experiment).info
        folder = self.root / "hammered" / run.run_id / "artifacts" / "model"
        folder.mkdir(parents=True)
        for name in ("MLmodel", "weights.bin"):
            (folder / name).write_text(f"{name} of {run.run_id}" * 500)
        self.client.log_param(run.run_id, "cycle", self.cycles)
        version = int(self.client.create_model_version("m", str(folder), run.run_id).version)
        self.client.set_registered_model_alias("m", "champion", str(version))
        self._runs[version] = run.run_id
        if self.clears_up.is_set() and len(self._runs) > 3:
            self._clear_up(min(self._runs))

    def _clear_up(self, version: int) -> None:
        run = self._runs.pop(version)
        self.client.delete_model_version("m", str(version))
        self.client.delete_run(run)
        shutil.rmtree(self.root / "hammered" / run)
        self.client._tracking_client.store._hard_delete_run(run)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        stop = threading.Event()

        def work() -> None:
            try:
                while not stop.is_set():
                    self.cycle()
            except BaseException as error:
                self.failure = error

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        assert self.failure is None


def cut(source: MlflowSource, hammer: Hammer, folder: Path) -> tuple[dict[str, Any], FolderTree]:
    """A cut, tried again as often as something moved under it, which an operation does a few times and then the schedule."""
    for number in range(TRIES):
        hammer.clears_up.set() if number < CLEARED_UP else hammer.clears_up.clear()
        try:
            with source.capture(None) as captured:
                tree = FolderTree(folder / str(number)).store(captured.files())
                captured.confirm()
                return captured.details(), tree
        except SourceChanged:
            time.sleep(0.05)
    raise AssertionError("nothing ever rested")


def rows(tree: FolderTree, table: str) -> list[dict[str, Any]]:
    schema = json.loads(tree.read(tree.entry("schema.json")))
    names = next([c["name"] for c in t["columns"]] for t in schema["tables"] if t["name"] == table)
    lines = tree.read(tree.entry(f"tables/{table}.jsonl")).decode().split("\n")[:-1]
    return [dict(zip(names, json.loads(line), strict=True)) for line in lines]


def dangling(tree: FolderTree, root: Path) -> list[str]:
    """Whatever names something that is not in the cut."""
    files = {entry.path for entry in tree.entries()}
    runs = {row["run_uuid"]: row for row in rows(tree, "runs")}
    versions = {row["version"]: row for row in rows(tree, "model_versions")}
    living = {n: row for n, row in versions.items() if row["current_stage"] != "Deleted_Internal"}
    found = [f"param of {row['run_uuid']}" for row in rows(tree, "params") if row["run_uuid"] not in runs]
    found += [
        f"alias to {row['version']}" for row in rows(tree, "registered_model_aliases") if row["version"] not in living
    ]
    for number, row in living.items():
        found += [] if row["run_id"] in runs else [f"run of version {number}"]
        below = f"artifacts/{Path(row['source']).relative_to(root)}"
        found += [f"{name} of {number}" for name in ("MLmodel", "weights.bin") if f"{below}/{name}" not in files]
    return found


def test_no_cut_names_what_it_has_not(store: str, tmp_path: Path) -> None:
    """On each engine: versions have all their files and their run, aliases their version, parameters their run; and cuts go on."""
    root = tmp_path / "artifacts"
    hammer, source = Hammer(store, root), MlflowSource("w", store, str(root))
    for _ in range(4):
        hammer.cycle()
    seen = []
    with hammer.at_work():
        for number in range(CUTS):
            before = hammer.cycles
            details, tree = cut(source, hammer, tmp_path / f"cut{number}")
            assert dangling(tree, root) == []
            seen.append(max(details["models"]["m"]["versions"]))
            assert before - 1 <= seen[-1] <= hammer.cycles
            while hammer.cycles == before and hammer.failure is None:
                time.sleep(0.01)
    assert seen == sorted(seen)
    assert seen[-1] > seen[0]
