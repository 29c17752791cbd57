"""The vault: everything that operations do with it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from muster.codec import to_json
from muster.domain.content import TreeRef
from muster.domain.recovery_point import Mark, PointStatus, RecoveryPoint
from muster.errors import AlreadyExists, Refused, StoreUnavailable
from muster.ports import BlobStore, Clock
from muster.vault.audit import AuditRecord, AuditTrail
from muster.vault.condemned import Condemnations
from muster.vault.findings import Finding, VerifyReport
from muster.vault.gate import Gate, store_anew
from muster.vault.header import Actor, Header, read_header
from muster.vault.holders import Passphrase, RecoveryKey, Secret
from muster.vault.holding import PointHolds
from muster.vault.index import Index
from muster.vault.keyholders import KeyHolders
from muster.vault.keys import ScryptCost
from muster.vault.layout import FORMAT, digest, point_id, point_key
from muster.vault.locking import PointLocks
from muster.vault.noted import NotedTrees
from muster.vault.opening import Opened, create, unlock
from muster.vault.points import Points
from muster.vault.reader import ChunkReader
from muster.vault.sealing import complete, still_complete
from muster.vault.seldom import Seldom
from muster.vault.tree_reader import StoredTree
from muster.vault.writer import VaultWriter, WriterStats

if TYPE_CHECKING:
    from muster.vault.rotation import RotationPlan

__all__ = [
    "Actor",
    "AuditRecord",
    "Finding",
    "Passphrase",
    "RecoveryKey",
    "Secret",
    "Vault",
    "VaultWriter",
    "VerifyReport",
    "WriterStats",
]


logger = logging.getLogger(__name__)


class Vault(Seldom):
    """
    An open vault. Cheap to open: the index is read when the first chunk is asked for.

    May be used from several threads, and by several processes and machines at once.
    """

    def __init__(self, store: BlobStore, opened: Opened, *, clock: Clock, actor: Actor) -> None:
        self._store, self._clock, self._actor = store, clock, actor
        self._header: Header = read_header(opened.header)
        self._left_alone = ""
        self._enter(opened)

    def _enter(self, opened: Opened) -> None:
        self._opened, self._master, self._authority = opened, opened.master, opened.authority
        self._index = Index(self._store, self._master)
        self._reader = ChunkReader(self._store, self._master, self._index)
        self._noted = NotedTrees()
        self._points = Points(self._store, self._authority, self._header.id)
        self._trail = AuditTrail(self._store, self._authority, self._header)
        self._condemned = Condemnations(self._store, self._authority, self._header.id)
        self._locks = PointLocks(self._store, self._points, self._index, self.holders.current_objects)
        self._holds = PointHolds(self._store, self._points, self._index, self._reader)

    # --- making and opening -------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        store: BlobStore,
        passphrase: Passphrase,
        *,
        clock: Clock,
        actor: Actor,
        cost: ScryptCost | None = None,
        keep: Callable[[RecoveryKey], object] = lambda _: None,
    ) -> tuple[Vault, RecoveryKey]:
        """
        Make a vault in a store. The recovery key is nowhere else: show it once, for keeping offline.

        ``vault.json`` is written after the keys, so a creation that was cut short can be begun again.

        :param keep: is given the recovery key before it opens anything, so that no vault has one that nobody holds
        :raises AlreadyExists: if the store holds a vault
        """
        opened, recovery = create(store, passphrase, clock.now(), actor, cost or ScryptCost(), keep)
        created = cls(store, opened, clock=clock, actor=actor)
        try:
            created._trail.begin()
        except (Refused, StoreUnavailable) as error:  # whoever writes the next record writes this one, too
            logger.warning("the creation of %s is not recorded yet: %s", store.url, error.message)
        return created, recovery

    @classmethod
    def open(cls, store: BlobStore, secret: Secret, *, clock: Clock, actor: Actor) -> Vault:
        """
        Open a vault with any of its keys.

        :raises NotFound: if there is no vault in the store
        :raises WrongKey: if no key slot was made for this secret
        :raises IntegrityError: if ``vault.json`` or the key slots were damaged or forged
        """
        return cls(store, unlock(store, secret), clock=clock, actor=actor)

    @property
    def id(self) -> str:
        """Its name: 32 hex digits."""
        return self._header.id

    @property
    def url(self) -> str:
        """Where it is, without any secret."""
        return self._store.url

    @property
    def actor(self) -> Actor:
        """Who acts: as whom it was opened."""
        return self._actor

    @property
    def signing_fingerprint(self) -> str:
        """Hex SHA-256 of the public key that signs manifests, marks and audit records."""
        return self._authority.fingerprint

    @property
    def outdated(self) -> bool:
        """Whether it was opened with a key that was replaced: then it can be read, as far as that key goes, and not be written to."""
        return self._authority.barred is not None

    @property
    def silent(self) -> str:
        """Why nothing can be recorded in it, in words; empty if something can, as far as is known."""
        barred = self._authority.barred
        return barred.message if barred else self._left_alone

    def leave_alone(self, why: str) -> None:
        """Write nothing to it from now on: its store does not let us. What can be read is read."""
        self._left_alone = why

    # --- content ------------------------------------------------------------------------------------------------------

    @contextmanager
    def writer(self) -> Iterator[VaultWriter]:
        """
        Store trees. They are durable when the context is left; if it is left by an exception, what is whole is kept and
        found again by the next writer.
        """
        self._gate()
        cut = self._header.chunker.cutter()
        writer = VaultWriter(self._store, self._master, self._index, cut, self._noted)
        try:
            yield writer
        except BaseException as error:
            writer.close_after(error)
            raise
        writer.close()

    def tree(self, ref: TreeRef) -> StoredTree:
        """A stored tree, for reading."""
        return StoredTree(self._reader, ref)

    # --- points -------------------------------------------------------------------------------------------------------

    def seal(self, point: RecoveryPoint, lock: timedelta | None = None) -> RecoveryPoint:
        """
        Write the manifest of a point, after proving that the vault has everything that it names.

        Sealing the same components under the same id again returns the point that is there, and goes on where the first was cut off.

        :param lock: for how long from now the store itself is to refuse to remove anything of it. In a store that cannot, the point
            is sealed all the same, its `locked_until` is None, and the audit record says that a lock was wanted
        :raises IncompletePoint: if a chunk or a pack is missing; nothing was written
        :raises AlreadyExists: if other components were sealed under this id
        :raises KeysRotated: if the keys were rotated meanwhile, so that it may not count: seal it anew with a vault opened anew
        :raises Refused: if a pack could not be locked: nothing was sealed; or if something else of the point could not, as the message
            says: the point is sealed, and sealing it again goes on. StoreUnavailable likewise
        """
        if there := self._points.sealed(point.workload, point.point):
            return self._sealed_before(point, there, lock)
        gate = self._gate()
        locked_until = self._locks.end(self._clock.now(), lock)
        unsealed = replace(point, format=FORMAT, vault=self.id, locked_until=locked_until)
        sealed = complete(unsealed, self._index, self._reader, self._store_anew, self._noted)
        self._locks.packs(sealed)
        gate.check_time()
        self._authority.confirm()
        try:
            manifest = self._points.write(sealed, self._trail.anchor())
        except AlreadyExists:
            if there := self._points.sealed(point.workload, point.point):
                return self._sealed_before(point, there, lock)
            raise
        record = self._record_seal(sealed, manifest, lock)
        self._locks.documents(sealed, record.key)
        still_complete(sealed, self._index)
        return sealed

    def points(self, workload: str | None = None) -> list[PointStatus]:
        """
        All points, oldest first.

        :raises IntegrityError: naming the first manifest or mark that is damaged or forged
        """
        return self._points.statuses(workload)

    def point_ids(self, workload: str) -> list[str]:
        """The ids of all points of a workload, oldest first; nothing of them is read."""
        return [point_id(key) for key in self._points.keys(workload)]

    def readable_points(self, workload: str | None = None, point: str | None = None) -> list[PointStatus]:
        """
        All points, or the one of a name, that can be read, with those marks that can: for verification, which names the others.

        Never choose a point to restore from these: what speaks against one may be in a mark that is damaged.
        """
        return self._points.readable(workload, point, self._clock.now())

    def point(self, point: str, workload: str | None = None) -> PointStatus:
        """
        One point: by its id, by a beginning of it that no other has, or ``latest`` for the newest that is not suspect, nor of the future.

        :raises NotFound: if there is none; the hint lists what there is
        :raises UsageError: if ``latest`` could be of several workloads
        """
        return self._points.find(point, workload, self._clock.now())

    def mark(self, mark: Mark) -> None:
        """
        Say what was learned of a point.

        :raises NotFound: if there is no such point
        """
        key, written = self._points.write_mark(mark, self._trail.known_anchor())
        self.record("mark", key, mark.kind, {"sha256": written})

    def hold_objects(self, status: PointStatus) -> int:
        """
        Put manifest and packs of a point under a legal hold of the store; return how many objects, 0 where it has no holds.

        :raises Refused: if our rights in the store do not allow it
        :raises IntegrityError: if something of it is nowhere; what is there is held
        """
        return self._holds.hold(status)

    def release_objects(self, status: PointStatus) -> int:
        """
        Lift that hold, except from packs that another held point needs; return how many objects.

        :raises IntegrityError: if it cannot be told which other points are held, or what they need
        """
        return self._holds.release(status, self.points())

    # --- audit, proof -------------------------------------------------------------------------------------------------

    def record(
        self, action: str, subject: str, outcome: str, details: dict[str, Any] | None = None, by: Actor | None = None
    ) -> AuditRecord:
        """
        Add to the audit trail who did what (`by`, or else the actor that opened the vault), now. No secrets.

        :raises WrongKey: if the vault was opened with a key that was replaced
        :raises KeysRotated: if its keys were rotated meanwhile, so that neither this record nor what it tells of may count
        """
        self._authority.confirm()
        record = self._trail.append(self._clock.now(), by or self._actor, action, subject, outcome, details or {})
        self._authority.confirm()
        return record

    def record_if_possible(self, action: str, subject: str, outcome: str, details: dict[str, Any]) -> bool:
        """As `record`, where the want of a record is no reason to stop; whether there is one. The log says why not."""
        try:
            if not self.silent:
                self.record(action, subject, outcome, details)
        except (Refused, StoreUnavailable) as error:
            logger.warning("%s of %s (%s) is not recorded: %s", action, subject, outcome, error.message)
            return False
        return not self.silent

    def audit(self) -> list[AuditRecord]:
        """
        The audit trail, oldest first.

        :raises IntegrityError: naming the record that is missing, damaged or forged
        """
        return self._trail.records()

    def find_record(self, action: str, subject: str, wanted: Callable[[AuditRecord], bool]) -> AuditRecord | None:
        """The newest record of an action on a subject, with a valid signature, that is wanted; None if there is none."""
        return self._trail.find(action, subject, wanted)

    def records_since(self, moment: datetime) -> list[AuditRecord]:
        """Records with a valid signature, of a moment and later, oldest first."""
        return self._trail.since(moment)[0]

    # --- keys ---------------------------------------------------------------------------------------------------------

    @property
    def holders(self) -> KeyHolders:
        """Who can open this vault: to be listed, added, proven and revoked."""
        return KeyHolders(self._store, self._opened, self._trail, self._clock.now, self.record)

    def add_passphrase(self, name: str, passphrase: Passphrase, *, cost: ScryptCost | None = None) -> None:
        """Let another passphrase open this vault."""
        self.holders.add_passphrase(name, passphrase, cost or ScryptCost())

    def rotate(self, plan: RotationPlan) -> None:
        """
        Replace the keys as planned. This vault goes on with the new ones; what others have open must be opened again.

        :raises KeysRotated: if somebody else rotated in the meantime; nothing came of this one
        """
        self._enter(self.rotation.carry_out(plan, self._actor, self._trail.head()))
        self.rotation.conclude(plan)

    def put_back_keys(self, replica: BlobStore) -> list[str]:
        """
        Put back what tells of the keys from a copy of the vault (`Healing.put_back_keys`), and go on with them; return the objects.

        :raises UsageError: if it is no copy of this vault
        """
        done = self.healing.put_back_keys(replica)
        if done:
            self._enter(unlock(self._store, self._opened.secret))
        return done

    def _gate(self) -> Gate:
        """Nothing builds on packs that were found damaged, or that expiry is about to remove, nor is written with a replaced key."""
        self._authority.confirm()
        self._index.distrust(self._points.damaged_packs())
        return Gate(self._condemned, self._index, self._clock)

    def _store_anew(self, chunks: Iterable[bytes]) -> None:
        store_anew(self._store, self._master, self._index, self._reader, chunks)

    def _record_seal(self, point: RecoveryPoint, manifest: str, lock: timedelta | None) -> AuditRecord:
        told = {"locked_until": to_json(point.locked_until)} if lock else {}
        return self.record("seal", point_key(point.workload, point.point), "sealed", {"sha256": manifest, **told})

    def _sealed_before(self, wanted: RecoveryPoint, there: RecoveryPoint, lock: timedelta | None) -> RecoveryPoint:
        """The point that is there; it is recorded and locked now if whoever wrote it was killed before that."""
        if there.components != wanted.components:
            raise AlreadyExists(
                f"point {there.point} of {there.workload} is sealed already, with other components",
                "a sealed point never changes: take a new snapshot",
            )
        key = point_key(there.workload, there.point)
        record = self._trail.find("seal", key)
        record = record or self._record_seal(there, digest(self._store.get(key)), lock)
        self._locks.documents(there, record.key)
        return there
