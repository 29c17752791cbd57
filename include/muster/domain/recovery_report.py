"""What a restore or a drill did, how long it took, and whether everything came back."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from muster.domain.approval import Approval
from muster.domain.drill import DrillOutcome
from muster.domain.evidence import AuditProof, Event, ExpectationResult, Failed, first_of
from muster.domain.fidelity import FidelityReport
from muster.domain.freshness import ComponentPoint, Newest, by_canary
from muster.domain.recovery_point import listed
from muster.domain.timing import STAGES, RecoveryTime, Span, recovery_point_actual

Json = Any


@dataclass(frozen=True, slots=True)
class ComponentOutcome:
    """
    One component that was put back and reconciled with what was captured.

    :param facts: what was measured at the target after the restore: counts, digests, revisions
    :param fidelity: of a registry: what was captured beside what is there; identical, or it would not be there
    :param sha256: of the list of its files in the vault, with the digest of each; what came back was checked against it
    :param newest: the newest thing with a time that was found in what came back; None if nothing is looked for in such a component
    :param kept: whether it was there already, whole and equal, so that nothing was written
    """

    component: str
    files: int
    size: int
    span: Span
    facts: dict[str, Json] = field(default_factory=dict)
    fidelity: FidelityReport | None = None
    sha256: str = ""
    newest: Newest | None = None
    kept: bool = False


@dataclass(frozen=True, slots=True)
class ValidationOutcome:
    """
    What a suite of expectations said of a restored dataset.

    :param results: one for each expectation, those that were not met first; as many as a report shows
    """

    dataset: str
    suite: str
    success: bool
    failures: tuple[str, ...]
    statistics: dict[str, Json]
    span: Span
    results: tuple[ExpectationResult, ...] = ()


@dataclass(frozen=True, slots=True)
class SmokeOutcome:
    """
    How a restored model answered, against its golden predictions.

    :param answers: how many values were compared
    :param differences: one line for each value out of tolerance, the first hundred; empty if equal
    """

    model: str
    version: str
    equal: bool
    answers: int
    differences: tuple[str, ...]
    rtol: float
    atol: float
    span: Span


@dataclass(frozen=True, slots=True)
class CutOver:
    """
    The last step of a restore: what came back is put to use.

    :param done: what was looked at and done, a sentence each
    :param failure: why the place does not serve; None if it does, or nothing was to be switched
    :param output: the end of what the command said, without secrets
    :param span: None where nothing is ever cut over, as in a drill
    """

    done: tuple[str, ...]
    failure: str | None = None
    output: str = ""
    span: Span | None = None

    @property
    def outcome(self) -> str:
        """In a few words."""
        return f"failed: {self.failure}" if self.failure else self.done[-1]


NOT_IN_A_DRILL = CutOver(("not cut over: a drill",))


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """
    :param failure: the first thing that went wrong, in a sentence; None if all came back
    :param recovery_point_actual: seconds of work lost: from the cut of the point, or the oldest canary that came back, to the incident
    :param points: up to when each component came back
    :param cut_over: None if it did not come to that
    :param left_out: components for which the target had no place, each with the reason
    :param unfaithful: of components that were removed again, since they had come back with a difference
    :param drilled: of a drill: its fault, what must happen, what happened, and how it was kept apart
    :param objectives: ``{"rpo_s": …, "rto_s": …}``
    :param plan_digest: hex SHA-256 of the plan that was applied
    :param approval: who let it go ahead; None where nobody had to
    :param actor: who carried it out: name, host, and by what
    :param events: what happened, in order
    :param failures: everything that went wrong
    :param whole: whether all of the point was read out of this vault: not a part, not from a copy, nothing that was there already
    :param audit: where the report stands in the audit trail; None if the trail could not be read
    """

    kind: Literal["restore", "drill"]
    workload: str
    point: str
    target: str
    failure: str | None
    incident_at: datetime
    detected_at: datetime
    finished_at: datetime
    taken_at: datetime
    time: RecoveryTime
    recovery_point_actual: float
    objectives: dict[str, float]
    components: tuple[ComponentOutcome, ...]
    validations: tuple[ValidationOutcome, ...]
    smoke: tuple[SmokeOutcome, ...]
    left_out: tuple[str, ...] = ()
    unfaithful: tuple[FidelityReport, ...] = ()
    plan_digest: str | None = None
    approval: Approval | None = None
    actor: str = ""
    events: tuple[Event, ...] = ()
    failures: tuple[Failed, ...] = ()
    audit: AuditProof | None = None
    drilled: DrillOutcome | None = None
    whole: bool = True
    points: tuple[ComponentPoint, ...] = ()
    cut_over: CutOver | None = None

    @property
    def first_failure(self) -> Failed | None:
        """What failed first, and why; None if nothing did."""
        return first_of(self.failures)

    @property
    def fidelity(self) -> tuple[FidelityReport, ...]:
        """The fidelity reports of all registries that came back, or failed to."""
        return (*(c.fidelity for c in self.components if c.fidelity is not None), *self.unfaithful)

    @property
    def incomplete(self) -> tuple[str, ...]:
        """Artifacts that the point lacked, the first of them, where the facts of a restore tell of them: those of a store do not."""
        lacking = [c for c in self.components if c.facts.get("missing")]
        return tuple(f"{c.component}: {phrase}" for c in lacking for phrase in listed(c.facts["missing"], "named"))

    @property
    def passed(self) -> bool:
        """Whether everything came back and every check passed."""
        return self.failure is None

    @property
    def rto_met(self) -> bool:
        return self.time.total <= self.objectives["rto_s"]

    @property
    def rpo_met(self) -> bool:
        return self.recovery_point_actual <= self.objectives["rpo_s"]

    @property
    def recovery_point_by_cut(self) -> float:
        """Seconds of work lost, as far as the time of the cut can tell."""
        return recovery_point_actual(self.incident_at, self.taken_at)

    @property
    def recovery_point_by_canary(self) -> float | None:
        """Seconds of work lost by the canaries that came back; None if there are none."""
        return by_canary(self.points)

    @property
    def spans(self) -> tuple[Span, ...]:
        """All pieces of work, in the order in which they began."""
        every = [piece.span for piece in self.components] + [piece.span for piece in self.validations]
        every += [piece.span for piece in self.smoke]
        every += [self.cut_over.span] if self.cut_over and self.cut_over.span else []
        return tuple(sorted(every, key=lambda span: span.started_at))

    def summary(self) -> dict[str, Json]:
        """The few figures that a mark carries and a page shows."""
        return {
            "passed": self.passed,
            "failure": self.failure,
            "target": self.target,
            "recovery_time_s": {stage: getattr(self.time, stage) for stage in (*STAGES, "total")},
            "recovery_point_s": self.recovery_point_actual,
            "recovery_point_by_cut_s": self.recovery_point_by_cut,
            "recovery_point_by_canary_s": self.recovery_point_by_canary,
            "recovery_points_s": {p.component: {"cut": p.by_cut_s, "canary": p.by_canary_s} for p in self.points},
            "objectives": self.objectives,
            "rto_met": self.rto_met,
            "rpo_met": self.rpo_met,
            "files": sum(outcome.files for outcome in self.components),
            "size": sum(outcome.size for outcome in self.components),
            "models_equal": sum(outcome.equal for outcome in self.smoke),
            "models": len(self.smoke),
            "left_out": list(self.left_out),
            "fidelity": {f.component: f.line for f in self.fidelity},
            **({"incomplete": list(self.incomplete)} if self.incomplete else {}),
            "whole": self.whole,
            "cut_over": self.cut_over.outcome if self.cut_over else None,
            "plan_digest": self.plan_digest,
            "approved_by": self.approval.approved_by if self.approval else None,
            **({"fault": self.drilled.summary()} if self.drilled else {}),
        }
