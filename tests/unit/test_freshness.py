"""Up to when what came back holds what was written, and what is wrong with a canary."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from muster.domain.freshness import Newest, asked_every, by_canary, canary_finding, component_points

LOST = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
CUT = LOST - timedelta(hours=1)
CUTS = {"registry/models": CUT, "dataset/flights": CUT - timedelta(minutes=1), "environment/models": CUT}


def canary(minutes_before_cut: float) -> Newest:
    return Newest("canary", CUT - timedelta(minutes=minutes_before_cut), "c0ffee")


def test_each_component_has_its_cut_and_what_was_found_in_it() -> None:
    """Beside each other; a component that did not come back has neither."""
    commit = Newest("commit", CUT - timedelta(days=9), "abc")
    registry, dataset = sorted(
        component_points(LOST, CUTS, {"dataset/flights": commit, "registry/models": canary(4)}),
        key=lambda point: point.component,
        reverse=True,
    )
    assert (registry.by_cut_s, registry.by_newest_s, registry.by_canary_s) == (3600, 3840, 3840)
    assert (dataset.by_cut_s, dataset.by_newest_s, dataset.by_canary_s) == (3660, 3600 + 9 * 86_400, None)


def test_a_commit_that_is_old_loses_nothing() -> None:
    """A repository in which nobody had anything to commit is not behind."""
    commit = Newest("commit", CUT - timedelta(days=9), "abc")
    assert by_canary(component_points(LOST, CUTS, {"dataset/flights": commit})) is None


def test_the_oldest_canary_tells_what_was_lost() -> None:
    """Of several registries."""
    points = component_points(
        LOST, {**CUTS, "registry/two": CUT}, {"registry/models": canary(4), "registry/two": canary(9)}
    )
    assert by_canary(points) == 3600 + 9 * 60


@pytest.mark.parametrize(
    ("newest", "finding"),
    [
        (canary(4), None),
        (canary(0), None),
        (canary(-1), None),
        (canary(-2), "is newer than its cut"),
        (None, "without a canary, and the catalog wants one every 5m: nobody looked for one"),
        (Newest("canary", None, failure="the experiment is gone"), "every 5m: the experiment is gone"),
    ],
)
def test_a_canary_must_be_there_and_be_older_than_its_cut(newest: Newest | None, finding: str | None) -> None:
    """A minute and a half are allowed for: a store is looked at a moment after its cut was noted."""
    found = canary_finding("5m", newest, CUT)
    assert found == finding if finding is None else finding in str(found)


@pytest.mark.parametrize(
    ("catalog", "every"),
    [({}, None), ({"canary": None}, None), ({"canary": {"every": "5m"}}, "5m"), ({"canary": "x"}, None)],
)
def test_the_catalog_of_the_point_says_whether_one_is_wanted(catalog: dict[str, object], every: str | None) -> None:
    """Not the catalog of today: it may have been changed since."""
    assert asked_every(catalog) == every
