"""Which packs the points of a vault need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from muster.domain.recovery_point import PointStatus
from muster.errors import IntegrityError
from muster.ports import KnownContent
from muster.vault.index import Index, Standing
from muster.vault.points import Points
from muster.vault.reader import ChunkReader, ids
from muster.vault.sealing import contents


def look_anew(index: Index, points: Points) -> None:
    """What `needed_packs` wants of an index: reconciled with the store, and told which packs were found damaged."""
    index.refresh()
    index.reconcile()
    index.distrust(points.damaged_packs())


def needed_packs(
    statuses: Iterable[PointStatus],
    index: Index,
    reader: ChunkReader,
    unknown: list[IntegrityError] | None = None,
    *,
    copies: bool = False,
) -> set[str]:
    """
    All packs that must stay for these points to stay whole, and the reports on them.

    A manifest names its packs. Chunks of those that were damaged or lost may have been stored again in others, which it cannot
    name; so of such a point, and of reports, every pack that has a copy of a chunk is needed.

    :param index: reconciled with the store, and told which packs were found damaged
    :param copies: name every pack that has a copy of a chunk, whatever is known of those that the manifest names
    :param unknown: takes what cannot be told, instead of raising it: then all the rest is returned
    :raises IntegrityError: if a list of entries cannot be read, or a chunk is nowhere: what is needed cannot be told then
    """
    needed: set[str] = set()
    for status in statuses:
        point = status.point
        needed.update(point.packs)
        for content in _loose_contents(status, index, reader, unknown, copies=copies):
            needed |= _copies(f"point {point.point} of {point.workload}", content, index, unknown)
    return needed


def _loose_contents(
    status: PointStatus, index: Index, reader: ChunkReader, unknown: list[IntegrityError] | None, *, copies: bool
) -> Iterator[KnownContent]:
    """What a point needs whose packs its manifest does not name, or not all."""
    trees = [mark.report for mark in status.marks if mark.report]
    if copies or any(index.standing(pack) >= Standing.DISTRUSTED for pack in status.point.packs):
        trees += [component.tree for component in status.point.components]
    for tree in trees:
        try:
            yield from (content for _, content in contents(tree, reader))
        except IntegrityError as error:
            told = _unknown(f"point {status.point.point} of {status.point.workload}", error.message)
            if unknown is None:
                raise told from error
            unknown.append(told)


def _copies(what: str, content: KnownContent, index: Index, unknown: list[IntegrityError] | None) -> set[str]:
    packs: set[str] = set()
    for chunk in ids(content):
        copies = index.locations(chunk)
        if not copies:
            told = _unknown(what, f"chunk {chunk.hex()} is in no pack")
            if unknown is None:
                raise told
            unknown.append(told)
        packs.update(place.pack.name for place in copies)
    return packs


def _unknown(what: str, why: str) -> IntegrityError:
    return IntegrityError(
        f"it cannot be told which packs {what} needs, and none is removed until it can: {why}",
        "bring it back from a replica with `muster heal`; or wait: a suspect point expires when its inquiry ends",
    )
