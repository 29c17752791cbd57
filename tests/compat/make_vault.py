"""
How a committed vault was made: ``PYTHONPATH=include:tests python tests/compat/make_vault.py FOLDER``.

A format's vault is made once and never again.

Keys, salts and nonces are random, so another run gives another vault of the same content.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from fakes import FrozenClock
from muster.adapters.local_store import LocalStore
from muster.domain.recovery_point import Component, Mark, RecoveryPoint
from muster.ports import SourceFile
from muster.vault.vault import Actor, Passphrase, Vault
from vaults import memory_file, noise

FILES = {
    "data/numbers.csv": b"n,square\n" + b"".join(b"%d,%d\n" % (n, n * n) for n in range(500)),
    "data/empty": b"",
    "data/\u00fcber \u65e5\u672c.bin": noise(3000, 42),
    "copy of numbers.csv": b"n,square\n" + b"".join(b"%d,%d\n" % (n, n * n) for n in range(500)),
}
PASSPHRASE = "the committed vault holds no secret"
TAKEN = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
POINTS = ("20261123T020000Z-00c0ffee", "20261124T020000Z-00c0ffee")


def make(folder: Path) -> str:
    """Write the vault into a new folder; return its recovery key."""
    clock = FrozenClock(TAKEN)
    vault, recovery = Vault.create(
        LocalStore(folder), Passphrase(PASSPHRASE), clock=clock, actor=Actor("founder", "example", "make_vault.py")
    )
    point = _point(vault, POINTS[0], FILES)
    vault.seal(point)
    vault.mark(Mark("squares", POINTS[0], "verified", clock.advance(60), {"share": 1.0}))
    clock.advance(86_400)
    second = _point(vault, POINTS[1], FILES | {"new": b"since yesterday"})
    vault.seal(replace(second, previous=POINTS[0], taken_at=clock.now(), sealed_at=clock.now()))
    vault.mark(Mark("squares", POINTS[1], "suspect", clock.advance(60), {"reason": "an example"}))
    return recovery.text


def _point(vault: Vault, name: str, files: dict[str, bytes]) -> RecoveryPoint:
    mtime = int(TAKEN.timestamp()) * 10**9 + 123_456_789
    sources = [memory_file(path, content, mode=0o640, mtime_ns=mtime) for path, content in files.items()]
    sources += [SourceFile("nothing in it", kind="dir", mode=0o755), SourceFile("link", kind="link", link="data/empty")]
    with vault.writer() as writer:
        tree = writer.store_tree(sources)
    component = Component("dataset", "squares", tree, TAKEN, "made for the test", {"rows": 500})
    objectives = {"rpo_s": 86_400.0, "rto_s": 900.0}
    return RecoveryPoint(1, vault.id, "squares", name, TAKEN, TAKEN, None, (component,), (), objectives, {}, "0")


if __name__ == "__main__":
    key = make(Path(sys.argv[1]))
    Path(sys.argv[1]).with_suffix(".keys.json").write_text(json.dumps({"passphrase": PASSPHRASE, "recovery_key": key}))
