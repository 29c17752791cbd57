"""``make up`` and ``make down``: a process in the background that holds the platform until it is told to stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from muster.demo.airflow_platform import APPROVER, USER
from muster.demo.assembly import Running, assemble
from muster.demo.layout import PROJECT, Layout, claim, default_home, owner_of, take_ownership
from muster.demo.processes import ProcessTree
from muster.demo.story import Story
from muster.demo.workload import Site, check_tools
from muster.errors import MusterError

READY = "ready.json"
STOP_S = 60.0
WATCH_S = 2.0


def up() -> int:
    """Start the keeper, show what it says until the platform is ready, and leave it running."""
    check_tools()
    home = default_home()
    if owner_of(home) and (home / READY).exists():
        _show(home)
        return 0
    layout = claim(home)
    log = layout.home / "keeper.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "muster.demo", "keep"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _follow(log, layout.home / READY, process)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    _show(home)
    return 0


def keep() -> int:
    """
    Hold the platform until SIGTERM; this is the process in the background.

    :raises StoreUnavailable: if a part of the platform ends by itself; all the others are ended then, too
    """
    layout = Layout(default_home())
    take_ownership(layout.home)
    with ProcessTree() as tree:
        story = Story()
        story.chapter("A platform at work")
        running = assemble(story, tree, Site(layout))
        _announce(layout.home / READY, running)
        while True:
            for child in (running.registry, *running.airflow.children):
                child.check_alive()
            time.sleep(WATCH_S)


def down() -> int:
    """
    End the platform that `up` started, with every process of it.

    :raises MusterError: if it does not end
    """
    home = default_home()
    pid = owner_of(home)
    if pid is None:
        print("nothing is running")
        return 0
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    while owner_of(home) == pid:
        if time.monotonic() > deadline:
            raise MusterError(f"process {pid} has not ended after {STOP_S:.0f} s", f"read {home / 'keeper.log'}")
        time.sleep(0.1)
    (home / READY).unlink(missing_ok=True)
    print("down; its data stays in", home)
    return 0


def _announce(file: Path, running: Running) -> None:
    access = {
        "airflow": running.airflow.url,
        "user": USER,
        "password": running.airflow.passwords[USER],
        "approver": APPROVER,
        "approver_password": running.airflow.passwords[APPROVER],
        "mlflow": running.site.tracking_uri,
    }
    partial = file.with_suffix(".tmp")
    partial.touch(0o600)
    partial.write_text(json.dumps(access))
    partial.rename(file)


def _follow(log: Path, ready: Path, process: subprocess.Popen[bytes]) -> None:
    with log.open(encoding="utf-8", errors="replace") as said:
        while not ready.exists():
            print(said.read(), end="", flush=True)
            if process.poll() is not None:
                print(said.read(), end="", flush=True)
                raise MusterError(f"the platform did not start (code {process.returncode})", f"read {log}")
            time.sleep(0.2)
        print(said.read(), end="", flush=True)


def _show(home: Path) -> None:
    access = json.loads((home / READY).read_text())
    story = Story()
    story.panel(
        f"Airflow  [bold]{access['airflow']}[/]\n"
        f"user     [bold]{access['user']}[/]\npassword [bold]{access['password']}[/]\n"
        f"approver [bold]{access['approver']}[/]\npassword [bold]{access['approver_password']}[/]\n"
        f"MLflow   [bold]{access['mlflow']}[/]\n\n"
        "Trigger snapshot__flight_delays, then drill__flight_delays, in the UI; a restore asks the approver (Required Actions).\n"
        "Or by the command line:\n"
        f"  . {os.path.relpath(home / 'access.sh')}; {os.path.relpath(PROJECT / '.venv/bin/muster')} points\n"
        "make down ends it.",
        good=True,
    )
