"""The forms that people fill in when they trigger a run."""

from __future__ import annotations

from collections.abc import Iterable

from airflow.sdk import Param

from muster.domain.drill import CHOICES, SCHEDULED

POINT = "Id of a recovery point, or the beginning of one: `20261123T020000Z-…`. `latest` is the newest that nothing speaks against."
TO = (
    "`origin` is where the workload lives; otherwise a target of the catalog, or an absolute folder."
    " Nothing is ever overwritten: what is there must be moved away or be empty."
)
INCIDENT_AT = "When the platform was lost. The recovery time counts from here. Empty: from the start of this run."
SHARE = "Part of the stored bytes that is read again and checked, from 0 to 1. Structure and names are always checked whole."
FAULT = (
    "What is broken on purpose in the sandbox: a fault by its name (docs/drills.md says what each does, and what must come of it);"
    " `scheduled`, each day the next one; `random`; `none`."
)
SEED = "Makes the same random choice again. Empty: one is drawn, and the report names it."

APPLY = "Whether points are removed. Switched off, the log only says which would be, and why."


def point_param() -> Param:
    """Which recovery point."""
    return Param(
        "latest",
        type="string",
        title="Recovery point",
        description_md=POINT,
        pattern=r"^(latest|[0-9][0-9A-Za-z-]{3,})$",
    )


def target_param(targets: Iterable[str]) -> Param:
    """Where to: one of the proposals, or any absolute folder."""
    return Param(
        "origin",
        type="string",
        title="Restore to",
        description_md=TO,
        examples=["origin", *sorted(targets)],
        pattern=r"^(/.*|[A-Za-z0-9][A-Za-z0-9._-]*)$",
    )


def incident_param() -> Param:
    """When the platform was lost."""
    return Param(
        None, type=["null", "string"], format="date-time", title="Time of the incident", description_md=INCIDENT_AT
    )


def fault_param() -> Param:
    """What is broken in a drill."""
    return Param(SCHEDULED, type="string", title="Fault", description_md=FAULT, enum=list(CHOICES))


def seed_param() -> Param:
    """Of a random fault."""
    return Param(None, type=["null", "integer"], minimum=0, title="Seed", description_md=SEED)


def share_param() -> Param:
    """How much of the vault is read again."""
    return Param(0.1, type="number", minimum=0, maximum=1, title="Share of the data", description_md=SHARE)


def apply_param() -> Param:
    """Whether an expiry removes anything."""
    return Param(True, type="boolean", title="Remove points", description_md=APPLY)
