"""Who let a restore go ahead, on which plan and why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Approval:
    """
    One decision to let one plan be applied.

    :param plan_digest: hex SHA-256 of the plan that was approved; no other may be applied on its strength
    :param reason: what the approver gave as the reason; may be empty
    :param how: by which way it was given: ``airflow``, ``break-glass``
    """

    plan_digest: str
    requested_by: str
    approved_by: str
    approved_at: datetime
    reason: str
    how: str
