"""The demonstration, scene by scene: protect, lose, recover, rehearse, reckon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.markup import escape

from muster.demo.airflow_api import TaskRun
from muster.demo.airflow_platform import APPROVER
from muster.demo.assembly import Running
from muster.demo.disaster import Loss, destroy
from muster.demo.flights import a_few_flights
from muster.demo.repository import DATA
from muster.demo.story import GOOD, Story, mebibytes, verdict
from muster.demo.witness import Comparison, Evidence, ask, compare, testify
from muster.demo.workload import MODELS, WORKLOAD, start_registry, wait_for_registry
from muster.domain.recovery_point import Mark
from muster.errors import MusterError

Json = Any
RUN_S = 900.0


def witness_before(story: Story, running: Running) -> tuple[dict[str, Json], Evidence]:
    """Ask the models about five real flights, and take down the state of everything; returns the questions and the evidence."""
    layout = running.site.layout
    questions = a_few_flights(layout.repository / DATA)
    with story.step("ask the models, digest every file, read every row of the registry"):
        before = testify(layout, running.site.tracking_uri, MODELS, questions["rows"])
    show_answers(story, "What the model says", questions, before.answers)
    return questions, before


def protect(story: Story, running: Running) -> None:
    """Take a recovery point."""
    run_dag(story, running, f"snapshot__{WORKLOAD}", {})
    status = running.site.muster().vault("primary").point("latest", WORKLOAD)
    size = sum(component.tree.size for component in status.point.components)
    files = sum(component.tree.files for component in status.point.components)
    story.say(f"recovery point [bold]{status.point.point}[/]: {files:,} files, {mebibytes(size)}, signed and sealed")


def lose(story: Story, running: Running, questions: Mapping[str, Json]) -> datetime:
    """Destroy the workload and show that its model cannot answer; returns when it happened."""
    site = running.site
    running.tree.stop(running.registry)
    incident_at = datetime.now(UTC)
    losses = destroy(site.layout)
    story.table("Destroyed", ["", "files", "size"], [_loss(loss) for loss in losses])
    try:
        ask(site.layout.environment / "bin" / "python", site.tracking_uri, MODELS, questions["rows"])
    except MusterError as error:
        story.say(f"\n[red]the model cannot answer:[/] {error.message}")
        return incident_at
    raise MusterError("the model still answers after everything was destroyed", "the disaster missed something")


def recover(story: Story, running: Running, incident_at: datetime) -> None:
    """Restore to where everything was, when a second person has agreed, and start the registry's server over what came back."""
    conf = {"point": "latest", "to": "origin", "incident_at": incident_at.isoformat()}
    run_dag(story, running, f"restore__{WORKLOAD}", conf, approver=APPROVER)
    with story.step("start the MLflow server again, over the restored store"):
        running.registry = start_registry(running.tree, running.site)
        wait_for_registry(running.registry, running.site)


def witness_after(story: Story, running: Running, questions: Mapping[str, Json], before: Evidence) -> list[Comparison]:
    """Ask again, look again, compare."""
    with story.step("ask again, digest again, read again"):
        after = testify(running.site.layout, running.site.tracking_uri, MODELS, questions["rows"])
    show_answers(story, "What the restored model says", questions, after.answers, before.answers)
    return compare(before, after)


def rehearse(story: Story, running: Running) -> None:
    """Drill: the way back, into a sandbox. A point that nobody drilled or verified would not be restored without an override."""
    run_dag(story, running, f"drill__{WORKLOAD}", {"fault": "none"})


def reckon(story: Story, running: Running, comparisons: Sequence[Comparison]) -> bool:
    """The tables at the end; returns whether everything is as it was and every objective was met."""
    rows = [[c.what, f"{c.count:,}", f"{c.count - len(c.differences):,}", c.by, _equal(c)] for c in comparisons]
    story.table("What was lost, and what came back", ["", "lost", "came back", "compared by", ""], rows)
    for comparison in comparisons:
        if comparison.differences:
            story.say(f"[red]{comparison.what}:[/] {', '.join(comparison.differences[:5])}")
    marks = running.site.muster().vault("primary").point("latest", WORKLOAD).marks
    recoveries = [mark for mark in marks if mark.kind in ("restored", "drilled")]
    story.table(
        "Measured", ["", *("restore" if m.kind == "restored" else "drill" for m in recoveries)], _measured(recoveries)
    )
    good = all(mark.summary["passed"] and mark.summary["rto_met"] and mark.summary["rpo_met"] for mark in recoveries)
    return (
        good
        and {mark.kind for mark in recoveries} == {"restored", "drilled"}
        and not any(c.differences for c in comparisons)
    )


def run_dag(story: Story, running: Running, dag: str, conf: dict[str, Json], approver: str | None = None) -> None:
    """
    Trigger a DAG by REST and follow it, task by task.

    :param approver: who says yes when it asks, logged in as themselves
    :raises MusterError: if the run fails
    """

    def watch(task: TaskRun) -> None:
        if task.state not in ("success", "failed"):
            return
        sign = f"[{GOOD}]·[/]" if task.state == "success" else "[red]✗[/]"
        took = f"{task.seconds:.1f} s" if task.seconds is not None else task.state
        story.say(f"   {sign} {escape(task.name)}  [dim]{took}[/]")

    with story.step(f"{dag}, triggered by REST") as step:
        run = running.api.trigger(dag, conf)
        if approver:
            question = running.airflow.api(approver).decide(dag, run, "Approve", RUN_S)
            story.say(f"   [bold]{approver}[/] approves: {escape(question['subject'])}")
        tasks = running.api.wait_for_run(dag, run, watch, RUN_S)
        step.result = f"{len(tasks)} tasks, run {run}"


def show_answers(
    story: Story,
    title: str,
    questions: Mapping[str, Json],
    answers: Mapping[str, Sequence[str]],
    before: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Predictions beside what really happened; after the restore also whether they are the same to the last bit."""
    champion, challenger = (answers[model] for model in MODELS)
    rows = []
    for index, flight in enumerate(questions["labels"]):
        row = [flight, _minutes(champion[index]), _minutes(challenger[index]), f"{questions['actual'][index]:+.0f}"]
        if before is not None:
            row.append(verdict(all(answers[model][index] == before[model][index] for model in MODELS)))
        rows.append(row)
    head = ["flight", "@champion", "@challenger", "real delay"] + (["as before"] if before is not None else [])
    story.table(f"{title} (minutes late)", head, rows)


def _minutes(text: str) -> str:
    return f"{float.fromhex(text):+.4f}"


def _loss(loss: Loss) -> list[str]:
    return [loss.what, f"{loss.files:,}", mebibytes(loss.size)]


def _equal(comparison: Comparison) -> str:
    return verdict(not comparison.differences)


def _measured(recoveries: Sequence[Mark]) -> list[list[str]]:
    """One line a figure, one column a recovery."""
    summaries = [mark.summary for mark in recoveries]
    stages = {
        "detect": "  to detect",
        "decide": "  to decide",
        "restore": "  to restore",
        "validate": "  to validate",
        "cut_over": "  to cut over",
    }
    rows = [[shown, *(f"{s['recovery_time_s'][stage]:.1f} s" for s in summaries)] for stage, shown in stages.items()]
    rows.insert(0, ["recovery time actual", *(f"[bold]{s['recovery_time_s']['total']:.1f} s[/]" for s in summaries)])
    rows.append(["  objective (RTO)", *(_against(s["objectives"]["rto_s"], s["rto_met"]) for s in summaries)])
    rows.append(["recovery point actual", *(f"[bold]{s['recovery_point_s']:.1f} s[/]" for s in summaries)])
    rows.append(["  objective (RPO)", *(_against(s["objectives"]["rpo_s"], s["rpo_met"]) for s in summaries)])
    return rows


def _against(objective: float, met: bool) -> str:
    return verdict(met, f"{objective:,.0f} s, met", f"{objective:,.0f} s, MISSED")
