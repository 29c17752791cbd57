"""The ports that most operations need, in one hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from muster.ports import Clock, EnvironmentBuilder, ModelRunner, RegistryServer, Validator
from muster.ports.switching import Switching
from muster.scratch import scratch_folder


@dataclass(frozen=True, slots=True)
class Tools:
    """
    :param state: a folder of our own for environments, reports and sandboxes; what is in it can always be made again
    """

    clock: Clock
    builder: EnvironmentBuilder
    validator: Validator
    runner: ModelRunner
    server: RegistryServer
    state: Path
    switch: Switching

    @contextmanager
    def scratch(self, purpose: str) -> Iterator[Path]:
        """A new empty folder that is gone afterwards, whatever happened."""
        parent = self.state / "scratch"
        parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(purpose, parent) as folder:
            yield folder
