"""Recover a workload from beginning to end, as the command line does and as the restore DAG does in tasks; and rehearse it in a drill."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from muster.domain.evidence import Failed
from muster.domain.recovery_point import PointStatus
from muster.domain.recovery_report import ComponentOutcome, RecoveryReport, SmokeOutcome, ValidationOutcome
from muster.domain.restore_plan import Action, RestorePlan
from muster.domain.timing import Span, stamp_of
from muster.errors import MusterError, Unfaithful
from muster.operations import approve
from muster.operations.conclude import (
    CUT_OVER,
    Incident,
    Outcomes,
    check_recovery,
    conclude,
    expected_checks,
    failures_of,
)
from muster.operations.cut_over import cut_over
from muster.operations.restore import plan_restore, restore_component
from muster.operations.restore_job import RestoreJob
from muster.operations.smoke import ask_again
from muster.operations.together import side_by_side
from muster.operations.tools import Tools
from muster.operations.validate import validate_restored
from muster.vault.vault import Vault

Concluding = Callable[[Vault, PointStatus, RestorePlan, Incident, Outcomes, Tools], RecoveryReport]


def recover(
    vault: Vault,
    job: RestoreJob,
    incident: Incident,
    tools: Tools,
    digest: str | None = None,
    *,
    concluding: Concluding = conclude,
) -> RecoveryReport:
    """
    Plan, restore all components side by side, validate, ask the models again, cut over unless it is a drill, and report.

    :param digest: of the plan that was approved; no other is applied
    :param concluding: writes the report; a drill reports elsewhere than where it reads
    :raises Refused: if the plan is another than the approved one, before anything was touched
    :raises MusterError: whatever failed first; but for a refused plan a report was written, and the point marked, before
    """
    planned_at = tools.clock.now()
    plan = plan_restore(vault, job)
    let_pass(vault, plan, incident.kind, digest)
    outcomes = Outcomes(Span("decide", "plan", planned_at, tools.clock.now()))
    stamp, failed = stamp_of(planned_at), list[Failed]()

    def restore(action: Action) -> ComponentOutcome:
        try:
            return restore_component(vault, job, action, stamp, tools.clock)
        except Exception as error:
            failed.append(Failed(action.component, _sentence(error), tools.clock.now()))
            raise

    restored, errors = side_by_side(restore, list(plan.actions))
    outcomes = replace(outcomes, components=tuple(restored))
    step = "validation"
    try:
        if not errors:
            outcomes = replace(outcomes, validations=validate_all(vault, job, plan, tools))
            step = "smoke inference"
            outcomes = replace(outcomes, smoke=smoke_all(vault, job, plan, tools))
            step = CUT_OVER
            if incident.kind == "restore" and not failures_of(job.status, plan, outcomes):
                outcomes = replace(outcomes, cut_over=cut_over(vault, job, plan, outcomes, tools))
    except MusterError as error:
        failed.append(Failed(step, error.message, tools.clock.now()))
        errors.append(error)
    if errors:
        unfaithful = tuple(error.report for error in errors if isinstance(error, Unfaithful))
        outcomes = replace(outcomes, failure=_sentence(errors[0]), unfaithful=unfaithful, failed=tuple(failed))
    report = concluding(vault, job.status, plan, incident, outcomes, tools)
    if errors:
        raise errors[0]
    check_recovery(report)
    return report


def let_pass(vault: Vault, plan: RestorePlan, kind: Literal["restore", "drill"], digest: str | None = None) -> None:
    """
    Let the plan pass, or record that it was refused, and raise why.

    :param digest: of the plan that was approved; None if none was asked for
    :raises PermanentError: of the first refusal's kind
    """
    approve.let_pass(vault, plan, kind, lambda why: {"target": plan.target, "reason": why}, digest)


def validate_all(vault: Vault, job: RestoreJob, plan: RestorePlan, tools: Tools) -> tuple[ValidationOutcome, ...]:
    """Validate every restored dataset that has expectations in the point."""
    return tuple(validate_one(vault, job, name, tools) for name in expected_checks(job.status, plan)[0])


def validate_one(vault: Vault, job: RestoreJob, dataset: str, tools: Tools) -> ValidationOutcome:
    """Validate one restored dataset with the suite that the point carries."""
    point = job.status.point
    validation, component = point.component(f"validation/{dataset}"), point.component(f"dataset/{dataset}")
    assert validation is not None  # noqa: S101 - expected_checks found both
    assert component is not None  # noqa: S101
    docs = job.docs / dataset
    shutil.rmtree(docs, ignore_errors=True)
    docs.mkdir(parents=True)
    return validate_restored(vault, validation, component, Path(job.target.datasets[dataset]), docs, tools)


def smoke_all(vault: Vault, job: RestoreJob, plan: RestorePlan, tools: Tools) -> tuple[SmokeOutcome, ...]:
    """Ask the restored models again, in the environment that was rebuilt at the target."""
    _, models = expected_checks(job.status, plan)
    if not models or job.target.store is None or job.target.artifacts is None or job.target.environment is None:
        return ()
    environment = job.status.point.of_kind("environment")[0]
    python = tools.builder.build(environment.details, vault.tree(environment.tree), Path(job.target.environment))
    store = (job.target.store, job.target.artifacts)
    return tuple(
        o for golden in job.status.point.of_kind("golden") for o in ask_again(vault, golden, python, store, tools)
    )


def _sentence(error: BaseException) -> str:
    return error.message if isinstance(error, MusterError) else f"{type(error).__name__}: {error}"
