"""Encrypted data by the command line: the alarm, the names, and the acceptance, over a real vault and a real DVC dataset."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from protected_project import Project, make_project
from vaults import noise


def encrypt(project: Project) -> None:
    """Overwrite every table of the dataset with noise, and let DVC record that, as an unknowing pipeline would."""
    for number, path in enumerate(sorted((project.root / "numbers/data").glob("*.csv"))):
        path.chmod(0o644)
        path.unlink()
        path.write_bytes(noise(5000, number))
    command = [str(project.python), "-m", "dvc", "add", "-q", "data"]
    subprocess.run(command, cwd=project.root / "numbers", check=True, env=os.environ | {"DVC_NO_ANALYTICS": "1"})


def test_an_alarm_is_told_shown_and_accepted(tmp_path: Path) -> None:
    """Exit code 5 with numbers and the next step; `show` names files; the last good point stays the latest until `accept`."""
    project = make_project(tmp_path)
    project.make_vault()
    good = project.ask("snapshot", "small")["point"]["point"]
    encrypt(project)
    error = project.refuse("snapshot", "small")
    assert (error["kind"], error["exit_code"]) == ("ValidationFailed", 5)
    assert "dataset/numbers changed as if by ransomware" in error["message"]
    assert f"{good}, is held" in error["hint"]
    suspect = project.ask("points")[-1]["point"]["point"]
    assert f"muster accept {suspect}" in error["hint"]
    assert project.ask("show", "latest")["point"]["point"] == good
    shown = project.run("show", suspect).stdout
    assert "data/data/4.csv" in shown
    assert "noise" in shown
    assert project.refuse("accept", good, "--reason", "nothing is wrong with it")["kind"] == "UsageError"
    accepted = project.run("accept", suspect, "--reason", "the tables are encrypted from now on")
    assert accepted.returncode == 0, accepted.stderr
    assert f"accepted {suspect} of small: the tables are encrypted from now on" in accepted.stdout
    assert project.ask("show", "latest")["point"]["point"] == suspect
    assert project.ask("snapshot", "small")["point"]["previous"] == suspect
