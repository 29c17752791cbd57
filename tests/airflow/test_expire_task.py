"""The task that expires: by the catalog's retention, told before it is done, and heard when the store refuses."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from expiring import nightly
from fakes import FrozenClock
from muster.bootstrap import Platform
from muster.catalog import load_catalog
from muster.domain.recovery_point import RecoveryPoint
from muster.errors import Refused, UsageError
from vaults import ACTOR, CHEAP

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(120)]
CATALOG = "vaults:\n  primary: {url: conn:primary, passphrase: conn:words}\n"
WORKLOAD = """\
workload: flights
owner: ops
objectives: {rpo: 1d, rto: 15m}
datasets: [{name: d0, repo: numbers, targets: [data]}]
vault: primary
retention: {daily: 2}
"""
START = datetime(2026, 11, 1, 2, tzinfo=UTC)


@pytest.fixture
def clock() -> FrozenClock:
    """Stands still unless it is told to go on."""
    return FrozenClock(START)


@pytest.fixture
def platform(tmp_path: Path, clock: FrozenClock) -> Platform:
    """A catalog that keeps the points of two days; an empty vault."""
    folder = tmp_path / "catalog"
    (folder / "workloads").mkdir(parents=True)
    (folder / "vaults.yaml").write_text(CATALOG)
    (folder / "workloads" / "flights.yaml").write_text(WORKLOAD)
    names = {"conn:primary": f"{tmp_path}/primary", "conn:words": "w" * 20}
    catalog, state = load_catalog(folder), tmp_path / "state"
    platform = Platform(catalog, lambda name: names.get(name, name), state=state, actor=ACTOR, clock=clock)
    platform.create_vault("primary", cost=CHEAP)
    return platform


@pytest.fixture
def points(platform: Platform, clock: FrozenClock) -> list[RecoveryPoint]:
    """One point a night, for four nights."""
    return nightly(platform.vault("primary"), clock, 4)


def expire(platform: Platform, apply: str | bool = True) -> Any:
    from muster_airflow.operators.expire import ExpirePointsOperator
    from muster_airflow.operators.recovery import Site

    task = ExpirePointsOperator(task_id="expire", vault="primary", apply=apply)
    return task.perform(Site(platform, {}, ""))  # type: ignore[arg-type]


def names(platform: Platform) -> list[str]:
    return [status.point.point for status in platform.vault("primary").points()]


def test_what_the_retention_gave_up_goes_and_the_rest_is_whole(platform: Platform, points: list[RecoveryPoint]) -> None:
    """Told first, as Airflow's form gives it; then done; the second time there is nothing to do."""
    assert expire(platform, "False")["expired"] == 2
    assert names(platform) == [point.point for point in points]
    done = expire(platform, "True")
    assert (done["applied"], done["points"], done["expired"]) == (True, 4, 2)
    assert names(platform) == [point.point for point in points[2:]]
    assert platform.vault("primary").verify(share=1.0, files=True).ok
    assert expire(platform)["expired"] == 0


def test_a_store_that_refuses_fails_the_task(
    platform: Platform, points: list[RecoveryPoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names what is still there, and nothing counts as expired."""
    from muster.adapters.local_store import LocalStore

    def refuse(self: LocalStore, key: str) -> None:
        raise Refused(f"{key} may not be deleted", "ask who owns the store")

    monkeypatch.setattr(LocalStore, "delete", refuse)
    with pytest.raises(Refused, match=f"2 objects be removed\n  {points[0].point}: "):
        expire(platform)
    assert names(platform) == [point.point for point in points]


def test_an_answer_that_is_neither_yes_nor_no_removes_nothing(platform: Platform, points: list[RecoveryPoint]) -> None:
    """It is refused before the vault is touched."""
    with pytest.raises(UsageError, match="'maybe'"):
        expire(platform, "maybe")
    assert names(platform) == [point.point for point in points]
