"""Snapshots, expiries, holds, verifications, restores, damage, healing in any order, with faults at any call, against a plain picture."""

from __future__ import annotations

import os
import sys
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from expiring import assert_condemnations_are_needed
from fakes import Fault, FrozenClock
from faults import drawn
from faults.comparing import LYING, MUST_HAPPEN, Comparison
from faults.picture import LOCKS, POLICIES, Taken, files_of, payload
from faults.place import NEW, ask_in_order, restored
from faults.snapshots import seal_dataset, store_dataset, take
from muster.domain.recovery_point import Component
from muster.errors import MusterError
from muster.operations.expire import ExpiryReport, expire_points
from muster.operations.heal import Help, heal
from muster.operations.hold import hold_point, release_point
from muster.operations.verify import Thoroughness, examine
from muster.vault.condemned import GRACE
from muster.vault.vault import Vault, VerifyReport

LONG = bool(os.environ.get("MUSTER_FAULTS_LONG"))
SEEN: Counter[str] = Counter()


class VaultAgainstPicture(RuleBasedStateMachine):
    """Two programs have a vault open for long, and others come and go; none runs while another does, but each may be cut off."""

    def __init__(self) -> None:
        super().__init__()
        self.both = Comparison(SEEN)
        self.place, self.picture = self.both.place, self.both.picture
        self.number = 0
        self.stored: list[tuple[Taken, Component]] = []

    @rule(step=st.deferred(lambda: st.one_of(drawn.ACTIONS)))
    def step(self, step: tuple[str, dict[str, Any]]) -> None:
        name, given = step
        getattr(self, name)(**given)

    # --- snapshots ----------------------------------------------------------------------------------------------------

    @drawn.action(
        who=drawn.WHO, workload=drawn.WORKLOAD, files=drawn.FILES, fault=st.none() | drawn.SNAPSHOT, again=drawn.WHO
    )
    def snapshot(self, who: int, workload: str, files: frozenset[int], fault: Fault | None, again: int) -> None:
        """With a fault it is tried again, as a task is; then it is sealed: once."""
        taken = self._snapshot(workload, files)
        self._take(taken, who, fault)
        if fault:
            self._take(taken, again)

    @drawn.action(who=drawn.WHO, workload=drawn.WORKLOAD, files=drawn.FILES, more=drawn.FILES, at=st.integers(1, 60))
    def snapshot_after_one_that_was_cut_off(
        self, who: int, workload: str, files: frozenset[int], more: frozenset[int], at: int
    ) -> None:
        """The program of the first dies at a call, and nobody tries it again."""
        self._take(self._snapshot(workload, files), who, Fault("fail", at=at, times=None))
        self.place.close(who)
        self._take(self._snapshot(workload, files | more), NEW)

    @drawn.action(who=drawn.WHO, workload=drawn.WORKLOAD, files=drawn.FILES, fault=st.none() | drawn.STORING)
    def store(self, who: int, workload: str, files: frozenset[int], fault: Fault | None) -> None:
        """A task that captures, of which another seals the point later."""
        taken = self._snapshot(workload, files)
        dataset, error = self.place.do(
            who, lambda vault: store_dataset(vault, taken.files, FrozenClock(taken.at)), fault
        )
        self.both.excuses(error)
        if dataset:
            self.stored.append((taken, dataset))

    @drawn.action(
        who=drawn.WHO, nth=drawn.NTH, nights=st.sampled_from([0, 0, 0, 2, 7]), fault=st.none() | drawn.SEALING
    )
    def seal_what_was_stored(self, who: int, nth: int, nights: int, fault: Fault | None) -> None:
        """What was stored less than a grace ago can be sealed, whatever expired meanwhile."""
        if not self.stored:
            return
        self._let_nights_pass(nights)
        taken, dataset = self.stored[nth % len(self.stored)]
        _, error = self.place.do(who, lambda vault: _seal(vault, dataset, taken), fault)
        late = self.place.clock.now() - taken.at >= GRACE
        if not late and not self.place.anew().healing.noted():
            self.both.excuses(error)
        if self.both.snapshot_ended(taken, error, began=False) or late:
            self.stored.remove((taken, dataset))

    def _snapshot(self, workload: str, files: frozenset[int]) -> Taken:
        self.number += 1
        return Taken(self.number, workload, files_of(files), self.place.clock.now())

    def _take(self, taken: Taken, who: int, fault: Fault | None = None) -> None:
        clock, lock = FrozenClock(taken.at), LOCKS.get(taken.workload)
        _, error = self.place.do(
            who, lambda vault: take(vault, taken.files, taken.number, taken.workload, clock, lock), fault
        )
        self.both.excuses(error)
        self.both.snapshot_ended(taken, error)

    # --- time ---------------------------------------------------------------------------------------------------------

    @drawn.action(hours=drawn.HOURS, restarts=drawn.WHO)
    def let_time_pass(self, hours: int, restarts: int) -> None:
        """Meanwhile one of the programs may have ended, and the next time it is asked it opens the vault anew."""
        self.place.close(restarts)
        self.place.clock.advance(hours * 3600)

    def _let_nights_pass(self, nights: int, hours: float = 24) -> None:
        """With an expiry in each."""
        for _ in range(nights):
            self._apply(NEW)
            self.both.step_ended()
            self.place.clock.advance(hours * 3600)

    # --- expiry -------------------------------------------------------------------------------------------------------

    @drawn.action(who=drawn.WHO, fault=st.none() | drawn.EXPIRING)
    def only_say_what_would_expire(self, who: int, fault: Fault | None) -> None:
        self._look(who, fault)

    @drawn.action(who=drawn.WHO, nights=st.sampled_from([0, 0, 3]), fault=st.none() | drawn.EXPIRING)
    def expire(self, who: int, nights: int, fault: Fault | None) -> None:
        """Without a fault it does what a program that only looks, a moment before, says that it would do."""
        foretold = None if fault else self._look(NEW)
        kept_longer = self.picture.leaving(self.place.clock.now()) - self._leaving()
        report = self._apply(who, fault)
        if foretold and report and not kept_longer and not self.both.damaged():
            for figure in ("condemned", "removed", "waiting", "young"):
                assert getattr(report.swept, figure) == getattr(foretold.swept, figure), figure
        self.both.step_ended()
        self._let_nights_pass(nights)

    def _look(self, who: int, fault: Fault | None = None) -> ExpiryReport | None:
        """It changes nothing, and says what the retention says."""
        before = dict(self.place.memory.objects)
        report, error = self.place.do(who, lambda vault: self._expire(vault, apply=False), fault)
        assert self.place.memory.objects == before
        assert error or not self.place.lost(self.picture.names())
        excused = self.both.excuses(error)
        leaving = self.picture.leaving(self.place.clock.now())
        if report and not excused:
            names = {verdict.status.point.point for verdict in report.leaving}
            assert names == {self.picture.points[number].taken.point for number in leaving}
        return report

    def _apply(self, who: int, fault: Fault | None = None) -> ExpiryReport | None:
        leaving, lost = self._leaving(), self.place.lost(self.picture.names())
        self.both.may_go("points/", "packs/", "indexes/", "marks/", "condemned/")
        report, error = self.place.do(who, lambda vault: self._expire(vault, apply=True), fault)
        excused = self.both.excuses(error)
        assert error or not lost
        self.both.expiry_ended(leaving, lost, whole=not excused)
        return report

    def _leaving(self) -> set[int]:
        """What the retention lets go and the store does too."""
        leaving = self.picture.leaving(self.place.clock.now())
        return {number for number in leaving if not self.place.is_locked(self.picture.points[number].taken.key)}

    def _expire(self, vault: Vault, *, apply: bool) -> ExpiryReport:
        return expire_points(vault, POLICIES, self.place.clock, apply=apply)

    # --- holds --------------------------------------------------------------------------------------------------------

    @drawn.action(who=drawn.WHO, nth=drawn.NTH, fault=st.none() | drawn.MARKING)
    def hold_or_release(self, who: int, nth: int, fault: Fault | None) -> None:
        """An odd one is released if anything is held."""
        self._mark(who, nth // 2, fault, held=nth % 2 == 0 or not any(p.held for p in self.picture.points.values()))

    def _mark(self, who: int, nth: int, fault: Fault | None, *, held: bool) -> None:
        candidates = [sealed for _, sealed in sorted(self.picture.points.items()) if held or sealed.held]
        if not candidates:
            return
        sealed = candidates[nth % len(candidates)]
        change = hold_point if held else release_point

        def work(vault: Vault) -> None:
            status = vault.point(sealed.taken.point, sealed.taken.workload)
            change(vault, status, "an inquiry", self.place.clock)

        _, error = self.place.do(who, work, fault)
        excused = self.both.excuses(error)
        sealed.held = self.place.is_held(sealed)
        assert excused or sealed.held == held
        if error is None and not (self.place.hit and self.place.hit.kind in LYING):
            self.both.hold_ended(sealed, held=held)
        SEEN[f"{'held' if held else 'released'}{' with a fault' if self.place.hit else ''}"] += 1

    # --- verifications, restores --------------------------------------------------------------------------------------

    @drawn.action(who=drawn.WHO, files=st.booleans(), fault=st.none() | drawn.VERIFYING)
    def verify(self, who: int, files: bool, fault: Fault | None) -> None:
        """Clean, it lifts the doubts that earlier ones raised."""
        report, error = self.place.do(who, lambda vault: self._examine(vault, files=files), fault)
        hit = self.place.hit
        excused = self.both.excuses(error)
        if self.both.damaged() or (hit and hit.kind in LYING):
            self.both.may_be_doubted()
        self.both.verification_ended(report, hit)
        if files and not excused:
            assert not any(status.suspect for status in self.place.anew().points())

    def _examine(self, vault: Vault, *, files: bool = True) -> VerifyReport:
        how = Thoroughness(whole=True, files=files)
        return examine(vault, vault.readable_points(), how, self.place.clock)

    @drawn.action(who=drawn.WHO, nth=drawn.NTH, fault=st.none() | drawn.RESTORING)
    def restore(self, who: int, nth: int, fault: Fault | None) -> None:
        if not self.picture.points:
            return
        sealed = self.picture.points[sorted(self.picture.points)[nth % len(self.picture.points)]]
        found, error = self.place.do(who, lambda vault: restored(vault, sealed), fault)
        self.both.restore_ended(sealed, found, error)

    # --- damage -------------------------------------------------------------------------------------------------------

    @drawn.action(harm=drawn.HARM, nth=drawn.NTH, noticed=st.booleans())
    def damage(self, harm: tuple[str, str], nth: int, noticed: bool) -> None:
        """Somebody harms one object; of what is taken away only that is missed which something tells of."""
        folder, how = harm
        keys = sorted(self.place.keys(folder))
        if not keys or self.both.damaged():
            return
        key = keys[nth % len(keys)]
        if how == "delete" and key not in self.picture.packs() | self._told():
            how = "flip"
        self.both.may_go(key)
        self.place.damage(key, how)
        SEEN[f"damage {how} {folder}"] += 1
        self.both.everything_restores()
        self.both.step_ended()
        if noticed:
            self.verify(NEW, False, None)
        else:
            self._look(NEW)

    def _told(self) -> set[str]:
        """The manifests that the audit trail tells of."""
        records = [payload(self.place.memory.objects[key]) for key in self.place.keys("audit/")]
        return {record["subject"] for record in records if record["action"] == "seal"}

    @drawn.action(free_the_names=st.booleans(), fault=st.none() | drawn.HEALING)
    def heal(self, free_the_names: bool, fault: Fault | None) -> None:
        """
        From a replica. Damaged packs are healed as they lie; other damaged objects when somebody has removed them.

        What nothing in the vault tells of is copied by hand, once healing has brought back all the rest.
        """
        damaged = self.both.damaged()
        if not damaged:
            return
        self.both.may_go(*damaged)
        self.both.may_be_doubted()
        if free_the_names:
            self.place.take_away(damaged)
        needed = self._packs_of_readable_manifests()
        error = self._heal(damaged, fault)
        if free_the_names:
            assert self.place.hit or not needed - self.place.keys("packs/")
            self.place.take_away(self.both.damaged())
            self.place.copy_back(damaged | self.place.lost())
        elif not all(key.startswith("packs/") for key in self.both.damaged()):
            return
        if error or self.place.hit:
            error = self._heal(self.both.damaged(), None)
        if error:
            raise error
        vault = self.place.anew()
        assert all(restored(vault, sealed) == sealed.taken.files for sealed in self.picture.points.values())

    def _heal(self, lost: set[str], fault: Fault | None) -> MusterError | None:
        replica = Help((self.place.replica(lost),))
        _, error = self.place.do(NEW, lambda vault: heal(vault, replica, self.place.clock, files=True), fault)
        if not lost:
            self.both.excuses(error)
        SEEN["healing failed" if error else "healed"] += 1
        return error

    def _packs_of_readable_manifests(self) -> set[str]:
        return {
            pack
            for sealed in self.picture.points.values()
            if sealed.taken.key in self.place.memory.objects
            for pack in sealed.packs
        }

    # --- what holds after every step, and at the end ------------------------------------------------------------------

    @invariant()
    def the_vault_is_as_the_picture(self) -> None:
        self.both.step_ended()

    def teardown(self) -> None:
        """Healed, everything restores and nothing is found; and when expiry has nothing left to do, only what points need is left."""
        if sys.exc_info()[0]:
            return  # a step has failed: that is what is to be told
        if self.both.damaged():
            self.heal(True, None)
            self.both.step_ended()
        assert not self.both.damaged()
        self.verify(NEW, True, None)
        self.both.step_ended()
        self._let_nights_pass(4, hours=GRACE / timedelta(hours=1))
        self.verify(NEW, False, None)
        if not self.place.anew().healing.noted():
            assert self.place.keys("packs/") == self.picture.packs()
            assert_condemnations_are_needed(self.place.memory)


def _seal(vault: Vault, dataset: Component, taken: Taken) -> None:
    seal_dataset(vault, dataset, taken.number, taken.workload, LOCKS.get(taken.workload))


@pytest.mark.timeout(6 * 3600 if LONG else 300)
def test_the_vault_is_always_as_a_plain_picture_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    After each of hundreds of steps, and what the picture was held against did happen.

    A short run draws the same steps each time, and asks the store in the same order; a long one draws others, lets threads race, and
    shortens what it finds.
    """
    SEEN.clear()
    if not LONG:
        ask_in_order(monkeypatch)
    run_state_machine_as_test(
        VaultAgainstPicture,
        settings=settings(
            max_examples=400 if LONG else 18,
            stateful_step_count=60 if LONG else 40,
            phases=[Phase.generate, Phase.shrink] if LONG else [Phase.generate],
            derandomize=not LONG,
            database=None,
            deadline=None,
            # A step opens a vault, writes and verifies: that is slow, and meant.
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
    assert [what for what in MUST_HAPPEN if not SEEN[what]] == []
