"""What the DAGs are, before anything runs."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_runs import Runs
from airflow_site import LEDGER, PROJECT, VAULTS, AirflowSite

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(900)]
DAGS = PROJECT / "dags"
RECOVERY = {
    "plan": {
        *("restore_dataset", "restore_registry", "restore_environment", "restore_configuration"),
        *("validate", "smoke_inference", "conclude"),
    },
    "restore_dataset": {"validate", "conclude"},
    "restore_registry": {"smoke_inference", "conclude"},
    "restore_environment": {"smoke_inference", "conclude"},
    "restore_configuration": {"conclude"},
    "validate": {"conclude"},
    "smoke_inference": {"conclude"},
}
PROVEN = (
    "restore_dataset",
    "restore_registry",
    "restore_environment",
    "restore_configuration",
    "validate",
    "smoke_inference",
)
MUTATING = ("restore_dataset", "restore_registry", "restore_environment", "restore_configuration")
SHAPES: dict[str, dict[str, set[str]]] = {
    "snapshot__penguins": {
        "pin": {
            *("capture_dataset", "capture_registry", "capture_environment", "capture_configuration"),
            *("validate", "golden_predictions", "seal"),
        },
        "capture_dataset": {"validate", "seal"},
        "capture_registry": {"golden_predictions", "seal"},
        "capture_environment": {"golden_predictions", "seal"},
        "capture_configuration": {"seal"},
        "validate": {"seal"},
        "golden_predictions": {"seal"},
        "seal": set(),
    },
    "snapshot__ledger": {
        "pin": {"capture_dataset", "capture_configuration", "validate", "seal"},
        "capture_dataset": {"validate", "seal"},
        "capture_configuration": {"seal"},
        "validate": {"seal"},
        "seal": set(),
    },
    **{
        f"restore__{name}": {
            **{task: {*RECOVERY[task], "cut_over"} for task in PROVEN},
            "plan": {*RECOVERY["plan"], "approve", "cut_over"},
            "approve": {*MUTATING, "conclude"},
            "cut_over": {"conclude"},
            "conclude": set(),
        }
        for name in ("penguins", "ledger")
    },
    **{
        f"drill__{name}": {
            "prepare_sandbox": {"strike", "remove_sandbox"},
            "strike": {"plan"},
            **RECOVERY,
            "conclude": {"remove_sandbox", "passed"},
            "remove_sandbox": {"passed"},
            "passed": set(),
        }
        for name in ("penguins", "ledger")
    },
    **{
        name: {"plan": {"approve", "apply"}, "approve": {"apply"}, "apply": set()}
        for name in ("undo__penguins", "undo__ledger", "rollback__penguins")
    },
    "canary__penguins": {"write": set()},
    "verify": {"verify": set()},
    "expire": {"expire": set()},
}


def test_every_workload_of_the_catalog_has_its_family_of_dags(runs: Runs) -> None:
    """All DAGs load without an import error, and each has exactly the tasks and edges that are written here."""
    assert runs.bag.import_errors == {}
    shapes = {name: {t.task_id: set(t.downstream_task_ids) for t in dag.tasks} for name, dag in runs.bag.dags.items()}
    assert shapes == SHAPES


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_every_dag_can_be_found_read_and_trusted(runs: Runs, name: str) -> None:
    """It has tags, a runbook and no catch-up, is switched on, runs once at a time, and retries only what may help."""
    from muster_airflow.policies import RECOVERY_RETRIES

    dag = runs.bag.dags[name]
    assert {"muster", *name.split("__")} <= set(dag.tags)
    assert len(dag.doc_md) > 300
    assert dag.description
    assert (dag.catchup, dag.is_paused_upon_creation, dag.max_active_runs) == (False, False, 1)
    for task in dag.tasks:
        assert (task.retries, task.retry_policy) == (2, RECOVERY_RETRIES), task.task_id
        assert task.retry_delay == timedelta(seconds=1 if task.task_id == "approve" else 30)
        assert task.execution_timeout is not None
        assert task.owner == {"penguins": "biology", "ledger": "finance"}.get(
            name.rsplit("__", maxsplit=1)[-1], "muster"
        )


def test_snapshots_run_when_the_catalog_says_and_restores_only_when_somebody_asks(runs: Runs) -> None:
    """Schedules come from the catalog; drills, verification and expiry have the nightly default. A hot workload waits for changes, too."""
    schedules = {name: dag.schedule for name, dag in runs.bag.dags.items()}
    hot = schedules["snapshot__penguins"]
    assert [asset.name for asset in hot.asset_condition.objects] == ["workload_change__penguins"]
    assert schedules.pop("canary__penguins").delta == timedelta(hours=12)
    ticks = schedules | {"snapshot__penguins": hot.timetable}
    assert {cron.run_immediately for cron in ticks.values() if cron} == {timedelta()}
    assert {name: cron and cron.expression for name, cron in ticks.items()} == {
        "snapshot__penguins": "0 2 * * *",
        "snapshot__ledger": None,
        "restore__penguins": None,
        "restore__ledger": None,
        "undo__penguins": None,
        "undo__ledger": None,
        "rollback__penguins": None,
        "drill__penguins": "0 5 * * *",
        "drill__ledger": "0 5 * * *",
        "verify": "0 4 * * *",
        "expire": "0 6 * * *",
    }


@pytest.mark.parametrize("name", ["restore__penguins", "restore__ledger", "drill__penguins", "drill__ledger"])
def test_nothing_is_written_before_the_plan_stands(runs: Runs, name: str) -> None:
    """Every task that changes a target runs only if the plan succeeded."""
    dag = runs.bag.dags[name]
    assert set(MUTATING) <= dag.get_task("plan").get_flat_relative_ids(upstream=False)
    for task_id in MUTATING:
        task = dag.get_task(task_id)
        assert "plan" in task.upstream_task_ids
        assert task.trigger_rule == "all_success"


def test_whatever_changes_a_place_stands_behind_its_gate(runs: Runs) -> None:
    """In every DAG there is: behind the approval of a restore, undo or rollback, behind the sandbox of a drill; no other DAG has any."""
    from muster_airflow.operators.approve import ApproveRestoreOperator
    from muster_airflow.operators.restore import CutOverOperator, RestoreComponentOperator
    from muster_airflow.operators.rollback import ApplyRollbackOperator, ApproveRollbackOperator
    from muster_airflow.operators.sandbox import PrepareSandboxOperator
    from muster_airflow.operators.undo import ApplyUndoOperator, ApproveUndoOperator

    gates = {
        "restore": ApproveRestoreOperator,
        "undo": ApproveUndoOperator,
        "rollback": ApproveRollbackOperator,
        "drill": PrepareSandboxOperator,
    }
    expected = {"restore": {*MUTATING, "cut_over"}, "undo": {"apply"}, "rollback": {"apply"}, "drill": {*MUTATING}}
    kinds = (RestoreComponentOperator, CutOverOperator, ApplyUndoOperator, ApplyRollbackOperator)
    found = set()
    for name, dag in runs.bag.dags.items():
        changing = {
            task.task_id for task in dag.tasks if issubclass(getattr(task, "operator_class", type(task)), kinds)
        }
        if not changing:
            continue
        verb = name.split("__")[0]
        (gate,) = [task for task in dag.tasks if isinstance(task, gates[verb])]
        assert changing == expected[verb]
        assert changing <= gate.get_flat_relative_ids(upstream=False), name
        found.add(name)
    assert found == {name for name in SHAPES if name.split("__")[0] in gates}


def test_the_reports_and_the_broom_wait_for_nobody_to_succeed(runs: Runs) -> None:
    """Seal, conclude and teardown run after failures too; what is cut over may lack what was not asked for, but nothing that failed."""
    rules = {
        (name, task.task_id): str(task.trigger_rule.value)
        for name, dag in runs.bag.dags.items()
        for task in dag.tasks
        if task.trigger_rule != "all_success" and name.endswith("__ledger")
    }
    assert rules == {
        ("snapshot__ledger", "seal"): "all_done",
        ("restore__ledger", "cut_over"): "none_failed",
        ("restore__ledger", "conclude"): "all_done",
        ("drill__ledger", "conclude"): "all_done",
        ("drill__ledger", "remove_sandbox"): "all_done_setup_success",
    }


def test_a_good_point_is_published_as_an_asset(runs: Runs) -> None:
    """Only the task that seals has an outlet."""
    outlets = {t.task_id: [a.name for a in t.outlets] for t in runs.bag.dags["snapshot__penguins"].tasks if t.outlets}
    assert outlets == {"seal": ["recovery_point__penguins"]}


def test_the_restore_form_proposes_and_refuses(runs: Runs) -> None:
    """The form offers the catalog's targets, begins with the usual answer, and refuses what cannot be meant."""
    from airflow.sdk.exceptions import ParamValidationError

    params = runs.bag.dags["restore__penguins"].params
    assert params.dump() == {
        "point": "verified",
        "before": None,
        "to": "origin",
        "only": None,
        "replace": False,
        "incident_at": None,
        "override": None,
    }
    assert params.get_param("to").schema["examples"] == ["origin", "standby"]
    for name in params:
        assert params.get_param(name).schema["description_md"]
    for name, wrong in (("to", "some/where"), ("point", ""), ("point", "../x"), ("incident_at", "yesterday")):
        with pytest.raises(ParamValidationError):
            params.get_param(name).resolve(value=wrong)
    for name, right in (("to", "/srv/standby"), ("to", "standby"), ("incident_at", "2026-11-23T02:00:00+00:00")):
        assert params.get_param(name).resolve(value=right) == right


def test_the_undo_form_asks_why_and_puts_back_unless_told_otherwise(runs: Runs) -> None:
    """Without a reason there is no run; a stamp may be left out, and is of the form that stamps have."""
    from airflow.sdk.exceptions import ParamValidationError

    params = runs.bag.dags["undo__ledger"].params
    given = {name: params.get_param(name) for name in params}
    assert list(given) == ["stamp", "then", "reason"]
    assert all(param.schema["description_md"] for param in given.values())
    assert (given["stamp"].resolve(), given["then"].resolve()) == (None, "put back")
    assert given["then"].schema["enum"] == ["put back", "delete for ever"]
    assert given["stamp"].resolve(value="20261126T031500123456Z") == "20261126T031500123456Z"
    for name, wrong in (("stamp", "latest"), ("then", "delete"), ("reason", "  "), ("reason", None)):
        with pytest.raises(ParamValidationError):
            given[name].resolve(value=wrong)
    with pytest.raises(ParamValidationError):
        given["reason"].resolve()


def test_the_rollback_form_asks_which_models_and_why_and_refuses_conflicts_unless_told_otherwise(runs: Runs) -> None:
    """Without a model or a reason there is no run; it offers the catalog's targets."""
    from airflow.sdk.exceptions import ParamValidationError

    params = runs.bag.dags["rollback__penguins"].params
    given = {name: params.get_param(name) for name in params}
    assert list(given) == ["models", "point", "before", "to", "conflicts", "reason"]
    assert all(param.schema["description_md"] for param in given.values())
    assert given["to"].schema["examples"] == ["origin", "standby"]
    assert given["conflicts"].schema["enum"] == ["refuse", "keep"]
    fresh = {name: given[name].resolve() for name in ("point", "before", "to", "conflicts")}
    assert fresh == {"point": "latest", "before": None, "to": "origin", "conflicts": "refuse"}
    for name, wrong in (("models", []), ("models", [" "]), ("models", None), ("conflicts", "force"), ("reason", " ")):
        with pytest.raises(ParamValidationError):
            given[name].resolve(value=wrong)
    with pytest.raises(ParamValidationError):
        given["models"].resolve()


def test_the_verify_form_takes_a_share(runs: Runs) -> None:
    """A share is a number from 0 to 1."""
    from airflow.sdk.exceptions import ParamValidationError

    share = runs.bag.dags["verify"].params.get_param("share")
    assert share.resolve(value=1) == 1
    with pytest.raises(ParamValidationError):
        share.resolve(value=1.5)


PARSE = """
import sys, time
from airflow.dag_processing.dagbag import DagBag
from pathlib import Path
import muster.catalog
began = time.process_time()
bag = DagBag(sys.argv[1])
heavy = {"mlflow", "dvc", "great_expectations", "pandas", "numpy", "obstore", "boto3", "sklearn", "muster.bootstrap", "fastapi"}
print(len(bag.dags), len(bag.import_errors), sorted(heavy & set(sys.modules)), time.process_time() - began, sep=";")
for stat in bag.dagbag_stats:
    print(stat.file, stat.duration.total_seconds(), file=sys.stderr)
"""


def parse(catalog: Path, script: str = PARSE) -> tuple[str, ...]:
    """Read the DAG folder in a process of its own, as the DAG processor does; returns the fields of the line that it prints."""
    environment = {**os.environ, "MUSTER_CATALOG": str(catalog), "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"}
    environment["PYTHONPATH"] = os.pathsep.join([str(PROJECT / "include"), str(PROJECT / "plugins")])
    command = [sys.executable, "-W", "ignore", "-c", script, str(DAGS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return tuple(done.stdout.strip().splitlines()[-1].split(";"))


def test_parsing_is_cheap(airflow_home: Path, site: AirflowSite) -> None:
    """The whole folder is read in a fraction of a second of CPU, on a busy machine too; none of the heavy libraries is imported for it."""
    dags, errors, heavy, seconds = parse(site.catalog)
    assert (dags, errors, heavy) == (str(len(SHAPES)), "0", "[]")
    assert float(seconds) < 1.0


BROKEN = """
import sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
errors = [(file.rsplit("/", 1)[-1], text) for file, text in bag.import_errors.items()]
print(repr((sorted(bag.dags), errors)))
"""


def broken_catalog(folder: Path, files: dict[str, str]) -> Any:
    catalog = folder / "catalog"
    for name, text in files.items():
        (catalog / name).parent.mkdir(parents=True, exist_ok=True)
        (catalog / name).write_text(text)
    suites = folder / "expectations" / "ledger"
    suites.mkdir(parents=True)
    (suites / "entries.json").write_text("{}")
    import ast

    return ast.literal_eval(";".join(parse(catalog, BROKEN)))


def test_a_mistake_in_one_workload_is_shown_and_hinders_no_other(airflow_home: Path, tmp_path: Path) -> None:
    """The import error names file, line and field; the DAGs of the other workload are there."""
    wrong = "workload: wrong\nowner: x\nobjectives: {rpo: 1h, rto: 5m}\nvault: spare\nshedule: '@daily'\n"
    files = {"vaults.yaml": VAULTS, "workloads/ledger.yaml": LEDGER, "workloads/wrong.yaml": wrong}
    dags, errors = broken_catalog(tmp_path, files)
    assert dags == ["drill__ledger", "expire", "restore__ledger", "snapshot__ledger", "undo__ledger", "verify"]
    ((file, text),) = errors
    assert file == "catalog.py"
    assert f"{tmp_path}/catalog/workloads/wrong.yaml:5: shedule: " in text
    assert "schedule" in text
    assert "hint: mend the lines named" in text


def test_without_readable_vaults_nothing_pretends_to_be_protected(airflow_home: Path, tmp_path: Path) -> None:
    """No DAG is made, and every file says why."""
    dags, errors = broken_catalog(tmp_path, {"vaults.yaml": "vaults: [", "workloads/ledger.yaml": LEDGER})
    assert dags == []
    files = {path.name for path in DAGS.glob("*.py")}
    assert {file for file, _ in errors} == files
    assert all("vaults.yaml:" in text for _, text in errors)


@pytest.mark.parametrize(
    ("notifier", "says"),
    [
        ("airflow.providers.nobody.Notifier", "there is no module for airflow.providers.nobody.Notifier"),
        ("no path", "alerts.yaml:1: alerts[0].notifier: 'no path' is not the import path of a class"),
    ],
)
def test_a_notifier_that_is_not_installed_is_an_import_error(
    airflow_home: Path, tmp_path: Path, notifier: str, says: str
) -> None:
    """Before anybody relies on it; and everything is protected all the same."""
    alerts = f"alerts: [{{notifier: {notifier}}}]\n"
    files = {"vaults.yaml": VAULTS, "workloads/ledger.yaml": LEDGER, "alerts.yaml": alerts}
    dags, errors = broken_catalog(tmp_path, files)
    assert "snapshot__ledger" in dags
    assert [text for file, text in errors if file == "catalog.py" and says in text], errors
