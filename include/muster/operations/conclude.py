"""Conclude a recovery: measure it, write the report into the vault, mark the point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from muster.domain.drill import DrillOutcome
from muster.domain.fidelity import FidelityReport
from muster.domain.recovery_point import Mark, PointStatus
from muster.domain.recovery_report import ComponentOutcome, RecoveryReport, SmokeOutcome, ValidationOutcome
from muster.domain.restore_plan import RestorePlan
from muster.domain.timing import Span, recovery_point_actual, recovery_time
from muster.errors import IncompletePoint, SmokeFailed, ValidationFailed
from muster.operations.tools import Tools
from muster.report import render_fidelity, render_report
from muster.vault.sources import bytes_file
from muster.vault.vault import Vault


@dataclass(frozen=True, slots=True)
class Incident:
    """
    What a recovery answers to.

    :param at: when the platform was lost; the recovery time counts from here
    :param detected_at: when somebody or something acted: the trigger of the restore
    """

    kind: Literal["restore", "drill"]
    at: datetime
    detected_at: datetime


@dataclass(frozen=True, slots=True)
class Outcomes:
    """
    What came of a recovery so far.

    :param decided: the span of planning and approval
    :param failure: the first error that ended it early, or None
    :param unfaithful: fidelity reports of components that were removed again
    :param drilled: of a drill: tells what it adds, by the point from which everything came back, or None if it did not
    """

    decided: Span
    components: tuple[ComponentOutcome, ...] = ()
    validations: tuple[ValidationOutcome, ...] = ()
    smoke: tuple[SmokeOutcome, ...] = ()
    failure: str | None = None
    unfaithful: tuple[FidelityReport, ...] = ()
    drilled: Callable[[str | None], DrillOutcome] | None = None

    @property
    def spans(self) -> list[Span]:
        """Every piece of work that was done."""
        pieces = [piece.span for piece in self.components] + [piece.span for piece in self.validations]
        return [self.decided, *pieces, *(piece.span for piece in self.smoke)]


def conclude(
    vault: Vault, status: PointStatus, plan: RestorePlan, incident: Incident, outcomes: Outcomes, tools: Tools
) -> RecoveryReport:
    """
    Judge a recovery, store its reports (JSON and HTML) in the vault and below the state folder, mark the point, record it.

    It has passed only if every component of the plan came back, and every suite and every golden prediction of the point was
    asked again and agreed. The caller raises what the report's `failure` says.
    """
    report = _judge(status, plan, incident, outcomes, tools.clock.now())
    documents = _documents(report)
    folder = tools.state / "reports" / report.workload
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{report.kind}-{report.point}-{report.finished_at:%Y%m%dT%H%M%S%fZ}"
    for path, document in documents.items():
        (folder / f"{name}{path.removeprefix('report')}").write_bytes(document)
    if vault.outdated:  # in an emergency a replaced key still brings old points back; what it signs would not count
        return report
    with vault.writer() as writer:
        tree = writer.store_tree([bytes_file(path, document) for path, document in sorted(documents.items())])
    kind: Literal["drilled", "restored"] = "drilled" if report.kind == "drill" else "restored"
    vault.mark(Mark(report.workload, report.point, kind, report.finished_at, report.summary(), tree))
    vault.record(
        report.kind, f"{report.workload}/{report.point}", "passed" if report.passed else "failed", report.summary()
    )
    return report


def _documents(report: RecoveryReport) -> dict[str, bytes]:
    """
    ``report.html``, ``report.json``, and for each registry ``report-registry-NAME-fidelity.html`` and ``.json``.
    """
    as_json, as_html = render_report(report)
    documents = {"report.json": as_json, "report.html": as_html}
    for fidelity in report.fidelity:
        as_json, as_html = render_fidelity(fidelity, report)
        name = f"report-{fidelity.component.replace('/', '-')}-fidelity"
        documents |= {f"{name}.json": as_json, f"{name}.html": as_html}
    return documents


def _judge(
    status: PointStatus, plan: RestorePlan, incident: Incident, outcomes: Outcomes, now: datetime
) -> RecoveryReport:
    point, failure = status.point, _first_failure(status, plan, outcomes)
    drilled = outcomes.drilled(None if failure else point.point) if outcomes.drilled else None
    return RecoveryReport(
        kind=incident.kind,
        workload=point.workload,
        point=point.point,
        target=plan.target,
        failure=failure or (drilled.failure if drilled else None),
        incident_at=incident.at,
        detected_at=incident.detected_at,
        finished_at=now,
        taken_at=point.taken_at,
        time=recovery_time(outcomes.spans, incident_at=incident.at, detected_at=incident.detected_at),
        recovery_point_actual=recovery_point_actual(incident.at, point.taken_at),
        objectives=point.objectives,
        components=tuple(sorted(outcomes.components, key=lambda o: o.component)),
        validations=outcomes.validations,
        smoke=outcomes.smoke,
        left_out=plan.skipped,
        unfaithful=outcomes.unfaithful,
        drilled=drilled,
    )


def _first_failure(status: PointStatus, plan: RestorePlan, outcomes: Outcomes) -> str | None:
    if outcomes.failure:
        return outcomes.failure
    missing = {action.component for action in plan.actions} - {outcome.component for outcome in outcomes.components}
    failures = [f"{label} was not restored" for label in sorted(missing)]
    failures += [
        f"dataset {v.dataset} does not meet {v.suite}: {'; '.join(v.failures[:3])}"
        for v in outcomes.validations
        if not v.success
    ]
    failures += [f"{s.model} answers otherwise: {'; '.join(s.differences[:3])}" for s in outcomes.smoke if not s.equal]
    failures += _unasked(status, plan, outcomes)
    return failures[0] if failures else None


def expected_checks(status: PointStatus, plan: RestorePlan) -> tuple[list[str], list[str]]:
    """Names of the datasets to validate and URIs of the models to ask, as far as the plan restores what they need."""
    restored = {action.component for action in plan.actions}
    kinds = {label.split("/")[0] for label in restored}
    datasets = [v.name for v in status.point.of_kind("validation") if f"dataset/{v.name}" in restored]
    models = [str(m["model"]) for g in status.point.of_kind("golden") for m in g.details["models"]]
    return datasets, models if {"registry", "environment"} <= kinds else []


def _unasked(status: PointStatus, plan: RestorePlan, outcomes: Outcomes) -> list[str]:
    datasets, models = expected_checks(status, plan)
    validated, asked = {v.dataset for v in outcomes.validations}, {s.model for s in outcomes.smoke}
    return [f"dataset {name} was not validated" for name in datasets if name not in validated] + [
        f"{model} was not asked" for model in models if model not in asked
    ]


def check_recovery(report: RecoveryReport) -> None:
    """
    :raises SmokeFailed: if a restored model answers otherwise
    :raises ValidationFailed: if restored data does not meet its expectations
    :raises IncompletePoint: if anything else is missing
    """
    if report.passed:
        return
    message = f"{report.kind} of {report.workload} from {report.point} to {report.target} failed: {report.failure}"
    hint = "the report names every difference; do not put this copy into service"
    if any(not outcome.equal for outcome in report.smoke):
        raise SmokeFailed(message, hint)
    if any(not outcome.success for outcome in report.validations):
        raise ValidationFailed(message, hint)
    raise IncompletePoint(message, hint)
