"""Runbooks: rendered from the catalog, never holding a secret, the same for the same catalog."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from click import Context, Group

from fakes import FrozenClock, MemoryStore
from muster.catalog import load_catalog
from muster.cli.main import command as program
from muster.domain.recovery_point import Mark, PointStatus
from muster.domain.runbook import Runbook, standing_of
from muster.errors import NotFound
from muster.operations.runbook import kept_runbook, live_runbook
from muster.report.runbook import render_runbook
from report_pages import Page
from vaults import make_vault, point_over, seal, store_tree

PROJECT = Path(__file__).parents[2]
CATALOG = load_catalog(PROJECT / "include" / "catalog")
ENTRY = CATALOG.workload("flight_delays").model_dump(mode="json", exclude={"root", "source"})


def text_of(runbook: Runbook) -> str:
    return render_runbook(runbook)[0].decode()


@pytest.mark.parametrize("workload", CATALOG.workloads)
def test_the_runbooks_of_the_project_are_what_its_catalog_says(workload: str) -> None:
    """Changed by hand, or the catalog without them: run `make runbooks`."""
    entry = CATALOG.workload(workload).model_dump(mode="json", exclude={"root", "source"})
    there = (PROJECT / "docs" / "runbooks" / f"{workload}.md").read_bytes()
    assert there == render_runbook(Runbook(entry))[0]


def test_there_is_no_runbook_of_a_workload_that_is_gone() -> None:
    """Each belongs to the catalog."""
    assert {path.stem for path in (PROJECT / "docs" / "runbooks").iterdir()} == set(CATALOG.workloads)


def test_a_runbook_says_what_where_who_and_how() -> None:
    """Every part of the entry is in it."""
    text = text_of(Runbook(ENTRY, "0a" * 16, "fe" * 32))
    for told in (
        "| Owner | data-platform |",
        "| Who approves a restore | recovery-lead |",
        "| Back within (RTO) | 15m |",
        f"| Vault | primary, id `{'0a' * 16}` |",
        "| dataset/flights | conn:flights_repo | data/flights; validated by flights.json |",
        "- `models:/flight-delay@champion` (rtol 1e-09, atol 0.0)",
        "| `conn:mlflow_store` | registry.store, configuration.secrets |",
        "| `env:FLIGHT_DELAYS_LATE_MINUTES` | configuration.env |",
        "Trigger the DAG `restore__flight_delays`",
        "muster restore verified --workload flight_delays --to origin",
        f'muster --vault "$VAULT" --fingerprint {"fe" * 32} points flight_delays',
    ):
        assert told in text


def test_a_runbook_names_commands_that_the_program_has() -> None:
    """Every command line in it, with options that it knows."""
    lines = re.findall(r"(?:^    |`)(muster [^`\n]*)", text_of(Runbook(ENTRY)), re.MULTILINE)
    assert len(lines) > 12
    for line in lines:
        words = [word for word in line.split()[1:] if word != '"$VAULT"']
        command, context = program, Context(program)
        while words:
            word = words.pop(0)
            if word.startswith("--"):
                assert any(word in option.opts for option in command.params), f"{word} in: {line}"
                if word != "--vault":
                    words.pop(0)
            elif isinstance(command, Group):
                found = command.get_command(context, word)
                assert found is not None, f"{word} in: {line}"
                command = found


def test_a_password_that_stands_in_an_address_is_not_told() -> None:
    """The catalog should not have it; the runbook does not repeat it."""
    registry = {"store": "postgresql://me:hunter2@db/mlflow", "artifacts": "s3://b?secret_access_key=hunter2"}
    text, page = render_runbook(Runbook(ENTRY | {"registry": registry}))
    assert b"hunter2" not in text + page
    assert b"@db/mlflow" in text


def test_what_a_catalog_says_cannot_become_markup() -> None:
    """Neither in the page nor in a table."""
    text, page = render_runbook(Runbook(ENTRY | {"owner": "<script>x</script> | y"}))
    assert "script" not in Page(page).tags
    assert b"\\<script\\>x\\</script\\> \\| y" in text


def test_the_page_needs_nothing_from_outside() -> None:
    """One file, whose tags close."""
    page = Page(render_runbook(Runbook(ENTRY))[1])
    assert page.loads == []
    assert page.stack == []
    assert "Runbook: bring flight_delays back" in page.words


@pytest.mark.parametrize(
    "entry", [{}, {"workload": "x"}, {"workload": "x", "registry": None, "datasets": [{"name": "d"}]}]
)
def test_an_entry_that_says_little_has_a_runbook(entry: dict[str, object]) -> None:
    """Also that of an older point."""
    assert "Come back with the vault and a key alone" in text_of(Runbook(entry))


def test_it_tells_how_the_points_stand() -> None:
    """The newest that was verified, and the times of the last drill; a suspect point is neither."""
    vault, _ = make_vault(MemoryStore())
    now = FrozenClock().now()
    summary = {
        "passed": False,
        "failure": "row 3 | differs",
        "recovery_time_s": {"restore": 40.0, "validate": 2.0, "total": 42.0},
        "recovery_point_s": 3600.0,
    }
    points = [replace(point_over(vault, number=n), taken_at=now + timedelta(hours=n)) for n in range(3)]
    ids = [point.point for point in points]
    statuses = [
        PointStatus(points[0], (Mark("flights", ids[0], "verified", now + timedelta(hours=9)),)),
        PointStatus(
            points[1], (Mark("flights", ids[1], "verified", now), Mark("flights", ids[1], "drilled", now, summary))
        ),
        PointStatus(
            points[2],
            (Mark("flights", ids[2], "verified", now), Mark("flights", ids[2], "suspect", now, {"reason": "x"})),
        ),
    ]
    text = text_of(Runbook(ENTRY, standing=standing_of(statuses, now)))
    assert f"| Latest good point | `{ids[1]}`, taken 2026-11-23 03:00:00 UTC |" in text
    assert f"| Latest verified point | `{ids[1]}`, verified 2026-11-23 02:00:00 UTC |" in text
    assert f"of `{ids[1]}`: **failed**: row 3 \\| differs |" in text
    assert "| Its times | 42 s: restore 40 s, validate 2 s; work lost 1 h |" in text
    assert "| Last restore | none yet |" in text


def test_a_point_without_a_runbook_says_where_else_to_look() -> None:
    """One that an older Muster took."""
    vault, _ = make_vault(MemoryStore())
    point = seal(vault, store_tree(vault, {"a": b"x"}))
    with pytest.raises(NotFound, match="has no runbook"):
        kept_runbook(vault, point)


def test_the_runbook_of_today_is_that_of_the_vault() -> None:
    """With its id and fingerprint."""
    vault, _ = make_vault(MemoryStore())
    seal(vault, store_tree(vault, {"a": b"x"}))
    text = live_runbook(vault, ENTRY, "flights", FrozenClock())[0].decode()
    assert f"id `{vault.id}`" in text
    assert vault.holders.fingerprint in text
    assert "On 2026-11-23 02:00:00 UTC, with 1 points in the vault" in text
