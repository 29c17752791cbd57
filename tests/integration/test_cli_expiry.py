"""Expiry and holds by the command line, over a real vault."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from protected_project import RESTORE, WORKLOAD, Project, make_project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project of three points, all taken today."""
    project = make_project(tmp_path / "project")
    project.make_vault()
    for threshold in ("1", "2", "3"):
        project.ask("snapshot", "small", THRESHOLD=threshold)
    return project


def keep(project: Project, retention: str) -> None:
    """Give the workload a retention."""
    (project.root / "include/catalog/workloads/small.yaml").write_text(f"{WORKLOAD}retention: {{{retention}}}\n")


def names(project: Project) -> list[str]:
    """The points there are, oldest first."""
    return [status["point"]["point"] for status in project.ask("points")]


def test_points_expire_by_the_catalogs_retention_and_not_while_they_are_held(project: Project, tmp_path: Path) -> None:
    """Nothing goes without a retention, on a dry run or under a hold; what goes is told; what stays restores."""
    first, second, third = names(project)
    (before,) = project.ask("expire", "--apply")["expiry"]
    assert before["expired"] == 0
    keep(project, "last: 1")
    held = project.ask("hold", first, "--reason", "an audit")
    assert [mark["kind"] for mark in held["marks"]] == ["held"]

    dry = project.run("expire")
    assert dry.returncode == 0, dry.stderr
    assert "1 of 3 points would expire" in dry.stdout
    assert "--apply does it" in dry.stdout
    assert names(project) == [first, second, third]

    (done,) = project.ask("expire", "--apply")["expiry"]
    assert [(line["point"], line["keep"]) for line in done["points"]] == [(first, True), (second, False), (third, True)]
    assert "an audit" in "; ".join(done["points"][0]["reasons"])
    assert names(project) == [first, third]
    project.ask("verify", "--files")

    assert "held" in project.run("points").stdout
    project.ask("release", first, "--reason", "the audit is over")
    assert not re.search("held|released", project.run("points").stdout)
    assert project.ask("expire", "--apply")["expiry"][0]["expired"] == 1
    assert names(project) == [third]
    project.ask(
        *RESTORE,
        "-w",
        "small",
        "--to",
        f"{tmp_path}/back",
    )
    assert (tmp_path / "back/datasets/numbers/data/4.csv").read_bytes() == (
        project.root / "numbers/data/4.csv"
    ).read_bytes()


def test_what_cannot_be_done_is_refused(project: Project) -> None:
    """No reason, no hold to lift, a grace shorter than a snapshot may take, a workload that is kept elsewhere: nothing changes."""
    first, *_ = before = names(project)
    assert project.refuse("hold", first, "--reason", " ")["kind"] == "UsageError"
    assert project.refuse("release", first, "--reason", "why not")["kind"] == "UsageError"
    assert project.refuse("hold", "20990101T000000Z", "--reason", "x")["exit_code"] == 4
    assert project.run("expire", "--apply", "--grace-hours", "1").returncode == 2
    keep(project, "last: 1")
    (by_place,) = project.ask(
        "--vault", str(project.vault), "expire", "--apply", MUSTER_PASSPHRASE="correct horse battery staple"
    )["expiry"]
    assert by_place["expired"] == 0, "the catalog's retention is for the vault that it names"
    assert names(project) == before
