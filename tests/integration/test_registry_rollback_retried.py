"""A rollback that others have approved, tried again after it was killed: it ends well, and never does what was not approved."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from killed import killed_at
from muster.adapters.mlflow_merge import MlflowMerge
from muster.bootstrap import Platform
from muster.domain.merge_plan import RollbackPlan
from muster.domain.recovery_point import PointStatus
from muster.domain.selection import Wanted
from muster.errors import Refused
from muster.operations.rollback import plan_rollback, roll_back_approved
from muster.vault.audit import AuditRecord
from muster.vault.vault import Vault
from protected_project import contents
from registry_platform import platform_of
from registry_seed import SmallStore, capture, content

RUN, WHY = "rollback__models manual__1", "bad answers since noon"
CHAMPION = [Wanted("delay", "champion")]


@dataclass(frozen=True)
class Harmed:
    """
    A registry of which a point was taken, and then the champion moved, and files and a parameter of it lost.

    :param whole: rows and files at the point
    """

    store: SmallStore
    platform: Platform
    status: PointStatus
    whole: tuple[Any, dict[str, bytes]]

    @property
    def vault(self) -> Vault:
        return self.platform.vault("primary")

    @property
    def audit(self) -> Path:
        return Path(self.vault.url.removeprefix("file://")) / "audit"

    @property
    def state(self) -> tuple[Any, dict[str, bytes]]:
        return content(self.store.url), contents(self.store.artifacts)

    @property
    def plan(self) -> RollbackPlan:
        return plan_rollback(self.vault, self.status, CHAMPION, self.registry, reason=WHY)

    @property
    def registry(self) -> MlflowMerge:
        return MlflowMerge(self.store.url, str(self.store.artifacts))

    def apply(self, plan: RollbackPlan, *running: str, run: str = RUN) -> None:
        roll_back_approved(self.vault, self.status, CHAMPION, self.registry, plan, run, running)

    def point(self, version: int) -> None:
        self.store.execute("UPDATE registered_model_aliases SET version = ?", version)

    def trail(self) -> list[AuditRecord]:
        return [record for record in self.vault.audit() if record.action == "rollback"]


@pytest.fixture
def harmed(small_store: SmallStore, tmp_path: Path) -> Harmed:
    for number in (1, 2):
        folder = small_store.add_run(f"run{number}") / "model"
        folder.mkdir(parents=True)
        (folder / "MLmodel").write_text("flavors: {}\n")
        (folder / "weights.bin").write_bytes(bytes([number]) * 1000)
        small_store.add_version("delay", number, str(folder), f"run{number}")
    small_store.execute(
        "INSERT INTO registered_model_aliases (workspace, name, alias, version) VALUES ('default', 'delay', 'champion', 2)"
    )
    small_store.execute("INSERT INTO params (key, value, run_uuid) VALUES ('depth', '7', 'run2')")
    platform = platform_of(tmp_path, small_store.url, small_store.artifacts)
    status = platform.snapshot(platform.catalog.workload("models"))
    whole = content(small_store.url), contents(small_store.artifacts)
    made = Harmed(small_store, platform, status, whole)
    made.point(1)
    small_store.execute("DELETE FROM params")
    shutil.rmtree(small_store.artifacts / "0" / "run2")
    return made


def killed_at_link(harmed: Harmed, folder: Path, number: int, plan: RollbackPlan) -> None:
    """By SIGKILL, right before the file of this number appears in a folder, counted from 1."""
    seen: list[str] = []

    def due(_: Any, path: Any, *rest: Any) -> bool:
        if Path(os.fsdecode(path)).is_relative_to(folder):
            seen.append(str(path))
        return len(seen) == number

    killed_at("os.link", due, lambda: harmed.apply(plan))


def test_killed_after_the_commit_it_tells_what_was_done(harmed: Harmed) -> None:
    """The second try finds nothing to do, changes nothing, and records the approved plan as done; the third does not even that."""
    plan = harmed.plan
    killed_at_link(harmed, harmed.audit, 2, plan)  # the record that it is done
    assert harmed.state == harmed.whole
    assert [record.outcome for record in harmed.trail()] == ["begun"]
    assert harmed.plan.digest != plan.digest
    harmed.apply(plan)
    assert harmed.state == harmed.whole
    assert [record.outcome for record in harmed.trail()] == ["begun", "done"]
    done = harmed.trail()[-1].details
    assert (done["plan"], done["run"], done["reason"]) == (plan.digest, RUN, WHY)
    assert done["aliases"] == ["delay@champion: 1 → 2"]
    assert done["artifacts"] == {"add": 2, "size": 1012, "equal": 0}
    harmed.apply(plan)
    assert len(harmed.trail()) == 2
    harmed.point(1)
    with pytest.raises(Refused, match="this was done, and delay@champion has changed since"):
        harmed.apply(plan)


@pytest.mark.parametrize("there", [1, 2])
def test_killed_before_the_rows_the_rest_is_done(harmed: Harmed, there: int) -> None:
    """Files are there, some or all, and no row is: the plan drawn again has fewer to add, and is still the approved one."""
    plan, rows = harmed.plan, harmed.state[0]
    if there == 1:
        killed_at_link(harmed, harmed.store.artifacts / "0" / "run2", 2, plan)
    else:
        last = harmed.store.artifacts / "0" / "run2" / "artifacts" / "model" / "weights.bin"
        killed_at("sqlite3.connect", lambda *_: last.exists(), lambda: harmed.apply(plan))
    assert harmed.state[0] == rows
    left = harmed.plan.merge.artifacts
    assert (left.add, left.equal) == (2 - there, there)
    harmed.apply(plan)
    assert harmed.state == harmed.whole
    assert [record.outcome for record in harmed.trail()] == ["begun", "begun", "done"]


def test_what_a_killed_rollback_left_in_a_models_folder_is_no_part_of_it(
    small_store: SmallStore, tmp_path: Path
) -> None:
    """Where a version lies outside the artifact root, files are prepared in its own folder; the next run removes what is left of that."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "MLmodel").write_text("flavors: {}\n")
    (folder / "weights.bin").write_bytes(b"weights")
    small_store.add_version("delay", 1, str(folder))
    small_store.execute(
        "INSERT INTO registered_model_aliases (workspace, name, alias, version) VALUES ('default', 'delay', 'champion', 1)"
    )
    details, tree = capture(small_store.url, str(small_store.artifacts), tmp_path / "tree")
    whole = contents(folder)
    (folder / "weights.bin").unlink()
    merge = MlflowMerge(small_store.url, str(small_store.artifacts))
    killed_at("os.link", lambda *_: True, lambda: merge.merge(details, tree, CHAMPION, "refuse"))
    assert [path for path in folder.iterdir() if path.name.startswith(".")]
    assert merge.plan(details, tree, CHAMPION).conflicts == ()
    merge.merge(details, tree, CHAMPION, "refuse")
    assert contents(folder) == whole


def test_artifacts_that_came_without_it_make_another_plan(harmed: Harmed) -> None:
    """Nothing was begun in this run, so what is there by now is nobody's half of it; nor is what another run has begun."""
    plan = harmed.plan
    (harmed.store.artifacts / "0" / "run2" / "artifacts" / "model").mkdir(parents=True)
    for name, found in harmed.whole[1].items():
        if "run2" in name:
            (harmed.store.artifacts / name).write_bytes(found)
    before = harmed.state
    for run in (RUN, "another run"):
        with pytest.raises(Refused, match="not the approved one any more"):
            harmed.apply(plan, run=run)
    assert harmed.state == before
    assert [record.outcome for record in harmed.trail()] == ["refused", "refused"]


def test_what_is_begun_goes_on_with_nothing_else(harmed: Harmed) -> None:
    """After the commit the alias was moved on, by somebody who knows why: a second try of the killed task does not move it back."""
    plan = harmed.plan
    killed_at_link(harmed, harmed.audit, 2, plan)  # the record that it is done
    harmed.point(1)
    before = harmed.state
    with pytest.raises(Refused, match="not the approved one any more"):
        harmed.apply(plan)
    assert harmed.state == before
    assert [record.outcome for record in harmed.trail()] == ["begun", "refused"]


def test_whatever_else_is_at_work_and_every_conflict_are_told_together(harmed: Harmed) -> None:
    """In one message; nothing is changed, and the record says it too."""
    plan = harmed.plan
    harmed.store.execute("UPDATE runs SET name = 'renamed' WHERE run_uuid = 'run2'")
    harmed.store.execute("UPDATE model_versions SET source = 'elsewhere' WHERE version = 2")
    before = harmed.state
    with pytest.raises(Refused) as refused:
        harmed.apply(plan, "a run of restore__models", "a run of undo__models")
    told = refused.value.message
    for part in ("a run of restore__models is", "a run of undo__models is", "runs run2: ", "model_versions delay/2: "):
        assert part in told
    assert harmed.state == before
    assert [(record.outcome, record.details["error"]) for record in harmed.trail()] == [("refused", told)]


def test_the_digest_is_that_of_all_that_is_approved(harmed: Harmed) -> None:
    """Another reason, a warning, a conflict or another target is another plan; the same one drawn again is not."""
    plan = harmed.plan
    assert harmed.plan.digest == plan.digest
    assert len(plan.digest) == 64
    others = [
        replace(plan, reason="another"),
        replace(plan, warnings=("the point is suspect",)),
        replace(plan, target="elsewhere"),
        replace(plan, rule="keep"),
        replace(plan, merge=replace(plan.merge, aliases=())),
    ]
    assert len({plan.digest, *(other.digest for other in others)}) == len(others) + 1
