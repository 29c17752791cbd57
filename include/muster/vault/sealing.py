"""What must hold before a manifest is written: every chunk indexed, every pack in the store with its full size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from muster.domain.content import ContentRef, TreeRef
from muster.domain.recovery_point import RecoveryPoint
from muster.errors import IncompletePoint, IntegrityError
from muster.vault.index import Index, Standing
from muster.vault.reader import ChunkReader, ids
from muster.vault.tree_reader import StoredTree


def complete(
    point: RecoveryPoint, index: Index, reader: ChunkReader, store_anew: Callable[[Iterable[bytes]], None]
) -> RecoveryPoint:
    """
    The point with the names of all packs that it needs.

    :param store_anew: stores chunks again that lie in condemned packs only, on which no manifest may build
    :raises IncompletePoint: naming the component and file of which a chunk is nowhere, or whose list cannot be read
    """
    index.refresh()
    index.reconcile()
    condemned: dict[bytes, None] = {}
    packs: set[str] = set()
    for component in point.components:
        try:
            for what, content in contents(component.label, component.tree, reader):
                packs |= _packs_of(what, content, index, condemned)
        except IntegrityError as error:
            raise _incomplete(point, f"{component.label}: {error.message}") from error
    if condemned:
        store_anew(condemned)
        packs |= {index.locations(chunk)[0].pack.name for chunk in condemned}
    return replace(point, packs=tuple(sorted(packs)))


def still_complete(point: RecoveryPoint, index: Index) -> None:
    """
    Look once more, when the manifest is written, whether its packs are there.

    :raises IncompletePoint: naming the first that is not
    """
    index.reconcile()
    for pack in point.packs:
        if index.standing(pack) is Standing.LOST:
            raise IncompletePoint(
                f"point {point.point} of {point.workload} was sealed, but pack {pack}, which it needs, was removed meanwhile",
                "take another snapshot; the vault was sealed from a machine that stood still for longer than expiry waits",
            )


def contents(label: str, tree: TreeRef, reader: ChunkReader) -> Iterator[tuple[str, ContentRef]]:
    """
    Everything that a tree needs, with its name: the list of entries, and each file.

    :raises IntegrityError: if the list of entries cannot be read
    """
    yield f"{label}: the list of entries", tree.root
    for entry in StoredTree(reader, tree).entries():
        if entry.content:
            yield f"{label}: {entry.path}", entry.content


def _packs_of(what: str, content: ContentRef, index: Index, condemned: dict[bytes, None]) -> set[str]:
    """The packs of a content; chunks that lie in condemned packs only are added to `condemned` instead."""
    packs = set()
    for chunk in ids(content):
        copies = index.locations(chunk)
        if not copies:
            raise IntegrityError(f"{what} needs chunk {chunk.hex()}, which is in no pack")
        standing = index.standing(copies[0].pack.name)
        if standing is Standing.CONDEMNED:
            condemned[chunk] = None
            continue
        if standing is not Standing.SOUND:
            raise IntegrityError(
                f"{what} needs chunk {chunk.hex()} of pack {copies[0].pack.name}, which was found damaged"
            )
        packs.add(copies[0].pack.name)
    return packs


def _incomplete(point: RecoveryPoint, why: str) -> IncompletePoint:
    return IncompletePoint(
        f"point {point.point} of {point.workload} was not sealed: {why}",
        "take the snapshot again; what is there is not stored twice",
    )
