"""Artifacts of equal size and time are not believed for ever."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fakes_trees import FolderTree
from muster.adapters import mlflow_registry, rereading
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
    """The snapshot of that day reads it and fails; on other days the good content of the point before is carried on."""
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
