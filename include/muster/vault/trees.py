"""The list of a tree's entries: how it is written, and what must hold of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import lt
from typing import Annotated

import msgspec

from muster.domain.content import LONGEST_PATH, ContentRef, EntryKind, TreeEntry, TreeRef
from muster.errors import IntegrityError
from muster.ports import KnownContent, SourceFile
from muster.vault.layout import ID_BYTES

# No part of a path is empty, "." or "..": what must not be in paths that are joined by NUL, with one at either end.
_BAD = ("//", "/\0", "\0/", "\0\0", "/./", "/.\0", "\0./", "\0.\0", "/../", "/..\0", "\0../", "\0..\0")


logger = logging.getLogger(__name__)

LIST = "the list of entries"
"""What messages call it."""
EARLIEST, LATEST = -(1 << 63), (1 << 63) - 1
"""Nanoseconds since 1970 that a list of entries can tell: from 1677 to 2262. File systems know later ones."""


class Content(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A `ContentRef` as it stands in a list of entries."""

    chunks: tuple[str, ...]
    sha256: str
    size: Annotated[int, msgspec.Meta(ge=0)]

    @classmethod
    def of(cls, known: KnownContent) -> Content:
        """What is known by another name."""
        return cls(tuple(known.chunks), known.sha256, known.size)

    def ref(self) -> ContentRef:
        """The same for the rest of the program."""
        return ContentRef(self.size, self.sha256, self.chunks)


class Row(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """
    A `TreeEntry` as it stands in a list of entries, its fields in the order in which they are written.

    Trees of a million files are read and written as these, which take a tenth of the time of validating and a third of the memory.
    """

    content: Content | None = None
    kind: EntryKind
    link: str | None = None
    md5: str | None = None
    mode: int | None = None
    mtime_ns: Annotated[int, msgspec.Meta(ge=EARLIEST, le=LATEST)] | None = None
    path: str

    def entry(self) -> TreeEntry:
        """The same for the rest of the program."""
        content = self.content.ref() if self.content else None
        return TreeEntry(self.path, self.kind, content, self.md5, self.mode, self.mtime_ns, self.link)


def row_of(facts: SourceFile | TreeEntry, content: KnownContent | None) -> Row:
    """
    The entry of a file, folder or link, by what is said of it and what is stored.

    It has no time if that is one that no list can tell: the file comes back whole, with the time of its restore.
    """
    mtime_ns = facts.mtime_ns
    if mtime_ns is not None and not EARLIEST <= mtime_ns <= LATEST:
        logger.warning("%s is stored without its time of modification, which is before 1677 or after 2262", facts.path)
        mtime_ns = None
    return Row(
        content=content if content is None or isinstance(content, Content) else Content.of(content),
        kind=facts.kind,
        link=facts.link,
        md5=facts.md5,
        mode=facts.mode,
        mtime_ns=mtime_ns,
        path=facts.path,
    )


@dataclass(frozen=True, slots=True)
class Unchanged:
    """
    Entries of files that are what they were in an earlier tree, in the order of their paths, to be taken over as they stand.

    :param again: the file behind one of them, to be read if the vault has lost its content
    """

    rows: Sequence[Row]
    again: Callable[[Row], SourceFile]


def chunk_ids(contents: Iterable[KnownContent]) -> list[bytes]:
    """
    The ids of all chunks of these contents.

    :raises IntegrityError: if one is none
    """
    chunks = [chunk for content in contents for chunk in content.chunks]
    try:
        joined = bytes.fromhex("".join(chunks))
    except ValueError:
        joined = b""
    if len(joined) != ID_BYTES * len(chunks) or any(len(chunk) != 2 * ID_BYTES for chunk in chunks):
        raise IntegrityError("a list of entries names a chunk that cannot be", "verify the vault; use another point")
    return [joined[at : at + ID_BYTES] for at in range(0, len(joined), ID_BYTES)]


_AT_ONCE = 512 * 1024
_ROWS = msgspec.json.Decoder(Row)
_ENCODER = msgspec.json.Encoder()


class Reconciler:
    """
    Looks at all rows of a tree as they go by, in order: whether they can lie side by side in one folder, and what they add up to.

    It remembers the paths of the files and links that the last path begins with, and nothing else.
    """

    def __init__(self) -> None:
        self.files = self.entries = self.size = 0
        self._last = ""
        self._closed: list[str] = []

    def see(self, rows: Sequence[Row]) -> str | None:
        """The next rows; why they cannot follow those before, or None."""
        paths = [row.path for row in rows]
        self.entries += len(rows)
        sizes = [row.content.size for row in rows if row.content is not None]
        self.files += len(sizes)
        self.size += sum(sizes)
        return bad_path(paths) or self._disorder(paths) or self._clash(rows)

    def ref(self, root: ContentRef) -> TreeRef:
        """The reference to a list of all these rows."""
        return TreeRef(root, self.files, self.entries, self.size)

    def _disorder(self, paths: Sequence[str]) -> str | None:
        """In order, each path is greater than the one before."""
        if self._last < paths[0] and all(map(lt, paths, islice(paths, 1, None))):
            self._last = paths[-1]
            return None
        before = self._last
        for path in paths:
            if path == before:
                return f"the path {path} comes twice"
            if path < before:
                return "it is not sorted by path"
            before = path
        raise AssertionError

    def _clash(self, rows: Sequence[Row]) -> str | None:
        """Only a folder may have something below it; and only files have contents, and only links lead somewhere."""
        closed = self._closed
        for row in rows:
            path, kind = row.path, row.kind
            if (kind == "file") != (row.content is not None) or (kind == "link") != (row.link is not None):
                return f"{path} is a {kind} without what makes it one, or with what does not"
            if row.link is not None and "\0" in row.link:
                return f"{path} is a link to what can have no name"
            while closed and not path.startswith(closed[-1]):
                closed.pop()
            for above in closed:
                if path[len(above)] == "/":
                    return f"{path} lies below {above}, which is not a folder"
            if kind != "dir":
                closed.append(path)
        return None


def bad_path(paths: Sequence[str]) -> str | None:
    """Why a restore could not follow one of these paths, or None: see `muster.domain.content.checked_path`."""
    joined = "\0".join(["", *paths, ""])
    longest = max(map(len, paths), default=0)
    if joined.count("\0") == len(paths) + 1 and longest <= LONGEST_PATH and not any(bad in joined for bad in _BAD):
        return None
    if len(paths) == 1:
        return f"the path {paths[0][:LONGEST_PATH]!r} would leave the folder that it is restored to"
    return next(why for path in paths if (why := bad_path([path])))


def encode_rows(rows: Sequence[Row]) -> bytes:
    """Lines of the list: canonical JSON; what an entry does not have is left out."""
    return _ENCODER.encode_lines(rows)


def decode_rows(lines: bytes) -> list[Row]:
    """
    Whole lines of a list.

    :raises ValueError: if they are not lines of entries
    """
    try:
        return _ROWS.decode_lines(lines)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"its lines are not entries: {error}") from error


def checked_rows(blocks: Iterable[bytes], ref: TreeRef) -> Iterator[list[Row]]:
    """
    The rows of a tree's list, some thousand at a time.

    What is wrong with the list as a whole (its sums) is found at its end.

    :param blocks: its bytes, cut anywhere
    :raises IntegrityError: if they are not sorted, do not add up, or could not be restored side by side
    """
    seen = Reconciler()
    for lines in _whole_lines(blocks):
        try:
            rows = decode_rows(lines)
        except ValueError as error:
            raise _wrong(ref, str(error)) from error
        if rows:
            if why := seen.see(rows):
                raise _wrong(ref, why)
            yield rows
    if (seen.files, seen.entries, seen.size) != (ref.files, ref.entries, ref.size):
        raise _wrong(ref, "its counts and sizes do not add up")


def _whole_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, cut behind lines, and not into small pieces."""
    parts: list[bytes] = []
    size = 0
    for block in blocks:
        parts.append(block)
        size += len(block)
        if size >= _AT_ONCE:
            whole, end, rest = b"".join(parts).rpartition(b"\n")
            if end:
                yield whole + end
            parts, size = [rest], len(rest) if end else 0
    if rest := b"".join(parts):
        yield rest


def _wrong(ref: TreeRef, why: str) -> IntegrityError:
    return IntegrityError(
        f"the list of entries {ref.root.sha256} is not that of a tree: {why}", "verify the vault; use another point"
    )
