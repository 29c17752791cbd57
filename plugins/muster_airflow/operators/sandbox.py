"""The sandbox of a drill: made before, removed afterwards, whatever happened between."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from muster.errors import Refused
from muster_airflow.operators.recovery import RecoveryOperator, Site


class PrepareSandboxOperator(RecoveryOperator):
    """
    Make a new empty folder for one drill. Returns its path.

    :param workload: the workload that is drilled (templated)
    """

    template_fields: Sequence[str] = ("workload",)

    def __init__(self, *, workload: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.workload = workload

    def perform(self, at: Site) -> Any:
        from muster.operations.recover import make_sandbox

        return str(make_sandbox(at.platform.tools, self.workload))


class RemoveSandboxOperator(RecoveryOperator):
    """
    Remove the sandbox, whole.

    :param sandbox: what `PrepareSandboxOperator` returned (templated)
    :raises Refused: if that is no sandbox of ours; nothing was removed
    """

    template_fields: Sequence[str] = ("sandbox",)

    def __init__(self, *, sandbox: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sandbox = sandbox

    def perform(self, at: Site) -> Any:
        from muster.operations.recover import tear_down

        sandbox, drills = Path(self.sandbox).resolve(), (at.platform.state / "drills").resolve()
        if sandbox.parent != drills:
            raise Refused(f"{sandbox} is no sandbox of a drill", f"sandboxes lie in {drills}; nothing was removed")
        tear_down(sandbox)
        self.log.info("Removed %s", sandbox)
