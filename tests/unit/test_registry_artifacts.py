"""Artifact folders on disk: nothing that cannot be read is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from muster.adapters.mlflow_artifacts import LocalFolder
from muster.errors import SourceInvalid
from permissions import modes_bind


@pytest.mark.parametrize("mode", [0o000, 0o444], ids=["closed", "not entered"])
@pytest.mark.parametrize("named", ["models", "models/m-1", "models/m-1/MLmodel"])
def test_unreadable_artifact_folder_is_refused(tmp_path: Path, named: str, mode: int) -> None:
    """A folder that we may not read or enter is named, wherever below the asked ones it lies."""
    folder = tmp_path / "models" / "m-1"
    folder.mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}\n")
    assert [artifact.path for artifact in LocalFolder(tmp_path).below([named])] == ["models/m-1/MLmodel"]
    folder.chmod(mode)
    with modes_bind(), pytest.raises(SourceInvalid, match=r"models/m-1.* cannot be read"):
        list(LocalFolder(tmp_path).below([named]))


@pytest.mark.parametrize("named", ["models//m-1", "./models/m-1/", "models/./m-1", ""])
def test_a_path_is_the_same_however_it_is_written(tmp_path: Path, named: str) -> None:
    """Locations in a store come from people and scripts; a tree has one name for each file."""
    (tmp_path / "models" / "m-1" / "data").mkdir(parents=True)
    (tmp_path / "models" / "m-1" / "MLmodel").write_text("flavors: {}\n")
    found = [(artifact.path, artifact.kind) for artifact in LocalFolder(tmp_path).below([named])]
    assert found == [("models/m-1/MLmodel", "file"), ("models/m-1/data", "dir")]


def test_a_link_to_a_folder_above_is_refused(tmp_path: Path) -> None:
    """It would have no end; a link to another folder is followed."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "file").touch()
    (tmp_path / "a" / "b" / "beside").symlink_to(tmp_path / "beside")
    assert [artifact.path for artifact in LocalFolder(tmp_path).below(["a"])] == ["a/b/beside/file"]
    (tmp_path / "a" / "b" / "up").symlink_to("..")
    with pytest.raises(SourceInvalid, match="links to a folder above itself"):
        list(LocalFolder(tmp_path).below(["a"]))
