"""A snapshot that is killed: of real files, of three components, as a run whose tasks are tried again."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from functools import partial
from pathlib import Path

from expiring import ClockedFolder, expire, packs
from fakes import FrozenClock
from faults.kills import Contents, assert_nothing_but_objects, assert_sound, needed_packs, restored
from muster.adapters.configuration import ENVIRONMENT, FILES, SECRETS, ConfigurationSource
from muster.adapters.local_store import LocalStore
from muster.adapters.system_clock import SystemClock
from muster.domain.retention import RetentionPolicy
from muster.operations.resume import pin_for_run, sealed_before
from muster.operations.seal import seal_point
from muster.operations.snapshot import Handover, Pin, capture
from muster.operations.together import side_by_side
from muster.vault.index_merge import MOST
from muster.vault.vault import Vault
from vault_snapshots import named_packs
from vaults import make_vault, noise, read_folder, reopen, store_tree

PARTS = ("rates", "rules", "words")
LARGE = "large"
NIGHTS = 2
KEEP = {"flights": RetentionPolicy(last=100)}
MiB = 1024 * 1024
STAGES = (
    "nothing is written",
    "packs are there that no index names",
    "some indexes are there",
    "all indexes are there",
    "one index stands for many",
    "the manifest is there and not recorded",
    "the seal is recorded",
    "all is written",
)
BRIEF = {"all is written"}
"""Stages that take so few steps that two hundred kills may pass them by."""


def write_files(home: Path, night: int) -> None:
    """The living files as they are at a night: one that stays, one that changes, one that is added, an empty one."""
    for number, part in enumerate(PARTS):
        folder = home / "living" / part
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "stays").write_bytes(noise(3000, number))
        (folder / "empty").write_bytes(b"")
        (folder / "changes").write_bytes(noise(20_000, 100 * night + number))
        (folder / f"added-{night}").write_text(f"{part} of night {night}\n" * 200)


def living(home: Path, parts: tuple[str, ...]) -> Contents:
    """What a point of the living files holds."""
    return {f"configuration/{part}": _component(home / "living" / part) for part in parts}


def _component(folder: Path) -> dict[str, bytes]:
    files = {f"{FILES}{folder.name}/{path}": content for path, content in read_folder(folder).items()}
    return files | {ENVIRONMENT: b"", SECRETS: b"{}"}


def snapshot(home: Path, vault: Path, run: str, parts: tuple[str, ...] = PARTS) -> str:
    """
    Take a point as the tasks of a DAG do, some side by side and some later; return its name. The same run again goes on where the first
    was cut off.
    """
    clock = SystemClock()
    opened = reopen(LocalStore(vault), clock=clock)
    pin = pin_for_run(opened, "flights", run, clock)
    sources = [ConfigurationSource(part, home / "living", [part], [], {}) for part in parts]
    handovers: list[Handover] = []
    for together in (sources[:2], sources[2:]):
        handed, failures = side_by_side(partial(_captured, opened, pin), together)
        for failure in failures:
            raise failure
        handovers += handed
    labels = [handover.component for handover in handovers]
    seal_point(opened, pin, handovers, expected=labels, objectives={}, catalog={}, clock=clock)
    return pin.point


def _captured(vault: Vault, pin: Pin, source: ConfigurationSource) -> Handover:
    return sealed_before(vault, pin, f"{source.kind}/{source.name}") or capture(vault, pin, source)


class KilledSnapshot:
    """See `faults.kills.Work`."""

    def __init__(self) -> None:
        self._old: dict[str, Contents] = {}

    def prepare(self, home: Path) -> None:
        """A vault with some points, and so many index objects that the next snapshot merges them."""
        vault = home / "vault"
        opened, _ = make_vault(LocalStore(vault), SystemClock())
        for number in range(MOST - 3 - NIGHTS * len(PARTS)):  # the first point stores its runbook, with an index
            store_tree(opened, {"abandoned": noise(1000, 1000 + number)})
        for night in range(NIGHTS):
            write_files(home, night)
            self._old[snapshot(home, vault, f"night {night}")] = living(home, PARTS)
        write_files(home, NIGHTS)
        (home / "living" / LARGE).mkdir()
        (home / "living" / LARGE / "file").write_bytes(noise(34 * MiB, 7))
        assert restored(LocalStore(vault)) == self._old

    def do(self, home: Path, vault: Path, *, long: bool = False) -> None:
        snapshot(home, vault, "killed", (*PARTS, LARGE) if long else PARTS)

    def stage(self, before: set[str], after: set[str]) -> str:
        new = Counter(key.partition("/")[0] for key in after - before)
        reached = (
            True,
            new["packs"] > 0,
            new["indexes"] > 0,
            new["indexes"] >= len(PARTS),
            new["indexes"] > len(PARTS),
            new["points"] == 1,
            new["audit"] >= 1,
            new["audit"] == 2,
        )
        return [stage for stage, there in zip(STAGES, reached, strict=True) if there][-1]

    def check(self, home: Path, vault: Path, number: int, *, long: bool) -> None:
        """
        Every point of before is whole, the killed one whole or not there. The run again, or another, makes a point, and expiry (after each
        third kill) then leaves the packs that the points need and no other.
        """
        parts = (*PARTS, LARGE) if long else PARTS
        store = LocalStore(vault)
        assert_nothing_but_objects(vault)
        points = restored(store)
        assert {name: points.pop(name) for name in self._old} == self._old
        assert list(points.values()) in ([], [living(home, parts)])
        assert_sound(store)
        assert named_packs(reopen(store)) <= packs(store)
        new = snapshot(home, vault, "killed" if number % 2 else "another", parts)
        expected = self._old | points | {new: living(home, parts)}
        assert len(expected) == len(self._old) + len(points) + (number % 2 == 0 or not points)
        if number % 3 == 0:
            self._expire_all(vault)
            assert packs(store) == needed_packs(store)
        assert restored(store) == expected
        assert_sound(store)

    def _expire_all(self, vault: Path) -> None:
        """Let days go by until nothing is left to be removed."""
        clock = FrozenClock(SystemClock().now())
        for _ in range(2):
            clock.advance(timedelta(days=4).total_seconds())
            expire(ClockedFolder(vault, clock), clock, policies=KEEP)


WORK = KilledSnapshot()
