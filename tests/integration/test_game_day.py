"""A game day by the command line: people are told no more than they have found out, and everything is scored."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

from drill_site import DrillSite, make_drill_site
from muster.cli.main import run

pytestmark = pytest.mark.timeout(600)


def test_a_game_is_begun_helped_answered_restored_and_scored(tmp_path: Path) -> None:
    """The fault is told at the end and not before; the log has every step with its time; nothing but the log is left."""
    site = make_drill_site(tmp_path)
    site.write_secrets()
    assert "no game day is under way" in refuse(site, "gameday", "hint")["message"]
    seed = str(_seed_of("missing_pack"))
    begun = ask(site, "gameday", "start", "ledger", "--seed", seed)
    assert "vault lacks what the point names" in begun["symptom"]
    told = [begun, ask(site, "gameday", "hint"), ask(site, "gameday", "detect", "bit_rot")]
    assert told[2]["told"] == "that is not it"
    assert not any("missing_pack" in json.dumps(answer) for answer in told)
    assert "a game day is under way" in refuse(site, "gameday", "start", "ledger")["message"]
    assert ask(site, "drill", "--clean")["removed"] == []
    assert ask(site, "gameday", "detect", "missing_pack")["told"] == "right"
    assert ask(site, "gameday", "decide", "healed")["told"] == "right"
    assert ask(site, "gameday", "restore")["told"].startswith("restored after")
    ended = ask(site, "gameday", "end")
    assert (ended["fault"], ended["score"]) == ("missing_pack", 100 - 10 - 15)
    log = Path(ended["log"])
    assert log.read_text().splitlines()[-1] == "score: 75 of 100"
    kept = json.loads(log.with_suffix(".json").read_text())
    assert [event["step"] for event in kept["events"]] == ["hint", "detect", "detect", "decide", "restore"]
    assert site.sandboxes == []
    mark = site.platform().vault("primary").point("latest", "ledger").marks[-1]
    assert (mark.kind, mark.summary["fault"]["observed"]) == ("drilled", "healed")


def ask(site: DrillSite, *arguments: str) -> Any:
    """The JSON document of a command that must succeed, run in this process: each import of it would take seconds."""
    code, document = _run(site, *arguments)
    assert code == 0, document
    return document


def refuse(site: DrillSite, *arguments: str) -> dict[str, Any]:
    """The error of a command that must fail."""
    code, document = _run(site, *arguments)
    assert code == document["error"]["exit_code"] != 0
    error: dict[str, Any] = document["error"]
    return error


def _run(site: DrillSite, *arguments: str) -> tuple[int, Any]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = run(["--json", *site.options, *arguments])
    return code, json.loads(said.getvalue())


def _seed_of(fault: str) -> int:
    from datetime import date

    from muster.domain.drill import RANDOM, choose

    have = frozenset({"replica", "older_point", "expectations", "small_disk", "files"})
    return next(n for n in range(1000) if choose(RANDOM, have=have, day=date(2026, 1, 1), seed=n).fault == fault)
