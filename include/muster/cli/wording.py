"""Points, plans and reports as lines and tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich.table import Table

from muster.cli.screen import table
from muster.domain.drill import DrillOutcome
from muster.domain.faults import OUTCOMES, SEEN
from muster.domain.recovery_point import PointStatus
from muster.domain.recovery_report import RecoveryReport
from muster.domain.restore_plan import RestorePlan
from muster.domain.timing import STAGES
from muster.report import seconds_in_words, size_in_words

Lines = Iterator[str | Table]
EFFECTS = {"create": "made", "replace": "what is there is moved aside", "keep": "there already"}


def moment(at: datetime) -> str:
    """``2026-11-23 02:00:00Z``."""
    return f"{at:%Y-%m-%d %H:%M:%S}Z"


def standing(status: PointStatus) -> str:
    """
    What is known of a point, in a few words: ``suspect``, or the latest of each kind of mark; and whether it is incomplete.

    Doubts that were answered and holds that were released are not: `point_lines` has all marks.
    """
    incomplete = ", incomplete" if status.incomplete else ""
    if status.suspect:
        return f"suspect{incomplete}"
    over = {"suspect", "released"} | (set() if status.holds else {"held"})
    latest = {mark.kind: mark for mark in status.marks if mark.kind not in over}
    words = [kind if mark.summary.get("passed", True) else f"{kind}: failed" for kind, mark in latest.items()]
    return (", ".join(words) or "sealed") + incomplete


def points_table(statuses: Sequence[PointStatus], now: datetime) -> Table:
    """All points, oldest first."""
    rows = [
        (
            status.point.point,
            status.point.workload,
            moment(status.point.taken_at),
            seconds_in_words((now - status.point.taken_at).total_seconds()),
            len(status.point.components),
            sum(component.tree.files for component in status.point.components),
            size_in_words(sum(component.tree.size for component in status.point.components)),
            standing(status),
        )
        for status in statuses
    ]
    headings = ("point", "workload", "taken", "age", "components", "files", "size", "standing")
    return table(headings, rows, right=("age", "components", "files", "size"))


def point_lines(status: PointStatus) -> Lines:
    """One point: its components and its marks."""
    point = status.point
    yield f"point {point.point} of {point.workload}: {standing(status)}"
    yield f"taken {moment(point.taken_at)}, sealed {moment(point.sealed_at)}, after {point.previous or 'none'}"
    if point.locked_until:
        yield f"locked by the store until {moment(point.locked_until)}"
    elif (point.catalog.get("retention") or {}).get("lock"):
        yield "not locked: its retention asks for a lock, and the store cannot lock (see muster doctor)"
    yield from (f"incomplete: {missing}" for missing in status.incomplete)
    rows = [
        (c.label, c.tree.files, size_in_words(c.tree.size), moment(c.cut_at), c.method, c.tree.root.sha256[:16])
        for c in point.components
    ]
    yield ""
    yield table(("component", "files", "size", "cut", "how", "sha256 of its list"), rows, right=("files", "size"))
    for component in point.components:
        for told in component.details.get("not_in_git_bundle", ()):
            yield f"{component.label} does not hold {told}"
    if status.marks:
        yield ""
        yield table(
            ("marked", "when", "what was found"), [(m.kind, moment(m.at), _summary(m.summary)) for m in status.marks]
        )


def plan_lines(plan: RestorePlan) -> Lines:
    """What a restore would do, and what forbids it."""
    yield f"restore {plan.point} of {plan.workload} to {plan.target}: {size_in_words(plan.size)}"
    yield f"plan {plan.digest}"
    yield f"what was written after {moment(plan.taken_at)} is lost: {seconds_in_words(plan.lost_s)}"
    if plan.expected_s is not None:
        yield f"restoring and checking took before: {seconds_in_words(plan.expected_s)}"
    rows = [
        (
            f"{a.component} {a.path}".rstrip(),
            "\n".join((a.where, *a.also)),
            a.files,
            size_in_words(a.size),
            EFFECTS[a.effect],
        )
        for a in plan.actions
    ]
    yield ""
    yield table(("component", "would go to", "files", "size", "what happens"), rows, right=("files", "size"))
    yield ""
    yield from (
        f"policy {v.policy}: {'overridden' if v.overridden else 'passed' if v.passed else 'forbids it'}: {v.reason}"
        for v in plan.verdicts
    )
    yield from (f"then, to put it to use: {step}" for step in plan.cut_over)
    yield from (f"left out: {line}" for line in plan.skipped)
    yield from (f"warning: {line}" for line in plan.warnings)
    yield from (
        f"refused: {r.component}: {r.message}" + (f"\n  hint: {r.hint}" if r.hint else "") for r in plan.refusals
    )
    if not plan.refusals:
        yield "nothing forbids it" if plan.actions else "there is nothing to restore"


def report_lines(report: RecoveryReport) -> Lines:
    """What a restore or drill did, against what was promised."""
    verdict = "passed" if report.passed else f"FAILED: {report.failure}"
    if report.passed and report.components and all(c.kept for c in report.components):
        verdict += "; everything was there already, and nothing was written"
    yield f"{report.kind} of {report.workload} from {report.point} to {report.target}: {verdict}"
    yield ""
    rows: list[tuple[object, ...]]
    rows = [
        (c.component, c.files, "was there" if c.kept else size_in_words(c.size), seconds_in_words(c.span.seconds))
        for c in report.components
    ]
    rows += [
        (f"expectations/{v.dataset}", "", _verdict(v.success), seconds_in_words(v.span.seconds))
        for v in report.validations
    ]
    rows += [
        (s.model, s.answers, "equal" if s.equal else "DIFFERENT", seconds_in_words(s.span.seconds))
        for s in report.smoke
    ]
    yield table(("what", "count", "came back", "time"), rows, right=("count", "came back", "time"))
    if report.drilled:
        yield ""
        yield from drill_lines(report.drilled)
    time, promised = report.time, report.objectives
    yield ""
    yield from (f"left out: {line}" for line in report.left_out)
    yield from (f"fidelity of {found.component}: {found.line}" for found in report.fidelity)
    yield from (f"INCOMPLETE since the point was taken: {missing}" for missing in report.incomplete)
    if report.cut_over:
        yield f"cut over: {report.cut_over.outcome}"
    stages = ", ".join(f"{stage.replace('_', ' ')} {seconds_in_words(getattr(time, stage))}" for stage in STAGES)
    yield (
        f"recovery time actual  {seconds_in_words(time.total)} ({stages}); "
        f"objective {seconds_in_words(promised['rto_s'])}: {'met' if report.rto_met else 'MISSED'}"
    )
    yield (
        f"recovery point actual {seconds_in_words(report.recovery_point_actual)}; "
        f"objective {seconds_in_words(promised['rpo_s'])}: {'met' if report.rpo_met else 'MISSED'}"
    )
    by_canary = report.recovery_point_by_canary
    told = "no canary tells" if by_canary is None else f"by the canary {seconds_in_words(by_canary)}"
    yield f"                      {told}, by the cut {seconds_in_words(report.recovery_point_by_cut)}"


def drill_lines(drilled: DrillOutcome) -> Lines:
    """The fault of a drill: what must happen, what happened, and how."""
    yield from (f"passed over: {line}" for line in drilled.passed_over)
    if drilled.expected and drilled.observed:
        must, saw = OUTCOMES[drilled.expected], SEEN[drilled.observed]
        yield f"fault {drilled.fault} ({drilled.chosen}): must be {must}; was {saw}"
        yield from (f"  {line}" for line in drilled.story)
    yield f"kept apart by {drilled.isolation}"


def _verdict(success: bool) -> str:
    return "met" if success else "UNMET"


def _summary(summary: dict[str, object]) -> str:
    if "reason" in summary:
        return str(summary["reason"])
    short = {key: value for key, value in summary.items() if not isinstance(value, (dict, list)) and value is not None}
    return ", ".join(_fact(key, value) for key, value in short.items())


def _fact(key: str, value: object) -> str:
    """One of them, as people read it: ``bytes`` and ``…_s`` have units, a share is in percent."""
    name = key.removesuffix("_s").replace("_", " ")
    if isinstance(value, bool):
        return name if value else f"not {name}"
    if isinstance(value, int | float) and key.endswith("_s"):
        return f"{name} {seconds_in_words(value)}"
    if isinstance(value, int) and key in ("bytes", "size"):
        return f"{name} {size_in_words(value)}"
    if isinstance(value, float) and key == "share":
        return f"{value:.0%} of the data read"
    return f"{name} {value}"
