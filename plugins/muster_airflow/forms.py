"""The forms that people fill in when they trigger a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from airflow.sdk import Param

from muster.domain.drill import CHOICES, SCHEDULED
from muster.domain.merge_plan import OnConflict
from muster.domain.undo_plan import UndoVerb

# Words to type are bold: Airflow's boxes around code are taller than these lines, and cover the one above.
POINT = (
    "Id of a recovery point, or the beginning of one: **20261123T020000Z-…**. **latest** is the newest that nothing speaks against,"
    " **verified** the newest that was verified or drilled besides."
)
TO = "**origin** is where the workload lives; otherwise a target of the catalog, or an absolute folder. Nothing is ever overwritten."
BEFORE = (
    "The newest verified point that was taken before this time, whatever the field above says. Empty: no matter when."
)
ONLY = (
    "What to restore, one a line: a kind (**registry**), a component (**dataset/flights**), or a path in one"
    " (**dataset/flights/data/flights/2013-01.csv**). Empty: everything."
)
REPLACE = (
    "Move what is in the way aside, instead of refusing. It is kept, and the DAG **undo\\_\\_WORKLOAD** or **muster undo** puts it back,"
    " until somebody deletes it."
)
OVERRIDE = "Why the restore should go on although a policy forbids it: a suspect or unverified point, a snapshot at work. It is recorded."
INCIDENT_AT = "When the platform was lost. The recovery time counts from here. Empty: from the start of this run."
SHARE = "Part of the stored bytes that is read again and checked, from 0 to 1. Structure and names are always checked whole."
FAULT = (
    "What is broken on purpose in the sandbox: a fault by its name (docs/drills.md says what each does, and what must come of it);"
    " **scheduled**, each day the next one; **random**; **none**."
)
SEED = "Makes the same random choice again. Empty: one is drawn, and the report names it."

STAMP = (
    "Which restore: the stamp in the names of what it moved aside, **….before-STAMP**, also told by **muster discard WORKLOAD --list**."
    " Empty: the newest of which something lies aside."
)
THEN = (
    "**put back** brings back what the restore moved aside; what the restore had made is moved aside in turn, and kept."
    " **delete for ever** deletes what lies aside; nothing brings it back."
)
REASON = "Why. The approver reads it, and it is recorded."
UNDO_CHOICES: Mapping[str, UndoVerb] = MappingProxyType({"put back": "undo", "delete for ever": "discard"})
"""What can become of what a restore moved aside, as the form says it."""

MODELS = (
    "Which registered models, one a line: **NAME@ALIAS** for what the alias pointed at, **NAME** for all versions and aliases; NAME may be"
    " a pattern, **flight-\\***."
)
IN_USE = (
    "**origin** is the workload's own registry; otherwise a target of the catalog, or a folder that was restored to. What is there stays,"
    " but for what the plan names."
)
CONFLICTS = (
    "What is there by the same id or number with another content: **refuse** does nothing at all; **keep** leaves tags, descriptions and"
    " notes as they are now and brings back the rest. What makes a model the one that it is, no rule lets pass."
)
CONFLICT_RULES: Sequence[OnConflict] = ("refuse", "keep")
"""What can be done about conflicts, as the form says it."""

APPLY = "Whether points are removed. Switched off, the log only says which would be, and why."


def point_param(default: Literal["latest", "verified"] = "latest") -> Param:
    """Which recovery point."""
    return Param(
        default,
        type="string",
        title="Recovery point",
        description_md=POINT,
        pattern=r"^(latest|verified|[0-9][0-9A-Za-z-]{3,})$",
    )


def target_param(targets: Iterable[str], title: str = "Restore to", told: str = TO) -> Param:
    """Where to: one of the proposals, or any absolute folder."""
    return Param(
        "origin",
        type="string",
        title=title,
        description_md=told,
        examples=["origin", *sorted(targets)],
        pattern=r"^(/.*|[A-Za-z0-9][A-Za-z0-9._-]*)$",
    )


def before_param() -> Param:
    """Before when the point was taken."""
    return Param(None, type=["null", "string"], format="date-time", title="Taken before", description_md=BEFORE)


def only_param() -> Param:
    """Which components."""
    return Param(None, type=["null", "array"], items={"type": "string"}, title="Only", description_md=ONLY)


def replace_param() -> Param:
    """Whether what is in the way is moved aside."""
    return Param(False, type="boolean", title="Replace what is there", description_md=REPLACE)


def override_param() -> Param:
    """Why a policy is overridden."""
    return Param(None, type=["null", "string"], maxLength=500, title="Override, and why", description_md=OVERRIDE)


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


def stamp_param() -> Param:
    """Which restore is undone."""
    return Param(
        None, type=["null", "string"], title="Restore", description_md=STAMP, pattern=r"^([0-9]{8}T[0-9]{6,12}Z)?$"
    )


def then_param() -> Param:
    """What becomes of what it moved aside."""
    first = next(iter(UNDO_CHOICES))
    return Param(first, type="string", title="What to do", description_md=THEN, enum=list(UNDO_CHOICES))


def reason_param() -> Param:
    """Why; without it there is no run."""
    return Param(type="string", title="Reason", description_md=REASON, pattern=r"\S", maxLength=500)


def models_param() -> Param:
    """Which models are moved back; without one there is no run."""
    named = {"type": "string", "pattern": r"\S"}
    return Param(type="array", items=named, minItems=1, title="Models", description_md=MODELS)


def registry_param(targets: Iterable[str]) -> Param:
    """In which registry models are moved back: as `target_param`."""
    return target_param(targets, "Registry of", IN_USE)


def conflicts_param() -> Param:
    """What is done about conflicts."""
    return Param("refuse", type="string", title="Conflicts", description_md=CONFLICTS, enum=list(CONFLICT_RULES))


def apply_param() -> Param:
    """Whether an expiry removes anything."""
    return Param(True, type="boolean", title="Remove points", description_md=APPLY)
