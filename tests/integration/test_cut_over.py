"""The last step of a restore: what it looks at once more, what it runs, what it waits for, and what it tells."""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from muster.adapters.switching import ProcessSwitching, switch_of
from muster.bootstrap import Platform
from muster.catalog import CutOver
from muster.domain.restore_plan import RestorePlan
from muster.domain.restore_request import RestoreRequest
from muster.domain.restore_target import Switch
from muster.domain.timing import Span
from muster.errors import CutOverFailed, Refused, UsageError
from muster.operations.conclude import Incident, Outcomes
from muster.operations.cut_over import cut_over
from muster.operations.restore_job import RestoreJob
from protected_project import RESTORE, UNPROVEN, Project, sealed_project
from registry_platform import platform_of
from registry_seed import SmallStore

SWITCH = ProcessSwitching()


class Health(BaseHTTPRequestHandler):
    """Is not ready for the first two questions."""

    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(200 if self.path == "/health" and self.asked > 2 else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    """A server that becomes ready."""
    Health.asked = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Health) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a vault, and one point in it."""
    return sealed_project(tmp_path_factory.mktemp("project"))


def python(script: str) -> list[str]:
    return [sys.executable, "-I", "-c", script]


def with_target(project: Project, name: str, **cut_over: object) -> str:
    """Add a target to the catalog; JSON is YAML."""
    file = project.root / "include/catalog/workloads/small.yaml"
    entry = {"directory": f"places/{name}", "cut_over": cut_over}
    file.write_text(f"{file.read_text()}  {name}: {json.dumps(entry)}\n")
    return name


def test_a_command_is_run_bare_and_what_it_says_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of our environment it gets nothing; what it says is told without secrets and without passwords in addresses."""
    monkeypatch.setenv("MUSTER_PASSPHRASE", "correct horse")
    script = (
        "import os; print(sorted(os.environ), os.environ['MUSTER_POINT'], 'hunter2', 'pg://me:pw@db/x', os.listdir())"
    )
    said = SWITCH.run(python(script), {"MUSTER_POINT": "p1"}, 30, ["hunter2", "x"])
    assert "['HOME', 'LANG'," in said
    assert "'PATH', 'TMPDIR'] p1 … pg://…@db/x ['output']" in said
    assert "PASSPHRASE" not in said


@pytest.mark.parametrize(
    ("command", "within", "told"),
    [
        (python("print('no'); raise SystemExit(3)"), 30, "ended with exit code 3"),
        (python("import time; print('no', flush=True); time.sleep(60)"), 2, "did not end within 2 s, and was stopped"),
        (python("import os; print('no', flush=True); os.kill(os.getpid(), 9)"), 30, "was ended by SIGKILL"),
    ],
)
def test_a_command_that_does_not_end_well_fails_with_what_it_said(command: list[str], within: float, told: str) -> None:
    """Whichever way it ends."""
    with pytest.raises(CutOverFailed, match=told) as caught:
        SWITCH.run(command, {}, within, ())
    assert caught.value.output == "no"


def test_a_command_that_is_not_there_is_named() -> None:
    """It is no shell that looks for it."""
    with pytest.raises(CutOverFailed, match="/no/such/program does not start"):
        SWITCH.run(["/no/such/program"], {}, 5, ())


def test_nothing_of_a_command_is_left(tmp_path: Path) -> None:
    """What it started in the background ends with it."""
    script = (
        f"import subprocess; open({str(tmp_path / 'pid')!r}, 'w').write(str(subprocess.Popen(['sleep', '300']).pid))"
    )
    SWITCH.run(python(script), {}, 30, ())
    left = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while psutil.pid_exists(left) and psutil.Process(left).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_it_waits_until_the_place_answers(web: str) -> None:
    """The third answer is the first that counts."""
    assert SWITCH.wait_for(f"{web}/health", 30) > 0.9
    assert Health.asked == 3


@pytest.mark.parametrize(
    ("path", "told"), [("/other", "answered with 503"), (None, r"did not answer \(ConnectionError\)")]
)
def test_a_place_that_does_not_answer_in_time_fails(web: str, path: str | None, told: str) -> None:
    """With the last thing that was heard of it."""
    with pytest.raises(CutOverFailed, match=rf"did not answer with 200 within 1 s: at last it {told}"):
        SWITCH.wait_for(f"{web}{path}" if path else "http://127.0.0.1:9/health", 1)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "https://me:hunter2@host/health", "host/health", "http:///health"]
)
def test_an_address_that_cannot_be_asked_is_refused_before_anything_is_done(url: str) -> None:
    """And is not shown: it may come from a connection."""
    with pytest.raises(UsageError) as caught:
        switch_of(CutOver(ready="conn:health"), lambda _: url)
    assert "hunter2" not in str(caught.value)


def test_a_restore_runs_the_command_and_waits_for_the_place(project: Project, web: str) -> None:
    """The plan says so first; the report has it, with its time, and no secret of the workload."""
    script = "import os; print('switched', os.environ['MUSTER_TARGET'], 'hunter2')"
    to = with_target(project, "served", command=python(script), ready=f"{web}/health", within="30s")
    plan = project.ask("plan", "latest", *UNPROVEN, "--to", to)
    assert [step.split()[0] for step in plan["cut_over"]] == ["run", "wait"]
    report = project.ask(*RESTORE, "--to", to)
    told = report["cut_over"]
    assert (told["failure"], told["output"]) == (None, "switched served …")
    assert told["done"][:2] == [
        "configuration/small is still what was proven",
        "dataset/numbers is still what was proven",
    ]
    assert told["done"][2] == f"ran {sys.executable}: it ended well"
    assert told["done"][3].startswith(f"{web}/health answers with 200, after ")
    times = report["summary"]["recovery_time_s"]
    assert times["cut_over"] > 0.9
    assert times["total"] == pytest.approx(sum(value for stage, value in times.items() if stage != "total"))
    assert [event["outcome"] for event in report["events"] if event["what"] == "cut_over"] == [told["done"][-1]]


def test_a_place_that_does_not_serve_fails_the_restore_and_only_that_is_done_anew(
    project: Project, tmp_path: Path
) -> None:
    """Everything else is there, and is left by the next one."""
    switched = tmp_path / "switched"
    script = f"import pathlib, sys; sys.exit(0 if pathlib.Path({str(switched)!r}).exists() else 'not yet')"
    to = with_target(project, "stubborn", command=python(script))
    error = project.refuse(*RESTORE, "--to", to)
    assert (error["kind"], error["exit_code"]) == ("CutOverFailed", 1)
    assert f"{sys.executable} ended with exit code 1" in error["message"]
    mark = [m for m in project.ask("show", "latest")["marks"] if m["kind"] == "restored"][-1]
    assert mark["summary"]["cut_over"].startswith("failed: ")
    assert not mark["summary"]["passed"]
    switched.touch()
    report = project.ask(*RESTORE, "--to", to)
    assert report["summary"]["passed"]
    assert {event["outcome"] for event in report["events"] if event["what"] == "dataset/numbers"} == {"restored"}


def test_a_plan_is_another_one_if_it_is_put_to_use_in_another_way(project: Project) -> None:
    """Who has approved the one has not approved the other."""
    to = with_target(project, "approved", command=["/bin/true"])
    digest = project.ask("plan", "latest", *UNPROVEN, "--to", to)["digest"]
    file = project.root / "include/catalog/workloads/small.yaml"
    file.write_text(file.read_text().replace('"/bin/true"', '"/bin/false"'))
    error = project.refuse(*RESTORE, "--to", to, "--plan", digest)
    assert error["kind"] == "Refused"
    assert not (project.root / "places/approved").exists()


@pytest.fixture
def proven(small_store: SmallStore, tmp_path: Path) -> tuple[Platform, RestoreJob, RestorePlan, Outcomes]:
    """A registry that came back to a place of its own, and all that is known of it before it is cut over."""
    platform = platform_of(tmp_path, small_store.url, small_store.artifacts)
    workload, now = platform.catalog.workload("models"), platform.clock.now()
    status, vault = platform.snapshot(workload), platform.vault("primary")
    target, request = platform.target(workload, status, "bench"), RestoreRequest("restore", now, override="just sealed")
    plan = platform.plan(vault, status, target, request)
    report = platform.restore(vault, status, target, Incident("restore", now, now), request)
    outcomes = Outcomes(Span("decide", "plan", now, now), components=report.components)
    return platform, platform.restore_job(status, target, request), plan, outcomes


def test_what_was_changed_since_it_was_proven_is_not_cut_over(
    proven: tuple[Platform, RestoreJob, RestorePlan, Outcomes], tmp_path: Path
) -> None:
    """One row that somebody wrote; a claim of a restore that has not ended. As it was, it passes."""
    platform, job, plan, outcomes = proven
    vault = platform.vault("primary")
    good = cut_over(vault, job, plan, outcomes, platform.tools)
    assert (good.failure, good.done[0]) == (None, "registry/models is still what was proven")
    claim = tmp_path / "bench" / ".mlflow.db.restoring-0123abcd"
    claim.touch()
    assert str(claim) in str(cut_over(vault, job, plan, outcomes, platform.tools).failure)
    claim.unlink()
    with closing(sqlite3.connect(tmp_path / "bench" / "mlflow.db")) as store, store:
        store.execute("INSERT INTO experiment_tags (key, value, experiment_id) VALUES ('k', 'v', 0)")
    changed = cut_over(vault, job, plan, outcomes, platform.tools)
    assert "registry/models was changed at " in str(changed.failure)
    assert changed.done == ()


def test_what_is_not_proven_is_not_cut_over(proven: tuple[Platform, RestoreJob, RestorePlan, Outcomes]) -> None:
    """Whoever calls it: a component that did not come back is enough."""
    platform, job, plan, outcomes = proven
    with pytest.raises(Refused, match="it is not cut over: registry/models was not restored"):
        cut_over(platform.vault("primary"), job, plan, replace(outcomes, components=()), platform.tools)


def test_a_place_that_is_put_to_use_otherwise_than_planned_is_not(
    proven: tuple[Platform, RestoreJob, RestorePlan, Outcomes],
) -> None:
    """The catalog was changed between the plan and this step: what nobody has approved is not run."""
    platform, job, plan, outcomes = proven
    other = replace(job, target=replace(job.target, switch=Switch(("/bin/touch", "/tmp/never"))))
    failure = cut_over(platform.vault("primary"), other, plan, outcomes, platform.tools).failure
    assert "puts the place to use in another way now than the plan says" in str(failure)


def test_a_drill_cuts_nothing_over(project: Project) -> None:
    """It says so."""
    report = project.ask("drill", "small")
    assert report["cut_over"] == {"done": ["not cut over: a drill"], "failure": None, "output": "", "span": None}
    assert report["summary"]["recovery_time_s"]["cut_over"] == 0


def test_without_anything_to_switch_the_place_is_still_looked_at(project: Project, tmp_path: Path) -> None:
    """A folder is in place when it is proven."""
    report = project.ask(*RESTORE, "--to", f"{tmp_path}/back")
    assert report["cut_over"]["done"][-1] == "nothing to switch: the target is in place"
    assert report["summary"]["passed"]
