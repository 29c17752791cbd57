"""What must hold before a manifest is written: every chunk indexed, every pack in the store with its full size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from muster.domain.content import ContentRef, TreeRef
from muster.domain.recovery_point import RecoveryPoint
from muster.errors import IncompletePoint, IntegrityError
from muster.vault.index import Index
from muster.vault.reader import ChunkReader, ids
from muster.vault.tree_reader import StoredTree


def complete(point: RecoveryPoint, index: Index, reader: ChunkReader) -> RecoveryPoint:
    """
    The point with the names of all packs that it needs.

    :raises IncompletePoint: naming the component and file of which a chunk is nowhere, or whose list cannot be read
    """
    index.refresh()
    index.reconcile()
    packs: set[str] = set()
    for component in point.components:
        try:
            for what, content in contents(component.label, component.tree, reader):
                packs |= _packs_of(what, content, index)
        except IntegrityError as error:
            raise IncompletePoint(
                f"point {point.point} of {point.workload} was not sealed: {component.label}: {error.message}",
                "take the snapshot again; what is there is not stored twice",
            ) from error
    return replace(point, packs=tuple(sorted(packs)))


def contents(label: str, tree: TreeRef, reader: ChunkReader) -> Iterator[tuple[str, ContentRef]]:
    """
    Everything that a tree needs, with its name: the list of entries, and each file.

    :raises IntegrityError: if the list of entries cannot be read
    """
    yield f"{label}: the list of entries", tree.root
    for entry in StoredTree(reader, tree).entries():
        if entry.content:
            yield f"{label}: {entry.path}", entry.content


def _packs_of(what: str, content: ContentRef, index: Index) -> set[str]:
    packs = set()
    for chunk in ids(content):
        copies = index.locations(chunk)
        if not copies:
            raise IntegrityError(f"{what} needs chunk {chunk.hex()}, which is in no pack")
        if not index.holds(chunk):
            raise IntegrityError(
                f"{what} needs chunk {chunk.hex()} of pack {copies[0].pack.name}, which was found damaged"
            )
        packs.add(copies[0].pack.name)
    return packs
