"""Artifacts of equal size and time are not believed for ever."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fakes_trees import FolderTree
from muster.adapters import mlflow_known, mlflow_registry, rereading
from muster.adapters.mlflow_artifacts import Artifact, LocalFolder
from muster.adapters.mlflow_registry import MlflowSource
from muster.errors import SourceInvalid
from registry_seed import SmallStore


def test_every_file_is_due_on_one_day_of_a_round() -> None:
    """No path is forgotten, and a day's share is about its part of all."""
    days = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=n) for n in range(rereading.DAYS)]
    paths = [f"artifacts/{n}" for n in range(3000)]
    shares = [{path for path in paths if rereading.due(path, day)} for day in days]
    assert sum(len(share) for share in shares) == len(set().union(*shares)) == 3000
    assert all(50 <= len(share) <= 160 for share in shares)


@pytest.mark.parametrize("due", [True, False])
def test_artifact_that_changed_unseen_is_found_on_its_day(
    small_store: SmallStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, due: bool
) -> None:
    """
    The snapshot of that day reads it and fails; on other days the good content of the point before is carried on.

    A disk that rots tells no ctime; here that is left out, since nobody can set it.
    """
    plain = LocalFolder._artifact

    def timeless(folder: LocalFolder, *where: Any) -> Artifact:
        return replace(plain(folder, *where), version="", ctime_ns=0)

    monkeypatch.setattr(LocalFolder, "_artifact", timeless)
    folder = small_store.add_run("r1")
    folder.mkdir(parents=True)
    file = folder / "model.bin"
    file.write_bytes(b"good")
    os.utime(file, (1_000_000_000, 1_000_000_000))
    source = MlflowSource("w", small_store.url, str(small_store.artifacts))
    with source.capture(None) as cut:
        first = FolderTree(tmp_path / "first").store(cut.files())
    monkeypatch.setattr(mlflow_registry, "due", lambda _path, _at: due)
    second = FolderTree(tmp_path / "second")
    with source.capture(first) as cut:
        second.store(cut.files())
    assert ("artifacts/0/r1/artifacts/model.bin" in second.opened) == due
    file.write_bytes(b"evil")
    os.utime(file, (1_000_000_000, 1_000_000_000))
    with source.capture(first) as cut:
        if due:
            with pytest.raises(SourceInvalid, match=r"model\.bin"):
                FolderTree(tmp_path / "third").store(cut.files())
        else:
            third = FolderTree(tmp_path / "third").store(cut.files())
            path = "artifacts/0/r1/artifacts/model.bin"
            assert third.entry(path).content == first.entry(path).content
            assert path not in third.opened


@pytest.mark.parametrize("run", ["in_place", "anew"])
def test_an_artifact_that_was_replaced_is_read_whatever_its_time(
    small_store: SmallStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: str
) -> None:
    """MLflow gives what it logs the time of the file that it copies, and weights of one architecture have one size."""
    from mlflow import MlflowClient

    monkeypatch.setattr(mlflow_registry, "due", lambda _path, _at: False)
    monkeypatch.setattr(mlflow_known, "SETTLED", 0.0)
    stored = small_store.add_run(run) / "weights.bin"
    weights, source = tmp_path / "weights.bin", MlflowSource("w", small_store.url, str(small_store.artifacts))

    def log(content: bytes) -> None:
        weights.write_bytes(content)
        os.utime(weights, (315_532_800, 315_532_800))
        MlflowClient(small_store.url).log_artifact(run, str(weights))

    log(b"old")
    with source.capture(None) as cut:
        first = FolderTree(tmp_path / "first").store(cut.files())
    with source.capture(first) as cut:
        same = FolderTree(tmp_path / "same").keep(first).store(cut.files())
    path = f"artifacts/0/{run}/artifacts/weights.bin"
    assert path not in same.opened
    with source.capture(same) as cut:
        FolderTree(tmp_path / "second").keep(same).store(cut.files())
        if run == "anew":
            stored.unlink()
        log(b"new")
    with source.capture(same) as cut:
        third = FolderTree(tmp_path / "third").store(cut.files())
        cut.confirm()
    assert third.read(third.entry(path)) == b"new"
