"""Take a recovery point from beginning to end, as the command line does and as the snapshot DAG does in tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from muster.domain.anomaly import Limits
from muster.domain.recovery_point import PointStatus
from muster.errors import PermanentError, SourceChanged
from muster.operations.at_rest import require_at_rest
from muster.operations.seal import seal_point
from muster.operations.smoke import Question, golden_predictions
from muster.operations.snapshot import Handover, Pin, capture, pin_point
from muster.operations.together import side_by_side
from muster.operations.tools import Tools
from muster.operations.validate import validate_captured
from muster.ports import ComponentSource, Progress
from muster.vault.vault import Vault

CUT_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class SnapshotJob:
    """
    What the catalog wants in a point of one workload.

    :param suites: dataset name to its expectations
    :param store: database URL and artifact root of the living registry, where models are to be asked
    :param lock: for how long the store is to refuse to remove a point; None asks for no lock
    :param limits: from which changes on a point is suspect; None does not look
    """

    workload: str
    sources: tuple[ComponentSource, ...]
    suites: Mapping[str, Mapping[str, Any]]
    questions: tuple[Question, ...]
    store: tuple[str, str] | None = field(repr=False)
    objectives: Mapping[str, float]
    catalog: Mapping[str, Any]
    lock: timedelta | None = None
    limits: Limits | None = None

    @property
    def captured(self) -> list[str]:
        """Labels of the components that are read from living systems."""
        return [f"{source.kind}/{source.name}" for source in self.sources]

    @property
    def expected(self) -> list[str]:
        """Labels of all components without which the point is not complete."""
        golden = [f"golden/{self.workload}"] if self.questions else []
        return self.captured + [f"validation/{name}" for name in sorted(self.suites)] + golden

    def source(self, label: str) -> ComponentSource:
        """The source of a label that is in `captured`."""
        return next(source for source in self.sources if f"{source.kind}/{source.name}" == label)


def take_snapshot(vault: Vault, job: SnapshotJob, tools: Tools, progress: Progress | None = None) -> PointStatus:
    """
    Capture all components side by side, check them, and seal them.

    :raises MusterError: the first component's failure, after all have ended; nothing was sealed then
    :raises SourceChanged: also if something is being restored there
    :raises ValidationFailed: if the point was sealed, but as suspect
    """
    require_at_rest(vault, job.workload, tools.clock.now())
    pin = pin_point(vault, job.workload, tools.clock)
    try:
        handovers = _handovers(vault, job, pin, tools, progress)
    except PermanentError as error:
        vault.record("snapshot", f"{job.workload}/{pin.point}", "failed", {"reason": error.message})
        raise
    return seal_point(
        vault,
        pin,
        handovers,
        expected=job.expected,
        objectives=job.objectives,
        catalog=job.catalog,
        clock=tools.clock,
        lock=job.lock,
        limits=job.limits,
    )


def _handovers(vault: Vault, job: SnapshotJob, pin: Pin, tools: Tools, progress: Progress | None) -> list[Handover]:
    """Everything that belongs into the point: captured, then checked."""
    captured = _all(*side_by_side(lambda source: _capture(vault, pin, source, progress), job.sources))
    of = {handover.component: handover for handover in captured}
    checks = _all(
        *side_by_side(
            lambda name: validate_captured(vault, of[f"dataset/{name}"], job.suites[name], tools),
            sorted(job.suites),
        )
    )
    if job.questions and job.store:
        environment = next(handover for handover in captured if handover.component.startswith("environment/"))
        checks.append(golden_predictions(vault, pin, environment, job.questions, job.store, tools))
    return [*captured, *checks]


def _capture(vault: Vault, pin: Pin, source: ComponentSource, progress: Progress | None) -> Handover:
    for attempt in range(1, CUT_ATTEMPTS + 1):
        try:
            return capture(vault, pin, source, progress)
        except SourceChanged:
            if attempt == CUT_ATTEMPTS:
                raise
    raise AssertionError


def _all(results: list[Handover], failures: Sequence[BaseException]) -> list[Handover]:
    if failures:
        raise failures[0]
    return results
