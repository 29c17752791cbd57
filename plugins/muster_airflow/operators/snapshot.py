"""The steps of a snapshot: pin, capture, validate, ask, seal. Nothing is a recovery point before the last one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from muster.codec import from_json, to_json
from muster.errors import NotFound, ValidationFailed
from muster_airflow.operators.recovery import Site, WorkloadOperator, hand_on, handed_on

if TYPE_CHECKING:
    from muster.domain.recovery_point import RecoveryPoint
    from muster.operations.snapshot import Handover, Pin


class PinPointOperator(WorkloadOperator):
    """
    Name the point that the run is going to make, before anything is read. Returns the `Pin`.

    A run that is cleared after it sealed a good point is pinned to that point again.
    """

    def perform(self, at: Site) -> Any:
        from muster.operations.resume import pin_for_run

        run = at.context["dag_run"]
        identity = f"{run.dag_id}/{run.run_id}/{run.run_after.isoformat()}"
        pin = pin_for_run(at.vault, at.name, identity, at.platform.clock)
        self.log.info("Point %s of %s is pinned; the good point before it is %s", pin.point, pin.workload, pin.previous)
        return to_json(pin)


class PinnedOperator(WorkloadOperator):
    """
    A step towards the pinned point.

    :param pin: what `PinPointOperator` returned (templated)
    """

    template_fields: Sequence[str] = ("workload", "pin")

    def __init__(self, *, pin: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pin = pin

    def pinned(self) -> Pin:
        """The pin as a value."""
        from muster.operations.snapshot import Pin

        if self.pin is None:
            raise NotFound("this run has pinned no point, so there is nothing to seal", "look at the task pin")
        return from_json(Pin, self.pin)


class CaptureComponentOperator(PinnedOperator):
    """
    Store one component of a workload in its vault. Returns a `Handover`: what was stored lies in the vault.

    :param component: label of the component, ``dataset/flights`` (templated)
    """

    template_fields: Sequence[str] = ("workload", "pin", "component")

    def __init__(self, *, component: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.component = component

    def perform(self, at: Site) -> Any:
        from muster.operations.resume import sealed_before
        from muster.operations.snapshot import capture

        job, pin = at.platform.snapshot_job(at.workload), self.pinned()
        if self.component not in job.captured:
            raise NotFound(
                f"the workload {at.name} has no component {self.component} any more",
                f"it has {', '.join(job.captured)}; let the DAG file be read again and trigger a new run",
            )
        handover = sealed_before(at.vault, pin, self.component) or capture(at.vault, pin, job.source(self.component))
        self.log.info("Captured %s: %d files, %d bytes", handover.component, handover.files, handover.size)
        return to_json(handover)


class ValidateDatasetOperator(PinnedOperator):
    """
    Judge a captured dataset by its expectations. Returns a `Handover`, and hands it on also when the task fails.

    :param dataset: the `Handover` of the captured dataset (templated)
    :raises ValidationFailed: if an expectation is not met
    """

    template_fields: Sequence[str] = ("workload", "pin", "dataset")

    def __init__(self, *, dataset: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dataset = dataset

    def perform(self, at: Site) -> Any:
        from muster.operations.resume import sealed_before
        from muster.operations.snapshot import Handover
        from muster.operations.validate import validate_captured

        captured = from_json(Handover, self.dataset)
        name = captured.component.removeprefix("dataset/")
        suite = at.platform.snapshot_job(at.workload).suites.get(name)
        if suite is None:
            raise AirflowSkipException(f"the catalog has no expectations for the dataset {name}")
        handover = sealed_before(at.vault, self.pinned(), f"validation/{name}")
        handover = handover or validate_captured(at.vault, captured, suite, at.platform.tools)
        self.log.info("Dataset %s: %s", name, handover.failure or "all expectations are met")
        return hand_on(at, to_json(handover), _finding(handover))


class GoldenPredictionsOperator(PinnedOperator):
    """
    Ask every smoke-tested model its own example, in the captured environment. Returns a `Handover`, also when a model is silent.

    :param environment: the `Handover` of the captured environment (templated)
    :raises ValidationFailed: if a model does not answer
    """

    template_fields: Sequence[str] = ("workload", "pin", "environment")

    def __init__(self, *, environment: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.environment = environment

    def perform(self, at: Site) -> Any:
        from muster.operations.resume import sealed_before
        from muster.operations.smoke import golden_predictions
        from muster.operations.snapshot import Handover

        job, pin = at.platform.snapshot_job(at.workload), self.pinned()
        if job.store is None:
            raise AirflowSkipException(f"the workload {at.name} has no registry any more")
        handover = sealed_before(at.vault, pin, f"golden/{at.name}") or golden_predictions(
            at.vault, pin, from_json(Handover, self.environment), job.questions, job.store, at.platform.tools
        )
        self.log.info("Asked %d models: %s", len(job.questions), handover.failure or "all have answered")
        return hand_on(at, to_json(handover), _finding(handover))


class SealPointOperator(PinnedOperator):
    """
    Seal the pinned point: complete, or not at all. Returns the facts that the outlet asset's event carries.

    :param captured_by: ids of the tasks that hand over what belongs to the point; each may be mapped, may have failed
    :raises IncompletePoint: if a component is missing; nothing was sealed
    :raises ValidationFailed: if a check had failed, or it changed as if by ransomware: the point was sealed as suspect
    """

    def __init__(self, *, captured_by: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.captured_by = captured_by

    def perform(self, at: Site) -> Any:
        from muster.operations.seal import seal_point
        from muster.operations.snapshot import Handover

        job, pin = at.platform.snapshot_job(at.workload), self.pinned()
        handovers = [from_json(Handover, value) for value in handed_on(at, self.captured_by)]
        status = seal_point(
            at.vault,
            pin,
            handovers,
            expected=job.expected,
            objectives=job.objectives,
            catalog=job.catalog,
            clock=at.platform.clock,
            lock=job.lock,
            limits=job.limits,
        )
        facts = _facts(status.point)
        for asset in self.outlets:
            at.context["outlet_events"][asset].extra.update(facts)
        self.log.info("Sealed point %s: %d components, %d bytes", pin.point, facts["components"], facts["size"])
        return facts


def _facts(point: RecoveryPoint) -> dict[str, Any]:
    return {
        "point": point.point,
        "workload": point.workload,
        "vault": point.vault,
        "taken_at": point.taken_at.isoformat(),
        "size": sum(component.tree.size for component in point.components),
        "components": len(point.components),
        "locked_until": point.locked_until.isoformat() if point.locked_until else None,
    }


def _finding(handover: Handover) -> ValidationFailed | None:
    if handover.failure is None:
        return None
    return ValidationFailed(
        handover.failure, "the point will be sealed as suspect; mend the source and take another snapshot"
    )
