"""The list of a tree's entries: how it is written, and what must hold of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import orjson

from muster.codec import from_json
from muster.domain.content import ContentRef, TreeEntry, TreeRef, checked_path
from muster.errors import IntegrityError, SourceInvalid


def source_path(path: str, taken: set[str]) -> str:
    """
    Return a path unchanged if it may be stored, and add it to those that are taken.

    :raises SourceInvalid: if a restore could not follow it, or if it is there already
    """
    try:
        checked_path(path).encode()
    except (IntegrityError, UnicodeEncodeError):
        raise SourceInvalid(
            f"the path {path!r} cannot be stored", "use relative paths in UTF-8, without '..', '.' and empty parts"
        ) from None
    if path in taken:
        raise SourceInvalid(f"the path {path} comes twice in one tree", "give every file a path of its own")
    taken.add(path)
    return path


def write_entries(entries: Iterable[TreeEntry]) -> bytes:
    """Canonical JSON, one entry a line, in the order of their paths; what an entry does not have is left out."""
    return b"".join(orjson.dumps(_fields(entry), option=orjson.OPT_SORT_KEYS) + b"\n" for entry in entries)


def read_entries(data: bytes, ref: TreeRef) -> list[TreeEntry]:
    """
    The entries of a tree, reconciled with the sums by which it is known.

    :raises IntegrityError: if they do not add up, or could not be restored side by side
    """
    try:
        rows = orjson.loads(b"[" + data.removesuffix(b"\n").replace(b"\n", b",") + b"]")
    except orjson.JSONDecodeError as error:
        raise _wrong(ref, "it is not JSON lines") from error
    entries = from_json(list[TreeEntry], rows)
    for entry in entries:
        checked_path(entry.path)
    if find_clash(entries) or any(a.path >= b.path for a, b in pairwise(entries)):
        raise _wrong(ref, find_clash(entries) or "it is not sorted by path")
    if summarise(ref.root, entries) != ref:
        raise _wrong(ref, "its counts and sizes do not add up")
    return entries


def summarise(root: ContentRef, entries: Sequence[TreeEntry]) -> TreeRef:
    """The reference to a list of entries."""
    files = [entry.content for entry in entries if entry.content]
    return TreeRef(root, len(files), len(entries), sum(content.size for content in files))


def find_clash(entries: Sequence[TreeEntry]) -> str | None:
    """Why the entries cannot lie side by side in one folder, or None: only a folder may have something below it."""
    closed = {entry.path for entry in entries if entry.kind != "dir"}
    for entry in entries:
        if (entry.kind == "file") != (entry.content is not None) or (entry.kind == "link") != (entry.link is not None):
            return f"{entry.path} is a {entry.kind} without what makes it one"
        if "\0" in (entry.link or ""):
            return f"{entry.path} is a link to what can have no name"
        above = entry.path.rpartition("/")[0]
        while above:
            if above in closed:
                return f"{entry.path} lies below {above}, which is not a folder"
            above = above.rpartition("/")[0]
    return None


def _fields(entry: TreeEntry) -> dict[str, object]:
    fields: dict[str, object] = {"path": entry.path, "kind": entry.kind}
    if content := entry.content:
        fields["content"] = {"chunks": content.chunks, "sha256": content.sha256, "size": content.size}
    for name in ("md5", "mode", "mtime_ns", "link"):
        if (value := getattr(entry, name)) is not None:
            fields[name] = value
    return fields


def _wrong(ref: TreeRef, why: str) -> IntegrityError:
    return IntegrityError(
        f"the list of entries {ref.root.sha256} is not that of a tree: {why}", "verify the vault; use another point"
    )
