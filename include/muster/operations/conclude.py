"""Conclude a recovery: measure it, write the report into the vault, mark the point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from muster.domain.approval import Approval
from muster.domain.drill import DrillOutcome
from muster.domain.evidence import Failed
from muster.domain.fidelity import FidelityReport
from muster.domain.freshness import asked_every, by_canary, canary_finding, component_points
from muster.domain.recovery_point import Mark, PointStatus
from muster.domain.recovery_report import (
    NOT_IN_A_DRILL,
    ComponentOutcome,
    CutOver,
    RecoveryReport,
    SmokeOutcome,
    ValidationOutcome,
)
from muster.domain.restore_plan import RestorePlan
from muster.domain.restore_request import RESTORED_KINDS
from muster.domain.timing import Span, recovery_point_actual, recovery_time, stamp_of
from muster.errors import CutOverFailed, IncompletePoint, ObjectiveMissed, SmokeFailed, ValidationFailed
from muster.operations.evidence import named, timeline, trail_of_run, work
from muster.operations.tools import Tools
from muster.report import render_fidelity, render_postmortem, render_report
from muster.vault.sources import bytes_file
from muster.vault.vault import Vault

CUT_OVER = "cut_over"
"""The name of the last step."""


@dataclass(frozen=True, slots=True)
class Incident:
    """
    What a recovery answers to.

    :param at: when the platform was lost; the recovery time counts from here
    :param detected_at: when somebody or something acted: the trigger of the restore
    :param approval: who let the restore go ahead; None where nobody had to
    """

    kind: Literal["restore", "drill"]
    at: datetime
    detected_at: datetime
    approval: Approval | None = None


@dataclass(frozen=True, slots=True)
class Outcomes:
    """
    What came of a recovery so far.

    :param decided: the span of planning and approval
    :param failure: the first error that ended it early, or None
    :param unfaithful: fidelity reports of components that were removed again
    :param failed: every piece of work that ended by an error, with its time where that is known
    :param from_this_vault: whether it was read out of the vault that gets the report, and not out of a copy
    :param drilled: of a drill: tells what it adds, by the point from which everything came back, or None if it did not
    :param cut_over: None if it did not come to that, and in every drill
    """

    decided: Span
    components: tuple[ComponentOutcome, ...] = ()
    validations: tuple[ValidationOutcome, ...] = ()
    smoke: tuple[SmokeOutcome, ...] = ()
    failure: str | None = None
    unfaithful: tuple[FidelityReport, ...] = ()
    failed: tuple[Failed, ...] = ()
    from_this_vault: bool = True
    drilled: Callable[[str | None], DrillOutcome] | None = None
    cut_over: CutOver | None = None

    @property
    def spans(self) -> list[Span]:
        """Every piece of work that was done."""
        pieces = [piece.span for piece in self.components] + [piece.span for piece in self.validations]
        pieces += [piece.span for piece in self.smoke]
        pieces += [self.cut_over.span] if self.cut_over and self.cut_over.span else []
        return [self.decided, *pieces]


def conclude(
    vault: Vault, status: PointStatus, plan: RestorePlan, incident: Incident, outcomes: Outcomes, tools: Tools
) -> RecoveryReport:
    """
    Judge a recovery, store its reports (JSON and HTML, and the draft of a post-mortem if there is one to be held) in the vault and
    below the state folder, mark the point, record it.

    It has passed only if every component of the plan came back, with its canary if the catalog wants one, if every suite and every
    golden prediction of the point was asked again and agreed, and if a restore was cut over. The caller raises what the report's
    `failure` says.
    """
    report = _judge(status, plan, incident, outcomes, tools.clock.now())
    report = _with_evidence(vault, report, outcomes)
    documents = _documents(report)
    folder = tools.state / "reports" / report.workload
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{report.kind}-{report.point}-{stamp_of(report.finished_at)}"
    for path, document in documents.items():
        stem = path.removeprefix("report") if path.startswith("report") else f"-{path}"
        (folder / f"{name}{stem}").write_bytes(document)
    if vault.silent:
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
    ``report.html``, ``report.json``, and for each registry ``report-registry-NAME-fidelity.html`` and ``.json``; ``postmortem.md`` of
    every restore and of whatever failed.
    """
    as_json, as_html = render_report(report)
    documents = {"report.json": as_json, "report.html": as_html}
    for fidelity in report.fidelity:
        as_json, as_html = render_fidelity(fidelity, report)
        name = f"report-{fidelity.component.replace('/', '-')}-fidelity"
        documents |= {f"{name}.json": as_json, f"{name}.html": as_html}
    if report.kind == "restore" or not report.passed:
        documents["postmortem.md"] = render_postmortem(report)
    return documents


def _judge(
    status: PointStatus, plan: RestorePlan, incident: Incident, outcomes: Outcomes, now: datetime
) -> RecoveryReport:
    point = status.point
    failures = _failures(status, plan, incident, outcomes)
    drilled = outcomes.drilled(None if failures else point.point) if outcomes.drilled else None
    if drilled and drilled.failure:
        failures = (*failures, Failed("fault", drilled.failure, now))
    digests = {component.label: component.tree.root.sha256 for component in point.components}
    components = [replace(outcome, sha256=digests.get(outcome.component, "")) for outcome in outcomes.components]
    cuts = {component.label: component.cut_at for component in point.components}
    points = component_points(incident.at, cuts, {outcome.component: outcome.newest for outcome in components})
    return RecoveryReport(
        kind=incident.kind,
        workload=point.workload,
        point=point.point,
        target=plan.target,
        failure=outcomes.failure or (failures[0].why if failures else None),
        incident_at=incident.at,
        detected_at=incident.detected_at,
        finished_at=now,
        taken_at=point.taken_at,
        time=recovery_time(outcomes.spans, incident_at=incident.at, detected_at=incident.detected_at),
        recovery_point_actual=max(recovery_point_actual(incident.at, point.taken_at), by_canary(points) or 0.0),
        objectives=point.objectives,
        components=tuple(sorted(components, key=lambda o: o.component)),
        validations=outcomes.validations,
        smoke=outcomes.smoke,
        left_out=plan.skipped,
        unfaithful=outcomes.unfaithful,
        plan_digest=plan.digest,
        approval=incident.approval,
        failures=failures,
        drilled=drilled,
        whole=outcomes.from_this_vault and _whole(status, plan),
        points=points,
        cut_over=NOT_IN_A_DRILL if incident.kind == "drill" else outcomes.cut_over,
    )


def _whole(status: PointStatus, plan: RestorePlan) -> bool:
    done = {action.component for action in plan.actions if not action.path and action.effect != "keep"}
    return {c.label for c in status.point.components if c.kind in RESTORED_KINDS} <= done


def _with_evidence(vault: Vault, report: RecoveryReport, outcomes: Outcomes) -> RecoveryReport:
    """The report with who carried it out, its timeline, and its place in the audit trail."""
    began = min(report.detected_at, outcomes.decided.started_at)
    told, proof = trail_of_run(vault, report.workload, report.point, began)
    done = work(outcomes.decided, report.components, report.validations, report.smoke, report.cut_over)
    return replace(
        report,
        actor=named(vault.actor),
        audit=proof,
        events=timeline(
            report.incident_at, report.detected_at, done, told, report.approval, report.failures, report.finished_at
        ),
    )


def _failures(status: PointStatus, plan: RestorePlan, incident: Incident, outcomes: Outcomes) -> tuple[Failed, ...]:
    """Everything that went wrong, the cut over included."""
    failures, cut_over = failures_of(status, plan, outcomes), outcomes.cut_over
    if incident.kind == "drill" or (cut_over is None and failures):
        return failures
    if cut_over is None:
        return (Failed(CUT_OVER, "it was not cut over"),)
    if cut_over.failure and CUT_OVER not in {failed.what for failed in failures}:
        return (*failures, Failed(CUT_OVER, cut_over.failure, cut_over.span.finished_at if cut_over.span else None))
    return failures


def failures_of(status: PointStatus, plan: RestorePlan, outcomes: Outcomes) -> tuple[Failed, ...]:
    """
    Everything that went wrong before it is cut over: what ended by an error first, then what is missing, unmet, different, or was
    never asked.
    """
    failures = list(outcomes.failed)
    if outcomes.failure and outcomes.failure not in {failed.why for failed in failures}:
        failures.insert(0, Failed(plan.point, outcomes.failure))
    told = {failed.what for failed in failures}
    missing = {action.component for action in plan.actions} - {outcome.component for outcome in outcomes.components}
    failures += [Failed(label, f"{label} was not restored") for label in sorted(missing - told)]
    failures += [
        Failed(
            f"validation/{v.dataset}",
            f"dataset {v.dataset} does not meet {v.suite}: {'; '.join(v.failures[:3])}",
            v.span.finished_at,
        )
        for v in outcomes.validations
        if not v.success
    ]
    failures += [
        Failed(s.model, f"{s.model} answers otherwise: {'; '.join(s.differences[:3])}", s.span.finished_at)
        for s in outcomes.smoke
        if not s.equal
    ]
    return (*failures, *_unasked(status, plan, outcomes), *_canaries(status, plan, outcomes))


def _canaries(status: PointStatus, plan: RestorePlan, outcomes: Outcomes) -> list[Failed]:
    """What is wrong with the canaries that the catalog of the point wants; of a registry of which only a path came back, nothing."""
    every = asked_every(status.point.catalog)
    whole = {action.component for action in plan.actions if not action.path}
    cuts = {component.label: component.cut_at for component in status.point.of_kind("registry")}
    if every is None:
        return []
    back = [(o, o.component) for o in outcomes.components if o.component in cuts and o.component in whole]
    found = [(o, label, canary_finding(every, o.newest, cuts[label])) for o, label in back]
    return [Failed(f"canary/{label}", f"{label}: {why}", o.span.finished_at) for o, label, why in found if why]


def expected_checks(status: PointStatus, plan: RestorePlan) -> tuple[list[str], list[str]]:
    """Names of the datasets to validate and URIs of the models to ask, as far as the plan restores what they need."""
    restored = {action.component for action in plan.actions if not action.path}
    kinds = {label.split("/")[0] for label in restored}
    datasets = [v.name for v in status.point.of_kind("validation") if f"dataset/{v.name}" in restored]
    models = [str(m["model"]) for g in status.point.of_kind("golden") for m in g.details["models"]]
    return datasets, models if {"registry", "environment"} <= kinds else []


def _unasked(status: PointStatus, plan: RestorePlan, outcomes: Outcomes) -> list[Failed]:
    datasets, models = expected_checks(status, plan)
    validated, asked = {v.dataset for v in outcomes.validations}, {s.model for s in outcomes.smoke}
    return [
        Failed(f"validation/{name}", f"dataset {name} was not validated") for name in datasets if name not in validated
    ] + [Failed(model, f"{model} was not asked") for model in models if model not in asked]


def check_recovery(report: RecoveryReport) -> None:
    """
    :raises SmokeFailed: if a restored model answers otherwise
    :raises ValidationFailed: if restored data does not meet its expectations
    :raises CutOverFailed: if all that is proven, and the place does not serve
    :raises IncompletePoint: if anything else is missing
    :raises ObjectiveMissed: if a drill brought everything back, and an objective was missed; a restore is not undone for that
    """
    if report.passed:
        if report.kind == "drill":
            _check_objectives(report)
        return
    message = f"{report.kind} of {report.workload} from {report.point} to {report.target} failed: {report.failure}"
    hint = "the report names every difference; do not put this copy into service"
    if any(not outcome.equal for outcome in report.smoke):
        raise SmokeFailed(message, hint)
    if any(not outcome.success for outcome in report.validations):
        raise ValidationFailed(message, hint)
    if report.cut_over and report.cut_over.failure:
        raise CutOverFailed(message, "see to the place and restore again: what is there, whole and equal, is left")
    raise IncompletePoint(message, hint)


def _check_objectives(report: RecoveryReport) -> None:
    promised, missed = report.objectives, []
    if not report.rto_met:
        missed.append(f"it took {report.time.total:.0f} s, and {promised['rto_s']:.0f} s were promised")
    if not report.rpo_met:
        missed.append(
            f"{report.recovery_point_actual:.0f} s of work are lost, and {promised['rpo_s']:.0f} s were promised"
        )
    if missed:
        raise ObjectiveMissed(
            f"{report.workload} came back from {report.point}, but {'; '.join(missed)}",
            "look at the report for what took long; take points more often, or promise what can be kept",
        )
