"""The roles as data: what is written of them is what they are, and each role has what it needs and no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from muster_airflow import access
from muster_airflow.access import ALL, EACH, ROLES, VERBS, May

PROJECT = Path(__file__).resolve().parents[2]
WORKLOADS = ("ledger", "penguins")
COLUMNS = ("snapshot", "canary", "drill", "verify", "expire", "restore", "undo", "rollback")
RECOVER = ("restore", "undo", "rollback")
WORDS = {May.RUN: "run", May.MEND: "mend", May.APPROVE: "approve"}


def cell(role: str, verb: str) -> str:
    """What the table says of a role and a family of DAGs."""
    if ROLES[role] == EACH and verb in ("verify", "expire"):
        return "—"
    may = VERBS[verb].get(role, May.SEE)
    return ", ".join(word for one, word in WORDS.items() if one in may) or "see"


def test_the_table_in_the_documentation_is_what_the_roles_are() -> None:
    """One line for each role, and each of its cells."""
    lines = (PROJECT / "docs" / "access.md").read_text().splitlines()
    table = {
        line.split("`")[1]: [part.strip() for part in line.split("|")[2:10]] for line in lines if line.startswith("| `")
    }
    named = {f"{role}:<workload>" if scope == EACH else role: role for role, scope in ROLES.items()}
    assert table == {name: [cell(role, verb) for verb in COLUMNS] for name, role in named.items()}
    assert set(VERBS) == set(COLUMNS)


def test_nobody_may_mend_what_is_approved_or_approve_anything_else() -> None:
    """Marking a task of a restore, an undo or a rollback would go around its approval."""
    granted = access.roles(WORKLOADS, ())
    resources = {resource for permissions in granted.values() for _, resource in permissions}
    for kind in (access.TASKS, access.RUNS):
        assert not any(f"{kind}:{verb}__{name}" in resources for name in WORKLOADS for verb in RECOVER)
    approving = {r: {p for p in granted[r] if p[1].startswith(access.ANSWERS)} for r in granted}
    assert {role: rights for role, rights in approving.items() if rights} == {
        f"muster-approver:{name}": {("can_edit", f"HITL Detail:{verb}__{name}") for verb in RECOVER}
        for name in WORKLOADS
    }


def test_nobody_has_a_right_on_all_dags() -> None:
    """Rights on DAGs, runs, tasks and answers name the DAG."""
    for role, permissions in access.roles(WORKLOADS, ()).items():
        assert not {access.DAGS, access.RUNS, access.TASKS, access.ANSWERS} & {p[1] for p in permissions}, role
        assert access.EVERY_DAG not in permissions, role


@pytest.mark.parametrize("verb", VERBS)
def test_a_dag_names_exactly_the_roles_that_are_made(verb: str) -> None:
    """Airflow refuses a DAG that names a role which is not there."""
    made = set(access.roles(WORKLOADS, ()))
    workload = None if verb in ("verify", "expire") else "ledger"
    named = set(access.access_control(verb, workload))
    assert named <= made
    assert {role for role, scope in ROLES.items() if scope == ALL} <= named
    others = {access.role_of(role, "penguins") for role, scope in ROLES.items() if scope == EACH}
    assert not named & others


def test_a_family_of_dags_that_is_in_no_table_is_refused() -> None:
    """Whoever adds one decides who may run it."""
    with pytest.raises(KeyError):
        access.access_control("failover", "ledger")


def test_roles_of_long_workload_names_fit_and_differ() -> None:
    """Airflow's database holds 64 characters."""
    names = [access.role_of(access.RECOVERY_OPERATOR, "w" * 90 + end) for end in "ab"]
    assert {len(name) for name in names} == {64}
    assert names[0] != names[1]
    assert access.role_of(access.APPROVER, "ledger") == "muster-approver:ledger"


@pytest.mark.parametrize(
    ("dag", "ours"),
    [
        *(
            (name, True)
            for name in ("restore__ledger", "rollback__ledger", "verify", "expire", "snapshot__a/b", "restore")
        ),
        *((name, False) for name in ("payroll", "my_restore__x", "verify2", "restore__", "")),
    ],
)
def test_muster_knows_its_dags_by_their_names(dag: str, ours: bool) -> None:
    """The names are those that its DAG files make."""
    assert access.is_ours(dag) is ours
