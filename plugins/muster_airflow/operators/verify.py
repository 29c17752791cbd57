"""Read a vault again and say what is damaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from muster.errors import MusterError, NotFound, TransientError, UsageError
from muster_airflow.operators.recovery import RecoveryOperator, Site

if TYPE_CHECKING:
    from muster.ports import BlobStore
    from muster.vault.vault import Vault, VerifyReport


class VerifyVaultOperator(RecoveryOperator):
    """
    Verify every point of a vault and mark it: verified, or suspect; heal it from its replicas. Then compare its audit trail with these,
    and with the vaults in which it is anchored, and anchor it there anew. Returns how much was read.

    :param vault: name of the vault in the catalog (templated)
    :param share: part of the packs whose bytes are read again, 0 to 1 (templated)
    :raises IntegrityError: if anything is damaged that no replica has, or the trail was tampered with; the message has all findings
    :raises MusterError: if all is well, and a replica does not answer, or is damaged
    """

    template_fields: Sequence[str] = ("vault", "share")

    def __init__(self, *, vault: str, share: str | float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vault = vault
        self.share = share

    def perform(self, at: Site) -> Any:
        from muster.operations.audit import watch
        from muster.operations.heal import put_back_keys, usable
        from muster.operations.seen import SeenHeads
        from muster.operations.verify import Thoroughness, examine

        vault, seen = at.platform.vault(self.vault), SeenHeads(at.platform.state)
        copies, failures = usable(vault, at.platform.replicas(self.vault))
        for failure in failures:
            self.log.error("A replica is of no use: %s", failure)
        put_back_keys(vault, copies)
        statuses = vault.readable_points()
        how = seen.asked_for(Thoroughness(_share(self.share), whole=True), vault)
        report = examine(vault, statuses, how, at.platform.clock)
        seen.note(vault, report)
        for notice in report.notices:
            self.log.info("%s", notice)
        for finding in report.findings:
            self.log.error("%s", finding)
        if not report.ok:
            self._heal(at, vault, report, copies, failures)
        self.log.info("%d points of %s are whole: %d objects", len(statuses), vault.url, report.objects)
        trail = watch(vault, seen, copies, at.platform.anchored_in(self.vault))
        for notice in trail.notices:
            self.log.info("%s", notice)
        for failure in failures:
            if not isinstance(failure, NotFound):  # a place to which nothing was copied yet is told of, and no more
                raise failure
        self.log.info("The audit trail is whole: %d records, %d anchors agree", len(trail.records), trail.anchors)
        return {"vault": vault.id, "points": len(statuses), "objects": report.objects, "bytes": report.bytes}

    def _heal(
        self, at: Site, vault: Vault, report: VerifyReport, copies: Sequence[BlobStore], failures: Sequence[MusterError]
    ) -> None:
        """
        :raises TransientError: if it is not whole afterwards, and a replica is away which might have helped: it is asked again
        """
        from muster.operations.heal import Help, heal_found, unhealed
        from muster.operations.verify import damaged

        away = next((failure for failure in failures if isinstance(failure, TransientError)), None)
        if not copies:
            raise away or damaged(vault, report)
        healed = heal_found(vault, Help(copies), at.platform.clock)
        if not healed.left.ok:
            raise away or unhealed(vault, healed)
        self.log.warning("%s was damaged and is healed: %s", vault.url, healed)


def _share(given: str | float) -> float:
    try:
        share = float(given)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"the share {given!r} is not between 0 and 1", "give 0.1 for a tenth, 1 for everything")
    return share
