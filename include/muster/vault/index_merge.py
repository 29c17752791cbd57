"""Which index objects one new one should stand for, and which nobody needs any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime

from muster.errors import IntegrityError, NotFound
from muster.ports import BlobStore
from muster.vault.index_objects import LARGEST, open_index
from muster.vault.keys import MasterKey
from muster.vault.layout import INDEXES, PACKS

MOST = 16
"""How many small index objects may lie side by side before they are merged."""


def due(sizes: Mapping[str, int]) -> list[str]:
    """
    The index objects to merge into one, if it is time; none otherwise.

    Those that remain, and the new one, grow geometrically: each has at least twice the bytes of all smaller ones together (the
    rule of ``git repack --geometric``). So a row is written again only about log2(`LARGEST` / bytes of a snapshot's index) times,
    and besides the `MOST` small ones few are left. No merged one is larger than `LARGEST`.

    :param sizes: what each index object has in bytes of rows whose packs are still there
    """
    ordered = sorted((size, key) for key, size in sizes.items())
    together = merged = count = 0
    for number, (size, _) in enumerate(ordered, 1):
        if together + size > LARGEST:
            break
        if size < 2 * together:
            merged, count = together + size, number
        together += size
    worth_it = count > MOST or 2 * merged > LARGEST
    return [key for _, key in ordered[:count]] if worth_it else []


def superseded(store: BlobStore, master: MasterKey, before: datetime) -> list[str]:
    """
    Keys of the index objects that may be removed: of all that each says of packs that are there, another says the same.

    That other one can be read, and is not among those returned. Index objects that cannot be read count for nothing and are not
    returned: verification names them.

    :param before: those written at this moment or later stay, since somebody may be reading his way through them
    :raises StoreUnavailable: if the store does not answer
    """
    there = {info.key.rpartition("/")[2] for info in store.list(PACKS)}
    listed = sorted(store.list(INDEXES), key=lambda info: (info.size, info.key))
    named: dict[str, frozenset[str]] = {}
    for info in listed:
        try:
            packs = open_index(master, info.key, store.get(info.key)).packs
        except (IntegrityError, NotFound):
            continue
        named[info.key] = frozenset(pack.name for pack in packs if pack.name in there)
    copies = Counter(name for names in named.values() for name in names)
    found = []
    for info in listed:
        if info.modified < before and info.key in named and all(copies[name] > 1 for name in named[info.key]):
            copies.subtract(named[info.key])
            found.append(info.key)
    return found
