"""Bring back what a vault has lost, from replicas and from what is still at the source, and mark the points that are whole again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from muster.domain.recovery_point import PointStatus
from muster.errors import IntegrityError, MusterError, NotFound
from muster.operations.runbook import render_again
from muster.operations.snapshot import capture, pin_point
from muster.operations.take import SnapshotJob
from muster.operations.together import side_by_side
from muster.operations.verify import Thoroughness, examine, listed, verified
from muster.ports import BlobStore, Clock, Progress
from muster.vault.vault import Vault, VerifyReport

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Help:
    """
    What may still have what was lost.

    :param replicas: stores that hold a copy of the same vault
    :param sources: workloads whose living systems are read again; nothing of them is sealed
    """

    replicas: Sequence[BlobStore] = ()
    sources: Sequence[SnapshotJob] = ()


@dataclass(frozen=True, slots=True)
class Healed:
    """
    What came of it.

    :param objects: keys of objects that were put back under their names
    :param chunks: number of chunks that were stored anew
    :param points: ids of the points that are no longer suspect
    :param left: what could not be healed
    :param unasked: replicas that could not help, each with its reason
    :param unheld: what the store did not let be held of points that are, each with its reason; `muster hold` tries again
    """

    objects: tuple[str, ...]
    chunks: int
    points: tuple[str, ...]
    left: VerifyReport
    unheld: tuple[str, ...] = ()
    unasked: tuple[str, ...] = ()

    def __str__(self) -> str:
        done = f"{len(self.objects)} objects put back, {self.chunks} chunks stored anew, {len(self.points)} points whole again"
        unheld = [f"NOT held by the store as before: {why}" for why in self.unheld]
        return "; ".join([done, *unheld, *(f"could not help: {why}" for why in self.unasked)])


def heal(vault: Vault, help_: Help, clock: Clock, *, files: bool = False, progress: Progress | None = None) -> Healed:
    """
    Verify all of a vault and heal what is found.

    :param files: compute the digests of every file, too
    :raises IntegrityError: if anything could not be healed; the message names it, by file and point
    :raises MusterError: if none of the replicas can be asked, what the first one says, as that it is no copy of this vault
    """
    put_back_keys(vault, help_.replicas)
    how = Thoroughness(whole=True, files=files)
    examine(vault, vault.readable_points(), how, clock, progress)
    healed = heal_found(vault, help_, clock, files=files, progress=progress)
    if not healed.left.ok:
        raise unhealed(vault, healed)
    return healed


def put_back_keys(vault: Vault, replicas: Sequence[BlobStore]) -> None:
    """
    Put back what tells of a vault's keys, before it is looked at: without that nothing is believed, and nothing is written.

    :raises MusterError: if there are replicas and none can be asked, what the first one says
    """
    if done := _Replicas(replicas).each(vault.put_back_keys):
        logger.warning("what tells of the keys of %s was gone, and was put back: %s", vault.url, ", ".join(done))


def heal_found(
    vault: Vault, help_: Help, clock: Clock, *, files: bool = False, progress: Progress | None = None
) -> Healed:
    """
    Heal what earlier verifications found, of a vault whose keys are whole (`put_back_keys`).

    Objects come back first, since a manifest may be among them; then chunks, from replicas before sources. At last everything is
    looked at again that was ever found damaged, so that what a point was suspect for is known to be gone.

    :raises MusterError: as of `heal`
    """
    replicas = _Replicas(help_.replicas)
    objects = replicas.each(vault.healing.put_back)
    tried: set[str] = set()
    missing = 0
    after = vault.verify(share=0.0, files=files, progress=progress)
    while True:
        # A list of entries that comes back tells of files whose chunks are lost as well.
        lost = [chunk for chunk in after.lost if chunk not in tried]
        tried.update(lost)
        missing += len(_bring_chunks(vault, replicas, help_.sources, lost, clock, progress))
        vault.healing.index_all()
        after = vault.verify(share=0.0, files=files, progress=progress)
        if tried.issuperset(after.lost):
            break
    came_back = {"objects": len(objects), "chunks": len(tried) - missing}
    whole = _mark(vault, after, came_back, clock, files=files)
    points = [status.point.point for status in whole]
    facts = {**came_back, "points": len(points), "put_back": objects[:100], "left": len(after.findings)}
    unheld = tuple(_hold_again(vault, whole))
    facts |= {"unheld": unheld} if unheld else {}
    facts |= {"unasked": replicas.unasked} if replicas.unasked else {}
    vault.record("heal", vault.id, "whole" if after.ok else "not whole", facts)
    return Healed(tuple(objects), came_back["chunks"], tuple(points), after, unheld, tuple(replicas.unasked))


class _Replicas:
    """Replicas that are asked one after the other; one that fails is asked no more, and the others are."""

    def __init__(self, replicas: Sequence[BlobStore]) -> None:
        self._left = list(replicas)
        self.unasked: list[str] = []

    def each(self, work: Callable[[BlobStore], list[str]]) -> list[str]:
        """
        What came of this work with each of them.

        :raises MusterError: if none of them is left, what the first one said
        """
        done: list[str] = []
        failures: list[MusterError] = []
        for replica in list(self._left):
            try:
                done += work(replica)
            except MusterError as error:
                logger.warning("the replica %s cannot help: %s", replica.url, error.message)
                self._left.remove(replica)
                self.unasked.append(f"{replica.url}: {error.message}")
                failures.append(error)
        if failures and not self._left:
            raise failures[0]
        return done


def _hold_again(vault: Vault, healed: Iterable[PointStatus]) -> Iterator[str]:
    """Hold the packs that took the place of those that the store held; give the reason of each point for which it did not work."""
    for before in healed:
        if not before.holds:
            continue
        try:
            status = vault.point(before.point.point, before.point.workload)
            if status.holds:
                vault.hold_objects(status)
        except MusterError as error:
            logger.warning("point %s is not held by the store as before: %s", before.point.point, error.message)
            yield f"point {before.point.point} of {before.point.workload}: {error.message}"


def _bring_chunks(
    vault: Vault,
    replicas: _Replicas,
    sources: Sequence[SnapshotJob],
    lost: list[str],
    clock: Clock,
    progress: Progress | None,
) -> list[str]:
    """Store lost chunks anew, from replicas, from what manifests render, and from sources; return those that nobody has."""
    left = lost

    def narrowed(replica: BlobStore) -> list[str]:
        nonlocal left
        left = vault.healing.store_again(replica, left)
        return []

    replicas.each(narrowed)
    if left:
        render_again(vault)
        left = vault.healing.prove(left)
    if left and sources:
        _read_sources(vault, sources, clock, progress)
        left = vault.healing.prove(left)
    return left


def usable(vault: Vault, replicas: Iterable[BlobStore]) -> tuple[list[BlobStore], list[MusterError]]:
    """Those stores that hold a copy of a vault, and why each of the others is of no use."""
    copies: list[BlobStore] = []
    failures: list[MusterError] = []
    for replica in replicas:
        try:
            if not vault.healing.is_copy(replica):
                raise NotFound(
                    f"{replica.url} holds no copy of the vault {vault.url}", "replicate the vault there anew"
                )
            copies.append(replica)
        except MusterError as error:
            failures.append(error)
    return copies, failures


def unhealed(vault: Vault, healed: Healed) -> IntegrityError:
    """The failure that names what could not be healed."""
    return IntegrityError(
        f"{vault.url}: {healed}; {len(healed.left.findings)} findings are left\n{listed(healed.left.findings)}",
        "name another replica with --from, or --from-source while the source has it. A damaged object keeps its name: let whoever may "
        "remove it do so, and heal again. Points named here stay suspect",
    )


def _read_sources(vault: Vault, jobs: Iterable[SnapshotJob], clock: Clock, progress: Progress | None) -> None:
    """Store again what is still the same: equal bytes give equal chunks, and those in damaged packs count as absent."""
    for job in jobs:
        pin = pin_point(vault, job.workload, clock)
        read = partial(capture, vault, pin, progress=progress)
        _, failures = side_by_side(read, job.sources)
        for failure in failures:
            logger.warning("a source of %s could not be read again: %s", job.workload, failure)


def _mark(
    vault: Vault, after: VerifyReport, came_back: dict[str, int], clock: Clock, *, files: bool
) -> list[PointStatus]:
    """
    Mark the points that are whole again.

    All that marks of damage tell of was looked at once more, whatever the share: damaged packs are read again at every
    verification, documents and lists are always; only digests of files are not, unless asked for.
    """
    whole = [status for status in vault.readable_points() if _is_whole(status, after, files=files)]
    for status in whole:
        vault.mark(verified(status, Thoroughness(files=files), clock, {"healed": came_back, "files": files}))
    return whole


def _is_whole(status: PointStatus, after: VerifyReport, *, files: bool) -> bool:
    answerable = [mark for mark in status.damage if files or not mark.summary.get("by_digest")]
    return bool(answerable) and not after.of(status.point.point) and after.reach_known
