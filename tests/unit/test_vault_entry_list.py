"""Lists of entries: in any order in, in order out, in little memory, and the bytes that format 1 has always had."""

from __future__ import annotations

import json
import random
import tracemalloc
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster.domain.content import ContentRef, TreeEntry
from muster.errors import IntegrityError, SourceInvalid
from muster.vault import entry_list
from muster.vault.entry_list import EntryList
from muster.vault.trees import Reconciler, Row, checked_rows, row_of
from vaults import summarise, write_entries

CONTENT = ContentRef(3, "ab" * 32, ("cd" * 32,))
DIGITS = st.text("0123456789abcdef", min_size=64, max_size=64)
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..")
)


@pytest.fixture
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of 16 entries, so that a small list has many."""
    monkeypatch.setattr(entry_list, "RUN", 16)
    monkeypatch.setattr(entry_list, "_BLOCK", 5)


def file_entry(path: str) -> TreeEntry:
    """A file at a path."""
    return TreeEntry(path, content=CONTENT)


def test_what_could_not_be_read_again_is_not_written() -> None:
    """The list is read once more as it is written, since whoever seals a tree of its own does not read it."""
    entries = EntryList()
    entries.extend([Row(path="a", kind="dir"), Row(path="b", kind="dir", mtime_ns=1 << 63)])
    with pytest.raises(SourceInvalid, match=r"^a to b cannot be stored: its lines are not entries: Expected `int` <="):
        entries.open().read()


def listed(entries: list[TreeEntry]) -> tuple[bytes, Reconciler]:
    """What a list has that these were added to, in this order."""
    entered = EntryList()
    for entry in entries:
        entered.extend([row_of(entry, entry.content)])
    with entered.open() as stream:
        return stream.read(), entered.seen


@pytest.mark.usefixtures("short_runs")
@pytest.mark.parametrize("order", ["sorted", "reversed", "shuffled", "one late"])
def test_a_list_is_sorted_whatever_the_order_of_its_files(order: str) -> None:
    """Many runs, which follow one another or must be merged, give the same bytes and sums as one sorted list."""
    entries = [file_entry(f"{number:04}") for number in range(200)]
    given = list(entries)
    if order == "reversed":
        given.reverse()
    if order == "shuffled":
        random.Random(1).shuffle(given)
    if order == "one late":
        given.append(given.pop(0))
    data, seen = listed(given)
    assert data == write_entries(entries)
    assert seen.ref(CONTENT) == summarise(CONTENT, entries)


@pytest.mark.usefixtures("short_runs")
@pytest.mark.parametrize("apart", [1, 100])
def test_a_path_that_comes_twice_is_found_within_a_run_and_across_runs(apart: int) -> None:
    """Near one another or far apart."""
    entries = [file_entry(f"{number:04}") for number in range(200)]
    entries.insert(50 + apart, file_entry("0050"))
    with pytest.raises(SourceInvalid, match="the path 0050 comes twice"):
        listed(entries)


@pytest.mark.usefixtures("short_runs")
def test_what_lies_below_a_file_is_found_across_runs() -> None:
    """Also if a hundred names that begin alike lie between the two, as "a-" does between "a" and "a/"."""
    between = [file_entry(f"a-{number:04}") for number in range(100)]
    with pytest.raises(SourceInvalid, match="a/b lies below a, which is not a folder"):
        listed([file_entry("a"), *between, file_entry("a/b")])
    assert listed([TreeEntry("a", "dir"), *between, file_entry("a/b")])


def test_a_long_list_takes_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """50,000 entries that come in order take less than 250 bytes each, where two digests alone are as many as objects."""
    monkeypatch.setattr(entry_list, "RUN", 4096)
    entered = EntryList()
    tracemalloc.start()
    for number in range(12 * 4096):
        chunk = random.Random(number).randbytes(32).hex()
        entry = TreeEntry(f"folder/{number:06}", content=ContentRef(3, chunk, (chunk,)))
        entered.extend([row_of(entry, entry.content)])
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 250 * 12 * 4096


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    name=NAMES,
    md5=st.none() | DIGITS,
    number=st.none() | st.integers(-(2**62), 2**62),
    content=st.builds(ContentRef, st.integers(0, 2**62), DIGITS, st.lists(DIGITS, max_size=3).map(tuple)),
)
def test_lines_are_canonical_json_and_read_back(
    name: str, md5: str | None, number: int | None, content: ContentRef
) -> None:
    """As `json` writes them, with sorted keys, without spaces, and without what an entry does not have."""
    entry = TreeEntry(f"d/{name}", "file", content, md5, None, number)
    fields = {key: value for key, value in asdict(entry).items() if value is not None}
    expected = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
    data = write_entries([entry])
    assert json.loads(data) == json.loads(expected)
    assert data == expected
    read = [row.entry() for rows in checked_rows([data], summarise(content, [entry])) for row in rows]
    assert read == [entry]


@pytest.mark.parametrize("cut", [1, 7, 64, 10_000])
def test_a_list_is_read_wherever_it_is_cut(cut: int) -> None:
    """Blocks end anywhere: within a line, at its end, after all."""
    entries = [file_entry(f"{number:03}") for number in range(50)]
    data = write_entries(entries)
    blocks = [data[at : at + cut] for at in range(0, len(data), cut)]
    read = [row.entry() for rows in checked_rows(blocks, summarise(CONTENT, entries)) for row in rows]
    assert read == entries


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (b'{"kind":"file","path":"a"}\n', "a is a file without what makes it one"),
        (b'{"kind":"link","path":"a"}\n', "a is a link without what makes it one"),
        (b'{"kind":"dir","link":"b","path":"a"}\n', "or with what does not"),
        (b'{"kind":"dir","path":"b"}\n{"kind":"dir","path":"a"}\n', "not sorted"),
        (b'{"kind":"dir","path":"a"}\n{"kind":"dir","path":"a"}\n', "comes twice"),
        (b'{"kind":"dir","path":"../a"}\n', "would leave the folder"),
        (b'{"kind":"dir","path":"a/."}\n', "would leave the folder"),
        (b'{"kind":"dir","path":""}\n', "would leave the folder"),
        (b'{"kind":"socket","path":"a"}\n', "not entries"),
        (b'{"kind":"dir","path":"a","more":1}\n', "not entries"),
        (b'{"kind":"dir","path":"\\ud800"}\n', "not entries"),
        (b'{"kind":"dir","path":7}\n', "not entries"),
        (b"\xff\n", "not entries"),
        (b'{"kind":"dir","path":"a"}', "do not add up"),
    ],
)
def test_a_list_that_no_writer_of_ours_wrote_is_refused(lines: bytes, why: str) -> None:
    """Each of what must hold of a list, broken."""
    with pytest.raises(IntegrityError, match=why):
        list(checked_rows([lines], summarise(CONTENT, [])))


def test_a_row_says_what_its_entry_says() -> None:
    """There and back, for a file, a folder and a link."""
    for entry in (
        TreeEntry("f", "file", CONTENT, "0" * 32, 0o644, 5),
        TreeEntry("d", "dir", mode=0o700),
        TreeEntry("l", "link", link="f"),
    ):
        row = row_of(entry, entry.content)
        assert isinstance(row, Row)
        assert row.entry() == entry
