"""The whole engine over S3: the protocol in this process, and a real server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fakes import FrozenClock
from muster.adapters.stores import open_store
from muster.domain.recovery_point import Mark
from muster.errors import AlreadyExists
from muster.ports import BlobStore
from servers import S3Server
from vaults import POINT, extract, flip, make_vault, memory_file, noise, reopen, seal, store_tree

FILES = {"large": noise(34 << 20, 21), "empty": b"", "\u00fcber/s": b"text " * 999}


@pytest.mark.parametrize(
    ("server", "lock"),
    [
        ("moto_s3", False),
        pytest.param("ceph_s3", False, marks=pytest.mark.servers),
        pytest.param("ceph_s3", True, marks=pytest.mark.servers),
    ],
    ids=["in this process", "a real server", "a bucket with Object Lock"],
)
def test_a_vault_in_a_bucket_goes_the_whole_way(
    server: str, lock: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Create, store, seal, mark, verify, restore; a second process at once; and damage is named."""
    s3: S3Server = request.getfixturevalue(server)
    address = s3.address(s3.make_bucket(lock=lock), "some/prefix")
    store = open_store(address)
    vault, recovery = make_vault(store)
    assert s3.secret_key not in vault.url
    with pytest.raises(AlreadyExists):
        make_vault(open_store(address))
    tree = store_tree(vault, FILES)
    again = reopen(open_store(address), recovery)
    with again.writer() as writer:
        assert writer.store_tree([memory_file(*item) for item in FILES.items()]) == tree
        assert writer.stats.new_chunks == 0
    point = seal(again, tree)
    again.mark(Mark("flights", point.point, "verified", FrozenClock().now()))
    vault.record("look", "x", "ok")
    assert vault.point("latest").point == point
    assert extract(reopen(store), tree, tmp_path) == FILES
    assert [record.action for record in vault.audit()] == ["create", "seal", "mark", "look"]
    assert vault.verify().ok
    assert_damage_is_named(store)


def assert_damage_is_named(store: BlobStore) -> None:
    """Somebody with write access replaces an object: not through our store, which never overwrites."""
    info = max(store.list("packs/"), key=lambda info: info.size)
    data = store.get(info.key)
    store.delete(info.key)
    store.put(info.key, flip(data, 1000))
    (finding,) = reopen(store).verify().findings
    assert finding.object == info.key
    assert finding.points == (f"{POINT}0",)
    assert finding.files == ("dataset/d0: large",)


def test_keys_at_hand_and_no_lock_need_no_boto3(moto_s3: S3Server, tmp_path: Path) -> None:
    """A process that makes a vault, takes two snapshots and restores one never loads what takes a third of a second to load."""
    (tmp_path / "source").mkdir()
    for number in range(300):
        (tmp_path / "source" / f"{number}").write_bytes(b"%d" % number)
    program = (
        "import sys, vault_steps as steps; store = steps.open_store(sys.argv[1]); steps.create(store);"
        "steps.snapshot(store, sys.argv[2]); steps.snapshot(store, sys.argv[2]); steps.restore(store, sys.argv[3]);"
        "print([name for name in ('boto3', 'botocore', 'numpy') if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program, moto_s3.address(moto_s3.make_bucket()), tmp_path / "source", tmp_path / "back"],
        env=os.environ | {"PYTHONPATH": f"{root / 'include'}:{root / 'benchmarks'}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
    assert len(list((tmp_path / "back").iterdir())) == 300
