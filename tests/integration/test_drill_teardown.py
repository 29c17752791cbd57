"""Drills that are killed, and sandboxes that cannot be made or removed: nothing is left, or it is said what."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from drill_site import DrillSite, digests, make_drill_site
from killed import killed_at
from muster.drills.rehearsal import clean
from muster.drills.sandbox import MARK, Sandbox, make, processes_of, remove, tear_down
from muster.errors import MusterError, Refused, StoreUnavailable

pytestmark = pytest.mark.timeout(600)
MIDWAY = """
import sys, time
from pathlib import Path
from drill_site import DrillSite
from muster.cli.main import run

def watch(event, given):
    if event == "os.rename" and str(given[1]).endswith("/datasets/entries"):
        print("midway", flush=True)
        time.sleep(4)

sys.addaudithook(watch)
sys.exit(run([*DrillSite(Path(sys.argv[1])).options, "drill", "ledger"]))
"""
SQUATTER = "import socket, sys, time; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); time.sleep(600)"
HYDRA = """
import os, subprocess, sys, time
while True:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env={**os.environ, sys.argv[1]: sys.argv[2]})
    print("grown", flush=True)
    time.sleep(0.2)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> DrillSite:
    return make_drill_site(tmp_path_factory.mktemp("killed"))


@pytest.fixture
def nothing_outside(site: DrillSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What lies in the folder for temporary files, in the vault and in the sources is afterwards what it was."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("TMPDIR", str(temporary))
    before = digests(site.vault_folder, site.folder / "entries")
    yield
    assert list(temporary.iterdir()) == []
    after = digests(site.vault_folder, site.folder / "entries")
    assert {name: after.get(name) for name in before} == before


def drill_processes(site: DrillSite) -> set[int]:
    """Everything that was begun for a sandbox of a site; other tests at work on this machine have theirs."""
    found = set()
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK, "").startswith(str(site.state)):
                found.add(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


def listening() -> set[int]:
    """Every TCP port of this machine on which somebody listens."""
    return {c.laddr.port for c in psutil.net_connections("tcp") if c.status == "LISTEN"}


def free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_drill_killed_by_sigkill_is_cleared_away_by_the_next(site: DrillSite, nothing_outside: None) -> None:
    """Killed in the middle of a restore it leaves a folder and no process; the next drill removes it and passes."""
    killed_at("os.rename", lambda *given: str(given[1]).endswith("/datasets/entries"), lambda: site.drill("none"))
    (left,) = site.sandboxes
    assert Sandbox(left).state.workload == "ledger"
    assert (left / "vault").is_dir()
    assert drill_processes(site) == set()
    assert site.drill("none").passed
    assert site.sandboxes == []


def test_a_drill_ended_by_sigterm_leaves_nothing(site: DrillSite, nothing_outside: None) -> None:
    """It stops in order: exit code 130, and neither process nor folder is left."""
    site.write_secrets()
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path), "TOKEN": "hunter2"}
    with subprocess.Popen(
        [sys.executable, "-c", MIDWAY, str(site.folder)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=site.folder,
    ) as drill:
        assert drill.stdout is not None
        assert any("midway" in line for line in drill.stdout), "it never came so far"
        assert len(site.sandboxes) == 1
        drill.send_signal(signal.SIGTERM)
        drill.communicate(timeout=120)
    assert drill.returncode == 130
    assert site.sandboxes == []
    assert drill_processes(site) == set()


def test_processes_that_outlived_a_killed_drill_are_ended_with_their_ports(site: DrillSite, tmp_path: Path) -> None:
    """What has left its parent, and its process group, is known by its mark; a sandbox in use, and a game day, stay as they are."""
    platform = site.platform()
    dead, alive = make(site.state, "ledger", platform.clock), make(site.state, "ledger", platform.clock)
    code = (
        "import json, sys; from pathlib import Path; from muster.codec import to_json; from muster.domain.drill import Choice\n"
        "from datetime import UTC, datetime; from muster.drills.sandbox import DrillState, Owner, Sandbox\n"
        "state = DrillState('ledger', 'p', 'p', Owner.ours(), datetime.now(UTC), Choice(None, 'none'), None, 'x')\n"
        "Sandbox(Path(sys.argv[1])).write(state)\n"
    )
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", code, str(dead.folder)], check=True, env=environment)
    state = json.loads((dead.folder / "drill.json").read_text())
    state["owner"] |= {"pid": os.getpid(), "began": psutil.Process().create_time()}
    (alive.folder / "drill.json").write_text(json.dumps(state))
    ports, squatters = [], []
    for sandbox in (dead, alive):
        squatter = subprocess.Popen(
            [sys.executable, "-c", SQUATTER],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, MARK: str(sandbox.folder)},
            start_new_session=True,
        )
        assert squatter.stdout is not None
        ports.append(int(squatter.stdout.readline()))
        squatter.stdout.close()
        squatters.append(squatter)
    assert set(ports) <= listening()
    assert clean(platform) == [dead.folder]
    assert (free(ports[0]), free(ports[1])) == (True, False)
    assert processes_of(dead.folder) == []
    assert [path.name for path in site.sandboxes] == [alive.folder.name]
    tear_down(alive.folder)
    assert free(ports[1])
    for squatter in squatters:
        squatter.wait(timeout=10)
    assert site.sandboxes == []


def test_a_sandbox_is_removed_with_all_that_is_read_only_in_it(site: DrillSite) -> None:
    """DVC's cache is read-only, and a drill leaves nothing behind."""
    sandbox = make(site.state, "ledger", site.platform().clock)
    (sandbox.folder / "cache").mkdir()
    (sandbox.folder / "cache/object").write_text("x")
    (sandbox.folder / "cache/object").chmod(0o444)
    (sandbox.folder / "cache").chmod(0o555)
    tear_down(sandbox.folder)
    assert not sandbox.folder.exists()


def test_a_sandbox_that_cannot_be_made_is_told_in_plain_words(site: DrillSite, tmp_path: Path) -> None:
    """Nothing is restored, nothing runs, and the hint names what to look at."""
    (tmp_path / "drills").write_text("in the way")
    with pytest.raises(
        StoreUnavailable, match=r"no sandbox could be made at .*nothing was restored, and nothing runs"
    ) as told:
        make(tmp_path, "ledger", site.platform().clock)
    assert "MUSTER_STATE" in told.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["drills"]


def test_a_sandbox_that_cannot_be_torn_down_is_told_with_what_is_left(site: DrillSite) -> None:
    """Processes that come again whenever they are ended are named, and the drill does not pass over them."""
    sandbox = make(site.state, "ledger", site.platform().clock)
    with subprocess.Popen(
        [sys.executable, "-c", HYDRA, MARK, str(sandbox.folder)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as hydra:
        assert hydra.stdout is not None
        hydra.stdout.readline()
        try:
            with pytest.raises(MusterError, match=r"are still running: [0-9]") as told:
                _tear_down_again_and_again(sandbox)
            assert "muster drill --clean" in told.value.hint
        finally:
            os.killpg(hydra.pid, signal.SIGKILL)
    tear_down(sandbox.folder)
    assert processes_of(sandbox.folder) == []


def _tear_down_again_and_again(sandbox: Sandbox) -> None:
    """What grows again does so now and then between two looks."""
    for _ in range(40):
        tear_down(sandbox.folder)
        time.sleep(0.17)
        sandbox.folder.mkdir()


def test_only_a_sandbox_is_removed_by_name(site: DrillSite, tmp_path: Path) -> None:
    """A folder elsewhere, and the folder of all sandboxes, are refused."""
    (tmp_path / "precious").mkdir()
    for folder in (tmp_path / "precious", site.state / "drills", site.state / "drills" / ".." / "reports"):
        with pytest.raises(Refused, match=r"is no sandbox of a drill"):
            remove(site.state, folder)
    assert (tmp_path / "precious").exists()
