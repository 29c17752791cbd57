"""Verify trees: that every list of entries can be read, and that the chunks of every file are there and add up to its size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from muster.cycles import no_collecting
from muster.domain.content import TreeEntry, TreeRef
from muster.domain.recovery_point import Component, RecoveryPoint
from muster.errors import IntegrityError
from muster.vault.findings import Examination, Finding
from muster.vault.index import Index
from muster.vault.layout import point_key
from muster.vault.reader import ChunkReader, ids
from muster.vault.tree_reader import StoredTree
from muster.vault.trees import LIST, Row, chunk_ids


@dataclass(slots=True)
class _Tree:
    """
    What was found in one tree, which several points may share.

    :param broken: why its list of entries cannot be read; empty if it can
    :param absent: paths of which chunks are in no pack
    :param wrong: paths whose chunks are there and have another size than the file
    :param hit: paths that need chunks of bad packs, by pack
    """

    broken: str = ""
    absent: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    hit: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


class TreeCheck:
    """
    All trees of some points, each read once, and none held longer than that.

    :param lost: chunks of which no whole copy is left, each with the bad packs that have it
    """

    def __init__(
        self, reader: ChunkReader, index: Index, lost: Mapping[bytes, Sequence[str]], found: Examination
    ) -> None:
        self._reader, self._index, self._lost, self._found = reader, index, lost, found
        self._trees: dict[TreeRef, _Tree] = {}

    def run(self, points: Iterable[RecoveryPoint]) -> dict[str, list[tuple[str, str]]]:
        """Check them; return for each bad pack the points and files that need it."""
        users: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for point in points:
            for component in point.components:
                tree = self._tree(component.tree)
                self._report(point, component, tree)
                for pack, paths in tree.hit.items():
                    users[pack] += [(point.point, f"{component.label}: {path}") for path in paths]
        return users

    def readable(
        self, points: Iterable[RecoveryPoint]
    ) -> Iterator[tuple[RecoveryPoint, Component, Iterable[TreeEntry]]]:
        """The files of each tree whose list could be read, but for those that were found damaged; for each point that has it."""
        for point in points:
            for component in point.components:
                tree = self._tree(component.tree)
                if not tree.broken:
                    known = {*tree.absent, *tree.wrong, *(path for paths in tree.hit.values() for path in paths)}
                    rows = StoredTree(self._reader, component.tree).rows()
                    yield point, component, (row.entry() for row in rows if row.content and row.path not in known)

    def _tree(self, ref: TreeRef) -> _Tree:
        if ref not in self._trees:
            self._trees[ref] = self._scan(ref)
        return self._trees[ref]

    def _scan(self, ref: TreeRef) -> _Tree:
        tree, stored = _Tree(), StoredTree(self._reader, ref)
        needed = ids(ref.root)
        try:
            needed = stored.list_chunks
            with no_collecting():
                for rows in stored.lots():
                    self._check(tree, rows)
        except IntegrityError as error:
            tree.broken = error.message
        self._note(tree, LIST, needed)
        self._lost_among(needed, self._index.sizes(needed))
        return tree

    def _check(self, tree: _Tree, rows: Sequence[Row]) -> None:
        files = [(row, row.content) for row in rows if row.content]
        chunks = chunk_ids(content for _, content in files)
        sizes = self._index.sums(chunks, [len(content.chunks) for _, content in files])
        if sizes == [content.size for _, content in files] and not self._lost:
            return
        self._lost_among(chunks, self._index.sizes(chunks))
        end = 0
        for (row, content), size in zip(files, sizes, strict=True):
            start, end = end, end + len(content.chunks)
            if size is None:
                tree.absent.append(row.path)
            elif size != content.size:
                tree.wrong.append(row.path)
            self._note(tree, row.path, chunks[start:end])

    def _lost_among(self, chunks: Sequence[bytes], sizes: Sequence[int | None]) -> None:
        if None in sizes:
            self._found.lost |= {chunk for chunk, size in zip(chunks, sizes, strict=True) if size is None}

    def _note(self, tree: _Tree, path: str, chunks: Sequence[bytes]) -> None:
        """Remember who needs what is in bad packs alone."""
        for pack in {pack for chunk in chunks for pack in self._lost.get(chunk, ())}:
            tree.hit[pack].append(path)
        self._found.lost |= {chunk for chunk in chunks if chunk in self._lost}

    def _report(self, point: RecoveryPoint, component: Component, tree: _Tree) -> None:
        key = point_key(point.workload, point.point)
        if tree.broken:
            what = f"{LIST} of {component.label} cannot be read: {tree.broken}"
            self._found.report(Finding(key, what, (point.point,)))
        for what, paths in (
            ("chunks that it needs are in no pack", tree.absent),
            ("the chunks of a file do not add up to its size", tree.wrong),
        ):
            if paths:
                files = tuple(f"{component.label}: {path}" for path in paths)
                self._found.report(Finding(key, what, (point.point,), files))
