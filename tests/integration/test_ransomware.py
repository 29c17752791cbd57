"""Snapshots of data that ransomware has been at, and of data that only looks like it, over a real vault."""

from __future__ import annotations

import gzip
import io
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fakes import Fault, FaultyStore, FrozenClock, MemoryStore
from fakes_components import EchoRunner, FakeServer, FakeSource, FolderBuilder, RowsValidator
from muster import errors
from muster.adapters.switching import ProcessSwitching
from muster.domain.anomaly import Limits
from muster.domain.recovery_point import PointStatus
from muster.domain.retention import RetentionPolicy, judge
from muster.operations.anomaly import looked_at
from muster.operations.hold import accept_point, release_point
from muster.operations.seal import seal_point
from muster.operations.snapshot import Handover, Pin, capture, pin_point
from muster.operations.take import SnapshotJob, take_snapshot
from muster.operations.tools import Tools
from muster.vault.changes import SAMPLE_BYTES, SAMPLE_FILES, compare
from vaults import make_vault, noise, reopen, store_tree

ALARM = "changed as if by ransomware"
DAY = 86400
Files = dict[str, bytes]


def csv(number: int, rows: int = 60) -> bytes:
    """Flights of a day."""
    return b"carrier,flight,delay\n" + b"".join(b"UA,%d,%d\n" % (number + n, n * 7 % 61) for n in range(rows))


def encrypt(plain: bytes, number: int = 0) -> bytes:
    """As ransomware does it: a key of its own for each file, nonce and tag in the file."""
    nonce = noise(12, number + 1)
    return nonce + AESGCM(noise(32, number + 2)).encrypt(nonce, plain, None)


def encrypted(files: Files, every: int = 1, suffix: str = "") -> Files:
    """The same files, of which one in `every` was encrypted, under its name or a new one."""
    numbered = enumerate(sorted(files.items()))
    return dict((p + suffix, encrypt(c, n)) if n % every == 0 else (p, c) for n, (p, c) in numbered)


def parquet(codec: str, number: int = 0) -> bytes:
    """A small table as pyarrow writes it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    table = pa.table({"flight": list(range(number, number + 500)), "delay": [n * 7 % 61 for n in range(500)]})
    pq.write_table(table, out, compression=codec)
    return out.getvalue()


@dataclass
class World:
    """A dataset of two hundred files, a registry with a model, and a vault of their nights."""

    tools: Tools
    clock: FrozenClock
    store: MemoryStore = field(default_factory=lambda: MemoryStore(locking=True))
    limits: Limits | None = field(default_factory=Limits)

    def __post_init__(self) -> None:
        self.vault, _ = make_vault(self.store, self.clock)
        self.data = FakeSource("dataset", "flights", {f"data/{n:03}.csv": csv(n) for n in range(200)}, self.clock)
        model = {"tables/runs.jsonl": b"{}\n", **{f"artifacts/{n}/model.json": csv(n) for n in range(5)}}
        self.registry = FakeSource("registry", "flights", model, self.clock)

    @property
    def job(self) -> SnapshotJob:
        sources = (self.data, self.registry)
        return SnapshotJob("flights", sources, {}, (), None, {"rpo_s": 1.0, "rto_s": 1.0}, {}, limits=self.limits)

    def night(self, files: Files | None = None) -> PointStatus:
        """One more night, after which the dataset holds these files."""
        self.clock.advance(DAY)
        if files is not None:
            self.data.files = files
        return take_snapshot(self.vault, self.job, self.tools)

    def alarm(self, files: Files | None = None) -> tuple[PointStatus, errors.ValidationFailed]:
        """A night that must be refused; return the suspect point and what was said."""
        with pytest.raises(errors.ValidationFailed, match=ALARM) as caught:
            self.night(files)
        return self.vault.points("flights")[-1], caught.value


@pytest.fixture
def world(tmp_path: Path) -> World:
    clock = FrozenClock()
    tools = Tools(
        clock, FolderBuilder(), RowsValidator(), EchoRunner({}), FakeServer(), tmp_path / "state", ProcessSwitching()
    )
    return World(tools, clock)


# --- attacks ----------------------------------------------------------------------------------------------------------


def test_a_dataset_that_was_encrypted_in_place(world: World) -> None:
    """The point is there, suspect; the one before stays the latest, is held by mark and store; numbers and the next step are told."""
    good = world.night()
    point, error = world.alarm(encrypted(world.data.files))
    assert point.suspect
    assert "dataset/flights" in error.message
    assert (
        "100.0% became noise (200 files lost their content; looked at: before 32 text, now 32 noise)" in error.message
    )
    assert good.point.point in error.hint
    assert f"muster accept {point.point.point}" in error.hint
    assert error.exit_code == 5
    held = world.vault.point("latest", "flights")
    assert held.point == good.point
    assert [hold.summary["cause"] for hold in held.holds] == ["changes"]
    locks = world.store.locks()
    assert locks is not None
    assert all(locks.of(f"packs/{pack[:2]}/{pack}").held for pack in good.point.packs)
    with pytest.raises(errors.Refused):
        world.store.delete(f"points/flights/{good.point.point}.json")


def test_what_expiry_makes_of_it(world: World) -> None:
    """Until somebody releases it, the last good point is kept though no rule keeps it and newer good ones follow."""
    good = world.night()
    files = dict(world.data.files)
    world.alarm(encrypted(files))
    for _ in range(20):
        world.night(files)
    verdicts = {
        v.status.point.point: v for v in judge(world.vault.points(), RetentionPolicy(last=1), world.clock.now())
    }
    assert verdicts[good.point.point].keep
    assert any(reason.startswith("held: ") for reason in verdicts[good.point.point].reasons)
    release_point(world.vault, world.vault.point(good.point.point), "the host was cleaned", world.clock)
    after = judge(world.vault.points(), RetentionPolicy(last=1), world.clock.now())
    assert not after[0].keep


def test_a_new_name_for_each_encrypted_file(world: World) -> None:
    """Removed and added under another name is as bad as changed."""
    world.night()
    point, error = world.alarm(encrypted(world.data.files, suffix=".locked"))
    assert "became noise" in error.message
    (changes,) = [c for c in point.point.of_kind("changes") if c.name == "dataset.flights"]
    profile = changes.details["profile"]
    assert (profile["removed"], profile["added"], profile["changed"]) == (200, 200, 0)


def test_one_file_in_twenty_is_enough(world: World) -> None:
    """Most of the dataset is as it was."""
    world.night()
    _, error = world.alarm(encrypted(world.data.files, every=20))
    assert "5.0% became noise" in error.message


@pytest.mark.parametrize("suffix", ["", ".locked"])
def test_what_is_added_meanwhile_hides_nothing(world: World, suffix: str) -> None:
    """Forty files are encrypted on a day that brings a thousand new ones, sound or empty (under new names: on one that brings fifteen)."""
    world.night()
    new = 1000 if not suffix else 15
    more = {f"data/new-{n}.csv": csv(9000 + n) if n % 2 else b"" for n in range(new)}
    _, error = world.alarm(encrypted(world.data.files, every=5, suffix=suffix) | more)
    assert "became noise" in error.message


def test_what_lies_beside_the_data_does_not_weigh(world: World) -> None:
    """One small table beside a long history of the repository: it is all that there is to lose."""
    history = {"git/history.bundle": noise(500_000), **{f"repo/{n}.dvc": csv(n) for n in range(50)}}
    world.night({**history, "data/entries.csv": csv(1)})
    profile = (
        world.night({**history, "data/entries.csv": csv(2), "data/more.csv": csv(3)})
        .point.of_kind("changes")[0]
        .details["profile"]
    )
    assert (profile["files_before"], profile["size_before"], profile["files"]) == (1, len(csv(1)), 2)
    _, error = world.alarm({**history, "data/entries.csv": encrypt(csv(2)), "data/more.csv": encrypt(csv(3))})
    assert "100.0% became noise" in error.message


def test_encryption_that_creeps(world: World) -> None:
    """Three of a thousand files a night are below every limit; in the fourth night their sum is not."""
    files = {f"data/{n:04}.csv": csv(n) for n in range(1000)}
    world.night(files)
    for night in range(3):
        for n in range(3):
            path = f"data/{3 * night + n:04}.csv"
            files = files | {path: encrypt(files[path], n)}
        assert not world.night(files).suspect
    files = files | {f"data/{n:04}.csv": encrypt(csv(n), n) for n in (900, 901, 902)}
    _, error = world.alarm(files)
    assert "1.2% in the last" in error.message


@pytest.mark.parametrize("left", [0, 60])
def test_most_files_deleted(world: World, left: int) -> None:
    """Also where none is left at all."""
    world.night()
    _, error = world.alarm(dict(sorted(world.data.files.items())[:left]))
    assert "is gone" in error.message


def test_files_that_were_overwritten_with_zeros(world: World) -> None:
    """A wiper needs no cipher."""
    world.night()
    _, error = world.alarm({path: bytes(len(content)) for path, content in world.data.files.items()})
    assert "became other formats" in error.message


def test_models_that_were_encrypted(world: World) -> None:
    """Artifacts of the registry are written once: what replaces them by noise is no training."""
    world.night()
    world.registry.files |= encrypted({p: c for p, c in world.registry.files.items() if p.startswith("artifacts/")})
    _, error = world.alarm()
    assert "registry/flights changed as if by ransomware" in error.message
    assert "dataset/flights" not in error.message


def test_the_alarm_does_not_wear_off(world: World) -> None:
    """Each night is compared with the last good point, not with the night before; one hold is enough for all of them."""
    good = world.night()
    files = encrypted(world.data.files)
    for _ in range(3):
        world.alarm(files)
    assert len(world.vault.point(good.point.point).holds) == 1
    assert world.vault.point("latest", "flights").point == good.point


# --- no attacks -------------------------------------------------------------------------------------------------------


def test_ordinary_nights_pass(world: World) -> None:
    """The first snapshot, no change, new files of any kind, rows appended, a few files removed, folders renamed, tables dumped anew."""
    files = dict(world.data.files)
    world.night()
    nights = [
        files,
        {path: content + b"UA,1,1\n" for path, content in files.items()},
        dict(sorted(files.items())[20:]),
        {path.replace("data/", "data/2026/"): content for path, content in files.items()},
    ]
    nights.append(nights[-1] | {f"data/new-{n}.bin": noise(3000, n) for n in range(500)})
    for night, after in enumerate(nights):
        world.registry.files["tables/runs.jsonl"] = noise(5000, night)
        assert not world.night(after).suspect
    assert [c.details["failures"] for s in world.vault.points() for c in s.point.of_kind("changes")] == [[]] * 10


def test_parquet_that_was_compressed_anew(world: World) -> None:
    """All bytes of all files are others, and as dense as noise."""
    world.night({f"data/{n}.parquet": parquet("snappy", n) for n in range(40)})
    status = world.night({f"data/{n}.parquet": parquet("zstd", n) for n in range(40)})
    assert not status.suspect
    assert next(c.details["profile"]["changed"] for c in status.point.of_kind("changes")) == 40


def test_partitions_that_are_new_every_night(world: World) -> None:
    """A dataset of which no file outlives a day, compressed."""
    for night in range(6):
        assert not world.night({f"data/{night}/{n}.gz": gzip.compress(csv(night * 100 + n)) for n in range(30)}).suspect


def test_tiny_datasets_pass(world: World) -> None:
    """A dataset of one small text may be rewritten."""
    world.night({"data/labels.json": b"{}"})
    assert not world.night({"data/labels.json": json.dumps({"late": [1, 2, 3]}).encode()}).suspect


def test_a_catalog_that_does_not_want_it(world: World) -> None:
    """No comparison, no component, no alarm."""
    world.limits = None
    world.night()
    assert world.night(encrypted(world.data.files)).point.of_kind("changes") == ()


# --- accepting --------------------------------------------------------------------------------------------------------


def test_a_replacement_that_was_meant_is_accepted(world: World) -> None:
    """All CSV became Parquet: suspect, and good from the acceptance on; the next night is compared with it, and quiet."""
    world.night()
    point, error = world.alarm({f"data/{n}.parquet": parquet("zstd", n) for n in range(40)})
    assert "became other formats" in error.message
    accepted = accept_point(world.vault, point, "converted to Parquet", world.clock)
    assert not accepted.suspect
    assert world.vault.point("latest", "flights").point == point.point
    assert world.night().point.previous == point.point.point
    with pytest.raises(errors.UsageError):
        accept_point(world.vault, accepted, "once more", world.clock)


def test_accepting_forgives_no_other_doubt(world: World) -> None:
    """A point whose expectations are unmet stays suspect for that."""
    world.data.facts = {"outputs": [{"path": "data"}]}
    world.night()
    world.clock.advance(DAY)
    world.data.files = {"data/a.csv": b"only\n"}
    with pytest.raises(errors.ValidationFailed, match=ALARM):
        take_snapshot(world.vault, replace(world.job, suites={"flights": {"rows": 61}}), world.tools)
    accepted = accept_point(world.vault, world.vault.points()[-1], "we begin anew", world.clock)
    assert accepted.suspect
    assert not any("is gone" in doubt for doubt in accepted.doubts)


def test_what_was_accepted_begins_a_new_history(world: World) -> None:
    """What had crept before the acceptance is not counted again after it."""
    world.limits = Limits(spoiled=0.02)
    files = dict(world.data.files)
    world.night()
    crept = {path: encrypt(files[path]) for path in sorted(files)[:3]}
    assert not world.night(files | crept).suspect
    more = {path: encrypt(files[path]) for path in sorted(files)[3:6]}
    point, _ = world.alarm(files | crept | more)
    accept_point(world.vault, point, "we encrypt these", world.clock)
    again = {path: encrypt(files[path]) for path in sorted(files)[6:9]}
    assert not world.night(files | crept | more | again).suspect


# --- what is told, what is damaged, what it costs ---------------------------------------------------------------------


def test_names_are_sealed_and_numbers_are_not(world: World) -> None:
    """The manifest, which anybody may read who reads the store, names no file; with the key the sample can be listed."""
    world.night()
    point, _ = world.alarm(encrypted(world.data.files, suffix=".locked"))
    manifest = world.store.get(f"points/flights/{point.point.point}.json")
    assert b".locked" not in manifest
    changes = next(c for c in point.point.of_kind("changes") if c.name == "dataset.flights")
    seen = looked_at(reopen(world.store, clock=world.clock), changes)
    assert len(seen["lost"]) == len(seen["new"]) == SAMPLE_FILES
    assert all(path.endswith(".csv.locked") and form == "noise" for path, _, form in seen["new"])


def test_a_last_good_point_that_is_damaged_stops_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The snapshot is taken, and a warning says that it was not compared."""
    good = world.night()
    for pack in good.point.packs:
        world.store.objects.pop(f"packs/{pack[:2]}/{pack}", None)
    world.vault = reopen(world.store, clock=world.clock)
    status = world.night({f"data/{n}.csv": csv(n + 5000) for n in range(200)})
    assert [changes.name for changes in status.point.of_kind("changes")] == ["registry.flights"]
    assert any("not compared" in record.getMessage() for record in caplog.records)


def test_a_large_file_is_not_read_whole(tmp_path: Path) -> None:
    """Files of which a first chunk takes a megabyte: no more is looked at than the budget allows, and always something."""
    del tmp_path
    vault, _ = make_vault(MemoryStore())
    before = store_tree(vault, {f"data/{n}": noise(3_000_000, n) for n in range(20)})
    after = store_tree(vault, {f"data/{n}": noise(3_000_000, n + 50) for n in range(20)})
    changes = compare(vault.tree(before), vault.tree(after))
    assert 1 <= len(changes.new) < 20
    assert sum(min(glimpse.size, 256 * 1024) for glimpse in changes.new) <= SAMPLE_BYTES
    assert changes.profile.changed == changes.profile.lost == 20


# --- interruptions ----------------------------------------------------------------------------------------------------


def handed_over(world: World, pin: Pin) -> list[Handover]:
    """Both components, captured for a point."""
    return [capture(world.vault, pin, source) for source in (world.data, world.registry)]


def sealing(world: World, pin: Pin, handovers: list[Handover]) -> PointStatus:
    """What the task does that seals, however often it is tried."""
    expected = [handover.component for handover in handovers]
    facts = {"objectives": {}, "catalog": {}, "clock": world.clock, "limits": world.limits}
    return seal_point(world.vault, pin, handovers, expected=expected, **facts)


@pytest.mark.parametrize("written", ["points/", "marks/", "audit/"])
def test_a_seal_that_broke_off_alarms_when_it_is_tried_again(world: World, written: str) -> None:
    """Whichever write fails, the next try makes the same point, one mark of suspicion and one hold; in between, it is never the latest."""
    good = world.night()
    world.clock.advance(DAY)
    world.data.files = encrypted(world.data.files)
    pin = pin_point(world.vault, "flights", world.clock)
    handovers = handed_over(world, pin)
    for number in range(1, 9):
        world.vault = reopen(
            FaultyStore(world.store, Fault("fail", "put", at=number, prefix=written)), clock=world.clock
        )
        with pytest.raises(errors.MusterError) as caught:
            sealing(world, pin, handovers)
        assert world.vault.point("latest", "flights").point == good.point
        if isinstance(caught.value, errors.ValidationFailed):
            break
    else:
        raise AssertionError("it was never tried to the end")
    world.vault = reopen(world.store, clock=world.clock)
    with pytest.raises(errors.ValidationFailed, match=ALARM):
        sealing(world, pin, handovers)
    first, second = world.vault.points()
    assert [hold.kind for hold in first.holds] == ["held"]
    assert [mark.kind for mark in second.marks] == ["suspect"]


def test_an_accepted_point_is_sealed_again_in_peace(world: World) -> None:
    """A run that is repeated after the acceptance finds its point as it was, also if the judge was switched off meanwhile."""
    world.night()
    world.clock.advance(DAY)
    world.data.files = encrypted(world.data.files)
    pin = pin_point(world.vault, "flights", world.clock)
    handovers = handed_over(world, pin)
    with pytest.raises(errors.ValidationFailed, match=ALARM):
        sealing(world, pin, handovers)
    accept_point(world.vault, world.vault.point(pin.point), "we encrypt now", world.clock)
    before = set(world.store.objects)
    assert not sealing(world, pin, handovers).suspect
    world.limits = None
    assert not sealing(world, pin, handovers).suspect
    assert {key.partition("/")[0] for key in set(world.store.objects) - before} <= {"audit"}


def test_an_alarm_is_heard_also_where_the_store_refuses_the_hold(world: World) -> None:
    """The hold by mark is there, and that the store would not is told with the alarm."""
    good = world.night()
    world.data.files = encrypted(world.data.files)
    world.vault = reopen(FaultyStore(world.store, Fault("refuse", "hold")), clock=world.clock)
    _, error = world.alarm()
    assert "is held, but not by the store in all its parts: no permission" in error.hint
    assert world.vault.point(good.point.point).holds
