"""Run DAGs in this process, as ``airflow dags test`` does, and look at what came of them; or in an Airflow of their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from airflow_answers import answering
from muster.demo.airflow_api import AirflowApi
from muster.demo.airflow_platform import Airflow, Settings, prepare_airflow, start_airflow, wait_until_healthy
from muster.demo.processes import ProcessTree
from muster.domain.recovery_point import PointStatus

APPROVED = (("lead", "Approve"),)
"""Somebody else than who triggered the run agrees."""


@dataclass(frozen=True)
class Run:
    """
    A finished run.

    :param states: state of every task instance, ``validate`` or, mapped, ``validate[0]``
    :param asked: what people were asked, subject and body
    """

    dag_id: str
    run_id: str
    state: str
    states: dict[str, str]
    asked: tuple[str, ...] = ()

    def xcom(self, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """What a task handed on; None if nothing."""
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session

        with create_session() as session:
            query = session.query(XComModel).filter_by(
                dag_id=self.dag_id, run_id=self.run_id, task_id=task_id, key=key, map_index=map_index
            )
            found = query.one_or_none()
            return None if found is None else _plain(found.value)


class Runs:
    """The DAGs of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def bag(self) -> Any:
        """The folder, read as Airflow reads it."""
        return self.read()

    def read(self) -> Any:
        """The folder, read anew."""
        from airflow.dag_processing.dagbag import DagBag

        return DagBag(str(self.folder))

    def run(
        self,
        dag_id: str,
        conf: dict[str, Any] | None = None,
        *,
        when: datetime | None = None,
        answers: Sequence[tuple[str, str]] = (),
        meanwhile: Callable[[], object] = lambda: None,
    ) -> Run:
        """
        Run a DAG to its end.

        Each run gets DAGs that were read for it: in this process, tasks keep the values that a run rendered into them.

        :param when: the same time again clears the whole run and repeats it
        :param answers: who says what (`APPROVED`, ``("ben", "Reject")``) when a restore asks, one after the other
        :param meanwhile: what happens between the first question and its answer
        """
        times: dict[str, Any] = {} if when is None else {"logical_date": when, "run_after": when}
        with answering(dag_id, answers, meanwhile) as asked:
            dag = self.read().dags[dag_id]
            dag.deadline = None  # `DAG.test` of Airflow 3.3.2 looks for alerts by ids that only a scheduler gives them
            done = dag.test(run_conf=conf, **times)
        states = {
            f"{ti.task_id}[{ti.map_index}]" if ti.map_index >= 0 else ti.task_id: str(ti.state)
            for ti in done.get_task_instances()
        }
        return Run(dag_id, done.run_id, str(done.state), states, tuple(asked))


@contextmanager
def real_airflow(settings: Settings, dags: Iterable[str]) -> Iterator[tuple[Airflow, AirflowApi]]:
    """A real Airflow that has read these DAGs, and its API; whatever happens, no process of it is left."""
    with ProcessTree() as tree:
        airflow = start_airflow(tree, prepare_airflow(tree, settings))
        api = wait_until_healthy(airflow)
        for dag in dags:
            api.wait_for_dag(dag)
        yield airflow, api


@contextmanager
def under_way(dag_id: str) -> Iterator[None]:
    """A run of a DAG that has begun, and waits."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunType

    now = datetime.now(UTC)
    with create_session() as session:
        run = DagRun(
            dag_id=dag_id, run_id="waiting", run_type=DagRunType.MANUAL, run_after=now, state=DagRunState.RUNNING
        )
        session.add(run)
    try:
        yield
    finally:
        with create_session() as session:
            session.query(DagRun).filter_by(dag_id=dag_id, run_id="waiting").delete()


def marks(status: PointStatus) -> list[str]:
    """What was learned of a point, oldest first."""
    return [mark.kind for mark in status.marks]


def _plain(value: Any) -> Any:
    """Airflow's database gives some values as JSON text, and plain strings as they are."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value
