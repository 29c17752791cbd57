"""A plan for the person who decides on it: Markdown, as Airflow's form shows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from muster.domain.restore_plan import Action, RestorePlan
from muster.report.wording import seconds_in_words, size_in_words

EFFECTS = {
    "create": "is made where nothing is",
    "replace": "**replaces what is there**, which is moved aside and kept",
    "keep": "is there already, whole and equal: left as it is",
}


def plan_in_markdown(plan: RestorePlan, requested_by: str, approvers: Sequence[str]) -> str:
    """Everything that an approval is for, and what a person should know before saying yes. No secrets."""
    return "\n".join(_lines(plan, requested_by, approvers))


def _lines(plan: RestorePlan, requested_by: str, approvers: Sequence[str]) -> Iterator[str]:
    decides = ", ".join(approvers) if approvers else "anybody else who may answer"
    yield f"**{requested_by}** asks to restore `{plan.workload}` to `{plan.target}`. Who decides: {decides}, and never who asked."
    yield ""
    yield f"- point: `{plan.point}`, taken {plan.taken_at:%Y-%m-%d %H:%M:%S} UTC"
    yield f"- what was written after it is lost: {seconds_in_words(plan.lost_s)}"
    yield f"- to be written: {size_in_words(plan.size)}"
    if plan.expected_s is not None:
        yield f"- restoring and checking took before: {seconds_in_words(plan.expected_s)}"
    yield from (f"- **then, to put it to use**: `{_cell(step)}`" for step in plan.cut_over)
    yield f"- plan: `{plan.digest}`"
    yield ""
    yield "| component | to | files | size | what happens |"
    yield "|---|---|---:|---:|---|"
    for action in plan.actions:
        where = ", ".join(f"`{_cell(place)}`" for place in (action.where, *action.also))
        yield f"| {_name(action)} | {where} | {action.files} | {size_in_words(action.size)} | {EFFECTS[action.effect]} |"
    yield ""
    yield from (f"- left out: {_cell(line)}" for line in plan.skipped)
    yield from (f"- **warning**: {_cell(line)}" for line in plan.warnings)
    yield from (
        f"- policy *{verdict.policy}*{' (**overridden**)' if verdict.overridden else ''}: {_cell(verdict.reason)}"
        for verdict in plan.verdicts
    )


def _name(action: Action) -> str:
    return _cell(f"{action.component}: {action.path}" if action.path else action.component)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'").replace("\n", " ")
