"""
How the committed vault of three generations was made: ``PYTHONPATH=include:tests python tests/compat/make_rotated_vault.py FOLDER``.

A format's vault is made once and never again.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from fakes import FrozenClock
from muster.adapters.local_store import LocalStore
from muster.domain.recovery_point import Component, RecoveryPoint
from muster.vault.holders import Secret
from muster.vault.keys import ScryptCost
from muster.vault.vault import Actor, Passphrase, Vault
from vaults import memory_file

FILES = {
    "numbers.csv": b"n,cube\n" + b"".join(b"%d,%d\n" % (n, n**3) for n in range(300)),
    "empty": b"",
}
TAKEN = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
POINTS = tuple(f"202611{day}T020000Z-0ddba11{n}" for n, day in enumerate((23, 24, 25)))
STAYS, LEAVES = "the committed vault holds no secret", "neither does whoever leaves"
QUICK = ScryptCost(n=1 << 12)


def make(folder: Path) -> dict[str, object]:
    """Write the vault into a new folder: a point, a rotation, a point, a rotation, a point; return who holds what."""
    clock = FrozenClock(TAKEN)
    actor = Actor("founder", "example", "make_rotated_vault.py")
    vault, recovery = Vault.create(LocalStore(folder), Passphrase(STAYS), clock=clock, actor=actor, cost=QUICK)
    vault.add_passphrase("leaver", Passphrase(LEAVES), cost=QUICK)
    _, shares = vault.holders.add_shares("board", 2, 3)
    for generation, point in enumerate(POINTS):
        _seal(vault, point, clock.now(), FILES | {f"of generation {generation}": b"%d" % generation})
        clock.advance(86_400)
        if generation < len(POINTS) - 1:
            staying: tuple[Secret, ...] = (Passphrase(LEAVES),) if generation else ()
            vault.rotate(vault.rotation.plan(staying, ()))
    return {
        "passphrase": STAYS,
        "left_out": LEAVES,
        "recovery_key": recovery.text,
        "shares": [share.text for share in shares],
    }


def _seal(vault: Vault, name: str, at: datetime, files: dict[str, bytes]) -> None:
    with vault.writer() as writer:
        tree = writer.store_tree([memory_file(path, content) for path, content in sorted(files.items())])
    component = Component("dataset", "cubes", tree, at, "made for the test", {"rows": 300})
    point = RecoveryPoint(1, vault.id, "cubes", name, at, at, None, (component,), (), {"rpo_s": 86_400.0}, {}, "0")
    vault.seal(point)


if __name__ == "__main__":
    keys = make(Path(sys.argv[1]))
    Path(sys.argv[1]).with_suffix(".keys.json").write_text(json.dumps(keys, indent=1))
