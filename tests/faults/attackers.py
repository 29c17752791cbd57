"""A vault worth attacking, what must hold of it whatever an attacker did, and a second vault that is the attacker's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fakes import FrozenClock, MemoryStore
from muster.domain.content import TreeRef
from muster.domain.recovery_point import Mark, MarkKind, RecoveryPoint
from muster.errors import MusterError
from muster.operations.hold import hold_point
from muster.operations.verify import Thoroughness, examine
from muster.vault.vault import Passphrase, RecoveryKey, Vault, VerifyReport
from vaults import ACTOR, CHEAP, PASSPHRASE, POINT, make_vault, noise, point_over, store_tree

DAY = 24 * 3600.0
FIRST = {"flights.csv": noise(4000, 1), "notes.txt": b"as it was on Monday " * 50}
SECOND = {**FIRST, "notes.txt": b"as it was on Tuesday " * 50}
THEIRS = Passphrase("what only the attacker knows")


@dataclass
class Site:
    """A vault of two nights: the first verified, the second held and suspect. An attacker's hands are in `store.objects`."""

    clock: FrozenClock = field(default_factory=FrozenClock)
    store: MemoryStore = field(init=False)
    recovery: RecoveryKey = field(init=False)
    trees: list[TreeRef] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.clock)
        vault, self.recovery = make_vault(self.store, self.clock)
        for number, files in enumerate((FIRST, SECOND)):
            self.trees.append(store_tree(vault, files))
            self.seal(vault, self.trees[-1], number=number)
        examine(vault, vault.points()[:1], Thoroughness(), self.clock)
        hold_point(vault, vault.point(f"{POINT}1"), "evidence", self.clock)
        self.mark(vault, "suspect", 1, {"reason": "a person doubts it"})

    def open(self, secret: Passphrase | RecoveryKey = PASSPHRASE) -> Vault:
        """The vault as somebody who comes anew sees it."""
        return Vault.open(self.store, secret, clock=self.clock, actor=ACTOR)

    def seal(self, vault: Vault, *trees: TreeRef, number: int) -> RecoveryPoint:
        """A point that is taken now."""
        now = self.clock.advance(DAY)
        return vault.seal(replace(point_over(vault, *trees, number=number), taken_at=now, sealed_at=now))

    def mark(self, vault: Vault, kind: MarkKind, number: int, summary: Mapping[str, str]) -> None:
        vault.mark(Mark("flights", f"{POINT}{number}", kind, self.clock.advance(1), dict(summary)))

    def keys(self, kind: str) -> list[str]:
        """The objects whose keys begin so."""
        return sorted(key for key in self.store.objects if key.startswith(kind))

    def key(self, kind: str) -> str:
        """The one object whose key begins so."""
        (one,) = self.keys(kind)
        return one

    def take(self, *keys: str) -> dict[str, bytes]:
        """Delete objects; return what they were."""
        return {key: self.store.objects.pop(key) for key in keys}


def files_of(vault: Vault, tree: TreeRef) -> dict[str, bytes]:
    """Every file of a tree, read back through all checks."""
    stored = vault.tree(tree)
    return {entry.path: stored.read(entry) for entry in stored.entries()}


def restored(vault: Vault, number: int) -> dict[str, bytes] | str:
    """What a restore of a point, named by its id, gives: its files, or what the error of ours says."""
    try:
        (component,) = vault.point(f"{POINT}{number}", "flights").point.components
        return files_of(vault, component.tree)
    except MusterError as error:
        return error.message


def named(report: VerifyReport) -> set[str]:
    """The objects that a verification names as damaged, forged or gone."""
    return {finding.object for finding in report.findings}


def noticed(report: VerifyReport) -> set[str]:
    """The objects that it names without calling them damage."""
    return {notice.object for notice in report.notices}


def assert_content_safe(site: Site, number: int = 5) -> None:
    """Both nights are what they were, chunk by chunk; another can be taken, and is what it was."""
    vault = site.open()
    assert [files_of(vault, tree) for tree in site.trees] == [FIRST, SECOND]
    files = {**SECOND, "tomorrow": noise(3000, number)}
    site.seal(site.open(), store_tree(site.open(), files), number=number)
    assert restored(site.open(), number) == files


def own_vault(site: Site) -> MemoryStore:
    """A vault that the attacker made elsewhere, with names as in ours; whoever has their passphrase opens it."""
    theirs = MemoryStore(site.clock, "theirs")
    vault, _ = Vault.create(theirs, THEIRS, clock=site.clock, actor=ACTOR, cost=CHEAP)
    for number, files in enumerate(({"x": b"first"}, {"x": b"poison"})):
        vault.seal(point_over(vault, store_tree(vault, files), number=number))
    vault.seal(point_over(vault, store_tree(vault, {"x": b"poison"}), number=9))
    for kind in ("suspect", "held", "accepted", "released", "verified"):
        vault.mark(Mark("flights", f"{POINT}0", kind, site.clock.now(), {"reason": "forged"}))  # type: ignore[arg-type]
    vault.healing.note(pack.rpartition("/")[2] for pack in site.keys("packs/"))
    vault._condemned.write((pack.rpartition("/")[2] for pack in site.keys("packs/")), site.clock.now())
    vault.rotate(vault.rotation.plan((), ()))
    return theirs
