"""What all our operators share."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowTaskTimeout

from muster.errors import MusterError, PermanentError, UsageError
from muster_airflow.hooks.recovery import RecoveryHook

if TYPE_CHECKING:
    from muster.bootstrap import Platform
    from muster.catalog import Workload
    from muster.vault.vault import Vault

FAILURE = "failure"
"""XCom key under which a task that failed says why, in a sentence, to those that come after it."""
RETURN_VALUE = "return_value"


@dataclass(frozen=True, slots=True)
class Site:
    """What a step works with: the wired platform, Airflow's context, and the workload that it is for."""

    platform: Platform
    context: Context
    name: str

    @property
    def workload(self) -> Workload:
        """As the catalog has it now."""
        return self.platform.catalog.workload(self.name)

    @property
    def vault(self) -> Vault:
        """The vault that keeps the workload's points."""
        return self.platform.vault_of(self.workload)


class RecoveryOperator(BaseOperator):
    """
    A step of a recovery plane's run.

    Subclasses translate: they build what one operation needs, call it, and return its value as plain JSON.
    """

    workload = ""

    def execute(self, context: Context) -> Any:
        """Perform the step. A deliberate failure is told to the tasks that come after, before it is raised."""
        try:
            if not self.upstream_task_ids:
                refuse_unknown(context)
            return self.perform(Site(RecoveryHook(context).platform, context, self.workload))
        except MusterError as error:
            context["ti"].xcom_push(key=FAILURE, value=error.message)
            raise

    def perform(self, at: Site) -> Any:
        """The step itself; returns plain JSON."""
        raise NotImplementedError

    def on_kill(self) -> None:
        """
        Interrupt the step where it is, so that servers, sandboxes and temporary folders are given up on the way out.

        Airflow calls this from its handler of SIGTERM, in the main thread, and leaves the step running if it returns: SIGKILL
        follows 5 s later (`airflow.sdk.execution_time.task_runner`, `supervisor.WatchedSubprocess.kill`). It calls this after a
        timeout as well, when the step is over.

        :raises KeyboardInterrupt: if the step is still running
        """
        if isinstance(sys.exception(), AirflowTaskTimeout):
            return
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _already_ending)
        raise KeyboardInterrupt


def _already_ending(number: int, frame: object) -> None:
    """A second SIGTERM must not cut short what the first one set off."""


def refuse_unknown(context: Context) -> None:
    """
    See that a run was given nothing that its DAG does not know: Airflow takes any, and a mistyped ``replace`` would not be heeded.

    :raises UsageError: naming what it does not know
    """
    known = sorted(context["dag"].params)
    if unknown := sorted((context["dag_run"].conf or {}).keys() - set(known)):
        raise UsageError(
            f"this run was given {', '.join(unknown)}, which {context['dag'].dag_id} does not know",
            f"it knows: {', '.join(known) or 'nothing'}; trigger it again",
        )


class WorkloadOperator(RecoveryOperator):
    """
    A step for one workload.

    :param workload: its name in the catalog (templated)
    """

    template_fields: Sequence[str] = ("workload",)

    def __init__(self, *, workload: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.workload = workload


def handed_on(at: Site, tasks: Iterable[str], key: str = RETURN_VALUE) -> list[Any]:
    """What tasks of this run have left under a key, mapped or not, in their order, without the gaps that failed tasks leave."""
    return _flat(at.context["ti"].xcom_pull(task_ids=list(tasks), key=key) or ())


def _flat(values: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value is not None:
            found += [value] if isinstance(value, Mapping | str) else _flat(value)
    return found


def hand_on(at: Site, value: Any, failure: PermanentError | None) -> Any:
    """
    Return a step's value; if a check in it failed, hand the value to the next tasks all the same, and raise.

    Airflow stores the value of a task only when it succeeds. Here the finding is the value, and the task must be red.
    """
    if failure is None:
        return value
    at.context["ti"].xcom_push(key=RETURN_VALUE, value=value)
    raise failure
