"""What the point before holds of a dataset, for as many files as there may be."""

from __future__ import annotations

import re

from muster.domain.content import ContentRef, TreeEntry
from muster.errors import IntegrityError
from muster.ports import TreeReader

DATA, OBJECTS = "data/", "objects/"
_DIGEST = 32  # bytes of a SHA-256, and of the id of a chunk
_SIZE = 8
_MD5, _DIGEST_HEX = re.compile("[0-9a-f]{32}"), re.compile("[0-9a-f]{64}")
_HISTORY = "git/"


class Before:
    """
    One pass over the list of the point before.

    What it has of data is kept in about 250 bytes for each file of one chunk; as objects it would be 900.

    :param tree: None if there is none
    """

    def __init__(self, tree: TreeReader | None) -> None:
        self._tree = tree
        self._contents: dict[bytes, bytes] = {}
        self._history: dict[str, TreeEntry] = {}
        for entry in tree.stream() if tree else ():
            if entry.path.startswith((DATA, OBJECTS)):
                self._remember(entry)
            elif entry.path.startswith(_HISTORY):
                self._history[entry.path] = entry

    def has(self, md5: str) -> bool:
        """Whether it holds bytes that have this MD5."""
        return bytes.fromhex(md5) in self._contents

    def content(self, md5: str) -> ContentRef | None:
        """The content whose bytes have this MD5."""
        packed = self._contents.get(bytes.fromhex(md5))
        return None if packed is None else _unpacked(packed)

    def history(self, path: str) -> ContentRef | None:
        """The content of a file of its Git history."""
        entry = self._history.get(path)
        return entry.content if entry else None

    def read_history(self, path: str) -> bytes | None:
        """The bytes of a small one; None if they are not there, or damaged, which `verify` names."""
        entry = self._history.get(path)
        try:
            return self._tree.read(entry) if self._tree and entry else None
        except IntegrityError:
            return None

    def _remember(self, entry: TreeEntry) -> None:
        """What has no MD5 that could be asked for, or no digests that could be, is read again."""
        content = entry.content
        if content and entry.md5 and _MD5.fullmatch(entry.md5) and all(map(_DIGEST_HEX.fullmatch, _digests(content))):
            self._contents[bytes.fromhex(entry.md5)] = _packed(content)


def _digests(content: ContentRef) -> tuple[str, ...]:
    return (content.sha256, *content.chunks)


def _packed(content: ContentRef) -> bytes:
    return content.size.to_bytes(_SIZE, "big") + bytes.fromhex("".join(_digests(content)))


def _unpacked(packed: bytes) -> ContentRef:
    sha256, *chunks = [packed[at : at + _DIGEST].hex() for at in range(_SIZE, len(packed), _DIGEST)]
    return ContentRef(int.from_bytes(packed[:_SIZE], "big"), sha256, tuple(chunks))
