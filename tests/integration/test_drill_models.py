"""Faults of registries, models and environments, over a real registry, a model that answers, and its own wheels."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from drill_site import MODELS, DrillSite, make_model_site, write_workload
from environments import CapturedEnvironment, lock, only_index, wheel
from muster.drills.rehearsal import clean
from muster.drills.sandbox import MARK

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, environment_capture: CapturedEnvironment) -> DrillSite:
    """A workload with everything that a model needs, and an older point that holds the same."""
    site = make_model_site(tmp_path_factory.mktemp("models"), environment_capture.wheels)
    vault = site.platform().vault("primary")
    (newest,) = vault.points("models")
    vault.seal(replace(newest.point, point="20260101T020000Z-0000aaaa", packs=()))
    return site


def test_a_poisoned_model_is_asked_and_its_point_is_left_for_an_older_one(site: DrillSite) -> None:
    """All rows and files came back by their digests, and yet the model's own example tells; the older point answers as it did."""
    report = site.drill("poisoned_model")
    assert report.drilled is not None
    assert (report.drilled.expected, report.drilled.observed) == ("older_point", "older_point")
    assert report.point == site.points()[0] != report.drilled.asked
    assert any("answers otherwise" in line for line in report.drilled.story)
    assert [(s.equal, s.version) for s in report.smoke] == [(True, "1")]
    assert site.sandboxes == []


def test_a_lost_registry_is_moved_aside_and_restored_once_more(site: DrillSite) -> None:
    """A model that nobody finds is noticed, what is left is in nobody's way and not overwritten, and the same point answers in the end."""
    report = site.drill("lost_registry")
    assert report.drilled is not None
    assert (report.drilled.expected, report.drilled.observed) == ("healed", "healed")
    assert report.point == report.drilled.asked
    assert any("was refused" in line and "is there already" in line for line in report.drilled.story)
    assert [s.equal for s in report.smoke] == [True]
    assert site.sandboxes == []


def test_a_drill_killed_while_a_model_answers_leaves_no_process_of_it(site: DrillSite) -> None:
    """Server, model and installer die with the drill, however it died; the next one removes the folder."""
    child = os.fork()
    if child == 0:
        try:
            site.drill("none")
        finally:
            os._exit(0)
    try:
        seen = _wait_for("worker.py", "mlflow")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    _, alive = psutil.wait_procs(seen, timeout=20)
    assert alive == []
    (left,) = site.sandboxes
    assert clean(site.platform()) == [left]
    assert site.sandboxes == []


def _wait_for(*programs: str) -> list[psutil.Process]:
    """All processes of sandboxes, as soon as each of these is run by one of them."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        found = [process for process in psutil.process_iter() if _is_of_a_sandbox(process)]
        commands = [" ".join(_words(process)) for process in found]
        if all(any(program in command for command in commands) for program in programs):
            return found
        time.sleep(0.05)
    raise AssertionError(f"{', '.join(programs)} were not begun together")


def _is_of_a_sandbox(process: psutil.Process) -> bool:
    try:
        return "models-" in process.environ().get(MARK, "")
    except (psutil.Error, OSError):
        return False


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.fixture
def plain(site: DrillSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DrillSite:
    """The same registry without questions, and with an environment of two small wheels: quick to restore."""
    wheels = tmp_path / "index"
    pins = [
        ("alpha", "1.0", wheel(wheels, "alpha", needs="beta")[1]),
        ("beta", "2.0", wheel(wheels, "beta", "2.0.0")[1]),
    ]
    only_index(monkeypatch, wheels)
    lock(site.folder, *pins)
    text = MODELS.replace("workload: models", "workload: plain").replace("model-environment.lock", "small.lock")
    text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("smoke:"))
    write_workload(site.folder, "plain", text)
    quick = replace(site, workload="plain")
    quick.snapshot()
    return quick


def test_a_registry_that_claims_an_unknown_schema_is_restored_once_more(plain: DrillSite) -> None:
    """The server does not start over it, and says why; the registry is moved aside and comes back with the schema that it had."""
    report = plain.drill("corrupted_alembic")
    assert report.drilled is not None
    assert (report.drilled.expected, report.drilled.observed) == ("healed", "healed")
    assert any("did not come up" in line for line in report.drilled.story)
    assert {c.component for c in report.components} == {"registry/plain", "environment/plain"}


def test_an_environment_is_rebuilt_though_no_package_index_is_up(plain: DrillSite) -> None:
    """Every wheel comes out of the point: the installer has no network, and an index where nobody is."""
    report = plain.drill("package_index_down")
    assert report.drilled is not None
    assert (report.drilled.expected, report.drilled.observed) == ("restored", "restored")
    (environment,) = [c for c in report.components if c.component == "environment/plain"]
    assert environment.facts["distributions"] == {"alpha": "1.0", "beta": "2.0.0"}
    assert any("http://127.0.0.1:9/" in line for line in report.drilled.story)
