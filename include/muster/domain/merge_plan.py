"""
What it takes to bring single models back into a registry that is in use: what is added, what is there already, what forbids it.

Nothing that is there is written over, but for what the plan names: an alias is moved, and what was marked as deleted lives again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, ClassVar, Literal

from muster.domain.restore_plan import Refusal, require_none
from muster.errors import Refused

OnConflict = Literal["refuse", "keep"]
Action = Literal["add", "equal", "move", "revive", "left", "conflict"]
ALIASES = "registered_model_aliases"
DELETED_STAGE = "Deleted_Internal"
CONTAINERS = ("experiments", "registered_models", "workspaces")
"""Tables of what holds others besides those that are brought back: one that is there stays as it is."""
PASSING = frozenset({"last_updated_time", "last_update_time", "last_updated_timestamp_ms"})
"""Columns that MLflow writes whenever something near a row changes; a difference there alone is none."""
ESSENTIAL: Mapping[str, frozenset[str]] = {
    "model_versions": frozenset({"source", "storage_location", "run_id", "creation_time"}),
    "logged_models": frozenset({"artifact_location", "source_run_id", "experiment_id"}),
    "runs": frozenset({"artifact_uri", "experiment_id"}),
    "datasets": frozenset({"dataset_uuid"}),
    "inputs": frozenset({"input_uuid"}),
}
"""What makes a row the one that it is: with another value there it is a different thing under the same name, which no rule lets pass."""
VERSION_TAGS = "model_version_tags"
PROMPT_TAGS = frozenset(
    {
        "mlflow.prompt.is_prompt",
        "mlflow.prompt.text",
        "_mlflow_prompt_type",
        "_mlflow_prompt_response_format",
        "_mlflow_prompt_model_config",
    }
)
"""Tags of a version that are the prompt itself, which has no artifacts."""
LIFECYCLE = frozenset({"lifecycle_stage", "deleted_time"})
"""Where MLflow marks a run, logged model or experiment as deleted, and changes nothing else of it."""
REGISTRATIONS = "mlflow.modelVersions"
"""The tag of a logged model in which MLflow lists the versions that were registered of it, under whatever name."""
UNDER_WAY: Mapping[str, frozenset[str | int]] = {
    "runs": frozenset({"RUNNING", "SCHEDULED"}),
    "logged_models": frozenset({1}),
}
"""The status of what is not finished yet."""
OF_ITS_END = frozenset({"status", "status_message", "end_time"})
"""Columns that MLflow writes when something goes on and ends."""
OF_A_METRIC = frozenset({"value", "timestamp", "step", "is_nan"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What is to be done about a row.

    :param due: what it must be afterwards
    :param differing: columns in which it is otherwise now
    :param staying: those of them in which it is otherwise afterwards too, although it lives again
    """

    action: Action
    due: list[Any]
    differing: tuple[str, ...] = ()
    staying: tuple[str, ...] = ()
    keepable: bool = True


def judge(table: str, columns: Sequence[str], stored: list[Any], live: list[Any] | None) -> Verdict:
    """Compare a row of a point with the row of the same key in the registry now."""
    if live is None:
        return Verdict("add", stored)
    was, now = dict(zip(columns, stored, strict=True)), dict(zip(columns, live, strict=True))
    differing = tuple(c for c in columns if was[c] != now[c] and c not in PASSING)
    if not differing:
        return Verdict("equal", live)
    if table == ALIASES:
        return Verdict("move", stored, differing)
    if table in CONTAINERS:
        return _container(table, was, now, differing)
    if table == "model_versions" and _rest_of_it(was, now):
        return Verdict("revive", stored, differing) if _deleted(now) else Verdict("left", live, differing)
    essential = _essential(table, was) & set(differing)
    if not essential and _deleted(now) and not _deleted(was):
        return _revived(was, now, differing)
    if set(differing) <= _written_later(table, was, now):
        return Verdict("left", live, differing)
    return Verdict("conflict", live, differing, keepable=not essential)


def _container(table: str, was: Mapping[str, Any], now: Mapping[str, Any], differing: tuple[str, ...]) -> Verdict:
    if table == "experiments" and (was.get("creation_time") or was["name"]) != (
        now.get("creation_time") or now["name"]
    ):
        return Verdict("conflict", list(now.values()), differing, keepable=False)
    if _deleted(now) and not _deleted(was):
        return _revived(was, now, differing)
    return Verdict("left", list(now.values()), differing)


def _rest_of_it(was: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether one is what MLflow leaves of the other, a version, when it is deleted: little but the time of its creation."""
    return _deleted(was) != _deleted(now) and was.get("creation_time") == now.get("creation_time")


def _essential(table: str, was: Mapping[str, Any]) -> frozenset[str]:
    if table == VERSION_TAGS and was["key"] in PROMPT_TAGS:
        return frozenset({"value"})
    return ESSENTIAL.get(table, frozenset())


def _revived(was: Mapping[str, Any], now: Mapping[str, Any], differing: tuple[str, ...]) -> Verdict:
    """It lives again as it is now: nothing changes but the mark."""
    due = [was[column] if column in LIFECYCLE else value for column, value in now.items()]
    return Verdict("revive", due, differing, tuple(column for column in differing if column not in LIFECYCLE))


def _deleted(row: Mapping[str, Any]) -> bool:
    return row.get("lifecycle_stage") == "deleted" or row.get("current_stage") == DELETED_STAGE


def _written_later(table: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> frozenset[str]:
    """Columns in which a row may be otherwise by now without anybody having changed what it says."""
    if table == "logged_model_tags" and was["tag_key"] == REGISTRATIONS:
        return frozenset({"tag_value"})
    if table == "latest_metrics" and (now["step"], now["timestamp"]) > (was["step"], was["timestamp"]):
        return OF_A_METRIC
    lives = LIFECYCLE if _deleted(was) and not _deleted(now) else frozenset[str]()
    return lives | OF_ITS_END if was.get("status") in UNDER_WAY.get(table, ()) else lives


@dataclass(frozen=True, slots=True)
class Change:
    """
    A row that would come back, live again or point elsewhere, or that differs and stays.

    :param id: its key, as people write it
    :param columns: in which it differs
    """

    table: str
    id: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AliasMove:
    """An alias that would point elsewhere; `before` is None if there is none of that name now."""

    model: str
    alias: str
    before: int | None
    after: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """
    Why something cannot be brought back as it was.

    :param where: a table, or ``artifacts``
    :param keepable: whether it may be kept as it is, by rule
    """

    where: str
    id: str
    what: str
    keepable: bool


@dataclass(frozen=True, slots=True)
class RowCounts:
    """How many rows of a table would be added and changed, are there already, and stay although they differ."""

    table: str
    add: int = 0
    change: int = 0
    equal: int = 0
    stay: int = 0


@dataclass(frozen=True, slots=True)
class FileCounts:
    """How many artifacts would be added, with their plain bytes, and how many are there already."""

    add: int = 0
    size: int = 0
    equal: int = 0


@dataclass(frozen=True, slots=True)
class MergePlan:
    """
    What a merge would do.

    :param models: the models that are meant, as ``NAME`` or ``NAME@ALIAS``
    :param added: things that would come back; not their parts, such as parameters, which are in `tables`
    :param revived: what is marked as deleted and would live again
    :param left: what differs and stays: what holds others as well, lives again with other words, was deleted at the point, or went on
        since then, as a run does until it ends, a metric that is logged again, and a model's list of its versions
    """

    models: tuple[str, ...]
    tables: tuple[RowCounts, ...] = ()
    artifacts: FileCounts = FileCounts()
    aliases: tuple[AliasMove, ...] = ()
    added: tuple[Change, ...] = ()
    revived: tuple[Change, ...] = ()
    left: tuple[Change, ...] = ()
    conflicts: tuple[Conflict, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""
        return any(line.add or line.change for line in self.tables) or bool(self.artifacts.add)

    def barring(self, rule: OnConflict) -> list[Conflict]:
        """The conflicts that a rule does not let pass."""
        return [conflict for conflict in self.conflicts if rule == "refuse" or not conflict.keepable]

    def approve(self, rule: OnConflict) -> None:
        """
        :raises Refused: if there are conflicts that the rule does not let pass; names all of them
        """
        barring = self.barring(rule)
        if not barring:
            return
        hint = "move what is there out of the way, or restore the point to a place of its own"
        if all(conflict.keepable for conflict in barring):
            hint = "see each of them; --on-conflict keep (conflicts: keep, in the form) leaves them as they are and brings back the rest"
        told = "; ".join(f"{c.where} {c.id}: {c.what}" for c in barring)
        raise Refused(f"what is there now conflicts with the point in {len(barring)} places: {told}", hint)


@dataclass(frozen=True, slots=True)
class RollbackPlan:
    """
    What bringing models back from a point into a registry would do.

    :param target: the registry, without secrets
    :param rule: what is done about conflicts
    :param warnings: what a person should know before saying yes
    :param reason: why, as somebody wrote it; empty where a plan is drawn only to be looked at
    :param refusals: what forbids it besides conflicts
    """

    override: ClassVar[str] = ""
    """Nothing that forbids it can be overridden."""

    workload: str
    point: str
    taken_at: datetime
    target: str
    rule: OnConflict
    merge: MergePlan
    warnings: tuple[str, ...] = ()
    reason: str = ""
    refusals: tuple[Refusal, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 over all of it; an approval is for nothing else, so a point that has become suspect makes another plan."""
        said = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), default=datetime.isoformat)
        return hashlib.sha256(said.encode()).hexdigest()

    def is_rest_of(self, plan: RollbackPlan) -> bool:
        """
        Whether this is what is left of a plan that was begun: nothing, or all of it but for artifacts.

        Artifacts come first, and rows in one transaction: so there is nothing between.
        """
        if not self.merge.changes:
            asked = [(p.workload, p.point, p.target, p.rule, p.merge.models) for p in (self, plan)]
            return asked[0] == asked[1]
        now, then = self.merge.artifacts, plan.merge.artifacts
        fewer = now.add <= then.add and now.add + now.equal == then.add + then.equal
        return fewer and replace(self, merge=replace(self.merge, artifacts=then)) == plan

    def require_allowed(self) -> None:
        """
        Let the plan pass, or raise everything that forbids it: what else is at work, and all conflicts that the rule does not let pass.

        :raises PermanentError: of the first refusal's kind
        """
        refusals = list(self.refusals)
        try:
            self.merge.approve(self.rule)
        except Refused as error:
            refusals.append(Refusal.of("registry", error))
        require_none(refusals)
