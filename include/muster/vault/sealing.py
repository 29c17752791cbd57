"""What must hold before a manifest is written: every chunk indexed, every pack in the store with its full size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from muster.domain.content import TreeRef
from muster.domain.recovery_point import RecoveryPoint
from muster.errors import IncompletePoint, IntegrityError
from muster.ports import KnownContent
from muster.vault.index import Index, Standing
from muster.vault.noted import NotedTrees
from muster.vault.reader import ChunkReader, ids
from muster.vault.tree_reader import StoredTree
from muster.vault.trees import LIST, chunk_ids


def complete(
    point: RecoveryPoint,
    index: Index,
    reader: ChunkReader,
    store_anew: Callable[[Iterable[bytes]], None],
    noted: NotedTrees,
) -> RecoveryPoint:
    """
    The point with the names of all packs that it needs.

    :param noted: trees that this process stored, whose lists are read only if something of them is amiss
    :param store_anew: stores chunks again that lie in condemned packs only, on which no manifest may build
    :raises IncompletePoint: naming the component and file of which a chunk is nowhere, or whose list cannot be read
    """
    index.refresh()
    index.reconcile()
    condemned: dict[bytes, None] = {}
    packs: set[str] = set()
    for component in point.components:
        try:
            found = noted.sound(component.tree, index)
            packs |= _packs_of(StoredTree(reader, component.tree), index, condemned) if found is None else found
        except IntegrityError as error:
            raise _incomplete(point, f"{component.label}: {error.message}") from error
    if condemned:
        store_anew(condemned)
        packs |= {index.best(chunk)[0] for chunk in condemned}
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


def contents(tree: TreeRef, reader: ChunkReader) -> Iterator[tuple[str, KnownContent]]:
    """
    Everything that a tree needs, with its path: the list of entries, and each file.

    :raises IntegrityError: if the list of entries cannot be read
    """
    yield LIST, tree.root
    stored = StoredTree(reader, tree)
    if tree.paged:
        yield LIST, stored.listing
    for row in stored.rows():
        if row.content:
            yield row.path, row.content


def _packs_of(tree: StoredTree, index: Index, condemned: dict[bytes, None]) -> set[str]:
    """The packs of a tree; chunks that lie in condemned packs only are added to `condemned` instead."""
    packs, others = index.sound(tree.list_chunks)
    _check_others(LIST, others, index, condemned)
    for rows in tree.lots():
        names, others = index.sound(chunk_ids(row.content for row in rows if row.content))
        packs |= names
        if others:
            for row in rows:
                of_file = set(others).intersection(ids(row.content)) if row.content else ()
                _check_others(row.path, of_file, index, condemned)
    return packs


def _check_others(path: str, others: Iterable[bytes], index: Index, condemned: dict[bytes, None]) -> None:
    """
    Let chunks without a sound copy be stored anew if they have a condemned one.

    :raises IntegrityError: if they do not
    """
    for chunk in others:
        pack, standing = index.best(chunk)
        if standing != Standing.CONDEMNED:
            where = f"pack {pack}, which was found damaged" if pack else "no pack"
            raise IntegrityError(f"{path} needs chunk {chunk.hex()}, which is in {where}")
        condemned[chunk] = None


def _incomplete(point: RecoveryPoint, why: str) -> IncompletePoint:
    return IncompletePoint(
        f"point {point.point} of {point.workload} was not sealed: {why}",
        "take the snapshot again; what is there is not stored twice",
    )
