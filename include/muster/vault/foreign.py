"""Objects that lie in a vault's place and are no part of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from muster.ports import PROBES, BlobInfo
from muster.vault.layout import (
    AUDIT,
    CONDEMNED,
    DAMAGED,
    DIGEST,
    GENERATIONS,
    HEADER,
    INDEXES,
    KEYS,
    MARKS,
    NAME,
    PACKS,
    POINTS,
    RESTORE,
    ROLLS,
)

_FORMS = {
    PACKS: "(?P<first>[0-9a-f]{2})/(?P=first)[0-9a-f]{62}",
    INDEXES: DIGEST,
    KEYS: rf"{DIGEST}\.json",
    CONDEMNED: rf"{DIGEST}\.json",
    DAMAGED: rf"{DIGEST}\.json",
    POINTS: rf"{NAME}/{NAME}\.json",
    MARKS: rf"{NAME}/[a-z]+-[0-9]{{8}}T[0-9]{{6}}\.[0-9]{{6}}Z(-[0-9]+)?\.json",
    AUDIT: rf"[0-9]{{8,}}-{DIGEST}\.json",
    GENERATIONS: r"[0-9]{4,}\.json",
    ROLLS: rf"[0-9]{{4,}}-{DIGEST}\.json",
}
_OWN = re.compile(
    "|".join(
        [re.escape(HEADER), re.escape(RESTORE), *(f"{re.escape(place)}(?:{form})" for place, form in _FORMS.items())]
    )
)


def own(infos: Iterable[BlobInfo]) -> Iterator[BlobInfo]:
    """Those objects that a vault can have."""
    return (info for info in infos if not is_foreign(info.key))


def is_foreign(key: str) -> bool:
    """Whether no object of a vault can have this name. Trial objects of `muster doctor` are not a vault's, and not foreign."""
    return not _OWN.fullmatch(key) and not key.startswith(PROBES)
