"""
The demo's workload lost and brought back: by Muster's restore DAG in a real Airflow, and by what people do by hand today.

    recovery_vs_naive.py [--rounds 3] [--work DIR]

Each round destroys everything and restores it by the DAG; its time runs from the answer of who approves to the end of the run. Airflow's
own is the time in which no task ran, and what passed in each of those that follow each other until Muster's code began. Beside it, one
after the other as a person would: `git clone` and `dvc pull`, `import-all` of mlflow-export-import into an empty server, `pip install` of
the model's locked environment, and asking the models. Both begin from the same originals, which are compared byte by byte after each
restore by Muster.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from exporter import Exporter

from muster.demo import scenes
from muster.demo.airflow_platform import APPROVER
from muster.demo.assembly import Running, assemble
from muster.demo.layout import claim
from muster.demo.processes import ProcessTree
from muster.demo.repository import git_environment
from muster.demo.story import Story
from muster.demo.witness import ask
from muster.demo.workload import LOCK, MODELS, WORKLOAD, Site, start_registry, wait_for_registry
from muster.errors import MusterError

Step = tuple[str, float, str]


@dataclass(frozen=True)
class Restored:
    """
    One restore by the DAG, in seconds.

    :param total: from the answer of who approves to the end of the run
    :param work: what of it some piece of work was going on in
    :param airflow: what is Airflow's own: noticing that tasks ended, starting others, reading the DAG in each
    :param pieces: each piece of work, by its name
    """

    total: float
    work: float
    airflow: float
    pieces: dict[str, float]

    @property
    def around(self) -> float:
        """What is neither: imports, opening the vault in each task, ending servers, the report."""
        return self.total - self.work - self.airflow


def restore(story: Story, running: Running, questions: Any) -> Restored:
    """Lose everything, restore it, and start the registry over what came back."""
    incident_at = scenes.lose(story, running, questions)
    dag = f"restore__{WORKLOAD}"
    run = running.api.trigger(dag, {"point": "latest", "to": "origin", "incident_at": incident_at.isoformat()})
    running.airflow.api(APPROVER).decide(dag, run, "Approve", scenes.RUN_S)
    running.api.wait_for_run(dag, run, lambda _: None, scenes.RUN_S)
    ended = datetime.fromisoformat(running.api.call("GET", f"/api/v2/dags/{dag}/dagRuns/{run}")["end_date"])
    running.registry = start_registry(running.tree, running.site)
    wait_for_registry(running.registry, running.site)
    vault = running.site.muster().vault("primary")
    mark = [mark for mark in vault.point("latest", WORKLOAD).marks if mark.kind == "restored"][-1]
    assert mark.report
    tree = vault.tree(mark.report)
    report = json.loads(tree.read(tree.entry("report.json")))
    (asked,) = running.api.call("GET", f"/api/v2/dags/{dag}/dagRuns/{run}/hitlDetails")["hitl_details"]
    answered = datetime.fromisoformat(asked["responded_at"])
    pieces_of = [piece for kind in ("components", "validations", "smoke") for piece in report[kind]]
    done = [piece["span"] for piece in (*pieces_of, report["cut_over"])]
    spans = [(datetime.fromisoformat(s["started_at"]), datetime.fromisoformat(s["finished_at"])) for s in done]
    pieces: dict[str, float] = {}
    for span, (begin, end) in zip(done, spans, strict=True):
        pieces[span["name"]] = pieces.get(span["name"], 0.0) + (end - begin).total_seconds()
    own = _airflows_own(running, dag, run, answered, ended)
    return Restored((ended - answered).total_seconds(), _covered(spans), own, pieces)


def _airflows_own(running: Running, dag: str, run: str, answered: datetime, ended: datetime) -> float:
    """Seconds after the answer in which no task had come to Muster's code: the end of Airflow's preparation stands in each log."""
    path = f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances"
    ran: list[tuple[datetime, datetime]] = []
    for task in running.api.call("GET", f"{path}?limit=200")["task_instances"]:
        if task["state"] != "success":
            continue
        log = f"{path}/{task['task_id']}/logs/{task['try_number']}?map_index={task['map_index']}&full_content=true"
        ends = [event for event in running.api.call("GET", log)["content"] if event.get("event") == "::endgroup::"]
        told = [datetime.fromisoformat(event["timestamp"]) for event in ends if event.get("timestamp")]
        after = [moment for moment in told if moment >= answered]
        if after:
            ran.append((after[0], datetime.fromisoformat(task["end_date"])))
    return (ended - answered).total_seconds() - _covered(ran)


def _covered(spans: Sequence[tuple[datetime, datetime]]) -> float:
    """Seconds in which at least one of them lasts."""
    total, reached = 0.0, None
    for begin, end in sorted(spans):
        start = begin if reached is None else max(begin, reached)
        total += max(0.0, (end - start).total_seconds())
        reached = end if reached is None else max(end, reached)
    return total


class Naive:
    """
    What people do by hand.

    :param folder: for what is saved before the loss, and what comes back
    """

    def __init__(self, folder: Path, site: Site) -> None:
        layout = site.layout
        self._folder, self._site, self._exporter = folder, site, Exporter(folder / "exporter")
        self._source = folder / "source.db"
        shutil.copytree(layout.remote, folder / "remote")
        self._run(["git", "clone", "--quiet", "--mirror", str(layout.repository), str(folder / "mirror")])
        self._exporter.export(layout.store_url, layout.artifacts, folder / "exported")
        shutil.copy(layout.registry / "mlflow.db", self._source)

    def restore(self, questions: Any) -> list[Step]:
        """Each step, its seconds, and what came of it."""
        place = self._folder / "back"
        place.mkdir()
        try:
            return [self._data(place), self._registry(place), self._environment(place), self._ask(place, questions)]
        finally:
            shutil.rmtree(place)

    def _data(self, place: Path) -> Step:
        started = time.perf_counter()
        repository, dvc = place / "flights", [sys.executable, "-m", "dvc", "--cd", str(place / "flights")]
        self._run(["git", "clone", "--quiet", str(self._folder / "mirror"), str(repository)])
        self._run([*dvc, "remote", "modify", "--local", "store", "url", str(self._folder / "remote")])
        self._run([*dvc, "pull", "--quiet"])
        return "git clone, dvc pull", time.perf_counter() - started, "came back"

    def _registry(self, place: Path) -> Step:
        came = self._exporter.restore(self._folder / "exported", place / "mlflow.db", place / "artifacts", self._source)
        return "import-all of mlflow-export-import", came.cost.wall, str(came)

    def _environment(self, place: Path) -> Step:
        started = time.perf_counter()
        environment = place / "environment"
        self._run([sys.executable, "-m", "venv", str(environment)])
        pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", "--require-hashes"]
        self._run([*pip, "--requirement", str(LOCK)])
        return "venv, pip install", time.perf_counter() - started, "came back"

    def _ask(self, place: Path, questions: Any) -> Step:
        """Of the models that the import brought."""
        with self._exporter.serving(f"sqlite:///{place / 'mlflow.db'}", place / "artifacts") as uri:
            started = time.perf_counter()
            try:
                ask(place / "environment" / "bin" / "python", uri, MODELS, questions["rows"])
                said = "the models answer"
            except MusterError as error:
                said = f"no model answers: {error.message.splitlines()[-1][:160]}"
            return "predict", time.perf_counter() - started, said

    def _run(self, command: Sequence[str]) -> None:
        done = subprocess.run(command, env=git_environment(), capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def _print(rounds: Sequence[tuple[Restored, list[Step]]]) -> None:
    restored, naive = [ours for ours, _ in rounds], [theirs for _, theirs in rounds]
    print(f"\nMedians of {len(rounds)} rounds (fastest–slowest), seconds.\n\n| | s | |\n|---|---:|---|")
    print(
        _row(
            "**Muster: from the approval to the end of the run**", [r.total for r in restored], "everything, as it was"
        )
    )
    print(_row("of it Airflow's own", [r.airflow for r in restored], "noticing that tasks ended, starting others"))
    print(_row("of it around the pieces", [r.around for r in restored], "imports, opening the vault, the report"))
    for name in restored[0].pieces:
        print(_row(f"of it {name}", [r.pieces[name] for r in restored], "side by side"))
    print(_row("**by hand, one after the other**", [sum(s for _, s, _ in steps) for steps in naive], naive[0][-1][2]))
    for number, (name, _, said) in enumerate(naive[0]):
        print(_row(f"of it {name}", [steps[number][1] for steps in naive], said))


def _row(name: str, seconds: Sequence[float], said: str) -> str:
    return f"| {name} | {statistics.median(seconds):.1f} ({min(seconds):.1f}–{max(seconds):.1f}) | {said} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, help="folder on the disk to measure")
    options = parser.parse_args()
    story, rounds = Story(), []
    with tempfile.TemporaryDirectory(prefix="muster-recovery-", dir=options.work) as name, ProcessTree() as tree:
        folder = Path(name)
        (folder / "naive").mkdir()
        running = assemble(story, tree, Site(claim(folder / "demo")))
        questions, before = scenes.witness_before(story, running)
        scenes.protect(story, running)
        scenes.rehearse(story, running)
        naive = Naive(folder / "naive", running.site)
        for _ in range(options.rounds):
            ours = restore(story, running, questions)
            if any(c.differences for c in scenes.witness_after(story, running, questions, before)):
                sys.exit("what was restored is not what was lost")
            rounds.append((ours, naive.restore(questions)))
    _print(rounds)


if __name__ == "__main__":
    main()
