"""The nouns and the pure policy."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from muster import errors
from muster.codec import canonical, from_json, to_json
from muster.domain.content import ContentRef, TreeRef, checked_path
from muster.domain.recovery_point import Component, Mark, PointStatus, RecoveryPoint, latest_good
from muster.domain.restore_plan import Refusal, draw_plan, without_secrets
from muster.domain.restore_request import RestoreRequest
from muster.domain.restore_target import RestoreTarget, target_below
from muster.domain.timing import Span, recovery_point_actual, recovery_time

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TREE = TreeRef(ContentRef(10, "ab" * 32, ("cd" * 32,)), files=3, entries=4, size=1000)

ALL = RestoreRequest("restore", NOON)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def point(name: str = "20260101T120000Z-aaaaaaaa", *kinds: str) -> RecoveryPoint:
    components = tuple(Component(kind, "flights", TREE, NOON, "test", {}) for kind in kinds or ("dataset", "registry"))
    objectives = {"rpo_s": 60.0, "rto_s": 60.0}
    return RecoveryPoint(1, "v", "flights", name, NOON, NOON, None, components, (), objectives, {}, "0")


def test_recovery_time_stages_add_up_to_the_wall_clock_and_overlaps_count_once() -> None:
    """Two components restored side by side count as long as the slower of them, and the stages add up to the whole."""
    spans = [
        Span("decide", "plan", at(5), at(7)),
        Span("restore", "a", at(7), at(17)),
        Span("restore", "b", at(7), at(27)),
        Span("validate", "smoke", at(28), at(30)),
    ]
    measured = recovery_time(spans, incident_at=at(0), detected_at=at(4))
    assert (measured.detect, measured.decide, measured.restore, measured.validate) == (4, 3, 20, 3)
    assert measured.total == 30


def test_recovery_time_of_a_recovery_that_stopped_early_has_empty_stages() -> None:
    """A stage without any span lasts no time at all, and none is ever negative."""
    measured = recovery_time([Span("decide", "plan", at(1), at(2))], incident_at=at(0), detected_at=at(-5))
    assert (measured.detect, measured.decide, measured.restore, measured.validate) == (0, 2, 0, 0)


def test_recovery_point_actual_is_the_work_lost() -> None:
    """What was written between the cut and the incident is lost; a point cut later loses nothing."""
    assert recovery_point_actual(at(90), at(30)) == 60
    assert recovery_point_actual(at(30), at(90)) == 0


@pytest.mark.parametrize("path", ["", "/etc/passwd", "a/../../b", "..", "a//b", "./a", "a/\0b"])
def test_a_path_that_leaves_its_folder_is_refused(path: str) -> None:
    """No manifest, however signed, writes outside the folder that it is restored to."""
    with pytest.raises(errors.IntegrityError):
        checked_path(path)


def test_an_ordinary_path_passes_unchanged() -> None:
    """Dots inside names are nothing special."""
    assert checked_path("data/..flights/2013-01.csv") == "data/..flights/2013-01.csv"


def test_the_latest_good_point_is_the_newest_that_nothing_speaks_against() -> None:
    """A suspect point is kept, but a restore of ``latest`` passes it by."""
    old, new = point("20260101T120000Z-aaaaaaaa"), point("20260102T120000Z-bbbbbbbb")
    suspect = Mark("flights", new.point, "suspect", at(1), {"reason": "rows are missing"})
    assert latest_good([PointStatus(new, (suspect,)), PointStatus(old, ())]) == PointStatus(old, ())
    assert latest_good([PointStatus(new, (suspect,))]) is None
    assert latest_good([PointStatus(old, ()), PointStatus(new, ())]) == PointStatus(new, ())


def test_a_check_that_failed_at_the_time_makes_a_point_suspect_without_any_mark() -> None:
    """A process killed between the manifest and its mark, or a mark removed later, cannot turn a failed point into a good one."""
    checked = Component(
        "validation", "flights", TREE, NOON, "test", {"success": False, "failures": ["3 rows are missing"]}
    )
    failed = PointStatus(replace(point(), components=(checked,)), ())
    assert failed.suspect
    assert failed.doubts == ("validation/flights: 3 rows are missing",)
    passed = replace(checked, details={"success": True, "failures": []})
    assert not PointStatus(replace(point(), components=(passed,)), ()).suspect


def test_a_restore_to_origin_leaves_nothing_out() -> None:
    """What the catalog no longer knows is a reason to refuse, not to pass over; a folder or another target may be partial."""
    status = PointStatus(point("p"), ())
    plan = draw_plan(status, RestoreTarget("origin", {"flights": "/srv/flights"}), ALL)
    assert [refusal.component for refusal in plan.refusals] == ["registry/flights"]
    with pytest.raises(errors.Refused, match="no longer says where"):
        plan.require_allowed()
    assert draw_plan(status, RestoreTarget("t", {"flights": "/srv/flights"}), ALL).refusals == ()


def test_a_plan_names_every_place_and_says_what_it_leaves_out() -> None:
    """Golden predictions are not restored; a component without a place is skipped, with the reason."""
    status = PointStatus(point("p", "dataset", "registry", "environment", "golden"), ())
    target = RestoreTarget(
        "t", {"flights": "/srv/flights"}, store="postgresql://me:secret@db/mlflow", artifacts="/srv/a"
    )
    plan = draw_plan(status, target, ALL)
    assert [(a.component, a.where) for a in plan.actions] == [
        ("dataset/flights", "/srv/flights"),
        ("registry/flights", "postgresql://…@db/mlflow"),
    ]
    assert plan.skipped == ("environment/flights: the target t has no place for it",)
    assert plan.size == 2000


def test_a_plan_for_a_suspect_point_warns_with_the_reason() -> None:
    """Whoever restores a suspect point does it knowingly."""
    mark = Mark("flights", "p", "suspect", at(1), {"reason": "rows are missing"})
    plan = draw_plan(PointStatus(point("p"), (mark,)), target_below("/srv/x", ["flights"]), ALL)
    assert "rows are missing" in plan.warnings[0]


def test_a_refused_plan_raises_all_reasons_under_the_kind_of_the_first() -> None:
    """One look at the message tells everything that has to be cleared away."""
    plan = draw_plan(PointStatus(point("p"), ()), target_below("/srv/x", ["flights"]), ALL)
    refused = replace(
        plan, refusals=(Refusal("a", "TargetNotEmpty", "one", "clear it"), Refusal("b", "SourceInvalid", "two", ""))
    )
    with pytest.raises(errors.TargetNotEmpty, match="a: one; b: two"):
        refused.require_allowed()
    plan.require_allowed()


def test_a_plan_that_would_restore_nothing_is_refused() -> None:
    """A restore that does nothing must not look like one that worked."""
    with pytest.raises(errors.Refused, match="nothing to restore"):
        draw_plan(PointStatus(point("p"), ()), RestoreTarget("nowhere"), ALL).require_allowed()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg2://u:p@ss@h/db", "postgresql+psycopg2://…@h/db"),
        ("sqlite:////srv/mlflow.db", "sqlite:////srv/mlflow.db"),
        ("/srv/plain", "/srv/plain"),
        ("postgresql://h/db?user=u&password=p&sslmode=require", "postgresql://h/db?user=u&password=…&sslmode=require"),
        ("postgresql://u:p@h/db?SSLPassword=x", "postgresql://…@h/db?SSLPassword=…"),
        ("s3://KEY:SECRET@bucket/x?endpoint=http://h", "s3://…@bucket/x?endpoint=http://h"),
        ("azure://KEY@account/models/x", "azure://…@account/models/x"),
        ("wasbs://models@account.blob.core.windows.net/x", "wasbs://models@account.blob.core.windows.net/x"),
        ("wasbs://models:KEY==@account.blob.core.windows.net/x", "wasbs://…@account.blob.core.windows.net/x"),
    ],
)
def test_urls_are_shown_without_user_and_password(url: str, shown: str) -> None:
    """Not even a password with an @ in it is shown."""
    assert without_secrets(url) == shown


def test_values_survive_json_and_a_changed_type_is_an_integrity_error() -> None:
    """What one task hands to the next arrives as the same value, or not at all."""
    value = point()
    data = to_json(value)
    assert from_json(RecoveryPoint, data) == value
    assert canonical(data) == canonical(to_json(from_json(RecoveryPoint, data)))
    with pytest.raises(errors.IntegrityError, match="format"):
        from_json(RecoveryPoint, {**data, "format": "one"})


def test_every_error_class_stands_in_the_tree_of_the_module() -> None:
    """The drawing at the top of muster.errors is complete, and says the exit code that the class has."""
    drawn = errors.__doc__ or ""
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.MusterError)]
    for kind in classes:
        line = next((line for line in drawn.splitlines() if f" {kind.__name__} " in line), "")
        assert line, f"{kind.__name__} is not drawn"
        if "exit" in line:
            assert line.rstrip().endswith(f"exit {kind.exit_code}")
