"""What a restore works on."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from muster.domain.freshness import Newest
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
    :param newest_in: the newest thing with a time in a component that came back; None if nothing is looked for in such a one
    :param secrets: values that no output of a command may show
    """

    status: PointStatus
    target: RestoreTarget
    request: RestoreRequest
    target_of: TargetOf = field(repr=False)
    circumstances: Callable[[RestorePlan], Circumstances] = field(repr=False)
    docs: Path
    newest_in: Callable[[Component], Newest | None] = field(default=lambda _: None, repr=False)
    secrets: Callable[[], Collection[str]] = field(default=tuple, repr=False)
