"""A plan for the person who decides on it: Markdown, as Airflow's form shows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from muster.domain.merge_plan import Change, RollbackPlan
from muster.domain.restore_plan import Action, RestorePlan
from muster.domain.undo_plan import UndoPart, UndoPlan
from muster.report.wording import seconds_in_words, size_in_words

EFFECTS = {
    "create": "is made where nothing is",
    "replace": "**replaces what is there**, which is moved aside and kept",
    "keep": "is there already, whole and equal: left as it is",
}

UNDOING = {
    "undo": (
        "put back what a restore moved aside",
        "comes back",
        "is moved aside in turn, and kept, where something comes back",
    ),
    "discard": ("**delete for ever** what a restore moved aside", "is **deleted for ever**", "stays as it is"),
}
"""By the verb: what is asked for; what becomes of what lies aside, and of what is there now."""


def plan_in_markdown(plan: RestorePlan, requested_by: str, approvers: Sequence[str]) -> str:
    """Everything that an approval is for, and what a person should know before saying yes. No secrets."""
    return "\n".join(_lines(plan, requested_by, approvers))


def undo_in_markdown(plan: UndoPlan, requested_by: str, approvers: Sequence[str]) -> str:
    """The same for what becomes of what a restore moved aside."""
    return "\n".join(_lines_of_undo(plan, requested_by, approvers))


def rollback_in_markdown(plan: RollbackPlan, requested_by: str, approvers: Sequence[str]) -> str:
    """The same for single models that are moved back next to what is there."""
    return "\n".join(_lines_of_rollback(plan, requested_by, approvers))


def _lines(plan: RestorePlan, requested_by: str, approvers: Sequence[str]) -> Iterator[str]:
    yield f"**{requested_by}** asks to restore `{plan.workload}` to `{plan.target}`. {_who_decides(approvers)}"
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
        where = _places((action.where, *action.also))
        yield f"| {_name(action)} | {where} | {action.files} | {size_in_words(action.size)} | {EFFECTS[action.effect]} |"
    yield ""
    yield from (f"- left out: {_cell(line)}" for line in plan.skipped)
    yield from (f"- **warning**: {_cell(line)}" for line in plan.warnings)
    yield from (
        f"- policy *{verdict.policy}*{' (**overridden**)' if verdict.overridden else ''}: {_cell(verdict.reason)}"
        for verdict in plan.verdicts
    )


def _lines_of_undo(plan: UndoPlan, requested_by: str, approvers: Sequence[str]) -> Iterator[str]:
    asked, aside, there = UNDOING[plan.verb]
    yield f"**{requested_by}** asks to {asked} of `{plan.workload}`. {_who_decides(approvers)}"
    yield ""
    yield f"- why: {_cell(plan.reason)}"
    yield f"- the restore: `{plan.stamp}`, from point `{plan.point}` to `{plan.target}`"
    yield f"- moved aside: {plan.set_aside_at:%Y-%m-%d %H:%M:%S} UTC"
    yield f"- plan: `{plan.digest}`"
    yield ""
    yield f"| component | place | lies aside, and {aside} | there now, and {there} |"
    yield "|---|---|---|---|"
    for part in plan.parts:
        place, kept, now = (_places(found) for found in ((part.where, *part.also), part.aside, part.there))
        yield f"| {_name(part)} | {place} | {kept} | {now} |"
    yield ""
    yield from (f"- **warning**: {_cell(line)}" for line in plan.warnings)


def _lines_of_rollback(plan: RollbackPlan, requested_by: str, approvers: Sequence[str]) -> Iterator[str]:
    merge, files = plan.merge, plan.merge.artifacts
    where = f"in `{_cell(plan.target)}`, next to everything else"
    yield f"**{requested_by}** asks to move {_places(merge.models)} of `{plan.workload}` back, {where}. {_who_decides(approvers)}"
    yield ""
    yield f"- why: {_cell(plan.reason)}"
    yield f"- point: `{plan.point}`, taken {plan.taken_at:%Y-%m-%d %H:%M:%S} UTC"
    for move in merge.aliases:
        before = f"version {move.before}" if move.before is not None else "nowhere"
        yield f"- alias `{_cell(f'{move.model}@{move.alias}')}` **moves** from {before} to version {move.after}"
    yield from _changed(merge.added, "come back")
    yield from _changed(merge.revived, "are marked as deleted, and live again")
    yield from _changed(merge.left, "differ, and what differs stays as it is now")
    yield f"- artifacts: {files.add} files come back, {size_in_words(files.size)}; {files.equal} are there already"
    yield from (f"- **conflict**, kept as it is now: {_cell(f'{c.where} {c.id}: {c.what}')}" for c in merge.conflicts)
    yield f"- plan: `{plan.digest}`"
    yield ""
    yield "| rows of | added | changed | equal | left |"
    yield "|---|---:|---:|---:|---:|"
    yield from (f"| {_cell(t.table)} | {t.add} | {t.change} | {t.equal} | {t.stay} |" for t in merge.tables)
    yield ""
    yield from (f"- **warning**: {_cell(line)}" for line in plan.warnings)


def _changed(changes: Sequence[Change], what: str) -> Iterator[str]:
    """One line for each table: which of its things."""
    for table in dict.fromkeys(change.table for change in changes):
        ids = [change.id for change in changes if change.table == table]
        yield f"- {table.replace('_', ' ')} that {what}: {_places(ids)}"


def _who_decides(approvers: Sequence[str]) -> str:
    decides = ", ".join(approvers) if approvers else "anybody else who may answer"
    return f"Who decides: {decides}, and never who asked."


def _places(places: Sequence[str]) -> str:
    return ", ".join(f"`{_cell(place)}`" for place in places) or "nothing"


def _name(part: Action | UndoPart) -> str:
    return _cell(f"{part.component}: {part.path}" if part.path else part.component)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'").replace("\n", " ")
