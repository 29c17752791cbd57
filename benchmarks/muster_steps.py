"""
The steps of Muster that the benchmark times, each a process of its own, as the command line would be.

    muster_steps.py create VAULT
    muster_steps.py snapshot VAULT REPOSITORY
    muster_steps.py restore VAULT REPOSITORY
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path

from muster.adapters.dvc_datasets import DvcSource, DvcTarget
from muster.adapters.stores import open_store
from muster.adapters.system_clock import SystemClock
from muster.operations.seal import seal_point
from muster.operations.snapshot import capture, pin_point
from muster.vault.vault import Actor, Passphrase, Vault

WORKLOAD = "benchmark"
_PASSPHRASE = Passphrase("of a vault that lives for a minute")
_CLOCK = SystemClock()
_ACTOR = Actor("benchmark", socket.gethostname(), "benchmarks/muster_steps.py")


def create(vault: str) -> None:
    Vault.create(open_store(vault), _PASSPHRASE, clock=_CLOCK, actor=_ACTOR)


def snapshot(vault: str, repository: str) -> None:
    """Pin, capture and seal a recovery point that holds the dataset alone."""
    opened = _open(vault)
    source = DvcSource("data", Path(repository))
    pin = pin_point(opened, WORKLOAD, _CLOCK)
    handover = capture(opened, pin, source)
    label = f"{source.kind}/{source.name}"
    seal_point(
        opened,
        pin,
        [handover],
        expected=[label],
        objectives={"rpo_s": 86400.0, "rto_s": 900.0},
        catalog={},
        clock=_CLOCK,
    )


def restore(vault: str, repository: str) -> None:
    """The dataset of the latest point as a DVC repository: workspace, cache and remote."""
    opened = _open(vault)
    (component,) = opened.point("latest", WORKLOAD).point.of_kind("dataset")
    DvcTarget(component.name, Path(repository)).restore(component.details, opened.tree(component.tree))


def _open(vault: str) -> Vault:
    return Vault.open(open_store(vault), _PASSPHRASE, clock=_CLOCK, actor=_ACTOR)


if __name__ == "__main__":
    STEPS: dict[str, Callable[..., None]] = {"create": create, "snapshot": snapshot, "restore": restore}
    STEPS[sys.argv[1]](*sys.argv[2:])
