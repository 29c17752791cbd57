"""A registry that was captured by REST, read back from a stored tree."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from muster.adapters.mlflow_rest_attachments import ATTACHMENTS, folder_of
from muster.adapters.mlflow_rest_fill import histories
from muster.domain.content import TreeEntry, checked_path
from muster.errors import IntegrityError, NotFound
from muster.ports import TreeReader

Json = Any


class Stored:
    """
    :param scratch: a folder of ours for files on their way
    """

    def __init__(self, tree: TreeReader, scratch: Path) -> None:
        self._tree = tree
        self._scratch = scratch
        self._entries: dict[str, TreeEntry] = {}
        self._folders: dict[str, list[str]] = {}
        for entry in tree.stream():
            self._entries[checked_path(entry.path)] = entry
            self._folders.setdefault(_folder(entry.path), []).append(entry.path)
        self.points: Callable[[str, str], list[Json]] = functools.lru_cache(maxsize=64)(self._points)

    @property
    def entries(self) -> dict[str, TreeEntry]:
        """All entries by path."""
        return self._entries

    def paths(self, folder: str) -> list[str]:
        """Paths of the documents in a folder at the top of the tree."""
        return self._folders.get(folder, [])

    def document(self, path: str) -> Json:
        """
        :raises IntegrityError: if it is none
        """
        try:
            return json.loads(self._tree.read(self._entries[path]))
        except (ValueError, RecursionError, KeyError) as error:
            raise IntegrityError(f"the stored {path} is no JSON document", "verify the vault") from error

    def documents(self, folder: str) -> Iterator[Json]:
        return (self.document(path) for path in self.paths(folder))

    @contextmanager
    def history(self, run: str) -> Iterator[Path]:
        """The file with the metrics of a run, for as long as it is needed."""
        with self._extracted([f"metrics/{run}.jsonl"], "metrics", run) as folder:
            yield folder / f"{run}.jsonl"

    def _points(self, run: str, key: str) -> list[Json]:
        """The points of one metric; none if there is no such run."""
        try:
            with self.history(run) as file:
                return next((points for name, points in histories(file) if name == key), [])
        except NotFound:
            return []

    @contextmanager
    def artifacts(self, kind: str, holder: str) -> Iterator[dict[str, Path]]:
        """The artifacts of a run or logged model, by their paths below it, as files for as long as they are needed."""
        top = f"artifacts/{kind}/{holder}"
        paths = self.paths(top)
        with self._extracted(paths, top, holder) as folder:
            yield {path[len(top) + 1 :]: folder / path[len(top) + 1 :] for path in paths}

    @contextmanager
    def attachments(self, trace: str) -> Iterator[dict[str, Path]]:
        """The attachments of a trace by their ids, as files for as long as they are needed."""
        top = folder_of(trace)
        if not (paths := self.paths(top)):
            yield {}
            return
        with self._extracted(paths, top, "files") as folder:
            yield {path[len(top) + 1 :]: folder / path[len(top) + 1 :] for path in paths}

    @contextmanager
    def _extracted(self, paths: list[str], top: str, name: str) -> Iterator[Path]:
        missing = [path for path in paths if path not in self._entries]
        if missing:
            raise NotFound(f"the stored registry has no {missing[0]}", "verify the vault")
        folder = self._scratch / top.replace("/", "-") / checked_path(name)
        try:
            folder.mkdir(parents=True)
            self._tree.extract((self._entries[path], folder / path[len(top) + 1 :]) for path in paths)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _folder(path: str) -> str:
    """``artifacts/<kind>/<id>`` for an artifact, ``attachments/<digest>`` for an attachment, else the first folder."""
    parts = path.split("/")
    return "/".join(parts[: {"artifacts": 3, ATTACHMENTS: 2}.get(parts[0], 1)])
