"""What a report proves: whose times they are, and which records are of its run."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from fakes import FrozenClock, MemoryStore
from muster.operations.evidence import timeline, trail_of_run
from muster.vault.vault import Vault
from vaults import ACTOR, PASSPHRASE, POINT, make_vault

STARTED = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("before", "told"),
    [
        (60, ("the loss, as it was given", "given")),
        (0, ("the loss is assumed here", "assumed")),
        (-1, ("the loss is assumed here", "assumed")),
    ],
)
def test_a_loss_is_given_or_assumed_and_never_measured(before: int, told: tuple[str, str]) -> None:
    """A drill begins at the time that counts as its loss, and so does a restore of which nobody says when it was."""
    lost = STARTED - timedelta(seconds=before)
    events = timeline(lost, STARTED, [], [], None, [], STARTED + timedelta(seconds=90))
    (loss,) = (event for event in events if "loss" in event.what)
    assert ((loss.what, loss.source), loss.at) == (told, lost)
    assert [event.what for event in events if event.source == "measured"] == ["the recovery was started", "concluded"]


def test_records_of_a_workload_whose_name_ends_alike_are_not_of_the_run() -> None:
    """``risk`` is not ``credit-risk``."""
    clock, store = FrozenClock(), MemoryStore()
    vault, _ = make_vault(store, clock)
    began = clock.advance(10)
    other = Vault.open(store, PASSPHRASE, clock=clock, actor=replace(ACTOR, name="eve", via="cli"))
    for subject in (
        "credit-risk/x",
        "points/credit-risk/x.json",
        "risk/x",
        "points/risk/x.json",
        "risk",
        f"marks/{POINT}0/held-1.json",
    ):
        other.record("act", subject, "ok")
    told, proof = trail_of_run(vault, "risk", f"{POINT}0", began)
    assert [event.what for event in told] == [
        "act risk/x",
        "act points/risk/x.json",
        "act risk",
        f"act marks/{POINT}0/held-1.json",
    ]
    assert proof is not None
    assert proof.complete
