"""Write files of a tree to a folder: in parallel, each under its name only when it is whole and its digest was checked."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from muster.batches import batched
from muster.cycles import no_collecting
from muster.domain.content import TreeEntry
from muster.errors import IntegrityError, StoreUnavailable, TargetNotEmpty
from muster.ports import StrPath
from muster.vault.files import SMALL, Batch, FileReading, Located, content_of
from muster.vault.placing import Placement, folder_of, name_of
from muster.vault.reader import ChunkReader, started
from muster.vault.second_process import WORTH_IT, in_use, second_process
from muster.vault.second_restore import FILE_ROOMS, SecondPlacer

Wanted = tuple[TreeEntry, str]

_WORKERS = 4
_AT_ONCE = 32_768


def extract(reader: ChunkReader, wanted: Iterable[tuple[TreeEntry, StrPath]]) -> int:
    """
    Write entries to paths; return the number of plain bytes. See `muster.ports.TreeReader.extract`.

    They are taken `_AT_ONCE` at a time, and before anything of such a lot is written, it is seen that nothing is in its way.
    Links are made after all files, so that nothing is written through one. Folders get their modes and times last, so that
    one without write permission can be filled.
    """
    target, size, expected = _Target(), 0, 0
    try:
        with no_collecting(), FileReading(reader) as reading, _Extraction(reading) as extraction:
            for lot in batched(((entry, os.fspath(path)) for entry, path in wanted), _AT_ONCE):
                target.prepare(lot)
                files = [piece for piece in lot if piece[0].kind == "file"]
                expected += sum(content_of(entry).size for entry, _ in files)
                size += extraction.run(files)
                gc.collect(0)
            size += extraction.finish()
        if size != expected:
            raise IntegrityError(f"{size} bytes were written instead of {expected}", "restore again to an empty folder")
        target.finish()
    except (FileExistsError, NotADirectoryError) as error:
        raise TargetNotEmpty(f"{error.filename} is there already", "restore to an empty folder") from error
    except OSError as error:
        raise StoreUnavailable(
            f"the restore could not write {error.filename or 'a file'}: {error.strerror}",
            "make room or give write permission there, remove what was written, and restore again",
        ) from error
    except RecursionError as error:
        raise StoreUnavailable(
            "a path of the tree is deeper than this Python can make folders", "restore the other parts with --only"
        ) from error
    return size


class _Target:
    """The folders that are written to, each looked at and made once."""

    def __init__(self) -> None:
        self._taken: dict[str, frozenset[str]] = {}
        self._links: list[Wanted] = []
        self._folders: list[Wanted] = []

    def prepare(self, pieces: Sequence[Wanted]) -> None:
        """
        Make the folders that these entries lie in.

        :raises TargetNotEmpty: if anything but a folder that is wanted there was in the way before we came; nothing was made
        """
        folders = {folder_of(path) for _, path in pieces}
        self._taken |= {folder: _names_in(Path(folder)) for folder in folders - self._taken.keys()}
        for entry, path in pieces:
            if name_of(path) in self._taken[folder_of(path)] and not (entry.kind == "dir" and _is_folder(Path(path))):
                raise TargetNotEmpty(f"{path} is there already", "restore to an empty folder, or remove it first")
        self._links += [piece for piece in pieces if piece[0].kind == "link"]
        self._folders += (wanted := [piece for piece in pieces if piece[0].kind == "dir"])
        for made in folders | {path for _, path in wanted}:
            Path(made).mkdir(parents=True, exist_ok=True)

    def finish(self) -> None:
        """Make the links, and dress the folders."""
        for entry, path in self._links:
            Path(path).symlink_to(entry.link or "")
        for entry, path in sorted(self._folders, key=lambda piece: piece[1].count("/"), reverse=True):
            if entry.mode is not None:
                Path(path).chmod(entry.mode & 0o7777)
            if entry.mtime_ns is not None:
                os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))


class _Extraction:
    """Files on their way to disk. The first failure stops the others. Use as a context: it may hold a second process."""

    def __init__(self, reading: FileReading) -> None:
        self._reading, self._placement = reading, Placement()
        self._stopped = False
        self._second: SecondPlacer | None = None
        self._in_vain = False
        self._held = ExitStack()

    def __enter__(self) -> _Extraction:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def run(self, files: Sequence[Wanted]) -> int:
        """Write them; return the sum of the sizes of those that are written by now. The rest is told by `finish`."""
        small = [piece for piece in files if content_of(piece[0]).size <= SMALL]
        large = [piece for piece in files if content_of(piece[0]).size > SMALL]
        large.sort(key=lambda piece: content_of(piece[0]).size, reverse=True)
        with ThreadPoolExecutor(_WORKERS, "muster-write") as workers:
            try:
                size = sum(written.result() for _, written in started(self._write_large, large, workers, _WORKERS))
                return size + self._write_smalls(small)
            except BaseException:
                self._stopped = True
                raise

    def finish(self) -> int:
        """Wait for what another process still writes; return its size."""
        return self._second.finish() if self._second else 0

    def _write_smalls(self, small: Sequence[Wanted]) -> int:
        """Small files, by two processes if there are many and they need not be waited for."""
        located, size = iter(self._reading.located(small)), 0
        if len(small) >= WORTH_IT and not self._reading.far() and (second := self._begun()):
            for batch in located:
                if not second.takes(batch):
                    size += self._write_here([batch])
                if self._reading.far():
                    break
        return size + self._write_here(located)

    def _begun(self) -> SecondPlacer | None:
        """Another process that writes; None as long as somebody else has it, and if there can be none, which is found out once."""
        if self._second is None and not self._in_vain:
            reader = self._reading.reader
            if process := self._held.enter_context(second_process(reader.master, *FILE_ROOMS)):
                self._second = SecondPlacer(reader, process, self._write_again)
            elif not in_use():
                self._in_vain = True
        return self._second

    def _write_again(self, pieces: Sequence[Wanted]) -> int:
        return self._write_here(self._reading.located(pieces))

    def _write_here(self, located: Iterable[Located[str]]) -> int:
        return sum(map(self._write_small, self._reading.batches(located)))

    def _write_small(self, batch: Batch[str]) -> int:
        return sum(self._write(entry, path, [plain]) for entry, path, plain in self._reading.small(batch))

    def _write_large(self, piece: Wanted) -> int:
        entry, path = piece
        return self._write(entry, path, self._unless_stopped(entry))

    def _write(self, entry: TreeEntry, path: str, parts: Iterable[bytes]) -> int:
        return self._placement.create(path, parts, entry.mode, entry.mtime_ns)

    def _unless_stopped(self, entry: TreeEntry) -> Iterator[bytes]:
        for plain in self._reading.stream(entry):
            if self._stopped:
                raise CancelledError
            yield plain


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _names_in(folder: Path) -> frozenset[str]:
    """What lies in a folder; nothing if it is not there."""
    try:
        return frozenset(path.name for path in folder.iterdir())
    except FileNotFoundError:
        return frozenset()
