"""The flights under version control: a Git repository in which DVC tracks the data, with a remote beside it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from muster.demo.processes import ProcessTree

DATA = "data/flights"


def make_repository(tree: ProcessTree, repository: Path, remote: Path, log: Path) -> None:
    """
    Put ``data/flights`` of a folder under Git and DVC, and push it to a new remote.

    :raises MusterError: if git or dvc fails; the message carries what it said
    """
    remote.mkdir(parents=True)
    git = ["git", "-C", str(repository)]
    dvc = [sys.executable, "-m", "dvc", "--cd", str(repository)]
    for name, command in (
        ("git init", ["git", "init", "--quiet", "--initial-branch", "main", str(repository)]),
        ("dvc init", [*dvc, "init", "--quiet"]),
        ("dvc remote add", [*dvc, "remote", "add", "--default", "store", str(remote)]),
        ("dvc add", [*dvc, "add", "--quiet", DATA]),
        ("git add", [*git, "add", "."]),
        (
            "git commit",
            [*git, "commit", "--quiet", "--message", "Flights of 2013 with their weather, one file a month"],
        ),
        ("dvc push", [*dvc, "push", "--quiet"]),
    ):
        tree.run(name, command, env=git_environment(), log=log)


def dataset_md5(repository: Path) -> str:
    """DVC's identity of the dataset: what a model says it was trained on."""
    import yaml

    document = yaml.safe_load((repository / f"{DATA}.dvc").read_text())
    return str(document["outs"][0]["md5"])


def git_environment() -> dict[str, str]:
    """An environment in which Git commits as the demonstration, whatever this user's own configuration says."""
    return {
        **os.environ,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "Muster demo",
        "GIT_AUTHOR_EMAIL": "demo@localhost",
        "GIT_COMMITTER_NAME": "Muster demo",
        "GIT_COMMITTER_EMAIL": "demo@localhost",
        "DVC_NO_ANALYTICS": "1",
    }
