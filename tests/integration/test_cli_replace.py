"""Restore into what is there: leave what is whole, replace what is not, put it back, discard it; by the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fakes_dataset_tree import take
from muster.adapters.dvc_datasets import DvcSource
from protected_project import ALONE, UNPROVEN, Project, contents, sealed_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a vault, and one point in it."""
    return sealed_project(tmp_path_factory.mktemp("project"))


def restore(project: Project, back: Path, *more: str) -> Any:
    return project.ask("restore", "latest", "-w", "small", "--to", f"{back}", *UNPROVEN, *ALONE, *more)


def effects(project: Project, back: Path, *more: str) -> dict[str, str]:
    plan = project.ask("plan", "latest", "-w", "small", "--to", f"{back}", *UNPROVEN, *more)
    return {action["component"]: action["effect"] for action in plan["actions"]}


def audit(project: Project) -> list[dict[str, Any]]:
    (vault,) = project.ask("audit", "verify", "--last", "1000")["audit"]
    records: list[dict[str, Any]] = vault["last"]
    return records


def test_a_second_restore_does_only_what_is_left(project: Project, tmp_path: Path) -> None:
    """What is there, whole and equal, is not touched; what is missing is made."""
    back = tmp_path / "back"
    restore(project, back)
    inode = (back / "datasets/numbers/.dvc").stat().st_ino
    lost = back / "configuration"
    for path in sorted(lost.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    assert effects(project, back) == {"dataset/numbers": "keep", "configuration/small": "create"}
    report = restore(project, back)
    assert report["summary"]["passed"] is True
    assert (back / "configuration/conf/service.yaml").read_text() == "late_minutes: 15\n"
    assert (back / "datasets/numbers/.dvc").stat().st_ino == inode


def test_what_is_there_is_moved_aside_put_back_and_discarded(project: Project, tmp_path: Path) -> None:
    """A changed byte is noticed; replaced, it is kept beside; undone, it is back; discarded, it is gone for ever."""
    back = tmp_path / "back"
    restore(project, back)
    data = back / "datasets/numbers/data"
    (data / "mine.csv").write_text("made after the restore\n")
    damaged = contents(back)
    refused = project.refuse("restore", "latest", "-w", "small", "--to", f"{back}", *UNPROVEN, *ALONE)
    assert refused["kind"] == "TargetNotEmpty"
    assert "moved aside" in refused["hint"]
    assert effects(project, back, "--replace") == {"dataset/numbers": "replace", "configuration/small": "keep"}
    restore(project, back, "--replace")
    assert contents(data) == contents(project.root / "numbers/data")
    (kept,) = project.ask("discard", "small", "--list")
    (part,) = kept["parts"]
    assert (part["component"], part["path"], part["where"]) == ("dataset/numbers", "", f"{back}/datasets/numbers")
    undone = project.ask("undo", "small", "--reason", "it was mine")
    assert undone["stamp"] == kept["stamp"]
    aside = [path for path in (back / "datasets").iterdir() if ".undone-" in path.name]
    assert len(aside) == 2
    for path in aside:
        path.rename(tmp_path / path.name)
    assert contents(back) == damaged
    assert project.refuse("undo", "small", "--reason", "again")["kind"] == "NotFound"
    restore(project, back, "--replace")
    assert project.run("discard", "small", "--reason", "not needed").returncode == 2
    project.ask("discard", "small", "--reason", "not needed", "--yes")
    assert {path.name for path in (back / "datasets").iterdir()} == {"numbers", "numbers.remote"}
    told = [(r["action"], r["outcome"]) for r in audit(project) if r["action"] in ("set aside", "undo", "discard")]
    replaced, undone, discarded = ("set aside", "begun"), ("undo", "done"), ("discard", "done")
    assert [entry for entry in told if entry[1] == "done" or entry[0] == "set aside"] == [
        *(replaced, undone),
        *(replaced, discarded),
    ]


def test_nothing_is_undone_at_another_place_than_it_was_moved_aside(project: Project) -> None:
    """The catalog was changed since: undo and discard are refused, and touch nothing; with the earlier place they go."""
    catalog = project.root / "include/catalog/workloads/small.yaml"
    then, now = project.root / "standby/configuration", project.root / "moved/configuration"
    then.mkdir(parents=True)
    (then / "mine").write_text("kept by hand")
    asked = ("restore", "latest", "-w", "small", "--to", "standby", "--only", "configuration", "--replace")
    project.ask(*asked, *UNPROVEN, *ALONE)
    (aside,) = then.parent.glob("configuration.before-*")
    before, text = contents(then.parent), catalog.read_text()
    catalog.write_text(text.replace("directory: standby", "directory: moved"))
    for command in (("undo",), ("discard", "--yes")):
        refused = project.refuse(command[0], "small", *command[1:], "--reason", "it was mine")
        assert (refused["kind"], refused["exit_code"]) == ("Refused", 6)
        assert f"moved aside at {then}, and the catalog names {now} now" in refused["message"]
    assert contents(then.parent) == before
    catalog.write_text(text)
    assert project.ask("undo", "small", "--reason", "it was mine")["stamp"] == aside.name.rpartition("-")[2]
    assert contents(then) == {"mine": b"kept by hand"}


def test_one_path_comes_back_alone(project: Project, tmp_path: Path) -> None:
    """A file, and a folder; a path that the point does not have is refused before anything is made."""
    numbers = project.root / "numbers"
    wanted = min(path.relative_to(numbers) for path in (numbers / "data").rglob("*.csv"))
    report = restore(project, tmp_path / "file", "--only", f"dataset/numbers/{wanted}")
    assert contents(tmp_path / "file/datasets/numbers") == {
        str(wanted): (project.root / "numbers" / wanted).read_bytes()
    }
    assert (report["components"][0]["files"], report["validations"]) == (1, [])
    restore(project, tmp_path / "folder", "--only", "configuration/small/conf")
    assert (tmp_path / "folder/configuration/conf/service.yaml").read_text() == "late_minutes: 15\n"
    assert not (tmp_path / "folder/configuration/secrets.json").exists()
    refused = project.refuse(
        "restore",
        "latest",
        "-w",
        "small",
        "--to",
        f"{tmp_path}/no",
        *UNPROVEN,
        *ALONE,
        "--only",
        "dataset/numbers/gone",
    )
    assert (refused["kind"], refused["exit_code"]) == ("NotFound", 4)
    assert not (tmp_path / "no").exists()


def test_what_a_path_replaces_does_not_get_into_the_dataset(project: Project, tmp_path: Path) -> None:
    """It lies where DVC does not look, so that the dataset can be captured; undone and discarded, nothing of it is left."""
    back = tmp_path / "back"
    restore(project, back)
    numbers = back / "datasets/numbers"
    (name,) = [path.relative_to(numbers) for path in sorted((numbers / "data").rglob("*.csv"))][:1]
    (numbers / name).write_text("mine\n")
    restore(project, back, "--only", f"dataset/numbers/{name}", "--replace")
    (aside,) = (numbers / ".dvc/tmp/muster").rglob("*.before-*")
    assert aside.read_text() == "mine\n"
    take(DvcSource("numbers", numbers))
    project.ask("undo", "small", "--reason", "it was mine")
    assert (numbers / name).read_text() == "mine\n"
    (undone,) = (numbers / ".dvc/tmp/muster").rglob("*.undone-*")
    undone.replace(numbers / name)
    take(DvcSource("numbers", numbers))


def test_the_glass_is_broken_only_with_a_reason_or_a_second_holder(project: Project, tmp_path: Path) -> None:
    """Who restored, on which plan and why, or with whom, stands in the audit trail; the same key is no second one."""
    ask = ("restore", "latest", "-w", "small", "--to", f"{tmp_path}/back", *UNPROVEN)
    refused = project.refuse(*ask)
    assert (refused["kind"], refused["exit_code"]) == ("Refused", 6)
    assert "--reason" in refused["hint"]
    (tmp_path / "same").write_text("correct horse battery staple\n")
    assert "opened the vault already" in project.refuse(*ask, "--second-key", f"{tmp_path}/same")["message"]
    assert not (tmp_path / "back").exists()
    plan = project.ask("plan", *ask[1:])
    other = "0" * 64
    assert "not the approved one" in project.refuse(*ask, *ALONE, "--plan", other)["message"]
    project.ask(*ask, "--second-key", str(project.recovery_key), "--plan", plan["digest"])
    record = next(r for r in reversed(audit(project)) if r["action"] == "approve")
    assert record["details"]["plan"] == plan["digest"]
    assert record["details"]["how"] == "break-glass"
    assert record["details"]["decided_by"] == "recovery"


def test_an_unverified_point_is_refused_until_it_is_verified(project: Project, tmp_path: Path) -> None:
    """The hint says what to do; after it `verified` finds the point, and no override is needed."""
    project.ask("snapshot", "small")
    latest = project.ask("points", "small")[-1]["point"]["point"]
    refused = project.refuse("restore", latest, "--to", f"{tmp_path}/back", *ALONE)
    assert refused["exit_code"] == 6
    assert "neither verified nor drilled" in refused["message"]
    project.ask("verify", latest)
    report = project.ask("restore", "verified", "-w", "small", "--to", f"{tmp_path}/back", *ALONE)
    assert report["point"] == latest
    early = project.refuse(
        "restore", "verified", "-w", "small", "--to", f"{tmp_path}/x", *ALONE, "--before", "2020-01-01"
    )
    assert early["kind"] == "NotFound"
