"""Verify packs and indexes: each pack once, from its beginning to its end, and what every index says of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from muster.domain.recovery_point import RecoveryPoint
from muster.errors import IntegrityError, NotFound
from muster.ports import BlobStore, Progress
from muster.vault.findings import Examination, Finding
from muster.vault.foreign import own
from muster.vault.index import Index, Location, read_index
from muster.vault.keys import MasterKey
from muster.vault.layout import INDEXES, PACKS, digest, pack_key
from muster.vault.pace import Lanes
from muster.vault.pack_proof import Damage, Proven, chunks_of, prove_pack
from muster.vault.packs import Pack
from muster.vault.reader import started

_READERS, _NEAR_READERS = 6, 2
_EXPIRED = Damage("")


class PackCheck:
    """
    All packs and indexes of a vault. Reads every index anew.

    :param points: whose packs must be there
    :param noted: names of packs that were found damaged before; they are read whatever the share
    """

    def __init__(
        self,
        store: BlobStore,
        master: MasterKey,
        points: Iterable[RecoveryPoint],
        noted: Collection[str],
        found: Examination,
    ) -> None:
        self._store, self._master, self._noted, self._found = store, master, noted, found
        self._needed: dict[str, list[str]] = defaultdict(list)
        for point in points:
            for pack in point.packs:
                self._needed[pack].append(point.point)
        self._said: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        self._unread: dict[str, str] = {}
        self._known: dict[str, Pack] = {}
        self._unnamed: set[str] = set()
        self._there: dict[str, int] = {}
        self._bad: dict[str, Damage] = {}
        self._lanes = Lanes(_NEAR_READERS, _READERS)
        self.index = Index(store, master)
        """What the indexes say, compared with what packs there are."""

    def look(self) -> None:
        """List the packs, read all indexes, and compare names and sizes."""
        listed = {info.key: info.size for info in self._store.list(PACKS)}
        self._there = {name: size for key, size in listed.items() if pack_key(name := key.rpartition("/")[2]) == key}
        for info in own(self._store.list(INDEXES)):
            self._read_index(info.key)
        adopted = self.index.reconcile()
        self._known = self.index.packs()
        self._unnamed = {pack.name for pack in adopted}
        self._report_indexes()
        for name in self._needed.keys() - self._there.keys():
            self._bad[name] = Damage("it is missing", chunks_of(self._known.get(name)))
        for name, size in self._there.items():
            known = self._known.get(name)
            if known and known.size != size:
                self._bad[name] = Damage(f"it has {size} bytes instead of {known.size}", chunks_of(known))
            elif reason := self.index.damaged.get(pack_key(name)):
                self._bad[name] = Damage(reason)

    def of_points(self) -> set[str]:
        """Names of the packs that the points need and that are there."""
        return self._needed.keys() & self._there.keys()

    def all(self) -> set[str]:
        """Names of all packs that are there."""
        return set(self._there)

    def doubtful(self) -> set[str]:
        """Names of packs that were found damaged before, or of which two indexes say different things: they must be read."""
        disputed = {name for name, said in self._said.items() if len(said) > 1}
        return {*disputed, *self._noted} & self._there.keys()

    def read(self, names: Iterable[str], progress: Progress | None, beside: Future[None]) -> None:
        """
        Read packs that are there, each once.

        :param beside: what goes on meanwhile: it has ended then, and as soon as it fails, nothing else is read
        """
        wanted = sorted(names)
        total, done = sum(self._there[name] for name in wanted), 0
        with ThreadPoolExecutor(_READERS, "muster-verify") as readers:
            for name, proving in started(self._prove, wanted, readers, _READERS):
                if beside.done():
                    beside.result()
                done += self._there[name]
                damage, pack = proving.result()
                if damage is not _EXPIRED:
                    self._take(name, damage, pack)
                if progress:
                    progress("verify packs", done, total)
        beside.result()

    def lost(self) -> dict[bytes, list[str]]:
        """The chunks of bad packs of which there is no whole copy elsewhere, as far as is known, each with those packs."""
        found: dict[bytes, list[str]] = defaultdict(list)
        for name, damage in self._bad.items():
            for chunk in damage.chunks:
                if chunk in found or not any(map(self._whole, self.index.locations(chunk))):
                    found[chunk].append(name)
        return found

    def report(self, users: Mapping[str, Sequence[tuple[str, str]]]) -> None:
        """
        Report the bad packs. One that is gone, and of whose chunks there are copies that a later snapshot stored, is no finding;
        one that was noted before, and that no point needs any more, is a notice.

        :param users: for each, the points and files that need chunks of which there is no other copy
        """
        for name, (why, chunks) in self._bad.items():
            hit = users.get(name, ())
            if chunks and not hit and name not in self._there:
                continue
            points = {point for point, _ in hit} if chunks else set(self._needed.get(name, ()))
            files = tuple(dict.fromkeys(file for _, file in hit))
            finding = Finding(pack_key(name), why, tuple(sorted(points)), files, absent=name not in self._there)
            if points or name not in self._noted:
                self._found.report(finding)
            else:
                self._found.notice(finding)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _read_index(self, key: str) -> None:
        try:
            for pack in read_index(self._master, key, self._found.read(key)):
                self._said[pack.name][_fingerprint(pack)].append(key)
        except (IntegrityError, NotFound) as error:
            self._unread[key] = error.message

    def _report_indexes(self) -> None:
        """An index that cannot be read harms nothing once others name all packs, which is what the next writer brings about."""
        for name in sorted(self._unnamed & self._needed.keys()):
            what = f"no index names pack {name} any more; the next snapshot writes an index that does"
            self._found.report(Finding(INDEXES, what, tuple(self._needed[name])))
        for key, why in self._unread.items():
            tell = self._found.report if self._unnamed else self._found.notice
            tell(Finding(key, why))

    def _indexed(self, name: str) -> Pack | None:
        """What the indexes say of a pack; None if they disagree, or if what is known stands in the pack alone."""
        return None if name in self._unnamed or len(self._said.get(name, ())) > 1 else self._known.get(name)

    def _read(self, key: str, start: int, length: int) -> bytes:
        with self._lanes.measured(length):
            return self._found.read_range(key, start, length)

    def _prove(self, name: str) -> Proven:
        read = partial(self._read, pack_key(name))
        try:
            with self._lanes.taken():
                proven = prove_pack(self._master, name, self._there[name], read, self._indexed(name))
        except NotFound as error:
            # Expiry may have removed it since it was listed, but not one that a point needs.
            return Proven(Damage(error.message, chunks_of(self._known.get(name))) if name in self._needed else _EXPIRED)
        self._found.count(1, 0)
        return proven

    def _take(self, name: str, damage: Damage | None, pack: Pack | None) -> None:
        if damage:
            self._bad.setdefault(name, damage)
        for said, keys in self._said.get(name, {}).items():
            if pack and said != _fingerprint(pack):
                what = f"what it says of pack {name} is not what stands in the pack"
                for key in keys:
                    self._found.report(Finding(key, what, tuple(self._needed.get(name, ()))))

    def _whole(self, place: Location) -> bool:
        damage = self._bad.get(place.pack.name)
        return damage is None or place.entry.chunk not in damage.chunks


def _fingerprint(pack: Pack) -> str:
    return digest(pack.salt + pack.size.to_bytes(8, "big") + pack.directory)
