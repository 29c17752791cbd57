"""YAML files as plain data that remembers on which line each value stands, and that refuses a key given twice."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from muster.bounded_yaml import DEEPEST, UNREADABLE, BoundedLoader

Location = tuple[str | int, ...]
MOST_NODES = 20_000
"""Far above any honest catalog; with `DEEPEST` it stops an alias that contains itself, or one that multiplies."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in a file of the catalog: where, and in words what is wrong and how it is mended."""

    file: Path
    line: int
    location: Location
    message: str

    def __str__(self) -> str:
        name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.location).removeprefix(".")
        return f"{self.file}:{self.line}: {name + ': ' if name else ''}{self.message}"


@dataclass(slots=True)
class Document:
    """
    A YAML file that was read.

    :param lines: the line, counted from 1, of every key and list item
    :param problems: what the YAML itself has wrong
    """

    file: Path
    data: Any = None
    lines: dict[Location, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def report(self, location: Location, message: str) -> None:
        """Note a problem at a value, on the line of the nearest key that is there."""
        self.problems.append(Problem(self.file, self.line(location), location, message))

    def line(self, location: Location) -> int:
        """The line of a value, or else of what it would stand in."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)


def read_document(file: Path) -> Document:
    """Read a YAML file; whatever is wrong with it is in `problems`, never an exception and never a quoted line of the file."""
    document = Document(file)
    try:
        loader = BoundedLoader(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        document.report((), f"cannot be read: {reason}")
        return document
    try:
        node = loader.get_single_node()
        document.data = _Walk(document, loader).value(node, ()) if node else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        what = " ".join(part for part in (error.context, error.problem) if part)
        document.problems.append(Problem(file, line, (), f"is not YAML: {what}"))
    except UNREADABLE as error:
        document.report((), f"is not YAML: {error}")
    finally:
        loader.dispose()
    if node_missing(document):
        document.report((), "is empty; it must be a mapping (key: value)")
    return document


def node_missing(document: Document) -> bool:
    """Whether a file was read well but holds nothing."""
    return document.data is None and not document.problems


class _Walk:
    def __init__(self, document: Document, loader: yaml.SafeLoader) -> None:
        self._document = document
        self._loader = loader
        self._nodes = 0

    def value(self, node: yaml.Node, at: Location) -> Any:
        self._nodes += 1
        if len(at) > DEEPEST or self._nodes > MOST_NODES:
            raise ValueError("it is nested too deeply, or an alias contains itself")
        self._document.lines.setdefault(at, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, at)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*at, index)) for index, item in enumerate(node.value)]
        return self._loader.construct_object(node)

    def _mapping(self, node: yaml.MappingNode, at: Location) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "?"
            line, here = key_node.start_mark.line + 1, (*at, key)
            if key in found:
                first = self._document.lines[here]
                message = f"is given twice, first on line {first}; remove one of the two"
                self._document.problems.append(Problem(self._document.file, line, here, message))
                continue
            self._document.lines[here] = line
            found[key] = self.value(value_node, here)
        return found
