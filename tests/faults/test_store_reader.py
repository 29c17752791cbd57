"""Somebody who may read the vault's store and has no key: docs/threat-model.md names each test."""

from __future__ import annotations

import base64
import binascii
import json

import pytest

from fakes import MemoryStore
from faults.attackers import FIRST, SECOND, Site
from muster.errors import WrongKey
from muster.vault.layout import digest
from muster.vault.vault import Passphrase
from vaults import make_vault, noise, seal, store_tree


@pytest.fixture
def site() -> Site:
    return Site()


def all_that_is_told(store: MemoryStore) -> bytes:
    """Every object, and once more what is only encoded in it."""
    told = []
    for data in store.objects.values():
        told.append(data)
        try:
            told.append(base64.b64decode(json.loads(data)["payload"]))
        except (ValueError, KeyError, TypeError, binascii.Error):
            continue
    return b"\n".join(told)


def test_no_file_name_no_content_and_no_digest_of_a_file_is_told(site: Site) -> None:
    """Manifests, marks and the trail are in the clear: counts, sizes and times are in them, and nothing of a file."""
    told = all_that_is_told(site.store)
    assert b"flights" in told, "the workload is"
    for files in (FIRST, SECOND):
        for name, content in files.items():
            assert name.encode() not in told
            assert content[:24] not in told
            assert digest(content).encode() not in told
            assert bytes.fromhex(digest(content)) not in told


def test_a_known_file_cannot_be_looked_for_by_what_it_would_be_called(site: Site) -> None:
    """Two vaults of the same content and the same passphrase share no name and no id of a chunk."""
    told = []
    for _ in range(2):
        store = MemoryStore()
        vault, _key = make_vault(store)
        point = seal(vault, store_tree(vault, {"known": noise(3000, 9)}))
        told.append({*point.packs, *point.components[0].tree.root.chunks, point.components[0].tree.root.sha256})
    assert not told[0] & told[1]


def test_nothing_opens_without_a_key(site: Site) -> None:
    """A guess is told to be one, and costs what the slot says."""
    with pytest.raises(WrongKey):
        site.open(Passphrase("a guess"))
