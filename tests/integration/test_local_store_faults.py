"""What a vault in a folder does when disks are full, folders are closed and writers are killed."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import muster
from killed import killed_at
from muster import nameless
from muster.adapters import local_store
from muster.adapters.local_store import LocalStore
from muster.errors import AlreadyExists, NotFound, Refused, SourceInvalid, StoreUnavailable

MIB = 1024 * 1024
_SMALL_DISK = 8 * MIB

# Writes objects that are named by their digest, as fast as it can, until it is killed.
_WRITER = """
import hashlib, os, sys
from pathlib import Path
from muster.adapters.local_store import LocalStore

store = LocalStore(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    data = os.urandom(700_000)
    name = hashlib.sha256(data).hexdigest()
    store.put(f"packs/{name[:2]}/{name}", data)
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder that takes no more than 8 MiB: a disk of that size, or where mounting is forbidden, a limit on files."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={_SMALL_DISK}", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode == 0:
        yield folder
        subprocess.run(["umount", str(folder)], check=True)
    else:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (_SMALL_DISK, hard))
        yield folder
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def closed_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that we may not write to, not even as root."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    if os.geteuid() != 0:
        yield folder
        return
    os.seteuid(65534)
    try:
        yield folder
    finally:
        os.seteuid(0)


def _everything_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_full_disk_leaves_nothing_behind(small_disk: Path) -> None:
    """An object that does not fit is StoreUnavailable and speaks of space; no part of it stays, and a smaller one fits."""
    store = LocalStore(small_disk / "vault")
    store.put("packs/aa/1", b"x" * MIB)
    with pytest.raises(StoreUnavailable, match="no space left for packs/aa/2") as caught:
        store.put("packs/aa/2", b"y" * (9 * MIB))
    assert "room" in caught.value.hint
    assert len(_everything_below(small_disk)) == 1
    assert [info.key for info in store.list()] == ["packs/aa/1"]
    store.put("packs/aa/2", b"y" * MIB)
    assert store.get("packs/aa/1") == b"x" * MIB


def test_a_closed_folder_is_refused(closed_folder: Path) -> None:
    """Where we may not write, a put is Refused, and the message names the place."""
    store = LocalStore(closed_folder / "vault")
    with pytest.raises(Refused, match=r"no permission for vault\.json in file://.*closed/vault") as caught:
        store.put("vault.json", b"{}")
    assert "mode" in caught.value.hint


def test_a_killed_writer_leaves_only_whole_objects(tmp_path: Path) -> None:
    """Whenever a writer is killed, every listed object is whole, and the next writer goes on beside it."""
    for round_ in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path / "vault")],
            env={"PYTHONPATH": str(Path(muster.__file__).parents[1])},
            stdout=subprocess.PIPE,
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(timeout=random.Random(round_).uniform(0.02, 0.25))
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
    store = LocalStore(tmp_path / "vault")
    infos = list(store.list())
    assert len(infos) >= 6
    for info in infos:
        data = store.get(info.key)
        assert hashlib.sha256(data).hexdigest() == info.key.rpartition("/")[2]
        assert len(data) == info.size


def test_what_a_killed_writer_left_is_not_listed(tmp_path: Path) -> None:
    """Half an object under its temporary name is no object for any call."""
    store = LocalStore(tmp_path)
    store.put("packs/aa/1", b"whole")
    (tmp_path / "packs" / "aa" / ".put-4711-00").write_bytes(b"ha")
    assert [info.key for info in store.list()] == ["packs/aa/1"]


def test_what_is_no_file_is_not_listed(tmp_path: Path) -> None:
    """A pipe would be read for ever, and a link that leads nowhere not at all: whoever puts one there keeps nobody waiting."""
    store = LocalStore(tmp_path)
    store.put("points/flights/one.json", b"{}")
    os.mkfifo(tmp_path / "points" / "flights" / "pipe.json")
    (tmp_path / "points" / "flights" / "link.json").symlink_to(tmp_path / "nowhere")
    assert [info.key for info in store.list()] == ["points/flights/one.json"]


@pytest.fixture(params=["nameless", "named", "nameless, and not to be linked"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How objects are written: as this file system lets us, and as others do that lack files without a name, or cannot link them."""
    if request.param == "named":
        monkeypatch.setattr(nameless, "_possible", lambda: False)
    elif request.param != "nameless":
        monkeypatch.setattr(local_store, "give_name", _not_to_be_linked)
    return str(request.param)


def _not_to_be_linked(handle: int, path: Path) -> None:
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


def test_an_object_is_written_whole_and_once_in_each_way(way: str, tmp_path: Path) -> None:
    """The same bytes and modes, nothing beside them, and never in the place of another."""
    store = LocalStore(tmp_path)
    large = os.urandom(3 * MIB + 5)
    store.put("packs/aa/1", large)
    with pytest.raises(AlreadyExists, match="packs/aa/1 is already in"):
        store.put("packs/aa/1", b"other")
    with pytest.raises(AlreadyExists, match="a part of packs/aa/1/2 is an object"):
        store.put("packs/aa/1/2", b"other")
    (path,) = _everything_below(tmp_path)
    assert (path.read_bytes(), path.stat().st_mode & 0o777, path.stat().st_nlink) == (large, 0o444, 1)


def test_two_who_put_at_once_in_each_way(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that came between the look and the link stays; whoever was late is told, and leaves nothing."""
    monkeypatch.setattr(os.path, "lexists", lambda path: False)
    store = LocalStore(tmp_path)
    store.put("a", b"first")
    with pytest.raises(AlreadyExists, match="a is already in"):
        store.put("a", b"second")
    (path,) = _everything_below(tmp_path)
    assert path.read_bytes() == b"first"


def test_a_put_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    """Bytes that were written when it was killed are in no file, so that vaults of killed writers do not grow."""
    store = LocalStore(tmp_path)
    killed_at("os.link", lambda *_: True, lambda: store.put("a", b"x" * MIB))
    assert _everything_below(tmp_path) == []


@pytest.mark.parametrize("named", [False, True], ids=["nameless", "named"])
def test_an_object_is_durable_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    """The bytes are synced, then linked, then the folder is synced; a new folder is synced into the one above."""
    if named:
        monkeypatch.setattr(nameless, "_possible", lambda: False)
    happened: list[str] = []
    fsync, link = os.fsync, os.link

    def noted_fsync(handle: int) -> None:
        happened.append("sync " + Path(f"/proc/self/fd/{handle}").readlink().name)
        fsync(handle)

    def noted_link(source: Path, target: Path, **how: int) -> None:
        happened.append("link " + Path(target).name)
        link(source, target, **how)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "link", noted_link)
    LocalStore(tmp_path / "vault").put("packs/1", b"x")
    assert happened[0:2] == [f"sync {tmp_path.name}", "sync vault"]
    assert happened[2].startswith("sync .put-" if named else "sync #")
    assert happened[3:] == ["link 1", "sync packs"]


def test_a_taken_key_is_durable_when_it_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever takes "it is there" for success may rely on it: the folder is synced before AlreadyExists is raised."""
    store = LocalStore(tmp_path)
    store.put("a", b"x")
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with pytest.raises(AlreadyExists):
        store.put("a", b"x")
    assert len(synced) == 1


def test_objects_are_read_only(tmp_path: Path) -> None:
    """Nobody may write into a stored object by accident."""
    LocalStore(tmp_path).put("a/b", b"x")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o222 == 0


def test_no_hard_links_is_no_place_for_a_vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that cannot link is named as such, and nothing is left on it."""

    def refused(source: Path, target: Path, **how: int) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    with pytest.raises(SourceInvalid, match="no hard links"):
        LocalStore(tmp_path).put("a", b"x")
    assert _everything_below(tmp_path) == []


def test_a_listing_bears_deletions_beside_it(tmp_path: Path) -> None:
    """Objects that go away while a listing runs are in it or not; those that stay are all in it."""
    store = LocalStore(tmp_path)
    staying = [f"marks/p/{n:03}" for n in range(0, 200, 2)]
    for n in range(200):
        store.put(f"marks/p/{n:03}", b"")

    def delete_the_others() -> None:
        for n in range(1, 200, 2):
            store.delete(f"marks/p/{n:03}")

    thread = threading.Thread(target=delete_the_others)
    thread.start()
    listings = [{info.key for info in store.list("marks/")} for _ in range(10)]
    thread.join()
    assert all(set(staying) <= listing for listing in listings)
    assert [info.key for info in store.list()] == staying


def test_an_object_is_no_folder(tmp_path: Path) -> None:
    """A key below an object's own is taken for writing and not there for reading."""
    store = LocalStore(tmp_path)
    store.put("a/b", b"x")
    with pytest.raises(AlreadyExists, match="a part of a/b/c"):
        store.put("a/b/c", b"y")
    with pytest.raises(AlreadyExists, match="a part of a/b/c/d"):
        store.put("a/b/c/d", b"y")
    with pytest.raises(NotFound):
        store.get("a/b/c")


def test_a_file_in_place_of_the_folder_is_no_store(tmp_path: Path) -> None:
    """An address that leads to a file is said to hold nothing."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotFound):
        list(LocalStore(tmp_path / "file").list())
