"""A look at a vault's audit trail from outside of it: from copies of the vault, and from other vaults that know of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from muster.errors import IntegrityError, MusterError, StoreUnavailable
from muster.operations.seen import SeenHeads
from muster.operations.verify import listed
from muster.ports import BlobStore
from muster.vault.auditing import Auditing, AuditReport
from muster.vault.vault import Vault


def watch(vault: Vault, seen: SeenHeads, copies: Sequence[BlobStore], others: Sequence[Vault]) -> AuditReport:
    """
    The nightly look.

    The trail is compared with its copies, and with what other vaults know of it; then its newest records are named in their trails.

    :param copies: stores that hold copies of the vault
    :param others: vaults whose trails name this one's newest records
    :raises IntegrityError: if anything is wrong with the trail, a copy of it or another vault's; then nothing is anchored
    """
    asked = [other.auditing for other in others]
    report = _whole(vault, vault.auditing.check(heads=seen.asked(vault, ()), copies=copies, others=asked))
    for other in asked:
        vault.auditing.anchor_in(other)
    return report


Elsewhere = tuple[Sequence[BlobStore], Sequence[Auditing]]
"""Stores that hold copies of a vault, and other vaults that know of its trail."""


def prove(vault: Vault, heads: Sequence[str], elsewhere: Callable[[], Elsewhere] | None) -> AuditReport:
    """
    Look for anything that was done to the trail, by what is known of it here and elsewhere. Changes nothing.

    :param heads: digests of records that were seen earlier
    :param elsewhere: opens the other places; None if none is to be asked
    :raises IntegrityError: if anything is wrong with the trail, a copy of it or another vault's
    :raises StoreUnavailable: if nothing is wrong here, and one of the other places does not answer
    :raises MusterError: if nothing is wrong here, and one of the other places cannot be opened
    """
    if elsewhere is None:
        return _whole(vault, vault.auditing.check(heads=heads))
    try:
        copies, others = elsewhere()
        report = vault.auditing.check(heads=heads, copies=copies, others=others)
    except MusterError as error:
        _whole(vault, vault.auditing.check(heads=heads))
        if not isinstance(error, StoreUnavailable):
            raise
        raise StoreUnavailable(
            f"the trail of {vault.url} is whole in itself, and what others know of it cannot be asked: {error.message}",
            "ask again when they answer; `muster audit verify --alone` asks none of them",
        ) from error
    return _whole(vault, report)


def _whole(vault: Vault, report: AuditReport) -> AuditReport:
    if not report.ok:
        raise not_whole(vault, report)
    return report


def not_whole(vault: Vault, report: AuditReport) -> IntegrityError:
    """The failure that tells of everything that was found."""
    return IntegrityError(
        f"the audit trail of {vault.url} is not whole: {len(report.findings)} findings\n{listed(report.findings)}",
        "bring back what is lost with `muster heal --from` a copy of the vault; and find out who writes to the store",
    )
