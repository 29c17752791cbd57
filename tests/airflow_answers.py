"""Somebody who answers what a restore asks, as Airflow's API server does, in the metadata database of the tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

POLL_S = 0.3
SETTLED = timedelta(seconds=2)
TIMEOUT = "timeout"
"""In the place of an answer: what the scheduler does when the time is over."""


@contextmanager
def answering(
    dag_id: str, answers: Sequence[tuple[str, str]], meanwhile: Callable[[], object] = lambda: None
) -> Iterator[list[str]]:
    """
    Give the answers (person, option) one after the other, each as soon as a task of the DAG asks.

    :param meanwhile: what happens between the question and its first answer
    :return: a list of what was asked, filled while the context lasts
    """
    asked: list[str] = []
    ended = threading.Event()
    errors: list[BaseException] = []

    def watch() -> None:
        left = list(answers)
        try:
            while left and not ended.wait(POLL_S):
                if text := _answer(dag_id, *left[0], meanwhile if len(left) == len(answers) else lambda: None):
                    asked.append(text)
                    left.pop(0)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield asked
    finally:
        ended.set()
        thread.join()
    if errors:
        raise errors[0]


def _answer(dag_id: str, person: str, option: str, meanwhile: Callable[[], object]) -> str | None:
    """What a waiting task asks, if there is one; it is answered, and goes on."""
    from airflow.models.hitl import HITLDetail, HITLUser
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import handle_event_submit
    from airflow.triggers.base import TriggerEvent
    from airflow.utils.session import create_session
    from airflow.utils.state import TaskInstanceState
    from sqlalchemy import select

    with create_session() as session:
        waiting = select(TaskInstance).where(
            TaskInstance.dag_id == dag_id, TaskInstance.state == TaskInstanceState.AWAITING_INPUT
        )
        task = session.scalars(waiting).first()
        detail = task and session.scalar(select(HITLDetail).where(HITLDetail.ti_id == task.id))
        if task is None or detail is None or detail.responded_at is not None:
            return None
        if datetime.now(UTC) - task.updated_at < SETTLED:  # `DAG.test` sets the state once more after the task has
            return None
        meanwhile()
        event = {"error": "the time is over", "error_type": "timeout"}
        if option != TIMEOUT:
            detail.responded_by = HITLUser(id=person, name=person)
            detail.responded_at = datetime.now(UTC)
            detail.chosen_options = [option]
            event = detail.as_resume_event_payload()
        handle_event_submit(TriggerEvent(event), task_instance=task, session=session)
        return f"{detail.subject}\n{detail.body}"
