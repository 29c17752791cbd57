"""What a signed document says of the audit trail as it was when the document was written: by that a trail cut off later is noticed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from muster.codec import from_json, to_json

TRAIL = "audit"
"""The field of a manifest and of a mark."""
_HEAD = "audit_head"
"""The field that manifests have had from the beginning, and generations have: one of the ends alone."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """
    The ends of the audit trail at one moment.

    :param heads: digests of the records that no other followed; several where two machines appended at once
    :param count: number of all records then; 0 where a document does not say
    """

    heads: tuple[str, ...]
    count: int = 0

    @property
    def head(self) -> str:
        """The first of the ends, which manifests name by itself as well."""
        return self.heads[0] if self.heads else ""

    def lost(self, there: Iterable[str]) -> tuple[str, ...]:
        """Those of the ends that are not among the digests of a trail's records."""
        return tuple(sorted(set(self.heads).difference(there)))


def anchored(anchor: Anchor) -> dict[str, Any]:
    """The fields of a manifest that hold an anchor."""
    return {_HEAD: anchor.head, TRAIL: to_json(anchor)}


def anchor_of(document: Mapping[str, Any]) -> Anchor | None:
    """
    The anchor of a signed document, or None if it has none.

    :raises IntegrityError: if it has one that cannot be read
    """
    head = document.get(_HEAD)
    if TRAIL in document:
        found = from_json(Anchor, document[TRAIL])
        return found if head in (None, *found.heads) else Anchor((str(head), *found.heads), found.count)
    return Anchor((str(head),)) if head is not None else None
