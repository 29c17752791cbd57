"""Validate a dataset against its expectations: as it was captured, and as it came back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from muster.codec import canonical, to_json
from muster.domain.recovery_point import Component
from muster.domain.recovery_report import ValidationOutcome
from muster.domain.timing import Span
from muster.errors import NotFound
from muster.operations.snapshot import Handover, hand_over, json_of, take_over
from muster.operations.tools import Tools
from muster.ports import TreeReader, Validation
from muster.vault.sources import bytes_file, folder_files
from muster.vault.vault import Vault

SUITE, RESULT, DOCS = "suite.json", "result.json", "docs/"
DATA = "data/"


def validate_captured(vault: Vault, dataset: Handover, suite: Mapping[str, Any], tools: Tools) -> Handover:
    """
    Run a suite over what the vault holds of a dataset: the copy is judged, not the source that may have moved on.

    The suite, its result and the HTML data docs become part of the point. An unmet expectation is the `failure` of the handover.
    """
    (captured,) = take_over(vault, [dataset])
    tree = vault.tree(captured.tree)
    with tools.scratch("validate") as scratch, vault.writer() as writer:
        data, docs = scratch / "data", scratch / "docs"
        docs.mkdir()
        _extract_data(tree, data)
        result = tools.validator.validate(suite, validated_folder(data, _targets(captured)), docs)
        files = [
            bytes_file(SUITE, canonical(dict(suite))),
            bytes_file(RESULT, canonical(to_json(result))),
            *folder_files(docs, DOCS),
        ]
        component = Component(
            "validation",
            captured.name,
            writer.store_tree(files),
            captured.cut_at,
            f"suite {result.suite} over the captured files",
            {
                "success": result.success,
                "suite": result.suite,
                "failures": list(result.failures),
                "statistics": result.statistics,
            },
        )
        return hand_over(writer, component, _failure(captured.name, result))


def validate_restored(
    vault: Vault, validation: Component, dataset: Component, repository: Path, docs: Path, tools: Tools
) -> ValidationOutcome:
    """Run the suite that the point carries over a restored repository; HTML data docs go to the empty folder `docs`."""
    started = tools.clock.now()
    suite = json_of(vault.tree(validation.tree), SUITE)
    assert isinstance(suite, dict)  # noqa: S101 - sealed by validate_captured, for the type checker
    result = tools.validator.validate(suite, validated_folder(repository, _targets(dataset)), docs)
    span = Span("validate", validation.label, started, tools.clock.now())
    return ValidationOutcome(
        dataset.name, result.suite, result.success, result.failures, result.statistics, span, result.results
    )


def validated_folder(root: Path, targets: Sequence[str]) -> Path:
    """The folder that a suite's file pattern is relative to: the dataset's one folder, or else the repository."""
    folder = root / targets[0] if len(targets) == 1 else root
    return folder if folder.is_dir() else root


def _extract_data(tree: TreeReader, to: Path) -> None:
    wanted = [(entry, to / entry.path.removeprefix(DATA)) for entry in tree.stream() if entry.path.startswith(DATA)]
    if not any(entry.kind == "file" for entry, _ in wanted):
        raise NotFound(
            "the captured dataset holds no data files to validate", "check the dataset's targets in the catalog"
        )
    tree.extract(wanted)


def _targets(dataset: Component) -> list[str]:
    return [str(output["path"]) for output in dataset.details["outputs"]]


def _failure(name: str, result: Validation) -> str | None:
    if result.success:
        return None
    shown = "; ".join(result.failures[:3])
    more = len(result.failures) - 3
    return f"dataset {name} does not meet {result.suite}: {shown}" + (f"; and {more} more" if more > 0 else "")
