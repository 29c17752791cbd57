"""The whole engine over Google Cloud Storage and Azure Blob: their emulators, and gates that lock as the services document it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_servers import AzureServer, GcsServer
from fakes import FrozenClock
from muster.adapters.stores import open_store
from muster.domain.recovery_point import Mark
from muster.errors import AlreadyExists, Refused
from vaults import extract, make_vault, memory_file, noise, reopen, seal, store_tree

pytestmark = pytest.mark.servers

FILES = {"large": noise(34 << 20, 21), "empty": b"", "\u00fcber/s": b"text " * 999}


@pytest.fixture(params=["gcs", "azure"])
def new_address(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Gives the address of a new place for a vault, in a bucket that locks and keeps versions."""
    if request.param == "gcs":
        gcs: GcsServer = request.getfixturevalue("gcs")
        gcs.gate.settings["versioning"] = {"enabled": True}
        return lambda: gcs.address(gcs.make_bucket(), "some/prefix")
    azure: AzureServer = request.getfixturevalue("azure")
    return lambda: azure.address(azure.make_container(), "some/prefix")


def test_a_vault_in_a_bucket_goes_the_whole_way(new_address: Callable[[], str], tmp_path: Path) -> None:
    """Create, store, seal, mark, verify, restore; a second process at once; and a locked pack stays."""
    address = new_address()
    store = open_store(address)
    vault, recovery = make_vault(store)
    with pytest.raises(AlreadyExists):
        make_vault(open_store(address))
    tree = store_tree(vault, FILES)
    again = reopen(open_store(address), recovery)
    with again.writer() as writer:
        assert writer.store_tree([memory_file(*item) for item in FILES.items()]) == tree
        assert writer.stats.new_chunks == 0
    point = seal(again, tree)
    again.mark(Mark("flights", point.point, "verified", FrozenClock().now()))
    assert vault.point("latest").point == point
    assert extract(reopen(store), tree, tmp_path) == FILES
    assert [record.action for record in vault.audit()] == ["create", "seal", "mark"]
    assert vault.verify().ok
    locks = store.locks()
    assert locks is not None
    locks.hold([info.key for info in store.list()], held=True)
    for info in list(store.list()):
        with pytest.raises(Refused, match="legal hold"):
            store.delete(info.key)
    assert vault.verify().ok
