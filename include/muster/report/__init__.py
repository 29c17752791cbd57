"""
The report of a restore or a drill: a JSON document for machines, and one HTML file, without any outside resource, for people.

``report.json`` is a `RecoveryReport` as JSON, with its `summary` beside the fields. For each registry there is a `FidelityReport`
besides, as JSON with its `verdict`, and as a page of its own. ``postmortem.md`` is a draft for people to go on with.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from muster.codec import to_json
from muster.domain.evidence import Failed
from muster.domain.faults import SEEN
from muster.domain.fidelity import FidelityReport
from muster.domain.recovery_report import RecoveryReport
from muster.domain.timing import STAGES
from muster.report.wording import seconds_in_words, size_in_words

__all__ = ["render_fidelity", "render_postmortem", "render_report", "seconds_in_words", "size_in_words"]

LONGEST_FACT = 400
"""Characters of one fact that the page shows; report.json has it whole."""


def render_report(report: RecoveryReport) -> tuple[bytes, bytes]:
    """The report as JSON and as HTML, both UTF-8. Never fails on a report that is there: an incident is no time for that."""
    page = environment(autoescape=True).get_template("report.html.j2").render(_page(report))
    return _as_json(to_json(report) | {"summary": report.summary()}), page.encode()


def render_fidelity(fidelity: FidelityReport, report: RecoveryReport) -> tuple[bytes, bytes]:
    """
    The fidelity of a registry as JSON and as HTML, both UTF-8.

    :param report: of the restore or drill in which it came back
    """
    verdict = {"identical": fidelity.identical, "verdict": fidelity.verdict}
    rows = sum(line.restored.count for line in fidelity.tables)
    page = (
        environment(autoescape=True)
        .get_template("fidelity.html.j2")
        .render(fidelity=fidelity, report=report, rows=rows)
    )
    return _as_json(to_json(fidelity) | verdict), page.encode()


def render_postmortem(report: RecoveryReport) -> bytes:
    """The draft of a post-mortem in Markdown, UTF-8: what was recorded and measured, and blanks for what only people know."""
    return environment(autoescape=False).get_template("postmortem.md.j2").render(_page(report)).encode()


def _as_json(document: Any) -> bytes:
    text = json.dumps(_finite(document), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False, default=str)
    return text.encode() + b"\n"


@lru_cache(maxsize=2)
def environment(*, autoescape: bool) -> Environment:
    """The templates beside this file: pages with, Markdown without escaping for HTML."""
    loader = FunctionLoader(lambda name: resources.files(__package__).joinpath(name).read_text("utf-8"))
    made = Environment(
        loader=loader,
        autoescape=autoescape,  # noqa: S701 - Markdown escapes by the filter `text`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["text"] = markdown_text
    made.filters["span"] = seconds_in_words
    made.filters["size"] = size_in_words
    made.filters["moment"] = _moment
    made.filters["flat"] = lambda facts: list(_flat(facts, ""))
    return made


def _page(report: RecoveryReport) -> dict[str, Any]:
    """What the template shows besides the report: everything that has to be computed."""
    total, promised = report.time.total, report.objectives["rto_s"]
    scale = max(total, promised) or 1.0
    stages = [{"name": s, "shown": s.replace("_", " "), "seconds": getattr(report.time, s)} for s in STAGES]
    for stage in stages:
        stage["percent"] = 100 * stage["seconds"] / scale
    return {
        "report": report,
        "stages": stages,
        "promised_percent": 100 * promised / scale,
        "timeline": _timeline(report),
        "failed_in_order": _failed_in_order(report),
        "files": sum(outcome.files for outcome in report.components),
        "size": sum(outcome.size for outcome in report.components),
        "limit": 100,
        "outcomes": SEEN,
    }


def _timeline(report: RecoveryReport) -> dict[str, Any]:
    """Each piece of work as a bar: its beginning and length in percent of the whole work."""
    spans = report.spans
    if not spans:
        return {"bars": [], "seconds": 0.0}
    begin = min(span.started_at for span in spans)
    whole = max((max(span.finished_at for span in spans) - begin).total_seconds(), 1e-6)
    bars = [
        {
            "name": span.name,
            "stage": span.stage,
            "seconds": span.seconds,
            "left": 100 * (span.started_at - begin).total_seconds() / whole,
            "width": max(0.4, 100 * span.seconds / whole),
        }
        for span in spans
    ]
    return {"bars": bars, "seconds": whole}


def _failed_in_order(report: RecoveryReport) -> list[Failed]:
    """What failed first is the first; of the others those whose time is known come before those whose is not."""
    latest = report.finished_at
    return sorted(report.failures, key=lambda failed: (failed != report.first_failure, failed.at or latest))


def markdown_text(value: object) -> str:
    """Any text as one line of Markdown that it cannot break out of: of a table's cell, of a list's entry."""
    line = " ".join(str(value).split())
    for sign in "\\|`*[]<>":
        line = line.replace(sign, f"\\{sign}")
    return line


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _flat(facts: Any, name: str) -> Iterator[tuple[str, str]]:
    """Nested facts as pairs of a dotted name and a short text."""
    if isinstance(facts, dict) and facts:
        for key, value in facts.items():
            yield from _flat(value, f"{name}.{key}" if name else str(key))
    elif isinstance(facts, (list, tuple)) and any(isinstance(item, (dict, list)) for item in facts):
        for index, value in enumerate(facts):
            yield from _flat(value, f"{name}[{index}]")
    else:
        text = ", ".join(str(item) for item in facts) if isinstance(facts, (list, tuple)) else str(facts)
        yield name, text if len(text) <= LONGEST_FACT else f"{text[:LONGEST_FACT]}…"


def _finite(data: Any) -> Any:
    """JSON has no NaN and no infinity; they become null."""
    if isinstance(data, float) and not math.isfinite(data):
        return None
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    return [_finite(item) for item in data] if isinstance(data, (list, tuple)) else data
