"""Which packs are there, by the store's own word."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from muster.ports import BlobStore
from muster.vault.layout import PACKS, pack_key

MANY = 256_000
"""From so many packs on they are listed folder by folder: 1000 names a request, a listing at once then costs more than 256 small ones."""
_LISTERS = 16


def packs_there(store: BlobStore, expected: int) -> Iterator[tuple[str, int]]:
    """
    Name and size of every pack of a store.

    :param expected: about how many there are; if many, their 256 folders are listed side by side
    """
    folders = [PACKS] if expected < MANY else [f"{PACKS}{number:02x}/" for number in range(256)]
    with ThreadPoolExecutor(_LISTERS, "muster-list") as listers:
        for found in listers.map(lambda folder: list(store.list(folder)), folders):
            for info in found:
                name = info.key.rpartition("/")[2]
                if info.key == pack_key(name):  # a copy in another folder is not where a reader looks
                    yield name, info.size
