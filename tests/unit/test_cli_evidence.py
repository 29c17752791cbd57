"""``muster trend`` and ``muster runbook``, as a person types them, with a catalog and with a vault alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from muster.adapters.local_store import LocalStore
from muster.adapters.system_clock import SystemClock
from muster.cli import main as cli
from muster.domain.recovery_point import Mark
from muster.operations.runbook import runbook_component
from muster.operations.snapshot import Pin
from muster.vault.vault import Passphrase, Vault
from vaults import ACTOR, CHEAP, POINT, point_over, store_tree

WORDS = "the passphrase of the night"
WORKLOAD = "workload: flights\nowner: ops | dba\nobjectives: {rpo: 1d, rto: 1h}\ndatasets: [{name: d, repo: data}]\nvault: primary\n"
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A catalog of one workload, and its vault with a point that was drilled twice."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NIGHT", WORDS)
    monkeypatch.setenv("MUSTER_PASSPHRASE", WORDS)
    (tmp_path / "catalog/workloads").mkdir(parents=True)
    (tmp_path / "catalog/vaults.yaml").write_text(
        f'vaults:\n  primary: {{url: "file://{tmp_path}/vault", passphrase: "env:NIGHT"}}\n'
    )
    (tmp_path / "catalog/workloads/flights.yaml").write_text(WORKLOAD)
    store = LocalStore(tmp_path / "vault")
    vault, _ = Vault.create(store, Passphrase(WORDS), clock=SystemClock(), actor=ACTOR, cost=CHEAP)
    unsealed = point_over(vault, store_tree(vault, {"a": b"x"}))
    pin = Pin("flights", unsealed.point, unsealed.taken_at, None)
    kept = runbook_component(vault, pin, unsealed.components, {"owner": "kept by the point"})
    vault.seal(replace(unsealed, components=(*unsealed.components, *kept)))
    for seconds in (40.0, 4000.0):
        times = {"restore": seconds, "total": seconds}
        told = {
            "passed": True,
            "recovery_time_s": times,
            "recovery_point_s": 60.0,
            "objectives": {"rto_s": 3600.0, "rpo_s": 1.0},
        }
        vault.mark(Mark("flights", unsealed.point, "drilled", SystemClock().now(), told))

    def run(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        code = cli.run(words)
        said = capsys.readouterr()
        return code, said.out or said.err

    return run


def test_the_trend_is_told_against_the_objectives(run: Run) -> None:
    """Each drill in a row, met or missed, and the figures of all of them."""
    code, out = run("trend", "flights")
    assert code == 0
    assert "flights: 2 drills and restores, 2 failed or missed an objective; 1 good points" in out
    rows = [" ".join(line.split()) for line in out.splitlines()]
    assert any(row.endswith("passed 40 s 1 h met 1 min 1 s MISSED restore 40 s") for row in rows)
    assert any("1 h 6 min 1 h MISSED" in row for row in rows)
    assert "recovery time 2 33 min 40 s 1 h 6 min" in rows


def test_the_trend_is_json_for_machines(run: Run) -> None:
    """With every recovery."""
    code, out = run("--json", "trend", "flights")
    document = json.loads(out)
    assert (code, document["missed"], len(document["recoveries"])) == (0, 2, 2)
    assert document["time"]["median"] == 2020.0


def test_the_trend_of_nothing_is_an_error(run: Run) -> None:
    """4: there is no point of it."""
    assert run("--vault", "primary", "trend", "weather")[0] == 4


def test_the_runbook_of_today_is_rendered_from_catalog_and_vault(run: Run, tmp_path: Path) -> None:
    """To standard output, or into a file of either form."""
    code, out = run("runbook", "flights")
    assert code == 0
    assert "| Owner | ops \\| dba |" in out
    assert "Last drill" in out
    assert "1 h 6 min" in out
    assert run("runbook", "flights", "--out", "new/run.html")[0] == 0
    assert (tmp_path / "new/run.html").read_text().startswith("<!doctype html>")
    assert run("runbook", "flights", "--out", "new/run.md")[0] == 0
    assert (tmp_path / "new/run.md").read_text().startswith("# Runbook")


def test_the_runbook_comes_out_of_the_vault_with_a_key_alone(run: Run, tmp_path: Path) -> None:
    """No catalog is read: it is the one that was sealed with the point."""
    for file in (tmp_path / "catalog/workloads/flights.yaml", tmp_path / "catalog/vaults.yaml"):
        file.unlink()
    code, out = run("--vault", f"{tmp_path}/vault", "runbook", "flights", "--point", "latest")
    assert code == 0, out
    assert "| Owner | kept by the point |" in out
    assert run("--vault", f"{tmp_path}/vault", "runbook", "flights", "--point", POINT)[1] == out


def test_all_runbooks_are_rendered_without_any_vault(run: Run, tmp_path: Path) -> None:
    """Into a folder, one for each workload; what stood there is replaced."""
    (tmp_path / "vault/vault.json").rename(tmp_path / "gone")
    (tmp_path / "books").mkdir()
    (tmp_path / "books/flights.md").write_text("by hand")
    assert run("runbook", "--all", "--catalog-only", "--out", "books")[0] == 0
    assert "Ask the vault, for it changes" in (tmp_path / "books/flights.md").read_text()
    assert run("runbook", "--all", "--out", "books")[0] == 3


@pytest.mark.parametrize(
    "words", [(), ("--all",), ("flights", "--all", "--out", "x"), ("flights", "--catalog-only", "--point", "latest")]
)
def test_what_is_not_clear_is_refused(run: Run, words: tuple[str, ...]) -> None:
    """2, and nothing is written."""
    assert run("runbook", *words)[0] == 2
