"""The metrics of runs, fetched by MLflow's API run by run, or taken over from the point before; and their model inputs, always fetched."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muster.adapters.mlflow_rest_before import Before
from muster.adapters.mlflow_rest_fill import histories
from muster.adapters.mlflow_rest_kept import Kept, never, opened
from muster.adapters.mlflow_rest_points import point
from muster.adapters.mlflow_rest_reading import Holder, Reading
from muster.codec import canonical
from muster.errors import SourceChanged
from muster.ports import SourceFile

Json = Any


@dataclass(frozen=True, slots=True)
class Content:
    """
    What of a run is fetched by itself.

    :param history: the file of all points of its metrics
    :param points: how many there are
    :param inputs: the logged models that it took; a run may be given others at any time, and its state does not tell
    """

    history: SourceFile
    points: int
    inputs: list[Json]


class Histories:
    """
    :param is_due: whether a path is fetched again today, whatever the point before has
    """

    def __init__(self, reading: Reading, kept: Kept, before: Before, is_due: Callable[[str], bool]) -> None:
        self._reading, self._kept, self._before, self._is_due = reading, kept, before, is_due

    def of(self, run: Json, holder: Holder) -> Content:
        """
        :raises SourceChanged: if it moves while it is read
        """
        path = f"metrics/{holder.id}.jsonl"
        noted, known = self._before.note(holder), self._before.content(path)
        inputs = self._reading.model_inputs(holder.id)
        if noted and known and not self._is_due(path):
            return Content(SourceFile(path, never, known=known), int(noted["points"]), inputs)
        write = functools.partial(self._write, run)
        if holder.ended is None:
            file = self._kept.fresh(write)
        else:
            file = self._kept.through(["history", self._reading.api.server.place, holder.id, holder.state], write)
        history = SourceFile(path, functools.partial(opened, file), size=file.stat().st_size)
        return Content(history, sum(len(points) for _, points in histories(file)), inputs)

    def _write(self, run: Json, to: Path) -> None:
        """All points of a run's metrics; the latest of each must be among them."""
        run_id = run["info"]["run_id"]
        with to.open("wb") as output:
            for metric in run.get("data", {}).get("metrics") or ():
                key = metric["key"]
                points = self._reading.history(run_id, key)
                if point(metric) not in points:
                    raise moved(f"the metric {key} of run {run_id}, whose latest point is not in its history,")
                output.write(canonical({"key": key, "points": points}) + b"\n")


def moved(what: str) -> SourceChanged:
    """The failure of a capture under which something has changed."""
    return SourceChanged(f"{what} changed while the registry was captured", "take the snapshot again when writers rest")
