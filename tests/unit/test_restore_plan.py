"""What a plan says, what its digest covers, and what the policies make of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from muster import errors
from muster.cli.wording import point_lines
from muster.domain.content import ContentRef, TreeRef
from muster.domain.recovery_point import Component, Mark, PointStatus, RecoveryPoint
from muster.domain.restore_plan import RestorePlan, draw_plan, overlaps
from muster.domain.restore_policy import Circumstances, Disk, Verdict, judge, newest_verified, verified
from muster.domain.restore_request import RestoreRequest, Wanted, below, wanted_of
from muster.domain.restore_target import RestoreTarget, target_below
from muster.operations.approve import may_decide, require_same_plan

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TREE = TreeRef(ContentRef(10, "ab" * 32, ("cd" * 32,)), files=3, entries=4, size=1000)
ASKED = RestoreRequest("restore", NOON + timedelta(hours=2))
TARGET = target_below("/srv/back", ["flights", "notes"])


def sealed(name: str = "p", taken: datetime = NOON) -> RecoveryPoint:
    labels = [
        ("dataset", "flights"),
        ("dataset", "notes"),
        ("registry", "air"),
        ("configuration", "air"),
        ("golden", "air"),
    ]
    components = tuple(Component(kind, name, TREE, NOON, "test", {}) for kind, name in labels)  # type: ignore[arg-type]
    return RecoveryPoint(1, "v", "air", name, taken, NOON, None, components, (), {"rpo_s": 1.0, "rto_s": 1.0}, {}, "0")


def mark(kind: str, **summary: object) -> Mark:
    return Mark("air", "p", kind, NOON + timedelta(hours=1), dict(summary))  # type: ignore[arg-type]


def drawn(request: RestoreRequest = ASKED, status: PointStatus | None = None) -> RestorePlan:
    return draw_plan(status or PointStatus(sealed(), ()), TARGET, request)


def judged(
    status: PointStatus, request: RestoreRequest = ASKED, target: RestoreTarget = TARGET, **circumstances: object
) -> dict[str, Verdict]:
    found = judge(status, target, request, Circumstances(**circumstances))  # type: ignore[arg-type]
    return {verdict.policy: verdict for verdict in found}


def test_a_point_says_what_it_does_not_hold_of_a_git_repository() -> None:
    """A sentence for each submodule and the like, with the component that lacks it."""
    point = sealed()
    first = replace(point.components[0], details={"not_in_git_bundle": ["the submodule part"]})
    status = PointStatus(replace(point, components=(first, *point.components[1:])), ())
    assert "dataset/flights does not hold the submodule part" in list(point_lines(status))


# --- what is asked for ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("only", "labels"),
    [
        ((), ["dataset/flights", "dataset/notes", "registry/air", "configuration/air"]),
        (("registry",), ["registry/air"]),
        (("dataset",), ["dataset/flights", "dataset/notes"]),
        (("configuration/air", "dataset/notes"), ["dataset/notes", "configuration/air"]),
    ],
)
def test_only_what_is_asked_for_is_planned(only: tuple[str, ...], labels: list[str]) -> None:
    """Kinds and components, in the order of the manifest; golden predictions are never restored."""
    assert [action.component for action in drawn(replace(ASKED, only=only)).actions] == labels


def test_a_path_of_a_component_is_planned_as_such() -> None:
    """It goes to its place below that of the component."""
    (action,) = drawn(replace(ASKED, only=("dataset/flights/data/2013.csv",))).actions
    assert (action.component, action.path) == ("dataset/flights", "data/2013.csv")
    assert action.where == "/srv/back/datasets/flights/data/2013.csv"
    assert wanted_of(sealed(), ("dataset/flights/data",)) == (Wanted("dataset/flights", "data"),)
    assert wanted_of(sealed(), ("dataset/flights/data/",)) == (Wanted("dataset/flights", "data"),)
    assert wanted_of(sealed(), ("dataset/flights/",)) == (Wanted("dataset/flights"),)


@pytest.mark.parametrize(
    ("only", "error", "told"),
    [
        (("models",), errors.NotFound, "no component 'models'"),
        (("dataset/flight",), errors.NotFound, "no component"),
        (("registry/air/mlflow.db",), errors.UsageError, "only the whole"),
        (("dataset/flights/../../etc",), errors.UsageError, "'../../etc' is no path in dataset/flights"),
        (("dataset/flights/data//a.csv",), errors.UsageError, "is no path in"),
        (("dataset", "dataset/flights"), errors.UsageError, "asked for 2 times"),
    ],
)
def test_what_cannot_be_meant_is_refused(only: tuple[str, ...], error: type[Exception], told: str) -> None:
    """Nothing is passed over in silence."""
    with pytest.raises(error, match=told):
        drawn(replace(ASKED, only=only))


def test_where_an_entry_lies_below_a_path() -> None:
    """Data and metafiles of a repository lie in folders of their own in the tree."""
    assert below("dataset", "data", "data/data/a.csv") == "a.csv"
    assert below("dataset", "dvc.yaml", "repo/dvc.yaml") == ""
    assert below("dataset", "data", "data/database/a.csv") is None
    assert below("configuration", "conf", "files/conf/a.yaml") == "a.yaml"
    assert below("configuration", "secrets.json", "secrets.json") is None


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (TARGET, []),
        (replace(TARGET, configuration="/srv/back/datasets/flights/conf"), ["configuration/air"]),
        (replace(TARGET, artifacts="/srv/back/datasets/flights"), ["dataset/flights", "registry/air"]),
        (replace(TARGET, store="sqlite:////srv/back/datasets/notes/mlflow.db"), ["registry/air"]),
        (replace(TARGET, datasets={"flights": "/srv/one", "notes": "/srv/one"}), ["dataset/flights", "dataset/notes"]),
        (
            replace(TARGET, remotes={"flights": "/srv/r", "notes": "file:///srv/r/"}),
            ["dataset/flights", "dataset/notes"],
        ),
        (replace(TARGET, store="postgresql://u:p@/srv/back/datasets/notes"), []),
    ],
)
def test_places_that_lie_inside_of_each_other_are_refused(target: RestoreTarget, told: list[str]) -> None:
    """Restored side by side, one would carry the other away when it makes room."""
    found = overlaps(draw_plan(PointStatus(sealed(), ()), target, ASKED))
    assert sorted({refusal.component for refusal in found}) == told


def test_nobody_is_told_to_restore_to_one_place_one_after_the_other() -> None:
    """The second would move the first aside, and both would have succeeded."""
    shared = replace(TARGET, remotes=dict.fromkeys(TARGET.remotes, "/srv/remote"))
    found = overlaps(draw_plan(PointStatus(sealed(), ()), shared, ASKED))
    assert {refusal.component for refusal in found} == {"dataset/flights", "dataset/notes"}
    assert all("is the place of" in refusal.message and "a remote of its own" in refusal.hint for refusal in found)
    assert not any("one after the other" in refusal.hint for refusal in found)


def test_a_plan_names_every_place_without_its_secrets() -> None:
    """Artifact root, remote and users' database are taken, too; so they are shown, and approved."""
    target = replace(TARGET, artifacts="s3://KEY:hunter2@models/a", auth_store="postgresql://me:hunter2@db/users")
    plan = draw_plan(PointStatus(sealed(), ()), target, ASKED)
    also = {action.component: action.also for action in plan.actions}
    assert also["dataset/flights"] == ("/srv/back/datasets/flights.remote",)
    assert also["registry/air"] == ("s3://…@models/a", "postgresql://…@db/users")
    assert "hunter2" not in repr(plan)


# --- the digest -------------------------------------------------------------------------------------------------------


def test_the_digest_is_that_of_what_is_approved() -> None:
    """What is done is in it; what changes from one look to the next, and changes nothing, is not."""
    plan = drawn()
    first, *others = plan.actions
    changed = [
        replace(plan, point="q"),
        replace(plan, target="origin"),
        replace(plan, actions=tuple(others)),
        replace(plan, actions=(replace(first, effect="replace"), *others)),
        replace(plan, actions=(replace(first, where="/elsewhere"), *others)),
        replace(plan, actions=(replace(first, digest="00"), *others)),
        replace(plan, actions=(replace(first, also=("/other/remote",)), *others)),
        plan.judged((Verdict("verified", True, "no; overridden: it burns", overridden=True),), "it burns"),
        plan.judged((Verdict("space", False, "full"),), ""),
    ]
    assert len({plan.digest, *(other.digest for other in changed)}) == len(changed) + 1
    same = [
        replace(plan, expected_s=3.0),
        replace(plan, lost_s=1.0),
        plan.judged((Verdict("space", True, "9 free"),), ""),
    ]
    assert {other.digest for other in same} == {plan.digest}


def test_no_other_plan_is_applied() -> None:
    """A digest may be shortened, as people do, but not to nothing."""
    plan = drawn()
    require_same_plan(plan, plan.digest[:8])
    for digest in (plan.digest[:7], "", "0" * 64):
        with pytest.raises(errors.Refused, match="not the approved one"):
            require_same_plan(plan, digest)


# --- policies ---------------------------------------------------------------------------------------------------------


def test_a_point_that_nobody_verified_needs_an_override() -> None:
    """It is refused with the next step in the hint, and passes when somebody says why; the reason is kept."""
    fresh = PointStatus(sealed(), ())
    refused = judged(fresh, newest_verified="older")["verified"]
    assert not refused.passed
    assert "older" in refused.hint
    passed = judged(fresh, replace(ASKED, override="the older one is too old"))["verified"]
    assert (passed.passed, passed.overridden) == (True, True)
    assert "the older one is too old" in passed.reason


@pytest.mark.parametrize(
    ("marks", "good"),
    [
        ([], False),
        ([mark("verified")], True),
        ([mark("drilled", passed=True)], True),
        ([mark("drilled", passed=False)], False),
        ([mark("restored", passed=True)], True),
        ([mark("restored", passed=True, whole=False)], False),
        ([mark("verified"), mark("restored", passed=True, whole=False)], True),
        ([mark("verified"), mark("drilled", passed=False)], False),
        ([mark("drilled", passed=False), mark("verified")], True),
        ([mark("verified"), mark("suspect", reason="rows are missing")], False),
        ([mark("held")], False),
    ],
)
def test_what_makes_a_point_a_verified_one(marks: list[Mark], good: bool) -> None:
    """Having been read again, or having come back; and nothing that speaks against it."""
    assert verified(PointStatus(sealed(), tuple(marks))) is good


def test_the_newest_verified_point_before_a_time() -> None:
    """Newer ones that nobody verified are passed by."""
    points = [PointStatus(sealed(f"p{hour}", NOON + timedelta(hours=hour)), (mark("verified"),)) for hour in range(3)]
    fresh = PointStatus(sealed("p9", NOON + timedelta(hours=9)), ())
    assert newest_verified([*points, fresh]) == points[2]
    assert newest_verified([*points, fresh], NOON + timedelta(hours=1)) == points[1]
    assert newest_verified([fresh]) is None


def test_each_policy_refuses_in_its_own_words() -> None:
    """Suspect, taken after the loss, no room, something at work, beyond the jurisdictions."""
    status = PointStatus(sealed(), (mark("suspect", reason="rows are missing"),))
    late = replace(ASKED, at=NOON - timedelta(minutes=5))
    target = replace(TARGET, name="standby", catalogued=True, jurisdiction="US")
    found = judged(
        status, late, target, disks=[Disk("/srv", 1000, 1001)], running=["a run of snapshot__air"], allowed=["EU"]
    )
    refused = {policy: verdict.reason for policy, verdict in found.items() if not verdict.passed}
    assert refused.keys() == {"trusted", "before the loss", "space", "alone", "residency"}
    assert "rows are missing" in refused["trusted"]
    assert "300 s after" in refused["before the loss"]
    assert "1001 are free" in refused["space"]
    assert "snapshot__air" in refused["alone"]
    assert "standby lies in US" in refused["residency"]
    plan = drawn(status=status).judged(tuple(found.values()), "")
    assert {refusal.component for refusal in plan.refusals} == {f"policy/{policy}" for policy in refused}
    with pytest.raises(errors.Refused, match="rows are missing"):
        plan.require_allowed()


def test_what_cannot_be_known_is_not_judged() -> None:
    """The command line does not see what Airflow does, and says nothing of it; nor of jurisdictions that nobody named."""
    assert judged(PointStatus(sealed(), (mark("verified"),))).keys() == {"trusted", "verified", "before the loss"}
    tight = judged(PointStatus(sealed(), (mark("verified"),)), disks=[Disk("/srv", 1000, 1500, likely=2000)])["space"]
    assert tight.passed
    assert "may not be enough" in tight.reason


def test_neither_space_nor_residency_can_be_overridden() -> None:
    """A reason makes no room, and allows no jurisdiction."""
    request = replace(ASKED, override="it must be")
    target = replace(TARGET, catalogued=True)
    found = judged(PointStatus(sealed(), ()), request, target, disks=[Disk("/srv", 1000, 10)], allowed=["EU"])
    assert {policy for policy, verdict in found.items() if not verdict.passed} == {"space", "residency"}


def test_a_drill_needs_no_verified_point() -> None:
    """It is how a point becomes one; room it needs all the same."""
    found = judged(PointStatus(sealed(), ()), replace(ASKED, kind="drill"), disks=[Disk("/srv", 1000, 10)])
    assert {policy: verdict.passed for policy, verdict in found.items()} == {"space": False}


# --- who decides ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("person", "approvers", "objection"),
    [
        ("lead", ["lead"], None),
        ("anna", [], None),
        ("anna", ["lead"], "none of the workload's approvers"),
        ("ben", ["ben", "lead"], "nobody approves their own plan"),
        ("ben", [], "nobody approves their own plan"),
        ("", [], "nobody is signed in"),
    ],
)
def test_nobody_approves_their_own(person: str, approvers: list[str], objection: str | None) -> None:
    """Ben asked; whoever the catalog names decides, or anybody else if it names nobody."""
    found = may_decide(person, "ben", approvers)
    assert (found is None) if objection is None else (found is not None and objection in found)
