"""
The steps of Muster that the registry benchmark times, each a process of its own, as the command line would be.

    registry_steps.py empty STORE ARTIFACTS
    registry_steps.py create VAULT
    registry_steps.py export VAULT STORE ARTIFACTS
    registry_steps.py restore VAULT STORE ARTIFACTS
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable

from muster.adapters.mlflow_registry import MlflowSource, MlflowTarget
from muster.adapters.stores import open_store
from muster.adapters.system_clock import SystemClock
from muster.operations.seal import seal_point
from muster.operations.snapshot import capture, pin_point
from muster.vault.vault import Actor, Passphrase, Vault

WORKLOAD = "benchmark"
_PASSPHRASE = Passphrase("of a vault that lives for a minute")
_CLOCK = SystemClock()
_ACTOR = Actor("benchmark", socket.gethostname(), "benchmarks/registry_steps.py")


def empty(store: str, artifacts: str) -> None:
    """What a server leaves when it starts on an empty database."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(store, artifacts)


def create(vault: str) -> None:
    Vault.create(open_store(vault), _PASSPHRASE, clock=_CLOCK, actor=_ACTOR)


def export(vault: str, store: str, artifacts: str) -> None:
    """Pin, capture and seal a recovery point that holds the registry alone."""
    opened = _open(vault)
    source = MlflowSource(WORKLOAD, store, artifacts)
    pin = pin_point(opened, WORKLOAD, _CLOCK)
    handover = capture(opened, pin, source)
    seal_point(
        opened,
        pin,
        [handover],
        expected=[f"{source.kind}/{source.name}"],
        objectives={"rpo_s": 86400.0, "rto_s": 900.0},
        catalog={},
        clock=_CLOCK,
    )


def restore(vault: str, store: str, artifacts: str) -> None:
    """The registry of the latest point, in a new store and a new folder; every table is read back and compared."""
    opened = _open(vault)
    (component,) = (c for c in opened.point("latest", WORKLOAD).point.components if c.kind == "registry")
    MlflowTarget(store, artifacts).restore(component.details, opened.tree(component.tree))


def _open(vault: str) -> Vault:
    return Vault.open(open_store(vault), _PASSPHRASE, clock=_CLOCK, actor=_ACTOR)


if __name__ == "__main__":
    STEPS: dict[str, Callable[..., None]] = {"empty": empty, "create": create, "export": export, "restore": restore}
    STEPS[sys.argv[1]](*sys.argv[2:])
