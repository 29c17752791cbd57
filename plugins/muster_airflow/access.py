"""
Who may do what: Muster's roles, as data.

To change anything of a DAG of Muster takes a right on that very DAG. These rights come from two places, because Airflow's `access_control`
knows DAGs and runs only: `access_control` gives those, `MusterFabAuthManager` the rest, and it makes the roles.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from enum import Flag, auto
from types import MappingProxyType

Permission = tuple[str, str]
"""As Flask-AppBuilder has them: an action, and what it is done to."""

READ, CREATE, EDIT, DELETE, MENU = "can_read", "can_create", "can_edit", "can_delete", "menu_access"
DAGS, RUNS, TASKS, ANSWERS = "DAGs", "DAG Runs", "Task Instances", "HITL Detail"
EVERY_DAG: Permission = (EDIT, "All Muster DAGs")
"""What Airflow's own Admin has: the right on all DAGs of Muster, those to come as well."""

REFUSED: ContextVar[set[str] | None] = ContextVar("muster_refused", default=None)
"""The DAGs of Muster that the request under way may not change, whatever the answer as a whole says."""


class May(Flag):
    """What somebody may do to a DAG whose runs he sees."""

    SEE = 0
    RUN = auto()
    """Trigger it, pause it."""
    MEND = auto()
    """Clear failed tasks, mark tasks and runs."""
    APPROVE = auto()
    """Answer what a run asks people."""


ALL, EACH = "of all workloads", "of one workload"
VIEWER, OPERATOR, AUDITOR, ADMIN = "muster-viewer", "muster-operator", "muster-auditor", "muster-admin"
RECOVERY_OPERATOR, APPROVER = "muster-recovery-operator", "muster-approver"
_OPERATE = May.RUN | May.MEND
_RECOVER = {RECOVERY_OPERATOR: May.RUN, APPROVER: May.APPROVE, ADMIN: May.RUN}

VERBS: Mapping[str, Mapping[str, May]] = MappingProxyType(
    {
        "snapshot": {OPERATOR: _OPERATE, ADMIN: _OPERATE},
        "canary": {OPERATOR: _OPERATE, ADMIN: _OPERATE},
        "drill": {OPERATOR: _OPERATE, ADMIN: _OPERATE},
        "verify": {OPERATOR: _OPERATE, ADMIN: _OPERATE},
        "expire": {ADMIN: _OPERATE},
        "restore": _RECOVER,
        "undo": _RECOVER,
        "rollback": _RECOVER,
    }
)
"""
The families of DAGs, and who may do more than see them. Nobody may mend a restore, an undo or a rollback: a task that is marked is
one that was not done.
"""

ROLES: Mapping[str, str] = MappingProxyType(
    {VIEWER: ALL, OPERATOR: ALL, RECOVERY_OPERATOR: EACH, APPROVER: EACH, AUDITOR: ALL, ADMIN: ALL}
)

_TRAIL: frozenset[Permission] = frozenset({(READ, "Audit Logs"), (MENU, "Audit Logs")})
BEYOND_DAGS: Mapping[str, frozenset[Permission]] = MappingProxyType(
    {
        AUDITOR: _TRAIL,
        ADMIN: _TRAIL
        | {(MENU, "Admin")}
        | {
            (action, resource)
            for action in (READ, CREATE, EDIT, DELETE, MENU)
            for resource in ("Connections", "Variables", "Pools")
        },
    }
)
"""What a role may do besides; see `everyone` for what all of them may see."""

_LONGEST_ROLE = 64
_DAG = re.compile(rf"(?:{'|'.join(VERBS)})(?:__.+)?")


def is_ours(dag: str) -> bool:
    """Whether a DAG is one of Muster's, by its name."""
    return _DAG.fullmatch(dag) is not None


def dags_of(workloads: Iterable[str]) -> frozenset[str]:
    """The names that DAGs of these workloads can have, and those of the DAGs that work for all."""
    return frozenset({*VERBS, *(f"{verb}__{name}" for name in workloads for verb in VERBS)})


def role_of(role: str, workload: str) -> str:
    """The role of one workload: ``muster-approver:penguins``. What is longer than Airflow's database holds ends in a digest."""
    name = f"{role}:{workload}"
    if len(name) <= _LONGEST_ROLE:
        return name
    return f"{name[: _LONGEST_ROLE - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def access_control(verb: str, workload: str | None = None) -> dict[str, dict[str, set[str]]]:
    """
    The `access_control` of a DAG. Without FAB, Airflow does not look at it.

    :param workload: None for a DAG that works for all
    :raises KeyError: if the family of DAGs is not in `VERBS`
    """
    granted = VERBS[verb]
    given: dict[str, dict[str, set[str]]] = {}
    for role, scope in ROLES.items():
        if scope == EACH and workload is None:
            continue
        name = role_of(role, workload) if scope == EACH and workload else role
        run = May.RUN in granted.get(role, May.SEE)
        given[name] = {DAGS: {READ, EDIT} if run else {READ}, RUNS: {READ, CREATE} if run else {READ}}
    return given


def role_names(workloads: Iterable[str]) -> list[str]:
    """The names of all roles."""
    return sorted(roles(workloads, ()))


def roles(workloads: Iterable[str], everyone: Iterable[Permission]) -> dict[str, frozenset[Permission]]:
    """
    Every role with its permissions, except for those that `access_control` gives.

    :param everyone: what all of them may see
    """
    names, common = sorted(workloads), frozenset(everyone)
    made: dict[str, frozenset[Permission]] = {}
    for role, scope in ROLES.items():
        always = common | BEYOND_DAGS.get(role, frozenset())
        if scope == EACH:
            made |= {role_of(role, name): always | _on_dags(role, [name], alone=False) for name in names}
        else:
            made[role] = always | _on_dags(role, names, alone=True)
    return made


def _on_dags(role: str, workloads: Iterable[str], *, alone: bool) -> frozenset[Permission]:
    """:param alone: whether DAGs that work for all workloads count"""
    found: set[Permission] = set()
    for verb, granted in VERBS.items():
        may = granted.get(role, May.SEE)
        for dag in [*(f"{verb}__{name}" for name in workloads), *([verb] if alone else [])]:
            if May.MEND in may:
                found |= {(EDIT, f"{TASKS}:{dag}"), (EDIT, f"{RUNS}:{dag}")}
            if May.APPROVE in may:
                found.add((EDIT, f"{ANSWERS}:{dag}"))
    return frozenset(found)
