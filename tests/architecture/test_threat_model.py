"""The threat model cannot rot: every line of its tables names a test, and every test that it names is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
DOCUMENT = PROJECT / "docs" / "threat-model.md"
REFERENCE = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
ATTACKERS = (
    "may read",
    "Bucket write",
    "Bucket delete",
    "that locks",
    "stolen passphrase",
    "stolen signing key",
    "Ransomware",
)


def rows() -> list[str]:
    """The rows of all tables, without their heads."""
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    ruled = {number for number, line in enumerate(lines) if re.fullmatch(r"\|[-|: ]+\|", line)}
    heads = {number - 1 for number in ruled}
    return [line for number, line in enumerate(lines) if line.startswith("|") and number not in ruled | heads]


@cache
def named_tests(file: str) -> frozenset[str]:
    """The names of all test functions in a file, also within classes."""
    if not (PROJECT / file).is_file():
        return frozenset()
    tree = ast.parse((PROJECT / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def missing(text: str) -> list[str]:
    """Those of the tests that a text names that are nowhere, and words that were meant to name one."""
    named = REFERENCE.findall(text)
    lost = [f"{file}::{name}" for file, name in named if name not in named_tests(file)]
    return lost + [word for word in re.findall(r"`(tests/[^`]*::[^`]*)`", text) if not REFERENCE.fullmatch(f"`{word}`")]


def test_every_test_that_the_threat_model_names_is_there() -> None:
    """File and function."""
    text = DOCUMENT.read_text(encoding="utf-8")
    assert len(REFERENCE.findall(text)) > 70
    assert missing(text) == []


def test_every_attempt_in_the_threat_model_is_made_by_a_test() -> None:
    """Each row of each table has, in its last cell, at least one."""
    assert len(rows()) > 60
    assert [row for row in rows() if not REFERENCE.search(row.rstrip("| ").rpartition("|")[2])] == []


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_every_attacker_has_a_table(attacker: str) -> None:
    """A heading of its own, and rows below it before the next."""
    sections = re.split(r"^## ", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (section,) = (part for part in sections if attacker in part.partition("\n")[0])
    assert section.count("\n|") > 3


@pytest.mark.parametrize(
    "reference",
    [
        "`tests/faults/test_bucket_writer.py::test_nothing_of_this_name`",
        "`tests/faults/no_such_file.py::test_nothing_of_this_name`",
        "`tests/faults/test_bucket_writer::test_without_a_suffix`",
    ],
)
def test_a_reference_to_nothing_is_found_out(reference: str) -> None:
    """A renamed test, a moved file, a typing error."""
    assert len(missing(f"| a | b | {reference} |")) == 1
