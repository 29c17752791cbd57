"""Single models of a registry in use, moved back to what they were: registry plan, rollback; and what a point keeps unmade: kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from muster.cli.break_glass import agreement, break_glass
from muster.cli.points import of_workload
from muster.cli.screen import table
from muster.cli.session import Session
from muster.codec import to_json
from muster.errors import Refused, UsageError
from muster.report import size_in_words

if TYPE_CHECKING:
    from rich.table import Table

    from muster.domain.merge_plan import MergePlan, OnConflict, RollbackPlan
    from muster.domain.recovery_point import PointStatus
    from muster.domain.selection import Wanted
    from muster.ports.registry import RegistryMerge

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def registry() -> None:
    """One model gone wrong: move it back, next to everything else."""


@registry.command("kept")
@click.argument("point")
@of_workload
@click.pass_obj
def kept(session: Session, point: str, workload: str | None) -> None:
    """Show what POINT keeps of webhooks, gateway and MCP servers of a registry behind a server, as JSON.

    An API gives none of their secrets, so a restore makes none of them: this is what it gave, for whoever makes them again.
    """
    from muster.operations.kept import kept_documents

    vault, status = session.find(point, workload)
    found = kept_documents(vault, status.point)
    session.screen.result(found, json.dumps(found, indent=2, ensure_ascii=False))


def _options(function: Command) -> Command:
    """What plan and rollback are asked."""
    options = [
        click.argument("point"),
        click.option(
            "--model",
            "models",
            required=True,
            multiple=True,
            metavar="NAME[@ALIAS]",
            help="A registered model with all versions and aliases, or what one alias points at. NAME may be a pattern. Repeatable.",
        ),
        click.option(
            "--to",
            default="origin",
            show_default=True,
            metavar="TARGET|STORE",
            help="The registry in use: origin, a target of the catalog, a folder that was restored to, or the URL or conn: of a store.",
        ),
        click.option("--artifacts", metavar="ROOT", help="The artifact root, where --to is a store."),
        of_workload,
        click.option(
            "--on-conflict",
            "rule",
            type=click.Choice(["refuse", "keep"]),
            default="refuse",
            show_default=True,
            help="What is done about what is there and differs: refuse all, or keep it and bring back the rest.",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@registry.command("plan")
@_options
@click.pass_obj
def plan(
    session: Session, /, point: str, models: tuple[str, ...], workload: str | None, rule: OnConflict, **to: str
) -> None:
    """Say what a rollback of models to POINT would do; change nothing.

    Lists what would be added, which alias would move, and everything that conflicts; the exit code is 6 if that forbids it.
    """
    from muster.operations.rollback import plan_rollback

    vault, status = session.find(point, workload)
    drawn = plan_rollback(vault, status, _wanted(models), _registry(session, status, **to), rule)
    session.screen.result(_document(drawn), *_plan_lines(drawn))
    if drawn.merge.barring(rule):
        click.get_current_context().exit(Refused.exit_code)


@registry.command("rollback")
@_options
@click.option(
    "--plan", "agreed", metavar="ID", help="Only if the plan is still the one that `registry plan` showed with this id."
)
@break_glass
@click.pass_obj
def rollback(
    session: Session,
    /,
    point: str,
    models: tuple[str, ...],
    workload: str | None,
    rule: OnConflict,
    agreed: str | None,
    reason: str | None,
    second_key: Path | None,
    **to: str,
) -> None:
    """Move models back to what they were at POINT, in a registry that is in use.

    What was deleted comes back under its number and id; an alias moves; nothing else is written over. Look at `registry plan` first. The
    vault's audit trail gets the reason, or the second holder of a key.
    """
    from muster.operations.rollback import roll_back

    vault, status = session.find(point, workload)
    because = {"reason": (reason or "").strip(), "agreed_by": agreement(vault, reason, second_key)}
    done = roll_back(vault, status, _wanted(models), _registry(session, status, **to), rule, agreed, because)
    session.screen.result(_document(done) | {"done": True}, *_done_lines(done))


def _wanted(models: tuple[str, ...]) -> list[Wanted]:
    from muster.domain.selection import Wanted

    return [Wanted.parse(model) for model in models]


def _registry(session: Session, status: PointStatus, to: str, artifacts: str | None) -> RegistryMerge:
    from muster.domain.restore_target import RestoreTarget

    if "://" in to or to.startswith(("conn:", "env:")):
        if artifacts is None:
            raise UsageError(
                f"with the store {to.partition(':')[0]}:… its artifact root is needed", "give --artifacts ROOT"
            )
        named = RestoreTarget(to.partition(":")[0], store=session.secrets(to), artifacts=session.secrets(artifacts))
        return session.platform.registry_in_use(named)
    if artifacts is not None:
        raise UsageError(f"{to} is no store, and says itself where artifacts lie", "leave --artifacts out")
    workload = session.catalog.workloads.get(status.point.workload)
    return session.platform.registry_in_use(session.platform.target(workload, status, to))


def _document(plan: RollbackPlan) -> dict[str, Any]:
    from muster.operations.rollback import mark_of

    document: dict[str, Any] = to_json(plan)
    return document | {"id": mark_of(plan)}


def _plan_lines(plan: RollbackPlan) -> Iterator[str | Table]:
    from muster.operations.rollback import mark_of

    yield f"roll {', '.join(plan.merge.models)} back to {plan.point} of {plan.workload}, in {plan.target}"
    yield from _changes(plan.merge, "would ")
    yield from (f"warning: {line}" for line in plan.warnings)
    if barring := plan.merge.barring(plan.rule):
        yield f"refused: {len(barring)} conflicts" + (
            "" if any(not c.keepable for c in barring) else "; see --on-conflict"
        )
    elif not plan.merge.changes:
        yield f"{_nothing_lacks(plan)}: nothing is to be done"
    yield f"plan {mark_of(plan)}"


def _done_lines(plan: RollbackPlan) -> Iterator[str | Table]:
    if not plan.merge.changes:
        yield f"{', '.join(plan.merge.models)}: {_nothing_lacks(plan)}; nothing was changed"
        yield from _differences(plan.merge)
        return
    yield f"rolled {', '.join(plan.merge.models)} back to {plan.point} of {plan.workload}, in {plan.target}"
    yield from _changes(plan.merge, "")


def _changes(merge: MergePlan, would: str) -> Iterator[str | Table]:
    for move in merge.aliases:
        before = f"version {move.before}" if move.before is not None else "nowhere"
        yield f"alias {move.model}@{move.alias} {would}{_verb('move', would)} from {before} to version {move.after}"
    yield from (f"{_thing(c.table)} {c.id} {would}{_verb('come', would)} back" for c in merge.added)
    yield from (
        f"{_thing(c.table)} {c.id} is marked as deleted, and {would}{_verb('live', would)} again" for c in merge.revived
    )
    yield from _differences(merge)
    rows = [(t.table, t.add, t.change, t.equal, t.stay) for t in merge.tables]
    files = merge.artifacts
    rows.append(("artifacts", files.add, 0, files.equal, sum(c.where == "artifacts" for c in merge.conflicts)))
    yield ""
    yield table(("rows of", "added", "changed", "equal", "left"), rows, right=("added", "changed", "equal", "left"))
    if files.add:
        yield f"{size_in_words(files.size)} of artifacts"


def _differences(merge: MergePlan) -> Iterator[str]:
    yield from (
        f"{_thing(c.table)} {c.id} differs in {', '.join(c.columns)}, and that stays as it is" for c in merge.left
    )
    for conflict in merge.conflicts:
        bars = "" if conflict.keepable else "; no rule lets that pass"
        yield f"conflict: {conflict.where} {conflict.id}: {conflict.what}{bars}"


def _nothing_lacks(plan: RollbackPlan) -> str:
    stays = len(plan.merge.conflicts) + len(plan.merge.left)
    if stays:
        return f"all that there was at {plan.point} is there, in {stays} places with differences that stay"
    return f"everything is there as it was at {plan.point}"


def _verb(verb: str, would: str) -> str:
    """``would move`` before, ``moved`` after."""
    return verb if would else {"move": "moved", "come": "came", "live": "lives"}[verb]


def _thing(name: str) -> str:
    """A table's name as that of one thing in it."""
    return name.replace("_", " ").removesuffix("s") if name != "trace_info" else "trace"
