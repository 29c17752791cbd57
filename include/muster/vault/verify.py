"""
Verify a vault: the structure of everything, and the bytes of a share of its packs.

Nothing is repaired and nothing raised that can be reported: each finding names the object, what is wrong with it, and which points and
files are hit. Everything is read anew: no index that was loaded earlier is trusted.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from muster.domain.content import TreeEntry
from muster.domain.recovery_point import RecoveryPoint
from muster.errors import IntegrityError, NotFound, UsageError
from muster.ports import BlobStore, Progress
from muster.vault.audit import AuditRecord, AuditTrail
from muster.vault.envelope import SigningKey
from muster.vault.extract import check_digests
from muster.vault.header import read_header
from muster.vault.index import Index
from muster.vault.keys import MasterKey, describe_slot
from muster.vault.layout import AUDIT, HEADER, INDEXES, KEYS, MARKS, PACKS, POINTS, RESTORE, digest, pack_key
from muster.vault.packs import Pack, open_chunk
from muster.vault.points import Points
from muster.vault.reader import ChunkReader, ids
from muster.vault.sealing import contents
from muster.vault.tree_reader import StoredTree

T = TypeVar("T")
_READERS = 3
_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Finding:
    """
    Something that is not as it was written.

    :param object: its key in the store
    :param points: ids of the points that need it
    :param files: ``component: path`` of the files that need it, if it is known
    """

    object: str
    what: str
    points: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def __str__(self) -> str:
        points = f"; points: {', '.join(self.points)}" if self.points else ""
        more = f" and {len(self.files) - 5} more" if len(self.files) > 5 else ""
        files = f"; files: {', '.join(self.files[:5])}{more}" if self.files else ""
        return f"{self.object}: {self.what}{points}{files}"


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """
    What a verification found.

    :param objects: number of objects whose bytes were read and checked
    :param bytes: how many bytes that were
    """

    objects: int
    bytes: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings
