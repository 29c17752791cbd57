"""Components, tools and models that exist in memory, for testing what the operations decide."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from muster.adapters.moved_aside import MovedPaths
from muster.adapters.same_files import same_files
from muster.domain.recovery_point import ComponentKind
from muster.errors import SmokeFailed, SourceChanged, TargetNotEmpty
from muster.ports import Ask, Clock, Prediction, SourceFile, TreeReader, Validation


@dataclass
class FakeSource:
    """A component whose files are in memory; the first `moves` cuts find it moving."""

    kind: ComponentKind
    name: str
    files: dict[str, bytes]
    clock: Clock
    facts: dict[str, Any] = field(default_factory=dict)
    moves: int = 0
    broken: Exception | None = None
    previous: list[bool] = field(default_factory=list)

    @contextmanager
    def capture(self, previous: TreeReader | None) -> Iterator[FakeCapture]:
        self.previous.append(previous is not None)
        yield FakeCapture(self, self.clock.now())


@dataclass
class FakeCapture:
    """One cut of a `FakeSource`."""

    source: FakeSource
    cut_at: datetime
    method: str = "held still in memory"

    def files(self) -> Iterator[SourceFile]:
        if self.source.broken:
            raise self.source.broken
        for path, content in self.source.files.items():
            yield SourceFile(path, functools.partial(io.BytesIO, content), size=len(content))

    def details(self) -> dict[str, Any]:
        return {"files": len(self.source.files), **self.source.facts}

    def confirm(self) -> None:
        if self.source.moves:
            self.source.moves -= 1
            raise SourceChanged(f"{self.source.name} moved under the snapshot", "try again")


@dataclass
class FolderTarget:
    """Puts the files of any component below a folder."""

    folder: Path
    broken: Exception | None = None

    def check(self, details: Mapping[str, Any]) -> None:
        del details
        if self.folder.exists():
            raise TargetNotEmpty(f"{self.folder} exists", "name an empty folder")

    def holds(self, details: Mapping[str, Any], tree: TreeReader) -> dict[str, Any] | None:
        wanted = [(entry, self.folder / entry.path) for entry in tree.entries()]
        return {"files": len(wanted), "promised": details["files"]} if same_files(wanted) else None

    def can_tell(self, details: Mapping[str, Any]) -> bool:
        del details
        return True

    def aside(self) -> MovedPaths:
        return MovedPaths((self.folder,))

    def restore(self, details: Mapping[str, Any], tree: TreeReader) -> dict[str, Any]:
        if self.broken:
            raise self.broken
        tree.extract([(entry, self.folder / entry.path) for entry in tree.entries()])
        return {"files": len(tree.entries()), "promised": details["files"]}


class RowsValidator:
    """Expects every file to hold as many lines as the suite says."""

    def validate(self, suite: Mapping[str, Any], data: Path, docs: Path) -> Validation:
        (docs / "index.html").write_text("<h1>rows</h1>")
        counts = {p.name: len(p.read_text().splitlines()) for p in sorted(data.rglob("*.csv"))}
        failures = tuple(
            f"{name}: {n} rows, expected {suite['rows']}" for name, n in counts.items() if n != suite["rows"]
        )
        return Validation(not failures, "rows", failures, {"files": len(counts)})


@dataclass
class EchoRunner:
    """A model that answers with what `answers` says for its URI."""

    answers: dict[str, list[float]]

    @contextmanager
    def asking(self, python: Path, questions: int) -> Iterator[Ask]:
        del python, questions
        yield self._ask

    def _ask(
        self, tracking_uri: str, model: str, inputs: Mapping[str, Any] | None, artifact_root: str | None = None
    ) -> Prediction:
        del tracking_uri, artifact_root
        if model not in self.answers:
            raise SmokeFailed(f"{model} cannot be loaded", "look at its version")
        values = self.answers[model]
        outputs = {"dtype": "float64", "shape": [len(values)], "values": values}
        return Prediction(model, "1", None, dict(inputs or {"inputs": [1]}), outputs, {})


class FakeServer:
    """A registry server that needs no process."""

    @contextmanager
    def serve(self, store_url: str, artifact_root: str) -> Iterator[str]:
        del store_url, artifact_root
        yield "http://127.0.0.1:1"


class FolderBuilder:
    """An environment is a folder with a file called python."""

    def build(self, details: Mapping[str, Any], tree: TreeReader, directory: Path) -> Path:
        del details, tree
        directory.mkdir(parents=True, exist_ok=True)
        return directory / "python"
