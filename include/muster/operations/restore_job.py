"""What a restore works on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from muster.domain.recovery_point import Component, PointStatus
from muster.domain.restore_plan import RestorePlan
from muster.domain.restore_policy import Circumstances
from muster.domain.restore_request import RestoreRequest
from muster.domain.restore_target import RestoreTarget
from muster.ports import ComponentTarget

TargetOf = Callable[[Component, str], ComponentTarget]
"""Who puts a component back, or one path of it."""


@dataclass(frozen=True, slots=True)
class RestoreJob:
    """
    A point, the place to which it goes, what is asked for, and who can put each component there.

    :param docs: folder for the HTML data docs of the validation, one folder for each dataset
    :param circumstances: what is the case now, for a plan whose effects are known
    """

    status: PointStatus
    target: RestoreTarget
    request: RestoreRequest
    target_of: TargetOf = field(repr=False)
    circumstances: Callable[[RestorePlan], Circumstances] = field(repr=False)
    docs: Path
