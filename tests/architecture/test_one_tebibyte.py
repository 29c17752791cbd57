"""The arithmetic in docs/one-tebibyte.md follows from the code's constants: whoever changes one is told to change the other."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import pytest

from muster.adapters.object_store import _LIST_PAGE
from muster.codec import canonical
from muster.domain.content import ContentRef, TreeEntry
from muster.vault.chunking import AVERAGE, OF_LISTS
from muster.vault.condemned import GRACE
from muster.vault.index_objects import LARGEST, ROW
from muster.vault.layout import ID_BYTES
from muster.vault.pack_proof import _PIECE
from muster.vault.packs import ENTRY, FOOTER, HEADER, PACK_TARGET, TAG_BYTES
from muster.vault.reader import SPAN
from muster.vault.writer import PAGED_FROM
from vaults import write_entries

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "one-tebibyte.md"
KIB, MIB, GIB, TIB = (1 << shift for shift in (10, 20, 30, 40))
HASH = "0" * 64


@dataclass(frozen=True)
class Vault:
    """
    One tebibyte in files of one size, nothing compressible and nothing alike.

    :param chunk: plain bytes of a chunk
    """

    file: int
    chunk: int

    @property
    def files(self) -> int:
        return TIB // self.file

    @property
    def chunks(self) -> int:
        return self.files * ceil(self.file / self.chunk)

    @property
    def sealed(self) -> int:
        """What a chunk takes in a pack, with its row."""
        return self.chunk + TAG_BYTES + ENTRY.size

    @property
    def chunks_a_pack(self) -> int:
        """A pack is full when chunks and rows come to its target: the last chunk may go beyond it."""
        return ceil((PACK_TARGET - HEADER.size) / self.sealed)

    @property
    def packs(self) -> int:
        return ceil(self.chunks / self.chunks_a_pack)

    @property
    def stored(self) -> int:
        return self.chunks * self.sealed + self.packs * (HEADER.size + TAG_BYTES + FOOTER.size)

    @property
    def index(self) -> int:
        return self.chunks * ENTRY.size + self.packs * ROW.size

    @property
    def listing(self) -> int:
        """Bytes of the list of entries: one of a file of this size, with a path of 40 letters."""
        content = ContentRef(self.file, HASH, (HASH,) * ceil(self.file / self.chunk))
        entry = TreeEntry("p" * 40, content=content, md5="0" * 32, mode=0o644, mtime_ns=1_700_000_000_000_000_000)
        return self.files * len(write_entries([entry]))

    @property
    def manifest(self) -> int:
        """Names of packs, and of the chunks of the list or of the table of its pages, before the envelope writes them in Base64."""
        names = canonical([HASH, HASH])
        table = self.listing // OF_LISTS.average * ID_BYTES
        named = (self.listing if self.files < PAGED_FROM else table) // AVERAGE
        return (self.packs + named) * (len(names) // 2) * 4 // 3

    @property
    def reads_of_a_pack(self) -> int:
        """By a verification: its pieces, the header with the first and the directory with the last."""
        return ceil(self.chunks_a_pack / ceil(_PIECE / (self.chunk + TAG_BYTES)))

    @property
    def figures(self) -> dict[str, int]:
        """Everything that the document's table of figures has, by the first words of its row."""
        tenth, hundredth = ceil(self.packs / 10), ceil(self.packs / 100)
        pages, index_objects = ceil(self.packs / _LIST_PAGE), ceil(self.index / LARGEST)
        return {
            "files": self.files,
            "chunks": self.chunks,
            "chunks a pack": self.chunks_a_pack,
            "packs": self.packs,
            "stored in packs": self.stored,
            "index, bytes": self.index,
            "index, objects": index_objects,
            "list of entries": self.listing,
            "manifest": self.manifest,
            "memory of the index, least": self.chunks * 60,
            "memory of the index, most": self.chunks * 90,
            "first snapshot, packs written": self.packs,
            "every snapshot, pages listed": 3 * pages,
            "every snapshot, index objects read, least": index_objects,
            "every snapshot, reads of the list": 2 * ceil(self.listing / SPAN),
            "1 % new, packs written": hundredth,
            "verify 10 %, reads": tenth * self.reads_of_a_pack,
            "verify 10 %, bytes": self.stored // 10,
            "verify all, reads": self.packs * self.reads_of_a_pack,
            "restore, reads": ceil(TIB / SPAN),
            "first lock, requests": 2 * self.packs,
            "1 % expired, packs removed": hundredth,
        }


SHAPES = (Vault(GIB, AVERAGE), Vault(10 * KIB, 10 * KIB))
BYTES = {"stored in packs", "index, bytes", "list of entries", "manifest", "verify 10 %, bytes"}


def shown(name: str, value: int) -> str:
    """A figure as the document has it: counts to the unit, bytes to three digits."""
    if name not in BYTES and not name.startswith("memory"):
        return f"{value:,}"
    unit, word = next((u, w) for u, w in ((TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB")) if value >= u)
    return f"{value / unit:.3g} {word}"


def table() -> dict[str, list[str]]:
    """The cells of the table of figures, by the first of each row."""
    rows = [
        line.strip("| ").split(" | ") for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line[:1] == "|"
    ]
    return {cells[0]: cells[1:] for cells in rows}


@pytest.mark.parametrize("name", SHAPES[0].figures)
def test_each_figure_follows_from_the_constants(name: str) -> None:
    """For large files and for small ones."""
    assert table()[name][:2] == [shown(name, shape.figures[name]) for shape in SHAPES]


def test_each_constant_that_is_cited_is_one_of_the_code() -> None:
    """By its module, and with the value that the document gives."""
    cited = re.findall(
        r"^\| `(\w+)(?:\.size)?` \| `([\w/]+)\.py` \| ([\d,]+) ", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(cited) >= 10
    for name, module, value in cited:
        found = getattr(__import__(f"muster.{module.replace('/', '.')}", fromlist=[name]), name)
        number = getattr(found, "size", found)
        seconds = getattr(number, "total_seconds", None)
        assert int(seconds() if seconds else number) == int(value.replace(",", "")), name


def test_the_slowest_first_snapshot_is_one_of_the_grace() -> None:
    """The rate that the document gives below which it is refused."""
    (rate,) = re.findall(r"(\d\.\d\d) MiB/s", DOCUMENT.read_text(encoding="utf-8"))
    assert float(rate) == pytest.approx(TIB / MIB / GRACE.total_seconds(), abs=0.005)
