"""Smoke inference: golden predictions when a point is taken, the same questions again when it comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from muster.codec import canonical, from_json, to_json
from muster.domain.predictions import compare, count_values
from muster.domain.recovery_point import Component
from muster.domain.recovery_report import SmokeOutcome
from muster.domain.timing import Span
from muster.errors import SmokeFailed, SourceInvalid
from muster.operations.snapshot import Handover, Pin, hand_over, json_of, take_over
from muster.operations.tools import Tools
from muster.ports import Clock, Prediction, TreeReader
from muster.vault.sources import bytes_file
from muster.vault.vault import Vault

SHOWN_DIFFERENCES = 100


@dataclass(frozen=True, slots=True)
class Question:
    """A model to ask, by its URI, and how far its answer may move."""

    model: str
    rtol: float
    atol: float


def golden_predictions(
    vault: Vault, pin: Pin, environment: Handover, questions: Sequence[Question], store: tuple[str, str], tools: Tools
) -> Handover:
    """
    Ask each model its own stored example, in the environment that was just captured, rebuilt from the vault.

    A model that does not answer, or has no example to be asked, is the `failure` of the handover: the point is then sealed as suspect.

    :param store: database URL and artifact root of the living registry
    """
    (captured,) = take_over(vault, [environment])
    python = captured_python(vault, captured, tools)
    asked_at = tools.clock.now()
    predictions: list[Prediction] = []
    failures: list[str] = []
    with tools.runner.asking(python, len(questions)) as ask, tools.server.serve(*store) as uri:
        for question in questions:
            try:
                predictions.append(ask(uri, question.model, None, store[1]))
            except (SmokeFailed, SourceInvalid) as error:
                failures.append(error.message)
    with vault.writer() as writer:
        files = [bytes_file(_file(n), canonical(to_json(answer))) for n, answer in enumerate(predictions)]
        details = {
            "models": [
                {
                    "file": _file(n),
                    "model": p.model,
                    "version": p.version,
                    "model_id": p.model_id,
                    "rtol": q.rtol,
                    "atol": q.atol,
                }
                for n, p in enumerate(predictions)
                for q in questions
                if q.model == p.model
            ],
            "failures": failures,
        }
        tree = writer.store_tree(files)
        component = Component(
            "golden", pin.workload, tree, asked_at, "asked in the captured environment, rebuilt offline", details
        )
        return hand_over(writer, component, "; ".join(failures) or None)


def captured_python(vault: Vault, environment: Component, tools: Tools) -> Path:
    """The interpreter of a captured environment, rebuilt once for every content and kept."""
    folder = tools.state / "environments" / environment.tree.root.sha256[:16]
    folder.parent.mkdir(parents=True, exist_ok=True)
    return tools.builder.build(environment.details, vault.tree(environment.tree), folder)


def ask_again(
    vault: Vault, golden: Component, python: Path, store: tuple[str, str], tools: Tools
) -> tuple[SmokeOutcome, ...]:
    """
    Ask every model of a restored registry what it was asked when the point was taken, and compare.

    A model that cannot be loaded, or answers otherwise, is an outcome that is not equal, not an error: the report shall show all of them.
    The time of the first holds that of the server's start. One is asked after the other: whoever is interrupted ends the one that runs.

    :param python: interpreter of the rebuilt environment
    :param store: database URL and artifact root of the restored registry
    """
    tree, started, outcomes = vault.tree(golden.tree), tools.clock.now(), list[SmokeOutcome]()
    models = golden.details["models"]
    with tools.runner.asking(python, len(models)) as ask, tools.server.serve(*store) as uri:
        for known in models:
            outcomes.append(_ask_one(tree, known, partial(ask, uri, artifact_root=store[1]), started, tools.clock))
            started = outcomes[-1].span.finished_at
    return tuple(outcomes)


def _ask_one(
    tree: TreeReader, known: Mapping[str, Any], ask: Callable[..., Prediction], started: datetime, clock: Clock
) -> SmokeOutcome:
    expected = from_json(Prediction, json_of(tree, known["file"]))
    rtol, atol = float(known["rtol"]), float(known["atol"])
    try:
        found = ask(expected.model, expected.inputs)
    except SmokeFailed as error:
        version, differences = "none", [error.message]
    else:
        version, differences = (
            found.version,
            [str(d) for d in compare(expected.outputs, found.outputs, rtol=rtol, atol=atol)],
        )
        if found.version != expected.version:
            differences.insert(0, f"{expected.model} is version {found.version} now; it was version {expected.version}")
    span = Span("validate", f"smoke {expected.model}", started, clock.now())
    answers = count_values(expected.outputs)
    return SmokeOutcome(
        expected.model, version, not differences, answers, tuple(differences[:SHOWN_DIFFERENCES]), rtol, atol, span
    )


def _file(number: int) -> str:
    return f"golden/{number:04d}.json"
