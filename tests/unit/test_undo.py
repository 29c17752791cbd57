"""What an undo plans, what its digest covers, and what a second try does; over a real vault in memory and folders on disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fakes import FrozenClock, MemoryStore
from muster import errors
from muster.adapters.path_target import PathTarget
from muster.domain.recovery_point import Component, PointStatus, RecoveryPoint
from muster.domain.restore_plan import Refusal
from muster.domain.restore_policy import Circumstances
from muster.domain.restore_request import RestoreRequest
from muster.domain.restore_target import RestoreTarget
from muster.domain.timing import stamp_of
from muster.domain.undo_plan import UndoPart, UndoPlan, UndoVerb
from muster.operations.restore import plan_restore, restore_component
from muster.operations.restore_job import RestoreJob
from muster.operations.undo import Replaced, choose, plan_undo, replaced, undo
from muster.ports import ComponentTarget
from muster.report.plan import undo_in_markdown
from muster.vault.vault import Vault
from protected_project import contents
from vaults import make_vault, store_tree

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RUN = "undo__air manual__1"
PART = UndoPart("dataset/a", "", "/srv/a", ("/srv/remote",), ("/srv/a.before-1",), ("/srv/a",))
PLAN = UndoPlan("air", "p", "1", "undo", "origin", NOON, "why", (PART,))


# --- the plan as a value ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        *(replace(PLAN, **{name: "x"}) for name in ("workload", "point", "stamp", "target", "reason")),
        replace(PLAN, verb="discard"),
        replace(PLAN, parts=()),
        *(replace(PLAN, parts=(replace(PART, **{name: "x"}),)) for name in ("component", "path", "where")),
        *(replace(PLAN, parts=(replace(PART, **{name: ("x",)}),)) for name in ("also", "aside")),
        replace(PLAN, refusals=(Refusal("dataset/a", "Refused", "no", ""),)),
    ],
)
def test_the_digest_covers_all_that_an_approval_is_for(other: UndoPlan) -> None:
    """Which restore, what is done, why, where, and what lies aside."""
    assert other.digest != PLAN.digest


def test_the_digest_does_not_change_with_what_is_only_shown() -> None:
    """What lies at the place now is moved aside or left, whatever it is."""
    shown = replace(PLAN, parts=(replace(PART, there=()),), warnings=("x",), set_aside_at=NOON + timedelta(1))
    assert shown.digest == PLAN.digest


def test_only_less_of_the_same_is_the_rest_of_a_plan() -> None:
    """Other places, or something aside that nobody has approved, are not."""
    assert replace(PLAN, parts=(replace(PART, aside=(), there=("/srv/a",)),)).is_rest_of(PLAN)
    assert not replace(PLAN, parts=(replace(PART, aside=(), there=()),)).is_rest_of(PLAN)  # somebody has taken it
    assert not replace(PLAN, parts=(replace(PART, aside=("/srv/a.undone-1",)),)).is_rest_of(PLAN)
    assert not replace(PLAN, parts=(replace(PART, where="/srv/b"),)).is_rest_of(PLAN)
    assert not replace(PLAN, parts=()).is_rest_of(PLAN)


def test_a_plan_of_nothing_is_refused_and_a_refused_one_says_all() -> None:
    """Everything at once, under the kind of the first."""
    with pytest.raises(errors.NotFound, match="is there any more"):
        replace(PLAN, parts=(replace(PART, aside=()),)).require_allowed()
    refusals = (Refusal("dataset/a", "Refused", "one", "hint"), Refusal("dataset/b", "NotFound", "two", ""))
    with pytest.raises(errors.Refused, match="dataset/a: one; dataset/b: two"):
        replace(PLAN, refusals=refusals).require_allowed()
    PLAN.require_allowed()


def test_what_people_are_shown_says_what_is_for_ever() -> None:
    """And who decides, why, which places; nothing that somebody wrote becomes a cell of its own."""
    text = undo_in_markdown(replace(PLAN, reason="a | b\n# c"), "ben", ["lead"])
    assert "comes back" in text
    assert "for ever" not in text
    assert all(part in text for part in ("**ben**", "Who decides: lead", "`/srv/a`, `/srv/remote`", "a \\| b # c"))
    assert "**delete for ever**" in undo_in_markdown(replace(PLAN, verb="discard"), "ben", [])


# --- over a restore that replaced something ---------------------------------------------------------------------------


class Killed(BaseException):
    """The worker is gone."""


@dataclass
class Desk:
    """A workload of two datasets that were restored in place of two folders, by one restore."""

    vault: Vault
    clock: FrozenClock
    status: PointStatus
    target: RestoreTarget

    def job_for(self, what: Replaced | None = None) -> RestoreJob:
        request = what.request if what else RestoreRequest("restore", self.clock.now(), replace=True)
        docs = Path("docs")
        return RestoreJob(self.status, self.target, request, self.target_of, lambda _: Circumstances(), docs)

    def target_of(self, component: Component, path: str = "") -> ComponentTarget:
        return PathTarget("dataset", path or "data", Path(self.target.datasets[component.name]))

    def replace(self) -> str:
        """Restore in place of what is there; returns the stamp."""
        stamp = stamp_of(self.clock.now())
        for action in plan_restore(self.vault, self.job_for()).actions:
            assert action.effect == "replace"
            restore_component(self.vault, self.job_for(), action, stamp, self.clock)
        return stamp

    def plan(self, verb: UndoVerb = "undo", stamp: str | None = None, running: tuple[str, ...] = ()) -> UndoPlan:
        found = replaced(self.vault, "air", verb)
        return choose(found, stamp, lambda what: plan_undo(what, verb, "why", self.job_for, running))

    def told(self, action: str) -> list[str]:
        return [record.outcome for record in self.vault.audit() if record.action == action]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    clock = FrozenClock()
    vault, _ = make_vault(MemoryStore(), clock)
    tree = store_tree(vault, {"data/data": b"captured"})
    parts = tuple(Component("dataset", name, tree, NOON, "test", {}) for name in ("a", "b"))
    point = RecoveryPoint(1, vault.id, "air", "p", NOON, NOON, None, parts, (), {"rpo_s": 1.0, "rto_s": 1.0}, {}, "0")
    places = {name: str(tmp_path / name) for name in ("a", "b")}
    for place in places.values():
        Path(place).write_bytes(b"old")
    return Desk(vault, clock, PointStatus(point, ()), RestoreTarget("origin", places))


def test_the_record_says_where_it_was_moved_aside(desk: Desk, tmp_path: Path) -> None:
    """And the plan names each place, what comes back, and what is there now."""
    stamp = desk.replace()
    (what,) = replaced(desk.vault, "air", "undo")
    assert [(part.component, part.where) for part in what.parts] == [
        (f"dataset/{name}", str(tmp_path / name)) for name in ("a", "b")
    ]
    plan = desk.plan()
    assert (plan.stamp, plan.refusals, plan.warnings) == (stamp, (), ())
    assert plan.aside == tuple(f"{tmp_path}/{name}.before-{stamp}" for name in ("a", "b"))
    assert [part.there for part in plan.parts] == [(str(tmp_path / name),) for name in ("a", "b")]


@pytest.mark.parametrize("verb", ["undo", "discard"])
def test_a_try_that_was_killed_half_way_is_ended_by_the_next(desk: Desk, tmp_path: Path, verb: UndoVerb) -> None:
    """It does the rest of its own plan; a third finds that it was done, says so, and touches nothing."""
    stamp = desk.replace()
    plan = desk.plan(verb)

    with pytest.raises(Killed):
        undo(desk.vault, plan, _killed_before(desk, "a"), run=RUN)
    assert desk.told(verb) == ["begun"]
    assert [path.name for path in tmp_path.glob("*.before-*")] == [f"a.before-{stamp}"]
    assert undo(desk.vault, plan, desk.job_for, run=RUN)
    after = contents(tmp_path)
    wanted = {"a": b"old", "b": b"old"} if verb == "undo" else {"a": b"captured", "b": b"captured"}
    assert {name: after[name] for name in ("a", "b")} == wanted
    assert not any(".before-" in name for name in after)
    assert desk.told(verb) == ["begun", "begun", "done"]
    assert undo(desk.vault, plan, desk.job_for, run=RUN)
    assert contents(tmp_path) == after
    assert desk.told(verb) == ["begun", "begun", "done"]


def _killed_before(desk: Desk, name: str) -> Callable[[Replaced], RestoreJob]:
    """Resolves places like the desk; who comes to one of them a second time, which is not for a look, is killed."""
    times = 0

    def target_of(component: Component, path: str = "") -> ComponentTarget:
        nonlocal times
        times += component.name == name
        if times > 1:
            raise Killed
        return desk.target_of(component, path)

    return lambda what: replace(desk.job_for(what), target_of=target_of)


def test_another_run_does_not_go_on_with_what_was_approved_for_one(desk: Desk) -> None:
    """Half of it done is another plan: it needs an approval of its own."""
    desk.replace()
    plan = desk.plan()
    with pytest.raises(Killed):
        undo(desk.vault, plan, _killed_before(desk, "a"), run=RUN)
    with pytest.raises(errors.Refused, match="not the approved one any more"):
        undo(desk.vault, plan, desk.job_for, run="undo__air manual__2")
    assert "dataset/b: nothing of it lies aside any more" in desk.plan().warnings


def test_what_was_put_back_meanwhile_is_not_deleted_for_it(desk: Desk, tmp_path: Path) -> None:
    """Somebody approved the deletion of the old state; then it was put back, and what the restore had made lies aside."""
    desk.replace()
    approved = desk.plan("discard")
    undo(desk.vault, desk.plan(), desk.job_for)
    before = contents(tmp_path)
    with pytest.raises(errors.Refused, match="not the approved one any more"):
        undo(desk.vault, approved, desk.job_for, run=RUN)
    assert contents(tmp_path) == before


def test_another_place_in_the_catalog_is_refused_and_nothing_is_touched(desk: Desk, tmp_path: Path) -> None:
    """Also if it was changed between the approval and its use; and if the catalog has no place any more."""
    stamp = desk.replace()
    plan, before = desk.plan(), contents(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    other = replace(desk.target, datasets={**desk.target.datasets, "a": str(tmp_path / "elsewhere" / "a")})
    changed = replace(desk, target=other)
    refused = changed.plan(stamp=stamp)
    assert [r.component for r in refused.refusals] == ["dataset/a"]
    assert (
        f"moved aside at {tmp_path}/a, and the catalog names {tmp_path}/elsewhere/a now" in refused.refusals[0].message
    )
    with pytest.raises(errors.Refused, match="moved aside at"):
        undo(desk.vault, plan, changed.job_for, run=RUN)
    gone = replace(desk, target=replace(desk.target, datasets={"b": desk.target.datasets["b"]}))
    assert "has no place for it at origin any more" in gone.plan().refusals[0].message
    assert contents(tmp_path) == before
    assert desk.told("undo") == ["refused"]


def test_old_records_without_a_place_are_not_compared_and_a_warning_says_so(desk: Desk, tmp_path: Path) -> None:
    """As they were written before places were recorded."""
    stamp = desk.replace()
    vault, _ = make_vault(MemoryStore(), desk.clock)
    for record in desk.vault.audit():
        if record.action == "set aside":
            told = {name: value for name, value in record.details.items() if name not in ("where", "also")}
            vault.record(record.action, record.subject, record.outcome, told)
    old = replace(desk, vault=vault)
    plan = old.plan()
    assert (plan.stamp, plan.refusals) == (stamp, ())
    assert plan.warnings == (
        "dataset/a, dataset/b: the audit trail does not say where it was moved aside, so the place is the catalog's of today",
    )
    assert undo(vault, plan, old.job_for)
    assert (tmp_path / "a").read_bytes() == b"old"


def test_without_a_stamp_the_newest_is_meant_of_which_anything_lies_aside(desk: Desk, tmp_path: Path) -> None:
    """A newer one whose moved parts are gone is passed over; by its stamp it is refused; one that never was names those that are."""
    first = desk.replace()
    desk.clock.advance(3600)
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"newer")
    second = desk.replace()
    assert desk.plan().stamp == second
    for path in tmp_path.glob(f"*.before-{second}"):
        shutil.move(path, tmp_path / f"mine-{path.name}")
    assert desk.plan().stamp == first
    with pytest.raises(errors.NotFound, match="is there any more"):
        desk.plan(stamp=second).require_allowed()
    with pytest.raises(errors.NotFound, match=f"by the audit trail: {first} .p to origin., {second}"):
        desk.plan(stamp="20200101T000000000000Z")


def test_whatever_else_is_at_work_forbids_it(desk: Desk) -> None:
    """At the plan, and when it is applied."""
    desk.replace()
    plan = desk.plan()
    busy = ("a run of snapshot__air",)
    with pytest.raises(errors.Refused, match="a run of snapshot__air is at work on the same workload"):
        desk.plan(running=busy).require_allowed()
    with pytest.raises(errors.Refused, match="at work"):
        undo(desk.vault, plan, desk.job_for, busy, run=RUN)
