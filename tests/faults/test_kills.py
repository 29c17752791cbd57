"""SIGKILL at two hundred random places of a snapshot, and of an expiry, in a folder: no point is harmed, and nobody has to help."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest

from faults import killed_expiries, killed_snapshots
from faults.kills import BATCH, BATCHES, Series


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> Series:
    """The kills of a snapshot; each is done once."""
    return Series(killed_snapshots.__name__, tmp_path_factory.mktemp("snapshots"))


@pytest.fixture(scope="module")
def expiries(tmp_path_factory: pytest.TempPathFactory) -> Series:
    """The kills of an expiry; each is done once."""
    return Series(killed_expiries.__name__, tmp_path_factory.mktemp("expiries"))


def assert_harmless(kills: Series, batch: int) -> None:
    """Whatever did not hold after one of these kills is shown, with its number and place."""
    wrong = [str(kill) for kill in kills.batch(batch) if kill.wrong]
    assert not wrong, "\n".join(wrong)


def assert_spread(kills: Series, stages: Iterable[str]) -> None:
    """There were two hundred, nearly all before the work had ended, and they hit it at all of these stages."""
    done = kills.all()
    assert len(done) == BATCH * BATCHES == 200
    assert sum(kill.place is not None for kill in done) >= 195
    found = Counter(kill.stage for kill in done)
    missed = [stage for stage in stages if not found[stage]]
    assert not missed, f"no kill hit when {missed}: {found}"


@pytest.mark.parametrize("batch", range(BATCHES))
def test_a_snapshot_killed_anywhere_harms_no_point_and_is_taken_again(snapshots: Series, batch: int) -> None:
    """
    Points of before restore byte for byte, the killed one is whole or not there, verification and the audit trail hold, no file is left
    that is no object; the same run and another succeed, and expiry removes what the killed one left.
    """
    assert_harmless(snapshots, batch)


@pytest.mark.timeout(900)  # alone, it does all of them
def test_the_kills_hit_a_snapshot_at_every_stage(snapshots: Series) -> None:
    """Before the first pack, between packs, indexes, manifest and records: the test above is no test of one moment only."""
    assert_spread(snapshots, set(killed_snapshots.STAGES) - killed_snapshots.BRIEF)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_an_expiry_killed_anywhere_harms_no_point_that_stays_and_is_ended_by_the_next(
    expiries: Series, batch: int
) -> None:
    """
    Points that stay restore byte for byte, the others do or are gone, verification and the audit trail hold; content that was on its way
    out can be sealed again; in the end the packs are there that the points need, and nothing tells of any other.
    """
    assert_harmless(expiries, batch)


@pytest.mark.timeout(900)
def test_the_kills_hit_an_expiry_at_every_stage(expiries: Series) -> None:
    """Between records, manifests, condemnations, packs, index objects and marks: the test above is no test of one moment only."""
    assert_spread(expiries, set(killed_expiries.STAGES) - killed_expiries.BRIEF)
