"""What `muster.ports.BlobStore` promises. Every implementation has a test class below this one."""

from __future__ import annotations

import mmap
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from muster.errors import AlreadyExists, IntegrityError, MusterError, NotFound, UsageError
from muster.ports import BlobStore

ALL_BYTES = bytes(range(256)) * 5
BAD_KEYS = ["", "/a", "a/", "a//b", "../a", "a/../b", ".", "a/.hidden", "a b", "ä", "a\n", "a\\b", "a:b", "a" * 201]


class BlobStoreContract:
    """Subclasses give a fixture `store`: a new, empty store."""

    def test_gives_back_what_was_put(self, store: BlobStore) -> None:
        """Bytes come back as they went in, whatever they are."""
        for key, data in {"a": b"", "b/c.json": ALL_BYTES, "B/c_-.json": b"\0"}.items():
            store.put(key, data)
            assert store.get(key) == data
            assert type(store.get(key)) is bytes

    def test_gives_back_a_whole_pack(self, store: BlobStore) -> None:
        """An object as large as a pack comes back whole."""
        pack = secrets.token_bytes(33 * 1024 * 1024 + 1)
        store.put("packs/aa/large", pack)
        assert store.get("packs/aa/large") == pack
        assert store.get_range("packs/aa/large", len(pack) - 5, 5) == pack[-5:]

    def test_takes_a_part_of_a_buffer_that_is_used_again(self, store: BlobStore) -> None:
        """Large or small, at a page of memory or beside one: what lies there when the call is made is stored, whatever comes after."""
        with memoryview(mmap.mmap(-1, 3 * 1024 * 1024)) as buffer:
            for key, start, end in (("aligned", 0, 2_500_000), ("beside", 7, 2_500_000), ("small", 100, 200)):
                data = secrets.token_bytes(end - start)
                buffer[start:end] = data
                store.put(key, buffer[start:end])
                buffer[start:end] = bytes(end - start)
                assert store.get(key) == data

    @pytest.mark.parametrize("second", [b"first", b"second"], ids=["equal", "different"])
    def test_never_overwrites(self, store: BlobStore, second: bytes) -> None:
        """A taken key is refused, whatever it holds, and the object stays what it was."""
        store.put("points/w/p.json", b"first")
        with pytest.raises(AlreadyExists, match=r"points/w/p\.json"):
            store.put("points/w/p.json", second)
        assert store.get("points/w/p.json") == b"first"

    def test_one_of_many_writers_wins(self, store: BlobStore) -> None:
        """Of many writers of one key exactly one succeeds, and its bytes are what is there."""
        bodies = [bytes([n]) * 4096 for n in range(8)]

        def won(body: bytes) -> bool:
            try:
                store.put("audit/7", body)
            except AlreadyExists:
                return False
            return True

        with ThreadPoolExecutor(len(bodies)) as pool:
            results = list(pool.map(won, bodies))
        assert sum(results) == 1
        assert store.get("audit/7") == bodies[results.index(True)]

    def test_takes_many_writers_at_once(self, store: BlobStore) -> None:
        """Writers of different keys do not get into each other's way, also while their folder is being made."""
        keys = [f"packs/{n % 3:02}/{n:03}" for n in range(48)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: store.put(key, key.encode()), keys))
        assert [info.key for info in store.list()] == sorted(keys)
        assert all(store.get(key) == key.encode() for key in keys)

    def test_gives_ranges(self, store: BlobStore) -> None:
        """A range is exactly the bytes that were asked for."""
        store.put("a", ALL_BYTES)
        size = len(ALL_BYTES)
        for start, length in [(0, size), (0, 1), (7, 300), (size - 1, 1), (5, 0), (size, 0)]:
            assert store.get_range("a", start, length) == ALL_BYTES[start : start + length]

    @pytest.mark.parametrize(("start", "length"), [(9, 2), (10, 1), (500, 1), (11, 0), (0, 11), (-1, 2), (3, -1)])
    def test_gives_no_short_range(self, store: BlobStore, start: int, length: int) -> None:
        """A range that is not whole within the object is an IntegrityError, never fewer bytes."""
        store.put("a", b"0123456789")
        with pytest.raises(IntegrityError):
            store.get_range("a", start, length)

    def test_tells_size_and_time(self, store: BlobStore) -> None:
        """`info` gives the size, and an aware time that is now, to the minute."""
        store.put("a/b", b"12345")
        info = store.info("a/b")
        assert (info.key, info.size) == ("a/b", 5)
        assert abs(info.modified - datetime.now(UTC)) < timedelta(minutes=1)
        assert list(store.list()) == [info]

    @pytest.mark.parametrize(
        "read",
        [
            lambda store: store.get("packs/no"),
            lambda store: store.get_range("packs/no", 0, 1),
            lambda store: store.get_range("packs/no", 0, 0),
            lambda store: store.info("packs/no"),
            lambda store: store.delete("packs/no"),
        ],
        ids=["get", "get_range", "empty range", "info", "delete"],
    )
    def test_names_what_is_not_there(self, store: BlobStore, read: Callable[[BlobStore], object]) -> None:
        """What is not there is a NotFound that names it, in an empty store and beside others."""
        for _ in range(2):
            with pytest.raises(NotFound, match="packs/no"):
                read(store)
            store.put(f"packs/not-{secrets.token_hex(4)}", b"x")

    def test_a_folder_is_no_object(self, store: BlobStore) -> None:
        """The beginning of a key names nothing."""
        store.put("points/w/p.json", b"x")
        for read in (store.get, store.info, store.delete):
            with pytest.raises(NotFound):
                read("points/w")
        assert store.get("points/w/p.json") == b"x"

    def test_lists_sorted_by_key(self, store: BlobStore) -> None:
        """A listing is sorted by key, characters compared one by one, with the slash as one of them."""
        keys = ["a/b/c", "a-b", "a.b", "a0", "a/b.c", "a/b-c", "A", "a/b/a", "z/z", "aa/a", "a/a0/x", "a/a/x"]
        for key in keys:
            store.put(key, b"")
        assert [info.key for info in store.list()] == sorted(keys)

    def test_lists_by_any_prefix(self, store: BlobStore) -> None:
        """A prefix is a string of any length, not only whole segments."""
        keys = ["packs/aa/1", "packs/aa/12", "packs/ab/1", "packs2/1", "points/w/1", "points/w2/1"]
        for key in keys:
            store.put(key, b"")
        for prefix in [
            "",
            "p",
            "packs",
            "packs/",
            "packs/a",
            "packs/aa/",
            "packs/aa/1",
            "points/w",
            "points/w/",
            "no",
            "packs/aa/1/",
        ]:
            assert [info.key for info in store.list(prefix)] == sorted(key for key in keys if key.startswith(prefix))

    def test_lists_more_than_a_page(self, store: BlobStore) -> None:
        """A listing that servers give in several pages is whole."""
        keys = [f"marks/p/{n:04}" for n in range(1005)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: store.put(key, b""), keys))
        assert [info.key for info in store.list("marks/")] == keys

    def test_lists_nothing_in_an_empty_store(self, store: BlobStore) -> None:
        """An empty store lists nothing, and is no error."""
        assert list(store.list()) == []
        assert list(store.list("packs/aa")) == []

    def test_deletes_one_object(self, store: BlobStore) -> None:
        """A deleted object is gone, its neighbours stay, and its key can be used again."""
        store.put("a/1", b"one")
        store.put("a/12", b"two")
        store.delete("a/1")
        assert [info.key for info in store.list()] == ["a/12"]
        with pytest.raises(NotFound):
            store.get("a/1")
        store.put("a/1", b"again")
        assert store.get("a/1") == b"again"

    @pytest.mark.parametrize("key", BAD_KEYS)
    def test_refuses_bad_keys(self, store: BlobStore, key: str) -> None:
        """What is no key is refused by every call, and nothing comes to be."""
        calls: list[Callable[[], object]] = [
            lambda: store.put(key, b"x"),
            lambda: store.get(key),
            lambda: store.get_range(key, 0, 1),
            lambda: store.info(key),
            lambda: store.delete(key),
        ]
        for call in calls:
            with pytest.raises(UsageError):
                call()
        assert list(store.list()) == []

    def test_errors_say_what_to_do(self, store: BlobStore) -> None:
        """Every error has a message in one line that names the place, and a hint."""
        store.put("a", b"x")
        for call in (lambda: store.put("a", b"x"), lambda: store.get("b"), lambda: store.get_range("a", 0, 2)):
            with pytest.raises(MusterError) as caught:
                call()
            assert store.url in caught.value.message
            assert "\n" not in caught.value.message
            assert caught.value.hint

    def test_promises_create_only(self, store: BlobStore) -> None:
        """The store says that two writers of one key cannot both succeed."""
        assert store.guarantees().conditional_put
