"""Restores that are killed: the next one finds its way free, and nothing of the first is left."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dvc_repositories import Repository
from fakes_dataset_tree import take
from fakes_trees import FolderTree
from killed import killed_at
from muster.adapters.configuration import ConfigurationSource, ConfigurationTarget
from muster.adapters.dvc_datasets import DvcSource, DvcTarget
from muster.adapters.mlflow_registry import MlflowTarget
from muster.errors import TargetNotEmpty
from registry_seed import Captured


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("event", "part"),
    [("os.mkdir", "sub"), ("os.rename", "/0"), ("sqlite3.connect", "new.db")],
    ids=["artifacts are written", "artifacts are moved", "artifacts are there and tables are not"],
)
@pytest.mark.parametrize("existed", [False, True], ids=["new root", "empty root"])
def test_registry_restores_after_a_kill(
    captured: Captured, tmp_path: Path, event: str, part: str, existed: bool
) -> None:
    """Artifacts of a killed restore are no content: a plan passes them by, the next restore removes them."""
    details, tree = captured
    root = tmp_path / "site" / "artifacts"
    if existed:
        root.mkdir(parents=True)
    target = MlflowTarget(f"sqlite:///{tmp_path}/site/new.db", str(root))
    killed_at(
        event,
        lambda *given: any(str(one).endswith(part) or part in str(one) for one in given),
        lambda: target.restore(details, tree),
    )
    assert names(root)
    target.check(details)
    assert (
        MlflowTarget(f"sqlite:///{tmp_path}/site/new.db", str(root)).restore(details, tree)["artifacts"]
        == details["artifacts"]
    )
    assert names(root) == ["0"]


def test_what_somebody_touched_after_a_kill_is_not_removed(captured: Captured, tmp_path: Path) -> None:
    """Artifacts that a killed restore put in place, and somebody then added to, are content like any other."""
    details, tree = captured
    target = MlflowTarget(f"sqlite:///{tmp_path}/new.db", str(tmp_path / "new"))
    killed_at("sqlite3.connect", lambda file: "new.db" in str(file), lambda: target.restore(details, tree))
    time.sleep(0.02)
    (tmp_path / "new" / "0" / "precious").write_text("x")
    for attempt in (lambda: target.check(details), lambda: target.restore(details, tree)):
        with pytest.raises(TargetNotEmpty, match="artifact root"):
            attempt()
    assert (tmp_path / "new" / "0" / "precious").read_text() == "x"


def test_configuration_restores_after_a_kill(tmp_path: Path) -> None:
    """Secrets of a killed restore do not stay in a hidden folder."""
    (tmp_path / "live").mkdir()
    (tmp_path / "live" / "a.yaml").write_text("a: 1\n")
    with ConfigurationSource("w", tmp_path / "live", ["*.yaml"], [], {"conn:x": "s3cret"}).capture(None) as cut:
        tree, details = FolderTree(tmp_path / "tree").store(cut.files()), dict(cut.details())
    target = ConfigurationTarget(tmp_path / "site" / "configuration")
    killed_at("os.rename", lambda *given: "configuration" in str(given[1]), lambda: target.restore(details, tree))
    assert [name for name in names(tmp_path / "site") if name.endswith(".d")]
    target.check(details)
    target.restore(details, tree)
    assert names(tmp_path / "site") == ["configuration"]


@pytest.mark.parametrize("moved", [0, 1], ids=["nothing is moved", "the remote is moved and the repository is not"])
def test_dataset_restores_after_a_kill(plain_repository: Repository, tmp_path: Path, moved: int) -> None:
    """A remote that a killed restore put in place does not bar the way."""
    tree, details = take(DvcSource("flights", plain_repository.root))
    site = tmp_path / "site"
    target = DvcTarget("flights", site / "back")
    last = ("back.remote", "back")[moved]
    killed_at("os.rename", lambda *given: str(given[1]) == str(site / last), lambda: target.restore(details, tree))
    assert (site / "back.remote").exists() == bool(moved)
    target.check(details)
    target.restore(details, tree)
    assert names(site) == ["back", "back.remote"]
