"""Verify content: that every pack is there, whole, and holds what points need; and every file against its digest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime

from muster.domain.content import TreeEntry
from muster.domain.recovery_point import Component, RecoveryPoint
from muster.errors import IntegrityError, NotFound
from muster.ports import BlobStore, Progress
from muster.vault.files import SMALL, FileReading, Pieces, Plain, content_of
from muster.vault.findings import Examination, Finding
from muster.vault.index import Index, read_index
from muster.vault.keys import MasterKey
from muster.vault.layout import INDEXES, PACKS, digest, pack_key, point_key
from muster.vault.packs import Pack, open_chunk, read_pack
from muster.vault.reader import ChunkReader, ids, started
from muster.vault.tree_reader import StoredTree

_READERS = 3
_DAY = 86_400.0
_LIST = "the list of entries"


class ContentCheck:
    """
    One pass over packs and files. Reads every index anew.

    :param points: whose content to check
    """

    def __init__(
        self, store: BlobStore, master: MasterKey, points: Sequence[RecoveryPoint], found: Examination
    ) -> None:
        self._store, self._master, self._points, self._found = store, master, points, found
        self._index = Index(store, master)
        self._reader = ChunkReader(store, master, self._index)
        self._there: dict[str, int] = {}
        self._bad: dict[str, tuple[str, frozenset[bytes]]] = {}
        self._trees: dict[str, Sequence[TreeEntry] | IntegrityError] = {}

    def run(self, packs: set[str] | None, share: float, today: datetime, progress: Progress | None) -> None:
        """
        Check packs and trees; at a share of 1 also every file.

        :param packs: of which to read a share again; None for all that there are
        """
        self._there = {info.key.rpartition("/")[2]: info.size for info in self._store.list(PACKS)}
        self._check_indexes()
        self._compare_sizes()
        wanted = sorted(self._there.keys() if packs is None else self._there.keys() & packs)
        self._read_packs(chosen(wanted, share, today), progress)
        self._report_packs()
        for point in self._points:
            for component in point.components:
                self._check_tree(point, component)
        if share == 1.0:
            self._check_files(progress)

    # --- indexes and packs --------------------------------------------------------------------------------------------

    def _check_indexes(self) -> None:
        for info in self._store.list(INDEXES):
            try:
                list(read_index(self._master, info.key, self._found.read(info.key)))
            except (IntegrityError, NotFound) as error:
                self._found.report(Finding(info.key, error.message))
        for pack in self._index.reconcile():
            if points := self._points_with(pack.name):
                what = f"no index names pack {pack.name} any more; the next snapshot writes an index that does"
                self._found.report(Finding(INDEXES, what, points))

    def _compare_sizes(self) -> None:
        known = self._index.packs()
        needed = {name for point in self._points for name in point.packs}
        for name in needed - self._there.keys():
            self._bad[name] = ("it is missing", _chunks(known.get(name)))
        for name, size in self._there.items():
            if name in known and known[name].size != size:
                self._bad[name] = (f"it has {size} bytes instead of {known[name].size}", _chunks(known[name]))
            elif reason := self._index.damaged.get(pack_key(name)):
                self._bad[name] = (reason, frozenset())

    def _read_packs(self, names: Sequence[str], progress: Progress | None) -> None:
        total, done = sum(self._there[name] for name in names), 0
        with ThreadPoolExecutor(_READERS) as readers:
            for name, bad in zip(names, readers.map(self._read_pack, names), strict=True):
                done += self._there[name]
                if bad:
                    self._bad.setdefault(name, bad)
                if progress:
                    progress("verify packs", done, total)

    def _read_pack(self, name: str) -> tuple[str, frozenset[bytes]] | None:
        """What is wrong with a pack, and which of its chunks are hit; None if nothing is."""
        known = self._index.packs().get(name)
        try:
            data = self._found.read(pack_key(name))
            hit = bad_chunks(self._master, known, data) if known else frozenset()
            if digest(data) != name:
                return "its bytes do not match its name", hit
            if hit:
                return "chunks of it do not match their seals or ids", hit
            if read_pack(self._master, name, len(data), lambda start, length: data[start : start + length]) != known:
                return "its directory is not what the index says", _chunks(known)
        except (IntegrityError, NotFound) as error:
            return error.message, _chunks(known)
        return None

    def _report_packs(self) -> None:
        """A pack that is gone, but whose chunks a later snapshot stored again, is no finding: nothing needs it any more."""
        for name, (what, hit) in self._bad.items():
            alone = frozenset(chunk for chunk in hit if not self._elsewhere(chunk))
            users = list(self._users(alone)) if alone else []
            if hit and not users and name not in self._there:
                continue
            points = {point.point for point, _, _ in users} if hit else self._points_with(name)
            files = tuple(dict.fromkeys(f"{component.label}: {path}" for _, component, path in users))
            self._found.report(Finding(pack_key(name), what, tuple(sorted(points)), files))

    def _elsewhere(self, chunk: bytes) -> bool:
        """Whether there is a copy of a chunk in a pack that nothing was found wrong with."""
        return any(place.pack.name not in self._bad for place in self._index.locations(chunk))

    def _points_with(self, pack: str) -> tuple[str, ...]:
        return tuple(point.point for point in self._points if pack in point.packs)

    def _users(self, chunks: frozenset[bytes]) -> Iterator[tuple[RecoveryPoint, Component, str]]:
        """Where these chunks are needed."""
        for point in self._points:
            for component in point.components:
                if not chunks.isdisjoint(ids(component.tree.root)):
                    yield point, component, _LIST
                for entry in self._entries(component):
                    if entry.content and not chunks.isdisjoint(ids(entry.content)):
                        yield point, component, entry.path

    # --- trees and files ----------------------------------------------------------------------------------------------

    def _check_tree(self, point: RecoveryPoint, component: Component) -> None:
        entries = self._entries(component)
        broken = self._trees[component.tree.root.sha256]
        if isinstance(broken, IntegrityError):
            what = f"{_LIST} of {component.label} cannot be read: {broken.message}"
            self._found.report(Finding(point_key(point.workload, point.point), what, (point.point,)))
        lost = [
            entry.path
            for entry in entries
            if entry.content and not all(self._index.holds(chunk) for chunk in ids(entry.content))
        ]
        if lost:
            files = tuple(f"{component.label}: {path}" for path in lost)
            self._found.report(
                Finding(
                    point_key(point.workload, point.point),
                    "chunks that it needs are in no pack",
                    (point.point,),
                    files,
                )
            )

    def _entries(self, component: Component) -> Sequence[TreeEntry]:
        """The entries of a tree, read once for all points that share it; none if they cannot be read."""
        root = component.tree.root.sha256
        if root not in self._trees:
            try:
                self._trees[root] = StoredTree(self._reader, component.tree).entries()
            except IntegrityError as error:
                self._trees[root] = error
        found = self._trees[root]
        return () if isinstance(found, IntegrityError) else found

    def _check_files(self, progress: Progress | None) -> None:
        pieces = self._distinct_files()
        total, done = sum(content_of(entry).size for entry, _ in pieces), 0
        with FileReading(self._reader) as reading, ThreadPoolExecutor(_READERS) as readers:
            large = [piece for piece in pieces if content_of(piece[0]).size > SMALL]
            small = reading.batches([piece for piece in pieces if content_of(piece[0]).size <= SMALL])
            for _, size in started(lambda piece: self._check_large(reading, *piece), large, readers, _READERS):
                done += size.result()
                if progress:
                    progress("verify files", done, total)
            for _, size in started(lambda batch: self._check_small(reading, *batch), small, readers, 1):
                done += size.result()
                if progress:
                    progress("verify files", done, total)

    def _distinct_files(self) -> list[tuple[TreeEntry, tuple[str, str]]]:
        """Every content of every file once, with the point and the name under which it was met first."""
        hit = frozenset(chunk for _, chunks in self._bad.values() for chunk in chunks)
        found: dict[object, tuple[TreeEntry, tuple[str, str]]] = {}
        for point in self._points:
            for component in point.components:
                for entry in self._entries(component):
                    if entry.content and hit.isdisjoint(ids(entry.content)):
                        name = (point_key(point.workload, point.point), f"{component.label}: {entry.path}")
                        found.setdefault((entry.content, entry.md5), (entry, name))
        return list(found.values())

    def _check_large(self, reading: FileReading, entry: TreeEntry, name: tuple[str, str]) -> int:
        try:
            return sum(len(plain) for plain in reading.stream(entry))
        except IntegrityError as error:
            self._report_file(name, error)
            return content_of(entry).size

    def _check_small(
        self, reading: FileReading, pieces: Pieces[tuple[str, str]], fetching: Future[Plain | None]
    ) -> int:
        fetched = fetching.result()
        for entry, name in pieces:
            try:
                reading.bytes_of(entry, fetched)
            except IntegrityError as error:
                self._report_file(name, error)
        return sum(content_of(entry).size for entry, _ in pieces)

    def _report_file(self, name: tuple[str, str], error: IntegrityError) -> None:
        key, file = name
        points = tuple(p.point for p in self._points if point_key(p.workload, p.point) == key)
        self._found.report(Finding(key, error.message, points, (file,)))


def chosen(packs: Sequence[str], share: float, today: datetime) -> list[str]:
    """
    The packs whose turn it is: a window over their names (which are evenly spread) that moves on by its own width each day.

    In 1/share days, rounded up, every pack has its turn. Of any packs at all, at least one is read, unless the share is 0.
    """
    if share >= 1.0:
        return list(packs)
    start = (today.timestamp() // _DAY * share) % 1.0
    turn = [pack for pack in packs if (int(pack[:8], 16) / 2**32 - start) % 1.0 < share]
    return turn or (list(packs[:1]) if share else [])


def bad_chunks(master: MasterKey, pack: Pack, data: bytes) -> frozenset[bytes]:
    """Those chunks of a pack that are not what was stored."""
    bad = set()
    cipher = master.pack_cipher(pack.salt)
    for ordinal, entry in enumerate(pack.entries()):
        try:
            open_chunk(master, cipher, pack.name, ordinal, entry, data[entry.offset : entry.offset + entry.length])
        except IntegrityError:
            bad.add(entry.chunk)
    return frozenset(bad)


def _chunks(pack: Pack | None) -> frozenset[bytes]:
    return frozenset(entry.chunk for entry in pack.entries()) if pack else frozenset()
