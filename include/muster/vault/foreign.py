"""Objects that lie in a vault's place and are no part of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from muster.ports import PROBES, BlobInfo
from muster.vault.layout import (
    AUDIT,
    CONDEMNED,
    DAMAGED,
    GENERATIONS,
    HEADER,
    INDEXES,
    KEYS,
    MARKS,
    PACKS,
    POINTS,
    RESTORE,
    ROLLS,
)

_DIGEST = "[0-9a-f]{64}"
_NAME = "[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_FORMS = {
    PACKS: "(?P<first>[0-9a-f]{2})/(?P=first)[0-9a-f]{62}",
    INDEXES: _DIGEST,
    KEYS: rf"{_DIGEST}\.json",
    CONDEMNED: rf"{_DIGEST}\.json",
    DAMAGED: rf"{_DIGEST}\.json",
    POINTS: rf"{_NAME}/{_NAME}\.json",
    MARKS: rf"{_NAME}/[a-z]+-[0-9]{{8}}T[0-9]{{6}}\.[0-9]{{6}}Z(-[0-9]+)?\.json",
    AUDIT: rf"[0-9]{{8,}}-{_DIGEST}\.json",
    GENERATIONS: r"[0-9]{4,}\.json",
    ROLLS: rf"[0-9]{{4,}}-{_DIGEST}\.json",
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
