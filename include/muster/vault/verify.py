"""
Verify a vault: the structure of everything, the bytes of a share of its packs, and, if asked for, the digests of every file.

Nothing is repaired, and nothing raised that can be reported. Everything is read anew: no index loaded earlier is trusted. What each step
proves stands in docs/adr/0011.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from muster.domain.recovery_point import RecoveryPoint
from muster.errors import UsageError
from muster.ports import BlobStore, Progress
from muster.vault.authority import Authority
from muster.vault.findings import Examination, VerifyReport
from muster.vault.header import Header
from muster.vault.keys import MasterKey
from muster.vault.points import Points
from muster.vault.reader import ChunkReader
from muster.vault.turns import chosen
from muster.vault.verify_documents import DocumentCheck
from muster.vault.verify_files import FileCheck
from muster.vault.verify_packs import PackCheck
from muster.vault.verify_trees import TreeCheck


@dataclass(frozen=True, slots=True)
class Extent:
    """
    How much of a vault is verified.

    :param points: whose packs and files; None for all that there are, and for packs that no point needs as well
    :param share: of the packs, 0 to 1, whose bytes are read; those that were found damaged before are read whatever it is
    :param files: whether the digests of every file are computed anew
    :param heads: digests of audit records that were seen earlier and must be there still
    """

    points: Sequence[RecoveryPoint] | None = None
    share: float = 1.0
    files: bool = False
    heads: Sequence[str] = ()


def verify(
    store: BlobStore,
    master: MasterKey,
    authority: Authority,
    header: Header,
    extent: Extent,
    progress: Progress | None,
) -> VerifyReport:
    """See `Vault.verify`."""
    if not 0.0 <= extent.share <= 1.0:
        raise UsageError(f"{extent.share} is not a share of the packs", "give a number from 0 to 1")
    found = Examination(store)
    documents = DocumentCheck(store, master, authority, header, found)
    with ThreadPoolExecutor(1, "muster-verify-aside") as aside:
        strangers = aside.submit(documents.notice_strangers)  # it may have to load a client that asks for versions
        sealed = documents.run(extent.heads)
        points = sealed if extent.points is None else extent.points
        packs = PackCheck(store, master, points, Points(store, authority, header.id).damaged_packs(), found)
        packs.look()
        wanted = packs.all() if extent.points is None else packs.of_points()
        packs.read(
            {*chosen(sorted(wanted), extent.share, documents.turns), *(packs.doubtful() & wanted)}, progress, strangers
        )
    reader = ChunkReader(store, master, packs.index)
    trees = TreeCheck(reader, packs.index, packs.lost(), found)
    packs.report(trees.run(points))
    if extent.files:
        FileCheck(reader, trees, found).run(points, progress)
    return found.conclude()
