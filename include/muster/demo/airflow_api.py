"""Airflow's REST API, as far as the demonstration speaks it."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from muster.errors import MusterError, NotFound, StoreUnavailable

Json = Any
ANSWER_S = 30.0
POLL_S = 0.4
BUSY = '"reason":"Database error"'
"""
What Airflow says with a 500 when a statement failed; it has undone the whole request then. With SQLite that happens: its API server
waits for the file's lock in the one thread that must end the request that holds it, until SQLite gives up, after 5 s (Airflow 3.3.2).
"""
BUSY_S = 60.0
WAITING = "awaiting_input"
SETTLE_S = 4.0
"""How long a question must stand before it is answered: Airflow 3.3 takes a task for lost that goes on as soon as it waits."""
FINISHED = frozenset({"success", "failed"})
ENDED = frozenset({"success", "failed", "upstream_failed", "skipped", "removed"})


@dataclass(frozen=True, slots=True)
class TaskRun:
    """
    What a task of a run did.

    :param map_index: -1 unless the task is mapped
    :param label: what a mapped task calls its piece of work
    :param seconds: how long it ran; None if it did not
    """

    task_id: str
    map_index: int
    label: str | None
    state: str
    seconds: float | None
    tries: int

    @property
    def name(self) -> str:
        """The task's id; a mapped one with what it was mapped over."""
        if self.map_index < 0:
            return self.task_id
        return f"{self.task_id} [{self.label or self.map_index}]"


class AirflowApi:
    """A session with an Airflow server: https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._url = url
        self._token = ""
        self._token = str(self.call("POST", "/auth/token", {"username": user, "password": password})["access_token"])

    def call(self, method: str, path: str, body: Json = None) -> Json:
        """
        One request, and its answer as JSON; it is repeated for a minute while Airflow's database is busy.

        :raises NotFound: if the server says 404
        :raises StoreUnavailable: if it does not answer
        :raises MusterError: if it refuses; the message carries its reason
        """
        busy_until = time.monotonic() + BUSY_S
        while True:
            try:
                return self._once(method, path, body)
            except urllib.error.HTTPError as error:
                reason = error.read().decode(errors="replace")[:500]
                if error.code == 500 and BUSY in reason and time.monotonic() < busy_until:
                    time.sleep(POLL_S)
                    continue
                kind = NotFound if error.code == 404 else MusterError
                said = f"Airflow answered {method} {path} with {error.code}: {reason}"
                raise kind(said, "see api-server.log") from error
            except OSError as error:
                said = f"Airflow at {self._url} does not answer: {error}"
                raise StoreUnavailable(said, "see api-server.log") from error

    def _once(self, method: str, path: str, body: Json) -> Json:
        request = urllib.request.Request(f"{self._url}{path}", method=method)
        request.add_header("Accept", "application/json")
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        if body is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps(body).encode()
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
            return json.loads(answer.read() or b"null")

    def unhealthy(self) -> list[str]:
        """Names of the components that have no heartbeat yet."""
        health = self.call("GET", "/api/v2/monitor/health")
        wanted = ("metadatabase", "scheduler", "dag_processor", "triggerer")
        return [name for name in wanted if (health.get(name) or {}).get("status") != "healthy"]

    def wait_for_dag(self, dag: str, timeout: float = 120.0) -> None:
        """
        Wait until the DAG processor has read a DAG, and switch it on.

        :raises NotFound: if it does not appear; the message carries the import errors
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.call("PATCH", f"/api/v2/dags/{dag}", {"is_paused": False})
            except NotFound as error:
                if time.monotonic() > deadline:
                    broken = self.call("GET", "/api/v2/importErrors")["import_errors"]
                    told = "; ".join(e["stack_trace"][-500:] for e in broken) or "no import error was reported"
                    raise NotFound(f"Airflow has no DAG {dag} after {timeout:.0f} s: {told}", error.hint) from error
                time.sleep(POLL_S)
            else:
                return

    def trigger(self, dag: str, conf: dict[str, Json]) -> str:
        """Start a run; return its id."""
        return str(self.call("POST", f"/api/v2/dags/{dag}/dagRuns", {"logical_date": None, "conf": conf})["dag_run_id"])

    def tasks(self, dag: str, run: str) -> list[TaskRun]:
        """The task instances of a run, in the order in which they started; mapped ones carry their index."""
        found = self.call("GET", f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances?limit=200")["task_instances"]
        found.sort(key=lambda task: (task["start_date"] or "9999", task["task_id"], task["map_index"]))
        return [_task(each) for each in found]

    def wait_for_run(self, dag: str, run: str, watch: Callable[[TaskRun], None], timeout: float) -> list[TaskRun]:
        """
        Wait for a run, telling `watch` of every task that ends.

        :raises MusterError: if the run fails; the message names the failed tasks
        :raises StoreUnavailable: if it takes longer than `timeout` seconds
        """
        deadline = time.monotonic() + timeout
        told: set[str] = set()
        while True:
            state = self.call("GET", f"/api/v2/dags/{dag}/dagRuns/{run}")["state"]
            tasks = self.tasks(dag, run)
            for task in tasks:
                if task.state in ENDED and task.name not in told:
                    told.add(task.name)
                    watch(task)
            if state in FINISHED:
                break
            if time.monotonic() > deadline:
                raise StoreUnavailable(f"{dag} has not ended after {timeout:.0f} s", f"look at {self._url}/dags/{dag}")
            time.sleep(POLL_S)
        if state == "failed":
            failed = [task for task in tasks if task.state == "failed"]
            reasons = "".join(f"\n    {task.name}: {self.reason(dag, run, task)}" for task in failed)
            raise MusterError(f"the run {run} of {dag} failed{reasons}", "the logs of all tasks are below airflow/logs")
        return tasks

    def question(self, dag: str, run: str, timeout: float) -> Json:
        """
        Wait until a task of a run asks a person; return what it asks, with ``subject`` and ``body``.

        :raises MusterError: if the run ends before
        :raises StoreUnavailable: if it takes longer than `timeout` seconds
        """
        deadline, seen = time.monotonic() + timeout, None
        while time.monotonic() < deadline:
            path = f"/api/v2/dags/{dag}/dagRuns/{run}/hitlDetails?response_received=false"
            waiting = [
                found for found in self.call("GET", path)["hitl_details"] if found["task_instance"]["state"] == WAITING
            ]
            if waiting and seen is not None and time.monotonic() - seen > SETTLE_S:
                return waiting[0]
            seen = (seen or time.monotonic()) if waiting else None
            if self.call("GET", f"/api/v2/dags/{dag}/dagRuns/{run}")["state"] in FINISHED:
                failed = [task for task in self.tasks(dag, run) if task.state == "failed"]
                reasons = "".join(f"\n    {task.name}: {self.reason(dag, run, task)}" for task in failed)
                raise MusterError(
                    f"the run {run} of {dag} ended before it asked{reasons}", "the logs of all tasks tell more"
                )
            time.sleep(POLL_S)
        raise StoreUnavailable(f"{dag} has asked nobody after {timeout:.0f} s", f"look at {self._url}/dags/{dag}")

    def decide(self, dag: str, run: str, option: str, timeout: float) -> Json:
        """
        Answer what a run asks until the task that asks has ended; return the question.

        Airflow 3.3 may lose an answer that comes while the scheduler has not yet noticed that the task waits, and ask again.

        :raises MusterError: if the run ends before it asks
        :raises StoreUnavailable: if it takes longer than `timeout` seconds
        """
        deadline = time.monotonic() + timeout
        question = self.question(dag, run, timeout)
        asking = question["task_instance"]["task_id"]
        self.answer(dag, run, asking, option)
        while True:
            (state,) = (task.state for task in self.tasks(dag, run) if task.task_id == asking)
            if state in ENDED:
                return question
            if time.monotonic() > deadline:
                raise StoreUnavailable(f"the answer to {dag} has come to nothing", f"look at {self._url}/dags/{dag}")
            if state == WAITING:
                return self.decide(dag, run, option, deadline - time.monotonic())
            time.sleep(POLL_S)

    def answer(self, dag: str, run: str, task: str, option: str) -> None:
        """Answer what a task asks: ``Approve`` or ``Reject``."""
        path = f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/-1/hitlDetails"
        self.call("PATCH", path, {"chosen_options": [option], "params_input": {}})

    def reason(self, dag: str, run: str, task: TaskRun) -> str:
        """Why a task failed: the last exception in its log."""
        path = f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task.task_id}/logs/{task.tries}"
        events = self.call("GET", f"{path}?map_index={task.map_index}&full_content=true")["content"]
        details = [event["error_detail"] for event in events if isinstance(event, dict) and event.get("error_detail")]
        return f"{details[-1][0]['exc_type']}: {details[-1][0]['exc_value']}" if details else "its log says no reason"


def _task(found: Json) -> TaskRun:
    label, tries = found.get("rendered_map_index"), int(found["try_number"])
    return TaskRun(found["task_id"], found["map_index"], label, str(found["state"]), found["duration"], tries)
