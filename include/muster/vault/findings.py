"""What a verification found."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from muster.ports import BlobStore
from muster.vault.layout import PACKS

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """
    Something that is not as it was written.

    :param object: its key in the store
    :param points: ids of the points that need it
    :param files: ``kind/name: path`` of the files that need it, where that is known
    :param absent: whether the object is not there at all, so that its name is free
    :param by_digest: whether only computing the digests of files anew could show this
    """

    object: str
    what: str
    points: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    absent: bool = False
    by_digest: bool = False

    def __str__(self) -> str:
        return f"{self.object}: {self.what}{_listed('points', self.points)}{_listed('files', self.files)}"


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """
    The end of a verification.

    :param objects: number of objects that were read and checked
    :param bytes: how many stored bytes that were
    :param findings: damage
    :param notices: what is not as expected, and harms nothing: objects that are no part of the vault, traces of killed writers
    :param lost: hex ids of chunks that points need and of which no whole copy was found
    :param head: digest of the newest audit record; whoever notes it elsewhere notices when the vault is put back to an earlier state
    """

    objects: int
    bytes: int
    findings: tuple[Finding, ...]
    notices: tuple[Finding, ...] = ()
    lost: tuple[str, ...] = ()
    head: str = ""

    @property
    def damaged_packs(self) -> tuple[str, ...]:
        """Names of all packs that are there and have something wrong with them."""
        packs = (f for f in self.findings if f.object.startswith(PACKS) and not f.absent)
        return tuple(sorted({finding.object.rpartition("/")[2] for finding in packs}))

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def of(self, point: str) -> list[Finding]:
        """What was found that touches a point."""
        return [finding for finding in self.findings if point in finding.points]

    @property
    def reach_known(self) -> bool:
        """Whether of everything that was found it is known which points it touches: a pack that nobody needs touches none."""
        return all(finding.points or finding.object.startswith(PACKS) for finding in self.findings)


class Examination:
    """Counts what is read and collects what is found, from several threads."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._objects = self._bytes = 0
        self._findings: list[Finding] = []
        self._notices: list[Finding] = []
        self.lost: set[bytes] = set()
        self.head = ""

    def read(self, key: str) -> bytes:
        """A whole object. NotFound if it is gone."""
        data = self._store.get(key)
        self.count(1, len(data))
        return data

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """A part of an object, which is counted when all of it was read."""
        data = self._store.get_range(key, start, length)
        self.count(0, length)
        return data

    def count(self, objects: int, size: int) -> None:
        """So many objects and bytes were read."""
        with self._lock:
            self._objects += objects
            self._bytes += size

    def report(self, found: Finding) -> None:
        """Add a finding."""
        with self._lock:
            self._findings.append(found)

    def notice(self, found: Finding) -> None:
        """Add something that harms nothing."""
        with self._lock:
            self._notices.append(found)

    def conclude(self) -> VerifyReport:
        """Everything found, sorted by object."""
        return VerifyReport(
            self._objects,
            self._bytes,
            _sorted(self._findings),
            _sorted(self._notices),
            tuple(sorted(chunk.hex() for chunk in self.lost)),
            self.head,
        )


def _sorted(findings: list[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(set(findings), key=lambda finding: (finding.object, finding.what)))


def _listed(what: str, names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"; {what}: {', '.join(names[:_SHOWN])}{more}" if names else ""
