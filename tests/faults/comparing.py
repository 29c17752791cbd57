"""What is compared after every step of the model-based test: the picture of what must be there, and the vault that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from fakes import Fault
from faults.picture import Picture, Sealed, Taken, pack_keys, payload, untouched
from faults.place import Place, restored, restored_or_error
from muster.domain.recovery_point import PointStatus
from muster.errors import MusterError
from muster.vault.condemned import GRACE
from muster.vault.needs import look_anew
from muster.vault.vault import VerifyReport

DOCUMENTS = ("points/", "marks/", "audit/", "condemned/", "damaged/")
LYING = ("truncate", "flip")
"""Faults by which a store gives back something else, so that a program may see damage where none is."""

MUST_HAPPEN = (
    "snapshot sealed",
    "snapshot sealed after an error",
    "snapshot absent after an error",
    "point locked",
    "point expired",
    "pack condemned",
    "pack removed",
    "held",
    "released",
    "restored",
    "restore refused",
    "verification ok",
    "verification found something",
    "damage named",
    "healed",
)
"""Without any of these a run has shown little."""


class Comparison:
    """
    A vault, and the picture of it.

    :param place: where it is
    :param seen: how often what happened; shared by many comparisons
    """

    def __init__(self, seen: Counter[str]) -> None:
        self.place, self.picture, self.seen = Place(), Picture(), seen
        self._before = dict(self.place.memory.objects)
        self._overtaken: set[str] = set()
        self._may_go: tuple[str, ...] = ()
        self._may_be_doubted = False

    def damaged(self) -> set[str]:
        """What is not as it was meant, but for what was taken away and nobody needs."""
        return self.place.damaged(self.picture.packs() | self.picture.names())

    def may_go(self, *folders: str) -> None:
        """From these folders objects may be removed, or changed, in this step."""
        self._may_go += folders

    def may_be_doubted(self) -> None:
        """In this step points may become suspect."""
        self._may_be_doubted = True

    def excuses(self, error: MusterError | None) -> bool:
        """
        Whether something kept a program from doing its work: a fault that was met, or damage. Raises the error if nothing did.

        :param error: that ended its work, if any did
        """
        excused = self.place.hit is not None or bool(self.damaged())
        if error and not excused:
            raise error
        if error:
            self.seen[f"error: {type(error).__name__}"] += 1
        return excused

    # --- after each step ----------------------------------------------------------------------------------------------

    def step_ended(self) -> None:
        """Compare all that can be compared at any time; then a second passes."""
        changed = self._changed()
        assert not {key for key in changed if not key.startswith(self._may_go)}
        self._the_listing_is_the_picture(changed | (self.place.memory.objects.keys() - self._before.keys()))
        self._what_was_removed_was_not_needed()
        self._nothing_new_names_what_it_may_not(self.place.memory.objects.keys() - self._before.keys())
        self._before = dict(self.place.memory.objects)
        self._may_go, self._may_be_doubted = (), False
        self.place.clock.advance(1)

    def _changed(self) -> set[str]:
        """What is not as it was before the step; nothing may be, except where the step may remove something."""
        objects = self.place.memory.objects
        return {key for key, data in self._before.items() if objects.get(key) is not data}

    def _the_listing_is_the_picture(self, changed: set[str]) -> None:
        """Every point that is sealed and not expired is listed with its holds and doubts, and nothing else is."""
        names = self.place.keys("points/")
        assert names == self.picture.names() - self.place.lost(self.picture.names())
        if _of_points(self.damaged()) or not _of_points(changed):
            return
        statuses = self.place.anew().points()
        self._learn_doubts(statuses)
        found = {(s.point.workload, s.point.point): (bool(s.holds), s.suspect) for s in statuses}
        assert found == self.picture.listing()

    def _learn_doubts(self, statuses: Iterable[PointStatus]) -> None:
        """A point is suspect only since something was damaged, or a store lied to a verification."""
        doubted = {status.point.point for status in statuses if status.suspect}
        for sealed in self.picture.points.values():
            suspect = sealed.taken.point in doubted
            assert not (suspect and not sealed.suspect and not self._may_be_doubted)
            sealed.suspect = suspect

    def _what_was_removed_was_not_needed(self) -> None:
        """
        Every pack that a point needs is there; those that are gone were written, and last needed, before the grace. On a pack that was
        condemned already a point may have been sealed that had begun before, or was lied to: then it is the condemnation that is as old.
        """
        now, there = self.place.clock.now(), self.place.keys("packs/")
        assert self.picture.packs() - there <= self.damaged()
        for pack in {key for key in self._before if key.startswith("packs/")} - there - self.place.lost():
            assert self.place.age_of(pack) >= GRACE
            if pack in self._overtaken:
                assert now - self._condemned_since(pack) >= GRACE
            else:
                assert now - self.picture.needed.get(pack, now - GRACE) >= GRACE
            self.seen["pack removed"] += 1
        self.picture.needed |= dict.fromkeys(self.picture.packs(), now)

    def _condemned_since(self, pack: str) -> datetime:
        """When the first of the condemnations was written that named a pack before this step."""
        written, meant = self.place.memory._written, self.place.witness.meant
        keys = [key for key in self._before if key.startswith("condemned/")]
        return min(written[key] for key in keys if pack in pack_keys(payload(meant[key])["packs"]))

    def _nothing_new_names_what_it_may_not(self, new: set[str]) -> None:
        """An index names packs that were stored; a condemnation, packs that are older than the grace and that no point needs."""
        for key in new - self.damaged():
            if key.startswith("indexes/"):
                assert self.place.ever_stored(self.place.packs_in_index(key))
            if key.startswith("condemned/"):
                packs = self.place.named_in(key)
                assert not packs & self.picture.packs()
                assert all(self.place.age_of(pack) >= GRACE for pack in packs)
                self.seen["pack condemned"] += len(packs)

    # --- after a snapshot ---------------------------------------------------------------------------------------------

    def snapshot_ended(self, taken: Taken, error: MusterError | None, *, began: bool = True) -> bool:
        """
        A point is whole or absent: there, if the snapshot ended well; and if it ended with an error, the store says whether it is.

        :param began: whether it began in this step, so that it builds on no pack that was named as damaged or condemned before
        """
        manifest = taken.key in self.place.memory.objects
        assert manifest or error
        if manifest and taken.number not in self.picture.points:
            sealed = self.picture.add(taken, self.place.witness.meant[taken.key])
            overtaken = sealed.packs & self.place.shunned
            if began and not self.place.hit:
                assert not overtaken
            self._overtaken |= overtaken
            if sealed.locked_until:  # its packs before there was a manifest that promises it
                assert not self.place.unlocked(sealed.packs, sealed.locked_until)
        sealed_now = self.picture.points.get(taken.number)
        if manifest and not error and sealed_now and sealed_now.locked_until:
            assert not self.place.unlocked([taken.key], sealed_now.locked_until)
            self.seen["point locked"] += 1
        self.seen[f"snapshot {'sealed' if manifest else 'absent'}{' after an error' if error else ''}"] += 1
        return manifest

    # --- after a hold -------------------------------------------------------------------------------------------------

    def hold_ended(self, sealed: Sealed, *, held: bool) -> None:
        """
        All that is there of a held point is held by the store; of one that was released, only what another held point may need: its
        own packs, and copies of what is in them.
        """
        own = (sealed.packs | {sealed.taken.key}) & self.place.memory.objects.keys()
        ours = {key for key in own if self.place.locks.of(key).held}
        assert ours == own if held else ours <= self._needed_by_held()
        self.seen["held by the store" if held else "released by the store"] += len(ours)

    def _needed_by_held(self) -> set[str]:
        vault = self.place.anew()
        look_anew(vault._index, vault._points)
        held = [status for status in vault.readable_points() if status.holds]
        return {key for status in held for key in vault._holds._objects(status, [], copies=True)}

    # --- after an expiry ----------------------------------------------------------------------------------------------

    def expiry_ended(self, leaving: set[int], lost: set[str], *, whole: bool) -> None:
        """
        Those points are gone that nothing keeps, all of them if nothing kept the program from its work; the others are whole.

        :param leaving: what the retention said before, but for what the store keeps longer
        :param lost: manifests that somebody had taken away
        """
        there = self.place.keys("points/") | lost
        gone = {number for number, sealed in self.picture.points.items() if sealed.taken.key not in there}
        assert gone <= leaving
        assert gone == leaving or not whole
        assert not any(self.picture.points[number].held for number in gone)
        for number in gone:
            del self.picture.points[number]
        self.seen["point expired"] += len(gone)
        if self._changed():
            self.everything_restores()

    # --- restores, verifications --------------------------------------------------------------------------------------

    def restore_ended(self, sealed: Sealed, found: dict[str, bytes] | None, error: MusterError | None) -> None:
        """Exactly its files; or an error, if a fault was met or something of it is damaged."""
        if error:
            assert self.place.hit or sealed.touched_by(self.damaged()), error
            self.seen["restore refused"] += 1
            return
        assert found == sealed.taken.files
        self.seen["restored"] += 1

    def everything_restores(self) -> None:
        """Every point that no damage reaches gives exactly its files, and no other gives anything else."""
        vault, whole = self.place.anew(), untouched(self.picture.points, self.damaged())
        for sealed in self.picture.points.values():
            found = restored_or_error(vault, sealed)
            if isinstance(found, MusterError) and sealed in whole:
                raise found
            assert isinstance(found, MusterError) or found == sealed.taken.files

    def verification_ended(self, report: VerifyReport | None, fault: Fault | None) -> None:
        """
        Nothing is found where nothing is wrong; what is damaged is named; and where nothing was found everything restores.

        :param fault: that was met; one by which the store lies makes anything be found
        """
        damaged = self.damaged()
        if report is None:
            return
        self.seen[f"verification {'ok' if report.ok else 'found something'}"] += 1
        if not damaged and (fault is None or fault.kind not in LYING):
            assert report.ok, [str(finding) for finding in report.findings]
        if fault is None:
            self._all_is_named(report, damaged & self.place.memory.objects.keys())
        if report.ok and not _may_undo_or_do_damage(fault):
            vault = self.place.anew()
            for sealed in self.picture.points.values():
                assert restored(vault, sealed) == sealed.taken.files

    def _all_is_named(self, report: VerifyReport, damaged: set[str]) -> None:
        """An index, and a pack that was noted before, may be in the notices when they harm nobody."""
        found = {finding.object for finding in report.findings}
        noticed = found | {notice.object for notice in report.notices}
        assert {key for key in damaged if key.startswith(DOCUMENTS)} <= found
        assert damaged <= noticed
        self.seen["damage named"] += len(damaged)


def _may_undo_or_do_damage(fault: Fault | None) -> bool:
    """
    Whether a wrong bit may have been flipped back as it was read, the verification's own marks were cut as they were written, or what
    is damaged was not listed.
    """
    if fault is None or fault.kind not in LYING:
        return False
    return fault.kind == "flip" or fault.operation in ("put", "list", "any")


def _of_points(keys: set[str]) -> bool:
    """Whether a manifest or a mark is among them."""
    return any(key.startswith(("points/", "marks/")) for key in keys)
