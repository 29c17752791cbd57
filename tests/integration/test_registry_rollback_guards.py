"""What keeps a rollback from promising what a point has not, from moving anything unrecorded, and from stopping others."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from artifact_buckets import S3Bucket
from fakes_trees import FolderTree
from muster.adapters.mlflow_merge import MlflowMerge
from muster.adapters.mlflow_merge_files import LocalAdding
from muster.adapters.mlflow_rows import Column, Table, rows_of
from muster.domain.merge_plan import MergePlan
from muster.domain.selection import Wanted
from muster.errors import Refused
from muster.operations.rollback import roll_back
from muster.vault.vault import Vault
from postgres import Cluster
from registry_platform import platform_of
from registry_seed import SmallStore, capture, driven, fill
from servers import S3Server

CHAMPION = [Wanted("delay", "champion")]
MLMODEL = "flavors: {}\nmodel_size_bytes: 7\n"


def version(store: SmallStore, model: str, number: int) -> Path:
    """A version with a run, an `MLmodel` and seven bytes of weights."""
    folder = store.add_run(f"{model}{number}") / "model"
    folder.mkdir(parents=True)
    (folder / "MLmodel").write_text(MLMODEL)
    (folder / "weights.bin").write_text("weights")
    store.add_version(model, number, str(folder), f"{model}{number}")
    return folder


def point_alias(store: SmallStore, alias: str, number: int) -> None:
    store.execute("DELETE FROM registered_model_aliases WHERE alias = ?", alias)
    store.execute(
        "INSERT INTO registered_model_aliases (workspace, name, alias, version) VALUES ('default', 'delay', ?, ?)",
        alias,
        number,
    )


def champion(store: SmallStore) -> int:
    ((number,),) = store.execute("SELECT version FROM registered_model_aliases WHERE alias = 'champion'")
    return int(number)


# --- points that lack artifacts ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lossy:
    """
    A registry and a point that lacks the artifacts of the version that was the champion then; another one is now.

    :param lost: the folder where they were
    """

    store: SmallStore
    details: dict[str, Any]
    tree: FolderTree
    lost: Path

    @property
    def merge(self) -> MlflowMerge:
        return MlflowMerge(self.store.url, str(self.store.artifacts))

    def plan(self, *wanted: Wanted) -> MergePlan:
        return self.merge.plan(self.details, self.tree, wanted)


@pytest.fixture
def lossy(small_store: SmallStore, tmp_path: Path) -> Lossy:
    version(small_store, "delay", 1)
    lost = version(small_store, "delay", 2)
    point_alias(small_store, "champion", 2)
    point_alias(small_store, "safe", 1)
    shutil.rmtree(lost)
    details, tree = capture(small_store.url, str(small_store.artifacts), tmp_path / "tree", incomplete=True)
    point_alias(small_store, "champion", 1)
    point_alias(small_store, "safe", 2)
    return Lossy(small_store, details, tree, lost)


def test_no_alias_moves_to_a_version_whose_artifacts_the_point_lacks(lossy: Lossy) -> None:
    """No rule lets that pass: the name would lead to a model that cannot be loaded."""
    (conflict,) = lossy.plan(*CHAMPION).conflicts
    what = "version 2 of model delay of run delay2 was missing at the point"
    assert (conflict.where, conflict.id, conflict.what) == ("artifacts", str(lossy.lost), what)
    with pytest.raises(Refused, match="was missing at the point"):
        lossy.merge.merge(lossy.details, lossy.tree, CHAMPION, "keep")
    assert champion(lossy.store) == 1


def test_another_version_of_that_point_comes_back(lossy: Lossy) -> None:
    """What is lost of one version does not stop the others."""
    assert lossy.plan(Wanted("delay", "safe")).conflicts == ()


@pytest.mark.parametrize(("weights", "whole"), [("weights", True), ("weig", False), (None, False)])
def test_what_the_point_lacked_may_be_there_again(lossy: Lossy, weights: str | None, whole: bool) -> None:
    """Whole, it is as good as it was; cut short or in part, it is not."""
    lossy.lost.mkdir(parents=True)
    (lossy.lost / "MLmodel").write_text(MLMODEL)
    if weights:
        (lossy.lost / "weights.bin").write_text(weights)
    assert (lossy.plan(*CHAMPION).conflicts == ()) is whole


def test_files_of_which_nothing_is_known_do_not_count_as_whole(lossy: Lossy) -> None:
    """Neither an `MLmodel` nor a size to hold them to."""
    lossy.lost.mkdir(parents=True)
    (lossy.lost / "notes.txt").write_text("n")
    assert lossy.plan(*CHAMPION).conflicts


# --- what may be there besides ----------------------------------------------------------------------------------------


def test_what_loading_leaves_beside_code_is_no_conflict(small_store: SmallStore, tmp_path: Path) -> None:
    """Python keeps what it made of a model's code beside it; of code that the point has not, that is a file like others."""
    folder = version(small_store, "delay", 1)
    (folder / "code").mkdir()
    (folder / "code" / "helper.py").write_text("")
    point_alias(small_store, "champion", 1)
    details, tree = capture(small_store.url, str(small_store.artifacts), tmp_path / "tree")
    (folder / "code" / "__pycache__").mkdir()
    for name in ("helper", "other"):
        (folder / "code" / "__pycache__" / f"{name}.cpython-311.pyc").write_text(name)
    (conflict,) = MlflowMerge(small_store.url, str(small_store.artifacts)).plan(details, tree, CHAMPION).conflicts
    assert conflict.id.endswith("other.cpython-311.pyc")


def test_a_run_may_log_more_beside_its_model(small_store: SmallStore, tmp_path: Path) -> None:
    """Also where the version names its run and not a folder: more notes are no conflict, and more in the model's folder is."""
    folder = version(small_store, "delay", 1)
    small_store.execute(
        "UPDATE model_versions SET source = 'runs:/delay1/model', storage_location = 'runs:/delay1/model'"
    )
    point_alias(small_store, "champion", 1)
    details, tree = capture(small_store.url, str(small_store.artifacts), tmp_path / "tree")
    merge = MlflowMerge(small_store.url, str(small_store.artifacts))
    (folder.parent / "notes.txt").write_text("later")
    assert merge.plan(details, tree, CHAMPION).conflicts == ()
    (folder / "more.bin").write_text("later")
    (conflict,) = merge.plan(details, tree, CHAMPION).conflicts
    assert (conflict.id, conflict.what) == (str(folder / "more.bin"), "was not there at the point")


@pytest.mark.parametrize(("status", "closed"), [(1, False), (2, True)])
def test_a_model_that_was_still_written_may_have_more_files_by_now(
    small_store: SmallStore, tmp_path: Path, status: int, closed: bool
) -> None:
    """A point may be taken while a run logs another model; unless a version names it, it is not held to what there was."""
    version(small_store, "delay", 1)
    point_alias(small_store, "champion", 1)
    folder = small_store.artifacts / "0" / "models" / "m-1" / "artifacts"
    folder.mkdir(parents=True)
    (folder / "first.bin").write_text("1")
    place = {"model_id": "m-1", "experiment_id": 0, "artifact_location": str(folder), "lifecycle_stage": "active"}
    fill(small_store.url, "logged_models", **place, source_run_id="delay1", status=status)
    fill(
        small_store.url,
        "inputs",
        source_type="RUN_OUTPUT",
        source_id="delay1",
        destination_type="MODEL_OUTPUT",
        destination_id="m-1",
    )
    details, tree = capture(small_store.url, str(small_store.artifacts), tmp_path / "tree")
    (folder / "MLmodel").write_text(MLMODEL)
    plan = MlflowMerge(small_store.url, str(small_store.artifacts)).plan(details, tree, CHAMPION)
    assert bool(plan.conflicts) is closed


def instead(path: Path, kind: str) -> None:
    """Let something of another kind lie at a path."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    if kind == "file":
        path.write_text("in the way")
    elif kind == "link":
        path.symlink_to("nowhere")
    else:
        (path / "deeper").mkdir(parents=True)
        if kind == "folder":
            (path / "deeper" / "file").write_text("in the way")


@pytest.mark.parametrize(
    ("place", "kind", "what", "keepable"),
    [
        ("artifacts/model/data", "file", "folder", False),
        ("artifacts/model/data/w.txt", "folder", "file", False),
        ("artifacts/model/data/w.txt", "empty folder", "file", False),
        ("artifacts/notes", "file", "folder", True),
        ("artifacts/notes/a.txt", "folder", "file", True),
        ("artifacts", "link", "folder", False),
        ("", "file", "folder", False),
    ],
)
def test_a_file_where_a_folder_was_is_told_before_anything_is_done(
    small_store: SmallStore, tmp_path: Path, place: str, kind: str, what: str, keepable: bool
) -> None:
    """So is the reverse, and whatever bars the way from above; what merely bars notes may be kept as it is."""
    folder = version(small_store, "delay", 1)
    for file in (folder / "data" / "w.txt", folder.parent / "notes" / "a.txt"):
        file.parent.mkdir()
        file.write_text(file.name)
    point_alias(small_store, "champion", 1)
    details, tree = capture(small_store.url, str(small_store.artifacts), tmp_path / "tree")
    merge = MlflowMerge(small_store.url, str(small_store.artifacts))
    at = folder.parent.parent / place
    instead(at, kind)
    conflicts = merge.plan(details, tree, CHAMPION).conflicts
    assert (conflicts[0].id, conflicts[0].what) == (str(at), f"is no {what} any more")
    assert {conflict.keepable for conflict in conflicts} == {keepable}
    with pytest.raises(Refused, match="any more"):
        merge.merge(details, tree, CHAMPION, "refuse")


def test_in_a_bucket_too_an_object_stands_for_a_file_or_for_a_folder(
    small_store: SmallStore, moto_s3: S3Server, tmp_path: Path
) -> None:
    """Whoever downloads both cannot have both; and an object more in a model's folder is one more file."""
    bucket = S3Bucket(moto_s3, moto_s3.make_bucket())
    small_store.add_run("r1", f"{bucket.location}/r1")
    small_store.add_version("delay", 1, f"{bucket.location}/r1/model", "r1")
    point_alias(small_store, "champion", 1)
    for name in ("model/MLmodel", "notes/a.txt", "log"):
        bucket.put(f"r1/{name}", b"1")
    details, tree = capture(small_store.url, bucket.address, tmp_path / "tree")
    for name in ("notes/a.txt", "log"):
        bucket.delete(f"r1/{name}")
    for name in ("model/more.bin", "notes", "log/1"):
        bucket.put(f"r1/{name}", b"2")
    conflicts = MlflowMerge(small_store.url, bucket.address).plan(details, tree, CHAMPION).conflicts
    assert {(c.id.removeprefix(f"{bucket.location}/r1/"), c.what, c.keepable) for c in conflicts} == {
        ("notes", "is no folder any more", True),
        ("log", "is no file any more", True),
        ("model/more.bin", "was not there at the point", False),
    }


def test_a_folder_that_appears_just_now_is_not_taken_for_a_file(tmp_path: Path) -> None:
    """To try again would not help, so it is refused."""
    prepared, final = tmp_path / "prepared", tmp_path / "final"
    prepared.write_text("w")
    final.mkdir()
    with pytest.raises(Refused, match="is to be a file, and a folder lies there"):
        LocalAdding(tmp_path)._place(prepared, final)


# --- points of chosen models ------------------------------------------------------------------------------------------


def test_a_model_that_a_point_has_in_part_is_not_told_as_the_whole(small_store: SmallStore, tmp_path: Path) -> None:
    """A point of one model has of another the version that the first was copied from."""
    version(small_store, "base", 1)
    version(small_store, "base", 2)
    small_store.add_version("delay", 1, "models:/base/1", "base1")
    details, tree = capture(small_store.url, str(small_store.artifacts), tmp_path / "tree", only=("delay",))
    assert details["models"]["base"]["versions"] == [1]
    merge = MlflowMerge(small_store.url, str(small_store.artifacts))
    assert merge.plan(details, tree, [Wanted("delay")]).conflicts == ()
    with pytest.raises(Refused, match="holds only what others need of base"):
        merge.plan(details, tree, [Wanted("base")])


# --- the record -------------------------------------------------------------------------------------------------------


def test_a_rollback_is_recorded_before_anything_changes(small_store: SmallStore, tmp_path: Path) -> None:
    """Who is killed after the commit has left a record of it; one that is refused at once has not begun."""
    version(small_store, "delay", 1)
    version(small_store, "delay", 2)
    point_alias(small_store, "champion", 2)
    platform = platform_of(tmp_path, small_store.url, small_store.artifacts)
    status = platform.snapshot(platform.catalog.workload("models"))
    vault: Vault = platform.vault("primary")
    point_alias(small_store, "champion", 1)

    def outcomes() -> list[str]:
        return [record.outcome for record in vault.audit() if record.action == "rollback"]

    seen: list[tuple[list[str], int]] = []

    class Watched(MlflowMerge):
        def merge(self, *arguments: Any) -> MergePlan:
            seen.append((outcomes(), champion(small_store)))
            return super().merge(*arguments)

    registry = Watched(small_store.url, str(small_store.artifacts))
    with pytest.raises(Refused):
        roll_back(vault, status, CHAMPION, registry, agreed="0" * 16)
    roll_back(vault, status, CHAMPION, registry)
    assert seen == [(["refused", "begun"], 1)]
    assert champion(small_store) == 2
    assert outcomes() == ["refused", "begun", "done"]


# --- others at work ---------------------------------------------------------------------------------------------------


def test_locked_rows_may_be_referred_to_and_not_changed(embedded_postgres: Cluster) -> None:
    """Training goes on and logs runs to an experiment that a rollback has locked; nobody deletes it meanwhile."""
    import sqlalchemy as sa
    from sqlalchemy.exc import OperationalError

    engine = sa.create_engine(driven(embedded_postgres.database()), poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE experiments (id INTEGER PRIMARY KEY, stage TEXT)")
        connection.exec_driver_sql("CREATE TABLE runs (id INTEGER PRIMARY KEY, of INTEGER REFERENCES experiments)")
        connection.exec_driver_sql("INSERT INTO experiments VALUES (1, 'active')")
    table = Table("experiments", (Column("id", "integer", False), Column("stage", "text", True)), ("id",))
    with engine.connect() as ours, engine.connect() as theirs:
        assert list(rows_of(ours, table, lock=True)) == [[1, "active"]]
        theirs.exec_driver_sql("SET lock_timeout = '1s'")
        theirs.exec_driver_sql("INSERT INTO runs VALUES (7, 1)")
        theirs.commit()
        for change in ("UPDATE experiments SET stage = 'deleted'", "DELETE FROM experiments"):
            with pytest.raises(OperationalError, match="lock timeout"):
                theirs.exec_driver_sql(change)
            theirs.rollback()
