"""The newest audit record that was seen in each vault, noted outside of it: who puts a vault back to an older state is found out."""

from __future__ import annotations

import re
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
        """The same verification, which asks for the record that was seen last unless it asks for one already."""
        return replace(how, head=how.head or self.of(vault))

    def note(self, vault: Vault, report: VerifyReport) -> None:
        """Remember the newest record of a trail in which nothing was found wrong."""
        if report.head and not any(finding.object.startswith(AUDIT) for finding in report.findings):
            self.remember(vault, report.head)

    def remember(self, vault: Vault, head: str) -> None:
        """Remember the newest record of a trail that is known to be whole."""
        if head:
            self._folder.mkdir(parents=True, exist_ok=True)
            written = self._folder / f".{self._name(vault)}.new"
            written.write_text(f"{head}\n")
            written.replace(self._folder / self._name(vault))

    def _name(self, vault: Vault) -> str:
        return f"{vault.id}-{digest(vault.url.encode())[:8]}"

    def of(self, vault: Vault) -> str:
        """Digest of the record that was seen last in this place; empty if none was."""
        try:
            noted = (self._folder / self._name(vault)).read_text().strip()
        except (OSError, UnicodeDecodeError):
            return ""
        return noted if re.fullmatch(DIGEST, noted) else ""
