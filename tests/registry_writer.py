"""What happens to a registry while it is captured or restored: somebody writes to it, something breaks."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fakes_trees import FolderTree
from muster.adapters.mlflow_registry import MlflowSource

INSERT_RUN = (
    "INSERT INTO runs (run_uuid, name, experiment_id, lifecycle_stage, status) VALUES (?, 'n', 0, 'active', 'FINISHED')"
)


def _write_pairs(begin: Any, stop: threading.Event, written: list[int]) -> None:
    """Runs with a tag each, in one transaction, as fast as it goes."""
    while not stop.is_set():
        run = f"run{len(written):08d}"
        begin(run)
        written.append(1)


def orphans(tree: FolderTree, details: dict[str, Any]) -> tuple[int, int]:
    """Number of runs, and of tags whose run is not there (or runs without their tag)."""
    schema = json.loads(tree.read(tree.entry("schema.json")))

    def column(table: str, name: str) -> set[str]:
        index = [c["name"] for t in schema["tables"] if t["name"] == table for c in t["columns"]].index(name)
        lines = tree.read(tree.entry(f"tables/{table}.jsonl")).decode().split("\n")[:-1]
        assert len(lines) == details["tables"][table]["rows"]
        return {json.loads(line)[index] for line in lines}

    runs, tags = column("runs", "run_uuid"), column("tags", "run_uuid")
    return len(runs), len(runs ^ tags)


def assert_no_orphans(begin: Any, source: MlflowSource, tmp_path: Path) -> None:
    """Every cut has what was written together, whole, and what was written before it."""
    stop, written = threading.Event(), list[int]()
    writer = threading.Thread(target=_write_pairs, args=(begin, stop, written))
    writer.start()
    try:
        seen = []
        for number in range(4):
            before = len(written)
            with source.capture(None) as cut:
                tree = FolderTree(tmp_path / f"tree{number}").store(cut.files())
                runs, alone = orphans(tree, cut.details())
            assert alone == 0
            assert before <= runs <= len(written) + 1
            seen.append(runs)
            time.sleep(0.05)
    finally:
        stop.set()
        writer.join()
    assert seen == sorted(seen)
    assert seen[-1] > seen[0]


@contextlib.contextmanager
def before(words: str, act: Callable[[], Any]) -> Iterator[list[str]]:
    """Do something once, right before the first statement that holds these words. Gives that statement."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    met: list[str] = []

    def look(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if words in statement and not met:
            met.append(statement)
            act()

    event.listen(Engine, "before_cursor_execute", look)
    try:
        yield met
    finally:
        event.remove(Engine, "before_cursor_execute", look)
