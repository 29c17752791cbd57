"""What the operations decide, over a real vault in memory and components in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest

from fakes import FrozenClock, MemoryStore
from fakes_components import EchoRunner, FakeServer, FakeSource, FolderBuilder, FolderTarget, RowsValidator
from muster import errors
from muster.adapters.switching import ProcessSwitching
from muster.domain.approval import Approval
from muster.domain.fidelity import Difference, FidelityReport, FilesLine
from muster.domain.recovery_point import Component, Mark, PointStatus
from muster.domain.restore_policy import Circumstances
from muster.domain.restore_request import RestoreRequest
from muster.domain.restore_target import target_below
from muster.operations.choose import choose_point
from muster.operations.conclude import Incident
from muster.operations.recover import recover
from muster.operations.restore import plan_restore
from muster.operations.restore_job import RestoreJob
from muster.operations.runbook import kept_runbook
from muster.operations.seal import seal_point
from muster.operations.smoke import Question
from muster.operations.snapshot import capture, pin_point
from muster.operations.take import SnapshotJob, take_snapshot
from muster.operations.tools import Tools
from muster.vault.auditing import Auditing
from muster.vault.vault import Actor, Passphrase, Vault
from vaults import verify_points

MODEL = "models:/delay@champion"
FIRST_CHUNK = (
    40  # offset in a pack, see docs/format.md; the trees of a component come before the record that is handed over
)


@dataclass
class World:
    """A workload of four components, a vault for it, and the tools."""

    store: MemoryStore
    vault: Vault
    clock: FrozenClock
    tools: Tools
    runner: EchoRunner
    actor: Actor
    sources: dict[str, FakeSource]

    @property
    def job(self) -> SnapshotJob:
        return SnapshotJob(
            workload="flights",
            sources=tuple(self.sources.values()),
            suites={"flights": {"rows": 2}},
            questions=(Question(MODEL, 0.0, 0.0),),
            store=("sqlite:///x", "/x"),
            objectives={"rpo_s": 3600.0, "rto_s": 900.0},
            catalog={"workload": "flights"},
        )

    def snapshot(self) -> PointStatus:
        self.clock.advance(60)
        return take_snapshot(self.vault, self.job, self.tools)

    def restore_job(
        self, folder: Path, broken: dict[str, Exception] | None = None, request: RestoreRequest | None = None
    ) -> RestoreJob:
        status = self.vault.point("latest", "flights")

        def target_of(component: Component, _path: str) -> FolderTarget:
            places = {"dataset": folder / "datasets/flights", "registry": folder / "registry"}
            place = places.get(component.kind, folder / component.kind)
            return FolderTarget(place, (broken or {}).get(component.kind))

        target = target_below(str(folder), ["flights"])
        request = request or RestoreRequest("restore", self.clock.now(), override="it was just sealed")
        return RestoreJob(status, target, request, target_of, lambda _plan: Circumstances(), folder.parent / "docs")

    def incident(self) -> Incident:
        now = self.clock.now()
        return Incident("restore", now, now)


@pytest.fixture
def world(tmp_path: Path) -> World:
    clock, store = FrozenClock(), MemoryStore()
    actor = Actor("test", "here", "pytest")
    vault, _ = Vault.create(store, Passphrase("correct horse"), clock=clock, actor=actor)
    runner = EchoRunner({MODEL: [1.5, 2.5]})
    sources = {
        "dataset": FakeSource(
            "dataset",
            "flights",
            {"data/a.csv": b"1\n2\n", "data/b.csv": b"3\n4\n"},
            clock,
            {"outputs": [{"path": "data"}]},
        ),
        "registry": FakeSource("registry", "flights", {"tables/runs.jsonl": b"{}\n"}, clock),
        "environment": FakeSource("environment", "flights", {"requirements.lock": b"x==1\n"}, clock),
        "configuration": FakeSource("configuration", "flights", {"files/a.yaml": b"a: 1\n"}, clock),
    }
    tools = Tools(clock, FolderBuilder(), RowsValidator(), runner, FakeServer(), tmp_path / "state", ProcessSwitching())
    return World(store, vault, clock, tools, runner, actor, sources)


def test_a_snapshot_holds_every_component_of_the_catalog(world: World) -> None:
    """Captured components, validation, golden predictions and the runbook are in the sealed point; nothing speaks against it."""
    status = world.snapshot()
    assert sorted(c.label for c in status.point.components) == sorted([*world.job.expected, "runbook/flights"])
    assert not status.suspect
    assert status.point.packs
    assert world.vault.point("latest", "flights").point == status.point


def test_the_next_snapshot_is_offered_the_one_before(world: World) -> None:
    """Every source sees its own tree of the last good point, so that unchanged files need not be read."""
    first, second = world.snapshot(), world.snapshot()
    assert second.point.previous == first.point.point
    assert all(source.previous == [False, True] for source in world.sources.values())


def test_a_source_that_moves_is_cut_again(world: World) -> None:
    """Two moving cuts are thrown away, the third is taken."""
    world.sources["dataset"].moves = 2
    assert not world.snapshot().suspect
    assert len(world.sources["dataset"].previous) == 3


def test_a_source_that_never_stands_still_gives_no_point(world: World) -> None:
    """A cut that was not consistent is never sealed."""
    world.sources["dataset"].moves = 99
    with pytest.raises(errors.SourceChanged):
        world.snapshot()
    assert world.vault.points() == []


def test_one_failed_component_means_no_point_at_all(world: World) -> None:
    """Complete or absent: the other components are stored, but nothing names them."""
    world.sources["registry"].broken = errors.SourceInvalid("there is no registry", "look for it")
    with pytest.raises(errors.SourceInvalid):
        world.snapshot()
    assert world.vault.points() == []
    told = world.vault.audit()[-1]
    assert (told.action, told.outcome, told.details) == ("snapshot", "failed", {"reason": "there is no registry"})
    world.sources["registry"].broken = None
    assert len(world.snapshot().point.components) == 7


def test_every_point_holds_the_runbook_of_its_catalog_and_stores_it_once(world: World) -> None:
    """Rendered from the entry alone: the same catalog gives the same chunks, and a retry the same component."""
    first, second = world.snapshot().point, world.snapshot().point
    one, two = first.of_kind("runbook")[0], second.of_kind("runbook")[0]
    assert one.tree == two.tree
    text, page = kept_runbook(world.vault, second)
    assert text.startswith(b"# Runbook: bring flights back")
    assert world.vault.id.encode() in text
    assert page.startswith(b"<!doctype html>")


def test_a_runbook_is_not_restored(world: World, tmp_path: Path) -> None:
    """It is for people, and has no place in what is brought back."""
    world.snapshot()
    report = recover(world.vault, world.restore_job(tmp_path / "to"), world.incident(), world.tools)
    assert "runbook/flights" not in {outcome.component for outcome in report.components}
    assert not list((tmp_path / "to").rglob("RUNBOOK*"))
    assert report.left_out == ()


def test_sealing_without_a_component_is_refused_by_name(world: World) -> None:
    """A task that was skipped, or whose result was lost, cannot slip through."""
    pin = pin_point(world.vault, "flights", world.clock)
    handover = capture(world.vault, pin, world.sources["dataset"])
    with pytest.raises(errors.IncompletePoint, match="registry/flights"):
        _seal(world, pin, [handover], ["dataset/flights", "registry/flights"])
    with pytest.raises(errors.IncompletePoint, match="unexpected dataset/flights"):
        _seal(world, pin, [handover], [])
    assert world.vault.points() == []


def test_a_handover_under_a_false_name_is_refused(world: World) -> None:
    """What travels between tasks cannot pass one component off as another."""
    pin = pin_point(world.vault, "flights", world.clock)
    handover = capture(world.vault, pin, world.sources["dataset"])
    with pytest.raises(errors.IntegrityError, match="handed over as registry/flights"):
        _seal(world, pin, [replace(handover, component="registry/flights")], ["registry/flights"])


def test_sealing_again_gives_the_same_point(world: World) -> None:
    """A cleared seal task finds its point sealed and changes nothing."""
    pin = pin_point(world.vault, "flights", world.clock)
    handover = capture(world.vault, pin, world.sources["dataset"])
    first = _seal(world, pin, [handover], ["dataset/flights"])
    world.clock.advance(60)
    assert _seal(world, pin, [handover], ["dataset/flights"]).point == first.point
    assert len(world.vault.points()) == 1


@pytest.mark.parametrize("locking", [True, False], ids=["a store that locks", "a store that cannot"])
def test_the_catalogs_lock_reaches_the_store(world: World, locking: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The point is locked for as long as its retention says; a store that cannot is warned of, and the point is there."""
    store = MemoryStore(world.clock, locking=locking)
    world.vault, _ = Vault.create(store, Passphrase("correct horse"), clock=world.clock, actor=world.actor)
    lock = timedelta(days=7)
    status = take_snapshot(world.vault, replace(world.job, lock=lock), world.tools)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert world.vault.point("latest", "flights") == status
    if locking:
        assert status.point.locked_until is not None
        assert status.point.locked_until >= world.clock.now() + lock
        with pytest.raises(errors.Refused):
            store.delete(f"points/flights/{status.point.point}.json")
        assert warnings == []
    else:
        assert status.point.locked_until is None
        assert any(status.point.point in warning and "cannot lock" in warning for warning in warnings)


def test_unmet_expectations_seal_a_suspect_point_and_the_last_good_one_stays_the_latest(world: World) -> None:
    """Bad data is kept for looking at, named in the error, and never restored by default."""
    good = world.snapshot()
    world.sources["dataset"].files["data/c.csv"] = b"only one\n"
    with pytest.raises(errors.ValidationFailed, match=r"c\.csv"):
        world.snapshot()
    assert world.vault.point("latest", "flights").point == good.point
    newest = world.vault.points("flights")[-1]
    assert newest.suspect
    assert newest.point.point != good.point.point


def test_a_model_that_does_not_answer_seals_a_suspect_point(world: World) -> None:
    """Its data is safe, but nobody may take it for a point that brings the model back."""
    world.runner.answers.clear()
    with pytest.raises(errors.ValidationFailed, match="cannot be loaded"):
        world.snapshot()
    assert world.vault.points("flights")[-1].suspect


def test_a_restore_that_comes_back_whole_says_so_in_report_and_mark(world: World, tmp_path: Path) -> None:
    """Files are back, expectations and models agree, and the point carries the measured times."""
    world.snapshot()
    world.clock.advance(600)
    report = recover(world.vault, world.restore_job(tmp_path / "to"), world.incident(), world.tools)
    assert report.passed
    assert report.recovery_point_actual == 600
    assert (tmp_path / "to/datasets/flights/data/a.csv").read_bytes() == b"1\n2\n"
    (mark,) = world.vault.point("latest", "flights").marks
    assert mark.kind == "restored"
    assert mark.summary["passed"] is True
    assert mark.report is not None
    html = world.vault.tree(mark.report)
    assert b"flights" in html.read(html.entry("report.html"))


def test_a_model_that_answers_otherwise_fails_the_restore(world: World, tmp_path: Path) -> None:
    """The difference stands in the report, the mark and the error; the exit code is that of a failed smoke test."""
    world.snapshot()
    world.runner.answers[MODEL] = [1.5, 2.6]
    with pytest.raises(errors.SmokeFailed, match=r"2\.6"):
        recover(world.vault, world.restore_job(tmp_path / "to"), world.incident(), world.tools)
    assert world.vault.point("latest", "flights").marks[-1].summary["passed"] is False


def test_a_failed_component_fails_the_restore_and_is_reported(world: World, tmp_path: Path) -> None:
    """The first error is raised as it was, after the report was written and the point marked."""
    world.snapshot()
    broken = {"registry": errors.StoreUnavailable("the database does not answer", "start it")}
    with pytest.raises(errors.StoreUnavailable):
        recover(world.vault, world.restore_job(tmp_path / "to", broken), world.incident(), world.tools)
    mark = world.vault.point("latest", "flights").marks[-1]
    assert mark.summary["failure"] == "the database does not answer"


def test_a_registry_with_a_difference_fails_the_restore_and_its_report_is_kept(world: World, tmp_path: Path) -> None:
    """JSON and page of the fidelity report lie beside the report of the restore, in the vault and below the state folder."""
    world.snapshot()
    lost = Difference("runs", "runs", "run_uuid r1", "is lost")
    files = FilesLine(0, 0, "")
    found = FidelityReport(("sqlite", "sqlite"), (), (), files, files, (), (lost,), 1)
    with pytest.raises(errors.Unfaithful) as caught:
        found.require_identical()
    with pytest.raises(errors.Unfaithful, match="run_uuid r1"):
        recover(
            world.vault, world.restore_job(tmp_path / "to", {"registry": caught.value}), world.incident(), world.tools
        )
    mark = world.vault.point("latest", "flights").marks[-1]
    assert mark.summary["passed"] is False
    assert "run_uuid r1 is lost" in mark.summary["fidelity"]["registry/flights"]
    assert mark.report is not None
    tree = world.vault.tree(mark.report)
    names = [f"report-registry-flights-fidelity.{end}" for end in ("html", "json")]
    kept = {entry.path: tree.read(entry) for entry in tree.entries()}
    assert set(kept) == {*names, "report.html", "report.json", "postmortem.md"}
    document = json.loads(kept[names[1]])
    assert (document["component"], document["identical"]) == ("registry/flights", False)
    written = {
        p.name.partition("Z-registry")[2] or p.suffix: p.read_bytes()
        for p in (tmp_path / "state/reports/flights").iterdir()
    }
    assert written == {
        "-flights-fidelity.html": kept[names[0]],
        "-flights-fidelity.json": kept[names[1]],
        ".html": kept["report.html"],
        ".json": kept["report.json"],
        ".md": kept["postmortem.md"],
    }


def test_the_report_of_a_restore_is_evidence(world: World, tmp_path: Path) -> None:
    """Who carried it out, who approved which plan, what each component hashes to, and the place in the audit trail."""
    point = world.snapshot().point
    before = world.vault.audit()[-1].digest
    world.clock.advance(600)
    job = world.restore_job(tmp_path / "to")
    digest = plan_restore(world.vault, job).digest
    approval = Approval(digest, "alice", "bob", world.clock.now(), "region lost", "break-glass")
    incident = replace(world.incident(), approval=approval)
    report = recover(world.vault, job, incident, world.tools, digest)
    assert (report.actor, report.approval, report.plan_digest) == ("test@here (pytest)", approval, digest)
    hashes = {outcome.component: outcome.sha256 for outcome in report.components}
    assert hashes == {c.label: c.tree.root.sha256 for c in point.components if c.label in hashes}
    assert set(hashes) == {f"{kind}/flights" for kind in world.sources}
    assert report.audit is not None
    assert (report.audit.before, report.audit.heads, report.audit.complete) == (before, (before,), True)
    told = [event.what for event in report.events]
    assert told[0] == "the loss is assumed here"
    assert told[-1] == "concluded"
    assert {"plan and approval", "registry/flights", "validation/flights", MODEL, f"plan {digest[:16]} approved"} < set(
        told
    )
    assert [event.at for event in report.events] == sorted(event.at for event in report.events)
    assert world.vault.auditing.check(heads=[report.audit.heads[0]]).ok


def test_what_the_trail_tells_of_a_run_is_in_its_timeline(world: World, tmp_path: Path) -> None:
    """Records of the run and of its point, and not what was done to others meanwhile."""
    point = world.snapshot().point
    world.clock.advance(5)
    incident = world.incident()
    other = Vault.open(world.store, Passphrase("correct horse"), clock=world.clock, actor=Actor("eve", "there", "cli"))
    other.record("hold", f"flights/{point.point}", "held")
    other.record("snapshot", "weather/x", "sealed")
    report = recover(world.vault, world.restore_job(tmp_path / "to"), incident, world.tools)
    (told,) = (event for event in report.events if event.source == "record")
    assert (told.what, told.outcome, told.who) == (f"hold flights/{point.point}", "held", "eve@there (cli)")
    assert told.record == next(record.digest for record in other.audit() if record.action == "hold")
    assert report.audit is not None
    assert report.audit.records == 2


def test_what_failed_first_is_noted_when_it_fails(world: World, tmp_path: Path) -> None:
    """The component, the time and the reason; what was missing in consequence comes after it."""
    world.snapshot()
    broken = {"environment": errors.StoreUnavailable("the disk is full", "make room")}
    with pytest.raises(errors.StoreUnavailable):
        recover(world.vault, world.restore_job(tmp_path / "to", broken), world.incident(), world.tools)
    mark = world.vault.point("latest", "flights").marks[-1]
    assert mark.report is not None
    tree = world.vault.tree(mark.report)
    document = json.loads(tree.read(tree.entry("report.json")))
    first, *others = document["failures"]
    assert (first["what"], first["why"]) == ("environment/flights", "the disk is full")
    assert first["at"] is not None
    assert [failed["what"] for failed in others] == ["validation/flights", MODEL]
    draft = tree.read(tree.entry("postmortem.md")).decode()
    assert "First: **environment/flights** at 2026-11-23" in draft


@pytest.mark.parametrize(("kind", "drafted"), [("drill", False), ("restore", True)])
def test_a_postmortem_is_drafted_of_every_restore_and_of_no_drill_that_passed(
    world: World, tmp_path: Path, kind: Literal["drill", "restore"], drafted: bool
) -> None:
    """There is nothing to be learned of a drill in which all was well."""
    world.snapshot()
    incident = replace(world.incident(), kind=kind)
    recover(world.vault, world.restore_job(tmp_path / "to"), incident, world.tools)
    mark = world.vault.point("latest", "flights").marks[-1]
    assert mark.report is not None
    assert ("postmortem.md" in {entry.path for entry in world.vault.tree(mark.report).entries()}) is drafted
    assert any(p.name.endswith("-postmortem.md") for p in (tmp_path / "state/reports/flights").iterdir()) is drafted


def test_a_trail_that_cannot_be_read_keeps_nobody_from_the_report(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The report says that there is no proof, and the log why."""
    world.snapshot()

    def unreachable(*_: object) -> None:
        raise errors.StoreUnavailable("the store does not answer", "wait")

    monkeypatch.setattr(Auditing, "since", unreachable)
    report = recover(world.vault, world.restore_job(tmp_path / "to"), world.incident(), world.tools)
    assert report.passed
    assert report.audit is None
    assert "cannot be read for the report: the store does not answer" in caplog.text


def test_a_restore_that_was_refused_is_in_the_trail(world: World, tmp_path: Path) -> None:
    """With the reason, and where it should have gone."""
    point = world.snapshot().point
    (tmp_path / "to/registry").mkdir(parents=True)
    with pytest.raises(errors.TargetNotEmpty):
        recover(world.vault, world.restore_job(tmp_path / "to"), world.incident(), world.tools)
    record = world.vault.audit()[-1]
    assert (record.action, record.subject, record.outcome) == ("restore", f"flights/{point.point}", "refused")
    assert "registry exists" in record.details["reason"]
    assert record.details["target"] == str(tmp_path / "to")


def test_a_full_target_is_refused_before_anything_is_written(world: World, tmp_path: Path) -> None:
    """One full place forbids the whole restore: the others stay empty."""
    world.snapshot()
    (tmp_path / "to/registry").mkdir(parents=True)
    with pytest.raises(errors.TargetNotEmpty):
        recover(world.vault, world.restore_job(tmp_path / "to"), world.incident(), world.tools)
    assert [p.name for p in (tmp_path / "to").iterdir()] == ["registry"]


def test_damage_to_the_point_before_does_not_stop_a_snapshot(world: World) -> None:
    """The source is whole: it is read anew, and the new point comes back."""
    first = world.snapshot()
    for key in [key for key in world.store.objects if key.startswith(("packs/", "indexes/"))]:
        del world.store.objects[key]
    world.vault = Vault.open(world.store, Passphrase("correct horse"), clock=world.clock, actor=world.actor)
    second = world.snapshot()
    assert second.point.point != first.point.point
    assert world.sources["dataset"].previous == [False, False]
    assert world.vault.verify([second.point]).ok
    tree = world.vault.tree(second.point.component("dataset/flights").tree)  # type: ignore[union-attr]
    assert tree.read(tree.entry("data/a.csv")) == b"1\n2\n"


def test_verification_marks_good_points_and_makes_damaged_ones_suspect(world: World) -> None:
    """After a byte of a pack has flipped, the point is no longer the latest good one."""
    status = world.snapshot()
    verify_points(world.vault, [status], 1.0, world.clock)
    assert world.vault.point("latest", "flights").marks[-1].kind == "verified"
    pack = status.point.packs[0]
    _flip_a_byte(world.store, f"packs/{pack[:2]}/{pack}")
    with pytest.raises(errors.IntegrityError, match="pack"):
        verify_points(world.vault, [status], 1.0, world.clock)
    with pytest.raises(errors.NotFound):
        world.vault.point("latest", "flights")


def _seal(world: World, pin: object, handovers: list, expected: list[str]) -> PointStatus:  # type: ignore[type-arg]
    seal: Callable[..., PointStatus] = seal_point
    objectives = {"rpo_s": 1.0, "rto_s": 1.0}
    return seal(world.vault, pin, handovers, expected=expected, objectives=objectives, catalog={}, clock=world.clock)


def _flip_a_byte(store: MemoryStore, prefix: str) -> None:
    key = next(info.key for info in store.list(prefix))
    data = bytearray(store.get(key))
    data[FIRST_CHUNK] ^= 1
    store.objects[key] = bytes(data)


def test_the_newest_verified_point_that_the_loss_cannot_have_touched(world: World) -> None:
    """``verified`` passes by what nobody verified, what is suspect, and what was taken after the platform was lost."""
    points = [world.snapshot().point for _ in range(4)]
    for point in points[:3]:
        world.vault.mark(Mark("flights", point.point, "verified", world.clock.now()))
    world.vault.mark(Mark("flights", points[0].point, "suspect", world.clock.now(), {"reason": "rows are missing"}))

    def chosen(*when: datetime | None) -> str:
        return choose_point(world.vault, "flights", "verified", *when).point.point

    assert chosen() == points[2].point
    assert chosen(None, points[1].taken_at) == points[1].point
    assert chosen(points[1].taken_at, points[3].taken_at) == points[1].point
    with pytest.raises(errors.NotFound, match="no verified point that was taken before"):
        chosen(points[0].taken_at)
    assert choose_point(world.vault, "flights", "latest", None, points[1].taken_at).point == points[3]


@pytest.mark.parametrize("action", ["restore", "undo", "rollback"])
def test_nothing_is_cut_while_another_state_comes(world: World, action: str) -> None:
    """Neither begun nor sealed beside a restore, its undo or a rollback, on whatever machine: it would be a state that never was."""
    first = world.snapshot()
    subject = f"flights/{first.point.point}"
    world.vault.record("restore", "others/x", "begun")
    world.snapshot()
    world.vault.record(action, subject, "begun")
    with pytest.raises(errors.SourceChanged, match=f"{action} of {subject}, begun at .* moves flights"):
        world.snapshot()
    world.vault.record(action, subject, "failed")
    pin = pin_point(world.vault, "flights", world.clock)
    handover = capture(world.vault, pin, world.sources["dataset"])
    world.clock.advance(1)
    for outcome in ("begun", "passed"):
        world.vault.record(action, subject, outcome)
        with pytest.raises(errors.SourceChanged, match="take the snapshot when that has ended"):
            _seal(world, pin, [handover], ["dataset/flights"])
    world.clock.advance(1)
    assert not world.snapshot().suspect


def test_a_restore_that_was_killed_keeps_nobody_from_a_snapshot_for_ever(world: World) -> None:
    """It tells no end; after a day it is taken for one, and before that once another one, or its undo, has come to its end."""
    for action, outcome in (("restore", "passed"), ("undo", "done")):
        world.vault.record("restore", "flights/x", "begun")
        with pytest.raises(errors.SourceChanged):
            world.snapshot()
        world.vault.record(action, "flights/y", outcome)
        world.clock.advance(1)
        world.snapshot()
    world.vault.record("restore", "flights/x", "begun")
    with pytest.raises(errors.SourceChanged):
        world.snapshot()
    world.clock.advance(24 * 3600)
    assert not world.snapshot().suspect


def test_a_restore_to_where_it_was_tells_when_it_begins_and_ends(world: World, tmp_path: Path) -> None:
    """By its records; one to elsewhere moves nothing that is captured, and tells its end alone."""
    world.snapshot()
    job = world.restore_job(tmp_path / "to")
    recover(world.vault, job, world.incident(), world.tools)
    assert [r.outcome for r in world.vault.audit() if r.action == "restore"] == ["passed"]
    origin = replace(world.restore_job(tmp_path / "back"), target=replace(job.target, name="origin"))
    recover(world.vault, origin, world.incident(), world.tools)
    outcomes = [r.outcome for r in world.vault.audit() if r.action == "restore"]
    assert outcomes == ["passed", *["begun"] * 4, "passed"]
    world.clock.advance(1)
    assert not world.snapshot().suspect
