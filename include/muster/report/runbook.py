"""The runbook of a workload, as Markdown and as one page: rendered from its catalog entry, and never kept by hand."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import Any

from muster import __version__
from muster.domain.restore_plan import without_secrets
from muster.domain.runbook import Runbook
from muster.report import environment

_PARTS: dict[str, Any] = {
    "owner": "not said",
    "objectives": {},
    "strategy": "warm",
    "schedule": None,
    "datasets": (),
    "registry": None,
    "environment": None,
    "configuration": None,
    "smoke": (),
    "canary": None,
    "cut_over": None,
    "residency": None,
    "vault": "not said",
    "replicas": (),
    "retention": None,
    "approvers": (),
    "targets": {},
}

_COUNTS = ("last", "hourly", "daily", "weekly", "monthly", "yearly")


def render_runbook(runbook: Runbook) -> tuple[bytes, bytes]:
    """Markdown and HTML, both UTF-8."""
    text = environment(autoescape=False).get_template("runbook.md.j2").render(_shown(runbook))
    page = environment(autoescape=True).get_template("runbook.html.j2")
    return text.encode(), page.render(workload=runbook.workload, body=_html(text)).encode()


def _shown(runbook: Runbook) -> dict[str, Any]:
    entry = _PARTS | {name: value for name, value in runbook.entry.items() if value is not None}
    return {
        "book": runbook,
        "entry": entry,
        "name": runbook.workload,
        "targets": ["origin", *sorted(entry["targets"])],
        "protected": [*_protected(runbook.workload, entry)],
        "kept": _kept(entry["retention"]),
        "cut_over": _cut_over(entry["cut_over"]),
        "muster": __version__,
        "nan": math.nan,
    }


def _kept(retention: Mapping[str, Any] | None) -> str:
    if not retention:
        return "all points: nothing expires"
    counts = [f"{retention[each]} {each}" for each in _COUNTS if retention.get(each)]
    lock = f"; locked by the store for {retention['lock']}" if retention.get("lock") else ""
    return f"{', '.join(counts) or 'the newest good point'}{lock}"


def _cut_over(asked: Mapping[str, Any] | None) -> str:
    if not asked:
        return ""
    run = [f"run {shlex.join(asked['command'])}"] if asked.get("command") else []
    return ", ".join([*run, *([f"wait for 200 from {_place(asked['ready'])}"] if asked.get("ready") else [])])


def _protected(name: str, entry: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Component, where it lives, and what of it."""
    rows = [
        (
            f"dataset/{d['name']}",
            _place(d.get("repo")),
            f"{', '.join(d.get('targets') or ()) or 'all outputs'}"
            + (f"; validated by {str(d['expectations']).rpartition('/')[2]}" if d.get("expectations") else ""),
        )
        for d in entry["datasets"]
    ]
    if registry := entry["registry"]:
        places = [
            _place(registry[part]) for part in ("store", "artifacts", "server", "auth_store") if registry.get(part)
        ]
        rows.append((f"registry/{name}", ", ".join(places), f"models {', '.join(registry.get('models') or ())}"))
    if python := entry["environment"]:
        where = _place(python.get("directory")) or "below Muster's own state"
        rows.append((f"environment/{name}", where, f"Python {python['python']}, {python['lock']}"))
    if configuration := entry["configuration"]:
        where = _place(configuration.get("directory")) or "below Muster's own state"
        held = [*configuration.get("files", ()), *configuration.get("env", ())]
        secrets = len(configuration.get("secrets", ()))
        rows.append((f"configuration/{name}", where, f"{', '.join(held)}; {secrets} secrets, by name below"))
    return rows


def _place(reference: Any) -> str:
    return without_secrets(str(reference)) if reference else ""


def _html(markdown: str) -> str:
    from markdown_it import MarkdownIt

    return str(MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown))
