"""Remove the points of a vault that the catalog's retention no longer keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from muster.errors import UsageError
from muster_airflow.operators.recovery import RecoveryOperator, Site


class ExpirePointsOperator(RecoveryOperator):
    """
    Judge every point of a vault and remove those that nothing keeps. Returns how many are there, gone, and what became of packs.

    :param vault: name of the vault in the catalog (templated)
    :param apply: whether anything is removed; otherwise it is only told (templated)
    :raises IntegrityError: if something of the vault is damaged; nothing was removed then that it might need
    :raises Refused: if the store did not let objects be removed; all others were
    """

    template_fields: Sequence[str] = ("vault", "apply")

    def __init__(self, *, vault: str, apply: str | bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vault = vault
        self.apply = apply

    def perform(self, at: Site) -> Any:
        from muster.operations.expire import expire_points

        vault, policies = at.platform.vault(self.vault), at.platform.policies(self.vault)
        report = expire_points(vault, policies, at.platform.clock, apply=_decided(self.apply))
        told = report.as_dict()
        for line in told["points"]:
            fate = "stays" if line["keep"] else "expired" if report.applied else "would expire"
            self.log.info("%s %s %s: %s", line["workload"], line["point"], fate, "; ".join(line["reasons"]))
        for key, reason in report.swept.locked.items():
            self.log.info("%s stays: %s", key, reason)
        report.check()
        swept = {name: told["swept"][name] for name in ("condemned", "waiting", "removed", "removed_bytes")}
        counts = {"points": len(report.verdicts), "expired": told["expired"]}
        return {"vault": vault.id, "applied": report.applied, **counts, **swept}


def _decided(given: str | bool) -> bool:
    try:
        return {"true": True, "false": False}[str(given).lower()]
    except KeyError:
        raise UsageError(
            f"whether to apply the expiry is given as {given!r}", "give true to remove points, false to be told"
        ) from None
