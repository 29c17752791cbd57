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
    """

    object: str
    what: str
    points: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.object}: {self.what}{_listed('points', self.points)}{_listed('files', self.files)}"


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """
    The end of a verification.

    :param objects: number of objects that were read and checked
    :param bytes: how many stored bytes that were
    """

    objects: int
    bytes: int
    findings: tuple[Finding, ...]

    @property
    def damaged_packs(self) -> tuple[str, ...]:
        """Names of all packs that something is wrong with."""
        return tuple(sorted({f.object.rpartition("/")[2] for f in self.findings if f.object.startswith(PACKS)}))

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


class Examination:
    """Counts what is read and collects what is found, from several threads."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._objects = self._bytes = 0
        self._findings: list[Finding] = []

    def read(self, key: str) -> bytes:
        """A whole object. NotFound if it is gone."""
        data = self._store.get(key)
        with self._lock:
            self._objects += 1
            self._bytes += len(data)
        return data

    def report(self, found: Finding) -> None:
        """Add a finding."""
        with self._lock:
            self._findings.append(found)

    def conclude(self) -> VerifyReport:
        """Everything found, sorted by object."""
        findings = sorted(set(self._findings), key=lambda finding: (finding.object, finding.what))
        return VerifyReport(self._objects, self._bytes, tuple(findings))


def _listed(what: str, names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"; {what}: {', '.join(names[:_SHOWN])}{more}" if names else ""
