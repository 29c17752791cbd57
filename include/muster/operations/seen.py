"""The newest audit records that were seen in each vault, noted outside of it: who puts a vault back to an older state is found out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from muster.operations.verify import Thoroughness
from muster.vault.layout import AUDIT, DIGEST, digest
from muster.vault.vault import Vault, VerifyReport


class SeenHeads:
    """
    Notes below a folder of our own, one for each vault in each place: a copy may lag behind. Without them nothing is wrong; it is
    only not noticed.

    A vault that was put back on purpose lacks what was seen: then its note, whose name begins with the vault's id, must be removed
    by hand.
    """

    def __init__(self, state: Path) -> None:
        self._folder = state / "seen"

    def asked_for(self, how: Thoroughness, vault: Vault) -> Thoroughness:
        """The same verification, which asks for what was seen last as well."""
        return replace(how, heads=self.asked(vault, how.heads))

    def asked(self, vault: Vault, heads: Iterable[str]) -> tuple[str, ...]:
        """Digests of what must be there: what somebody asks for, and what was seen last in any case."""
        return tuple(dict.fromkeys([*heads, *self.of(vault)]))

    def note(self, vault: Vault, report: VerifyReport) -> None:
        """Remember the newest record of a trail in which nothing was found wrong."""
        if report.head and not any(finding.object.startswith(AUDIT) for finding in report.findings):
            self.remember(vault, [report.head])

    def remember(self, vault: Vault, heads: Iterable[str]) -> None:
        """Remember the newest records of a trail that is known to be whole: every end of a fork."""
        if noted := "".join(f"{head}\n" for head in heads):
            self._folder.mkdir(parents=True, exist_ok=True)
            written = self._folder / f".{self._name(vault)}.new"
            written.write_text(noted)
            written.replace(self._folder / self._name(vault))

    def _name(self, vault: Vault) -> str:
        return f"{vault.id}-{digest(vault.url.encode())[:8]}"

    def of(self, vault: Vault) -> tuple[str, ...]:
        """Digests of the records that were seen last in this place."""
        try:
            noted = (self._folder / self._name(vault)).read_text().split()
        except (OSError, UnicodeDecodeError):
            return ()
        return tuple(head for head in noted if re.fullmatch(DIGEST, head))
