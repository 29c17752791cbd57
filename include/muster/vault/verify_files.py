"""
Verify files: each one's digests over all of its bytes.

That its chunks are whole was proved before. This proves that whoever stored it named the right chunks: see docs/adr/0011 for when that
could differ.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from muster.batches import batched
from muster.domain.content import TreeEntry
from muster.domain.recovery_point import RecoveryPoint
from muster.errors import IntegrityError
from muster.ports import Progress
from muster.vault.files import SMALL, Batch, FileReading, content_of
from muster.vault.findings import Examination, Finding
from muster.vault.layout import point_key
from muster.vault.reader import ChunkReader, digest_mismatch, started
from muster.vault.verify_trees import TreeCheck

_READERS = 2
_AT_ONCE = 65_536
_NO_NAME = ""


class FileCheck:
    """The files of some points, each content once."""

    def __init__(self, reader: ChunkReader, trees: TreeCheck, found: Examination) -> None:
        self._reader, self._trees, self._found = reader, trees, found
        self._wrong: dict[bytes, str] = {}

    def run(self, points: Sequence[RecoveryPoint], progress: Progress | None) -> None:
        """Check them, and report every point and file that has a content which is wrong."""
        done = 0
        files = self._distinct(points)
        with FileReading(self._reader) as reading:
            for lot in batched(files, _AT_ONCE):
                for size in self._check(reading, lot):
                    done += size
                    if progress:
                        progress("verify files", done, None)
        if self._wrong:
            self._report(points)
        if progress:
            progress("verify files", done, done)

    def _distinct(self, points: Iterable[RecoveryPoint]) -> Iterator[TreeEntry]:
        seen: set[bytes] = set()
        for _, _, entries in self._trees.readable(points):
            for entry in entries:
                if (identity := _identity(entry)) not in seen:
                    seen.add(identity)
                    yield entry

    def _check(self, reading: FileReading, entries: Sequence[TreeEntry]) -> Iterator[int]:
        large = [entry for entry in entries if content_of(entry).size > SMALL]
        small = reading.batches(
            reading.located([(entry, _NO_NAME) for entry in entries if content_of(entry).size <= SMALL])
        )
        with ThreadPoolExecutor(_READERS, "muster-verify") as readers:
            for _, size in started(lambda entry: self._check_large(reading, entry), large, readers, _READERS):
                yield size.result()
            for batch in small:
                yield self._check_small(reading, batch)

    def _check_large(self, reading: FileReading, entry: TreeEntry) -> int:
        md5, size = hashlib.md5(usedforsecurity=False), 0
        try:
            for plain in reading.stream(entry):
                size += len(plain)
                if entry.md5:
                    md5.update(plain)
            _compare_md5(entry, md5.hexdigest())
        except IntegrityError as error:
            self._wrong[_identity(entry)] = error.message
        return size

    def _check_small(self, reading: FileReading, batch: Batch[str]) -> int:
        pieces, fetching = batch
        fetched = fetching.result()
        for entry, _ in pieces:
            try:
                plain = reading.bytes_of(entry, fetched)
                if entry.md5:
                    _compare_md5(entry, hashlib.md5(plain, usedforsecurity=False).hexdigest())
            except IntegrityError as error:
                self._wrong[_identity(entry)] = error.message
        return sum(content_of(entry).size for entry, _ in pieces)

    def _report(self, points: Iterable[RecoveryPoint]) -> None:
        for point, component, entries in self._trees.readable(points):
            files: dict[str, list[str]] = defaultdict(list)
            for entry in entries:
                if why := self._wrong.get(_identity(entry)):
                    files[why].append(f"{component.label}: {entry.path}")
            for why, paths in files.items():
                key = point_key(point.workload, point.point)
                self._found.report(Finding(key, why, (point.point,), tuple(paths), by_digest=True))


def _identity(entry: TreeEntry) -> bytes:
    """A short name for a content and what is said of it."""
    content = content_of(entry)
    said = "\n".join((content.sha256, str(content.size), entry.md5 or "", *content.chunks))
    return hashlib.sha256(said.encode()).digest()


def _compare_md5(entry: TreeEntry, md5: str) -> None:
    if entry.md5 not in (None, md5):
        raise digest_mismatch(entry.path, content_of(entry))
