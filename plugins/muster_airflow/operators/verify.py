"""Read a vault again and say what is damaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from muster.errors import UsageError
from muster_airflow.operators.recovery import RecoveryOperator, Site


class VerifyVaultOperator(RecoveryOperator):
    """
    Verify every point of a vault and mark it: verified, or suspect. Returns how much was read.

    :param vault: name of the vault in the catalog (templated)
    :param share: part of the packs whose bytes are read again, 0 to 1 (templated)
    :raises IntegrityError: if anything is damaged; the message has all findings
    """

    template_fields: Sequence[str] = ("vault", "share")

    def __init__(self, *, vault: str, share: str | float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vault = vault
        self.share = share

    def perform(self, at: Site) -> Any:
        from muster.operations.verify import verify_points

        vault, share = at.platform.vault(self.vault), _share(self.share)
        statuses = vault.readable_points()
        report = verify_points(vault, statuses, share, at.platform.clock)
        self.log.info("%d points of %s are whole: %d objects", len(statuses), vault.url, report.objects)
        return {"vault": vault.id, "points": len(statuses), "objects": report.objects, "bytes": report.bytes}


def _share(given: str | float) -> float:
    try:
        share = float(given)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"the share {given!r} is not between 0 and 1", "give 0.1 for a tenth, 1 for everything")
    return share
