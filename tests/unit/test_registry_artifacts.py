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
