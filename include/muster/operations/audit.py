"""The nightly look at a vault's audit trail from outside of it: from copies of the vault, and from other vaults that know of it."""

from __future__ import annotations

from collections.abc import Sequence

from muster.errors import IntegrityError
from muster.operations.seen import SeenHeads
from muster.operations.verify import listed
from muster.ports import BlobStore
from muster.vault.auditing import AuditReport
from muster.vault.vault import Vault


def watch(vault: Vault, seen: SeenHeads, copies: Sequence[BlobStore], others: Sequence[Vault]) -> AuditReport:
    """
    Compare the trail with its copies, and with what other vaults know of it; then name its newest records in the trails of these.

    :param copies: stores that hold copies of the vault
    :param others: vaults whose trails name this one's newest records
    :raises IntegrityError: if anything is wrong with the trail, a copy of it or another vault's; then nothing is anchored
    """
    asked = [other.auditing for other in others]
    report = vault.auditing.check(heads=seen.asked(vault, ()), copies=copies, others=asked)
    if not report.ok:
        raise not_whole(vault, report)
    for other in asked:
        vault.auditing.anchor_in(other)
    return report


def not_whole(vault: Vault, report: AuditReport) -> IntegrityError:
    """The failure that tells of everything that was found."""
    return IntegrityError(
        f"the audit trail of {vault.url} is not whole: {len(report.findings)} findings\n{listed(report.findings)}",
        "bring back what is lost with `muster heal --from` a copy of the vault; and find out who writes to the store",
    )
