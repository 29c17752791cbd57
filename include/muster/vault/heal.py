"""
Bring back what was lost, from a replica: another store that holds a copy of the same vault.

Nothing is overwritten. An object that is gone comes back under its name, if that is free and its digest or signature holds. A chunk
whose packs are damaged is stored again, in a new pack. A damaged object that still has its name stays as it is: whoever may remove
it can do so, and heal again. Killed and run again, healing goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from muster.domain.recovery_point import RecoveryPoint
from muster.errors import AlreadyExists, IntegrityError, NotFound, UsageError
from muster.ports import BlobStore, Clock
from muster.vault.audit import AuditTrail
from muster.vault.authority import Authority
from muster.vault.damage import Damages
from muster.vault.foreign import own
from muster.vault.gate import store_anew
from muster.vault.generations import read_chain
from muster.vault.header import Header, read_header
from muster.vault.index import Index
from muster.vault.keys import MasterKey
from muster.vault.layout import AUDIT, HEADER, KEYS, MARKS, POINTS, RESTORE, ROLLS, digest, pack_key, slot_object
from muster.vault.points import Points
from muster.vault.reader import ChunkReader
from muster.vault.rolls import read_roll, roll_key
from muster.vault.slots import describe_slot
from muster.vault.told import told

_AT_ONCE = 8
Prove = Callable[[str, bytes], object]
"""Raises IntegrityError unless these bytes are what was stored under this key."""


class Healing:
    """What can be done for one vault that is open."""

    def __init__(
        self, store: BlobStore, master: MasterKey, authority: Authority, header: Header, index: Index, clock: Clock
    ) -> None:
        self._store, self._master, self._authority, self._header = store, master, authority, header
        self._index, self._clock = index, clock
        self._points = Points(store, authority, header.id)
        self._trail = AuditTrail(store, authority, header)

    # --- what is known of damage --------------------------------------------------------------------------------------

    def noted(self) -> set[str]:
        """Names of all packs that were ever found damaged."""
        return self._points.damaged_packs()

    def note(self, packs: Iterable[str]) -> None:
        """Note packs that were found damaged and that no mark speaks of: nothing new builds on them."""
        Damages(self._store, self._authority, self._header.id).write(packs, self._clock.now())

    def lacking(self, chunks: Iterable[str]) -> list[str]:
        """Those of the chunks (ids in hex) of which there is no copy in a pack that nothing is known against."""
        self._index.refresh()
        self._index.reconcile()
        self._index.distrust(self.noted())
        return [chunk for chunk in chunks if not self._index.holds(bytes.fromhex(chunk))]

    def is_copy(self, replica: BlobStore) -> bool:
        """
        Whether a store holds a copy of this vault, by its id; what comes from there is proved piece by piece.

        :raises IntegrityError: if its ``vault.json`` is damaged
        """
        try:
            return read_header(replica.get(HEADER)).id == self._header.id
        except NotFound:
            return False
        except IntegrityError as error:
            raise IntegrityError(
                f"in the replica {replica.url}, {error.message}", "mend or replace the replica"
            ) from error

    # --- chunks -------------------------------------------------------------------------------------------------------

    def index_all(self) -> None:
        """Store an index over the packs that none names."""
        store_anew(self._store, self._master, Index(self._store, self._master), self._reader(), ())
        self._index.refresh()

    def store_again(self, replica: BlobStore, chunks: Iterable[str]) -> list[str]:
        """
        Store chunks of damaged packs anew, as far as a replica has them whole; return those that it has not.

        Each is proved by its seal and its id when it is read there, and `prove` reads it here.

        :param chunks: ids in hex
        :raises UsageError: if it is no copy of this vault
        """
        self._check_same(replica)
        wanted = self.lacking(chunks)
        reader = _WhatIsLeft(replica, self._master, Index(replica, self._master))
        if wanted:
            store_anew(self._store, self._master, self._index, reader, map(bytes.fromhex, wanted))
        return self.prove(wanted)

    def prove(self, chunks: Sequence[str]) -> list[str]:
        """
        Read chunks that were stored again, and lock their packs and indexes as long as any point; return those that are not there.

        :raises IntegrityError: if one that was stored cannot be read
        """
        left = self.lacking(chunks)
        there = [bytes.fromhex(chunk) for chunk in chunks if chunk not in set(left)]
        reader = self._reader()
        for start in range(0, len(there), _AT_ONCE):
            reader.fetch(there[start : start + _AT_ONCE])
        if there:
            packs = {self._index.locations(chunk)[0].pack.name for chunk in there}
            self._lock([*map(pack_key, sorted(packs)), *self._index.objects()])
        return left

    # --- objects ------------------------------------------------------------------------------------------------------

    def put_back_keys(self, replica: BlobStore) -> list[str]:
        """
        Put back what tells of the keys, without which nothing else can be told: generations that are gone, and the rolls of the newest.

        Each generation is proved by the signature of the one before; it comes to the next free place, as when it was made. The vault
        must be opened anew if there were any.

        :raises UsageError: if it is no copy of this vault
        """
        self._check_same(replica)
        chain = self._authority.chain
        done: list[str] = []
        for later in read_chain(replica, chain.generations[0]).generations[len(chain.generations) :]:
            self._store.put(chain.free, replica.get(later.object))
            done.append(chain.free)
            chain = read_chain(self._store, chain.generations[0])
        there = {info.key for info in self._store.list(ROLLS)}
        rolls = replica.list(f"{ROLLS}{chain.newest.number:04d}-") if chain.newest.number else ()
        prove = partial(read_roll, chain.newest)
        done += [info.key for info in rolls if info.key not in there and self._bring(replica, info.key, prove)]
        self._lock(done)
        return done

    def put_back(self, replica: BlobStore) -> list[str]:
        """
        Put back what is gone and a replica still has; return the keys.

        That is every record of the audit trail, for none is ever removed, and what the trail and other objects here say is there:
        a replica may have points that expired here.

        :raises UsageError: if it is no copy of this vault
        """
        self._check_same(replica)
        done: list[str] = []
        while found := self._put_back_once(replica):
            done += found  # a record or a manifest that is back may speak of more
        self._lock(done)
        return done

    def _put_back_once(self, replica: BlobStore) -> list[str]:
        points = self._readable()
        wanted: dict[str, Prove] = {info.key: self._trail.parse for info in own(replica.list(AUDIT))}
        wanted |= self._documents()
        wanted |= {pack_key(pack): _prove_named for point in points for pack in point.packs}
        there = {info.key for info in self._store.list()}
        return [key for key, prove in wanted.items() if key not in there and self._bring(replica, key, prove)]

    def _bring(self, replica: BlobStore, key: str, prove: Prove) -> bool:
        try:
            data = replica.get(key)
            prove(key, data)
            self._store.put(key, data)
        except (NotFound, IntegrityError, AlreadyExists):
            return False  # what is still missing then is found by the verification that follows
        return True

    def _documents(self) -> dict[str, Prove]:
        """What the audit trail tells of, the instructions, and what proves the keys that were replaced."""
        generations = self._authority.chain.generations
        first: Mapping[str, str | None] = {slot_object(slot): None for each in generations for slot in each.slots}
        wanted = {key: self._proof(key, sha256) for key, sha256 in told(self._trail.readable(), first).items()}
        wanted[RESTORE] = self._prove_instructions
        return wanted | {roll_key(each.number, each.roll): partial(read_roll, each) for each in generations[1:]}

    def _proof(self, key: str, sha256: str | None) -> Prove:
        kinds: dict[str, Prove] = {
            KEYS: describe_slot,
            POINTS: self._points.parse,
            MARKS: self._points.parse_mark,
            ROLLS: partial(read_roll, self._authority.chain.newest),
        }
        parse = kinds.get(f"{key.partition('/')[0]}/", _refuse)

        def prove(key: str, data: bytes) -> None:
            parse(key, data)
            if sha256 not in (None, digest(data)):
                raise IntegrityError(f"{key} is not the one that the audit trail says was written")

        return prove

    def _prove_instructions(self, key: str, data: bytes) -> None:
        if digest(data) != self._header.restore_sha256:
            raise IntegrityError(f"{key} is not what was written when the vault was created")

    # --- inside -------------------------------------------------------------------------------------------------------

    def _check_same(self, replica: BlobStore) -> None:
        if not self.is_copy(replica):
            raise UsageError(
                f"{replica.url} holds no copy of vault {self._header.id}",
                "only a replica of the same vault can heal it",
            )

    def _reader(self) -> ChunkReader:
        return ChunkReader(self._store, self._master, self._index)

    def _readable(self) -> list[RecoveryPoint]:
        """The points that can be read."""
        found = []
        for key in self._points.keys():  # noqa: SIM118 - it is no dictionary
            with suppress(IntegrityError, NotFound):
                found.append(self._points.read(key)[0])
        return found

    def _lock(self, keys: Sequence[str]) -> None:
        """Lock objects as long as the longest lock of any point: it is not asked which of them need which."""
        ends = [point.locked_until for point in self._readable()]
        until = max((end for end in ends if end), default=None)
        locks = self._store.locks()
        if keys and locks and until and until > self._clock.now():
            locks.extend(keys, until)


class _WhatIsLeft(ChunkReader):
    """Fetches what can be had, and leaves out the rest."""

    def fetch(self, chunks: Sequence[bytes]) -> dict[bytes, bytes]:
        try:
            return super().fetch(chunks)
        except IntegrityError:
            if len(chunks) == 1:
                return {}
            return {name: plain for chunk in chunks for name, plain in self.fetch([chunk]).items()}


def _prove_named(key: str, data: bytes) -> None:
    if digest(data) != key.rpartition("/")[2]:
        raise IntegrityError(f"{key} is damaged: its bytes do not match its name")


def _refuse(key: str, _: bytes) -> None:
    raise IntegrityError(f"{key} is of no kind that can be proved")
