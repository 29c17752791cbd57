"""Many small files, read or written by a real second process as well: as whole as by one, whatever becomes of it."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fakes import MemoryStore
from muster.domain.content import TreeEntry
from muster.errors import IntegrityError, MusterError, SourceChanged, SourceInvalid, StoreUnavailable, TargetNotEmpty
from muster.ports import SourceFile
from muster.vault import extract as extracting
from muster.vault import packs, readers
from muster.vault.files import content_of
from muster.vault.keys import MasterKey
from muster.vault.layout import pack_key
from muster.vault.reader import ids
from muster.vault.second_messages import Look, Placed, Ready, Take
from muster.vault.second_process import SecondProcess, second_process
from muster.vault.sources import changed_files
from muster.vault.vault import Vault
from vaults import extract, flip, make_vault, noise, read_folder, reopen, seal, store_tree

INCLUDE = Path(__file__).parents[2] / "include"
COUNT = 4000
WAIT_S = 30.0


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def vault(store: MemoryStore) -> Vault:
    return make_vault(store)[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some thousand files, some of them empty, equal to others, or of another mode."""
    top = tmp_path_factory.mktemp("source")
    for number in range(COUNT):
        path = top / f"{number % 7}" / f"{number:05}-é"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(noise(number % 3000, number // 2))
        path.chmod(0o640 if number % 3 else 0o755)
        os.utime(path, ns=(0, 10**18 + number))
    return top


class Second:
    """What is known of the processes that were begun."""

    def __init__(self) -> None:
        self.processes: list[SecondProcess] = []
        self.said: list[object] = []
        self.told: list[object] = []
        self.after: Callable[[object], None] = lambda _: None
        self.after_told: Callable[[object], None] = lambda _: None

    @property
    def placed(self) -> int:
        """Bytes that it wrote."""
        return sum(message.size for message in self.said if isinstance(message, Placed))

    @property
    def given(self) -> int:
        """Files that it was given to read."""
        return sum(len(message.files) for message in self.told if isinstance(message, Take))

    def kill(self) -> None:
        os.kill(self.processes[-1].pid, signal.SIGKILL)


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> Second:
    """A second process takes part in all that follows: it is begun at once, and waited for."""
    seen = Second()
    begin, answer, tell = SecondProcess.__init__, SecondProcess.answer, SecondProcess.tell

    def beginning(self: SecondProcess, *arguments: object) -> None:
        seen.processes.append(self)
        begin(self, *arguments)  # type: ignore[arg-type]
        self._ready = isinstance(self.answer(), Ready)

    def answering(self: SecondProcess) -> object:
        message = answer(self)
        seen.said.append(message)
        seen.after(message)
        return message

    def telling(self: SecondProcess, message: object) -> None:
        seen.told.append(message)
        tell(self, message)  # type: ignore[arg-type]
        seen.after_told(message)

    for name, wrapped in (("__init__", beginning), ("answer", answering), ("tell", telling)):
        monkeypatch.setattr(SecondProcess, name, wrapped)
    monkeypatch.setattr(extracting, "WORTH_IT", 1)
    monkeypatch.setattr(readers, "_MANY", 1)
    return seen


def on_disk(folder: Path) -> Iterator[SourceFile]:
    return (file for file in changed_files(folder, ()) if isinstance(file, SourceFile))


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Mode and time of each file."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_mode, path.stat().st_mtime_ns) for path in files}


def ended(pid: int) -> bool:
    """Whether a process is no more, within some seconds."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return True
        if stat.rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


# --- as whole as by one -------------------------------------------------------------------------------------------------


def test_what_two_processes_store_and_restore_is_what_was_there(
    second: Second, vault: Vault, store: MemoryStore, folder: Path, tmp_path: Path
) -> None:
    """Bytes, modes and times; each chunk is stored once, whoever read it; the tree is the one that a single process stores."""
    with vault.writer() as writer:
        tree = writer.store_tree(on_disk(folder))
    assert second.given > 0
    plain = {content for content in read_folder(folder).values() if content}
    listed = len(tree.root.chunks)
    assert (writer.stats.new_chunks, writer.stats.read_bytes - tree.root.size) == (len(plain) + listed, tree.size)
    assert writer.stats.new_chunks + writer.stats.reused_chunks == sum(map(bool, read_folder(folder).values())) + listed
    packs = sum(len(data) for key, data in store.objects.items() if key.startswith("packs/"))
    assert 0 < packs - writer.stats.new_stored_bytes < 60 * writer.stats.new_chunks
    seal(vault, tree)
    assert vault.verify(share=1.0).ok
    assert extract(reopen(store), tree, tmp_path / "back") == read_folder(folder)
    assert second.placed > 0
    assert state(tmp_path / "back") == state(folder)
    assert all(ended(process.pid) for process in second.processes)


def test_one_process_stores_the_same_tree(
    vault: Vault, folder: Path, second: Second, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who read a file is not to be seen in the tree; what is there already is not stored again."""
    tree = store_tree(vault, on_disk(folder))
    monkeypatch.setattr(readers, "_MANY", sys.maxsize)
    second.told.clear()
    with vault.writer() as writer:
        assert writer.store_tree(on_disk(folder)) == tree
    assert second.given == 0
    assert writer.stats.new_chunks == 0


def test_keys_reach_the_second_process_by_a_pipe_alone(second: Second, vault: Vault, folder: Path) -> None:
    """Its arguments and its environment, which others on the machine may see, hold none."""
    seen: list[bytes] = []

    def look(message: object) -> None:
        if isinstance(message, Ready):
            of = Path(f"/proc/{second.processes[-1].pid}")
            seen.extend([(of / "cmdline").read_bytes(), (of / "environ").read_bytes()])

    second.after = look
    store_tree(vault, on_disk(folder))
    (key,) = vault._master.generations()
    assert len(seen) == 2
    assert not any(form in text for text in seen for form in (key, key.hex().encode()))


# --- what is not as it should be ----------------------------------------------------------------------------------------


def test_damage_is_named_as_ever(
    second: Second, vault: Vault, store: MemoryStore, folder: Path, tmp_path: Path
) -> None:
    """A damaged chunk ends the restore with the name of a file and of the pack; nothing of that file is there."""
    tree = store_tree(vault, list(on_disk(folder))[:500])  # one batch, which the second process gets
    (pack, *_) = (key for key in store.objects if key.startswith("packs/"))
    store.objects[pack] = flip(store.objects[pack], len(store.objects[pack]) // 2)
    with pytest.raises(IntegrityError, match=r"^\d/\d{5}-é: .*pack [0-9a-f]{64} is damaged") as failure:
        extract(reopen(store), tree, tmp_path / "back")
    named = failure.value.message.partition(":")[0]
    assert not (tmp_path / "back" / named).exists()
    assert any(message.undone for message in second.said if isinstance(message, Placed))


@pytest.mark.parametrize("when", ["it is given a batch", "a batch is done again"])
def test_a_store_that_fails_meanwhile_fails_the_restore(
    second: Second,
    vault: Vault,
    store: MemoryStore,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
) -> None:
    """That the store does not answer is no end of the second process: nothing is left out, and the words are the store's."""
    tree = store_tree(vault, list(on_disk(folder))[:500])
    if when == "a batch is done again":
        for key in [key for key in store.objects if key.startswith("packs/")]:
            store.objects[key] = flip(store.objects[key], len(store.objects[key]) // 3)
    read, again = store.get_range, iter([when == "it is given a batch", *[True] * 1000])
    restoring = reopen(store)
    entries = restoring.tree(tree).entries()

    def failing(key: str, start: int, length: int) -> bytes:
        if key.startswith("packs/") and next(again):
            raise StoreUnavailable("the store does not answer", "wait")
        return read(key, start, length)

    monkeypatch.setattr(store, "get_range", failing)
    with pytest.raises(StoreUnavailable, match="the store does not answer"):
        restoring.tree(tree).extract([(entry, tmp_path / "back" / entry.path) for entry in entries])


def test_another_copy_is_taken_for_a_damaged_one(
    second: Second, vault: Vault, store: MemoryStore, folder: Path, tmp_path: Path
) -> None:
    """Chunks of which a second writer stored copies come from these; nobody is told of any damage."""
    files = list(on_disk(folder))[:500]  # one batch, which the second process gets
    with reopen(store).writer() as late:
        tree = store_tree(vault, files)
        late.store_tree(files)
    restoring = reopen(store)
    entries = restoring.tree(tree).entries()
    (chunk,) = ids(content_of(entries[-1]))
    (place,) = restoring._reader.locate([chunk]).values()
    key = pack_key(place.pack.name)
    store.objects[key] = flip(store.objects[key], place.entry.offset + 5)
    assert set(extract(restoring, tree, tmp_path / "back")) == {entry.path for entry in entries}
    assert [message.undone for message in second.said if isinstance(message, Placed)] != [[]]
    assert (tmp_path / "back" / entries[-1].path).read_bytes() == (folder / entries[-1].path).read_bytes()


@pytest.mark.parametrize(
    ("spoil", "error", "said"),
    [
        (lambda path: path.unlink(), SourceChanged, "is no longer there"),
        (lambda path: path.write_bytes(b"other"), SourceChanged, "has size 5 instead of"),
        (lambda path: (path.unlink(), path.mkdir()), SourceInvalid, "cannot be read"),
    ],
    ids=["gone", "changed", "unreadable"],
)
def test_a_file_that_is_not_right_is_named(
    second: Second, vault: Vault, tmp_path: Path, spoil: Callable[[Path], object], error: type[MusterError], said: str
) -> None:
    """As if one process had read it; of what was read before it nothing is lost to the next attempt."""
    for number in range(300):
        (tmp_path / f"{number:03}").write_bytes(noise(1000, number))
    files = list(on_disk(tmp_path))
    for number in range(0, 300, 2):
        spoil(tmp_path / f"{number:03}")
    with pytest.raises(error, match=rf"\d{{3}} {said}"):
        store_tree(vault, files)
    assert second.given


def test_md5_is_held_to(second: Second, vault: Vault, folder: Path) -> None:
    """DVC's digest of a file is compared by whoever reads it."""
    files = list(on_disk(folder))
    for file in files:
        file.md5 = "0" * 32
    with pytest.raises(SourceChanged, match=r"has MD5 [0-9a-f]{32} instead of 0{32}"):
        store_tree(vault, files)
    assert second.given


def test_what_is_in_the_way_is_named(
    second: Second, vault: Vault, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that appears after the place was looked at is neither overwritten nor taken for ours."""
    tree = store_tree(vault, on_disk(folder))
    back = tmp_path / "back"
    prepare = extracting._Target.prepare

    def late(self: object, pieces: list[tuple[object, str]]) -> None:
        prepare(self, pieces)  # type: ignore[arg-type]
        for _, path in pieces:
            Path(path).write_bytes(b"of somebody else")

    monkeypatch.setattr(extracting._Target, "prepare", late)
    with pytest.raises(TargetNotEmpty, match=r"back/\d/\d{5}-é is there already"):
        extract(vault, tree, back)
    assert set(read_folder(back).values()) == {b"of somebody else"}


def test_a_store_that_is_full_ends_both(second: Second, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pack of the second process that cannot be stored fails the writer, whoever sent it, and no process stays."""
    store = MemoryStore()
    vault, _ = make_vault(store)
    put = store.put

    def full(key: str, data: bytes) -> None:
        if key.startswith("packs/"):
            raise StoreUnavailable("there is no room left", "make some")
        put(key, data)

    monkeypatch.setattr(store, "put", full)
    with pytest.raises(StoreUnavailable, match="no room left"):
        store_tree(vault, on_disk(folder))
    assert second.given
    assert all(ended(process.pid) for process in second.processes)


# --- what becomes of it -------------------------------------------------------------------------------------------------


def test_a_restore_outlives_its_second_process(second: Second, vault: Vault, folder: Path, tmp_path: Path) -> None:
    """Killed after it wrote some, it leaves the rest to the first; all files are there once, and whole."""
    tree = store_tree(vault, on_disk(folder))
    second.after = lambda message: second.kill() if isinstance(message, Placed) else None
    assert extract(vault, tree, tmp_path / "back") == read_folder(folder)
    assert state(tmp_path / "back") == state(folder)
    assert second.placed > 0


def test_a_snapshot_fails_with_its_second_process(second: Second, vault: Vault, folder: Path, tmp_path: Path) -> None:
    """What it had read and not handed over is nowhere, so that the writer says so, at once; the next attempt is whole."""
    second.after = lambda message: second.kill() if not isinstance(message, Ready) else None
    with pytest.raises(StoreUnavailable, match="the second process for small files ended with -9") as failure:
        store_tree(vault, on_disk(folder))
    assert type(failure.value) is StoreUnavailable, "which a command and a task know what to do with"
    second.after = lambda _: None
    tree = store_tree(vault, on_disk(folder))
    assert extract(vault, tree, tmp_path / "back") == read_folder(folder)


@pytest.mark.parametrize("program", ["/bin/false", "/nowhere/python"])
def test_where_no_process_can_be_begun_one_does_all(
    vault: Vault,
    folder: Path,
    tmp_path: Path,
    program: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A restore does not depend on being able to start Python once more."""
    monkeypatch.setattr(extracting, "WORTH_IT", 1)
    monkeypatch.setattr(readers, "_MANY", 1)
    monkeypatch.setattr(sys, "executable", program)
    monkeypatch.setattr(extracting, "_AT_ONCE", 1500)
    with caplog.at_level(logging.WARNING):
        tree = store_tree(vault, on_disk(folder))
        assert extract(vault, tree, tmp_path / "back") == read_folder(folder)
    assert caplog.text.count("second process for small files") == 2, "once for each, not for each lot or batch"


def test_a_killed_process_leaves_no_partial_file(second: Second, vault: Vault, tmp_path: Path) -> None:
    """Where files have a name before they are whole, what the second process left under such a name goes."""
    for number in range(3000):
        (tmp_path / "source").mkdir(exist_ok=True)
        (tmp_path / "source" / f"{number:04}").write_bytes(noise(400, number))
    tree = store_tree(vault, on_disk(tmp_path / "source"))

    def leave(message: object) -> None:
        if isinstance(message, Look):
            (tmp_path / "back" / f".muster-{second.processes[-1].pid}-00.part").write_bytes(b"half")
            second.kill()

    second.after_told = leave
    assert extract(vault, tree, tmp_path / "back") == read_folder(tmp_path / "source")
    assert any(isinstance(message, Look) for message in second.told)


def test_what_lies_in_the_working_folder_is_not_loaded(
    second: Second, vault: Vault, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second process has the vault's keys: a module of untrusted data does not run in it."""
    for name in ("msgspec", "secrets", "struct", "muster"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('loaded')")
    monkeypatch.chdir(tmp_path)
    assert extract(vault, store_tree(vault, on_disk(folder)), tmp_path / "back") == read_folder(folder)
    assert second.given
    assert second.placed


def test_long_paths_and_short_pipes_stop_nobody(
    second: Second, vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little fits into a pipe, neither side waits for the other for ever."""
    begin = SecondProcess.__init__

    def beginning(self: SecondProcess, *arguments: object) -> None:
        begin(self, *arguments)  # type: ignore[arg-type]
        for pipe in (self._process.stdin, self._process.stdout):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096)  # type: ignore[arg-type]

    monkeypatch.setattr(SecondProcess, "__init__", beginning)
    monkeypatch.setattr(packs, "PACK_TARGET", 256 * 1024)
    deep = tmp_path / "source" / Path(*["d" * 200] * 4)
    deep.mkdir(parents=True)
    for number in range(3000):
        (deep / f"{number:04}").write_bytes(noise(400, number))
    tree = store_tree(vault, on_disk(tmp_path / "source"))
    assert second.given
    assert extract(vault, tree, tmp_path / "back") == read_folder(tmp_path / "source")


def test_there_is_one_at_a_time(vault: Vault) -> None:
    """Components that are captured side by side do not take the memory and the processors of one each."""
    key = MasterKey.generate()
    with second_process(key, 1, 4096) as first, second_process(key, 1, 4096) as other:
        assert first
        assert other is None
    with second_process(key, 1, 4096) as later:
        assert later


def test_a_restore_asks_again_for_one_that_somebody_else_had(
    second: Second, vault: Vault, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two restores side by side the longer one gets it when the other has ended."""
    tree = store_tree(vault, on_disk(folder))
    monkeypatch.setattr(extracting, "_AT_ONCE", 500)
    entries, back = vault.tree(tree).entries(), tmp_path / "back"
    with ExitStack() as elsewhere:
        assert elsewhere.enter_context(second_process(MasterKey.generate(), 1, 4096))
        written_before: list[int] = []

        def wanted() -> Iterator[tuple[TreeEntry, Path]]:
            for number, entry in enumerate(entries):
                if number == 1000:
                    written_before.append(second.placed)
                    elsewhere.close()
                yield entry, back / entry.path

        vault.tree(tree).extract(wanted())
    assert written_before == [0]
    assert second.placed > 0
    assert read_folder(back) == read_folder(folder)


_CALLER = """
import os, sys, time
from threading import Thread
from muster.vault.keys import MasterKey
from muster.vault.second_process import SecondProcess
begun = []
def begin():
    begun.append(SecondProcess(MasterKey.generate(), 1, 4096))
    assert begun[0].answer()
    print(begun[0].pid, flush=True)
    sys.stdin.read(1)
thread = Thread(target=begin)
thread.start()
thread.join()
time.sleep(60)
"""


@pytest.mark.parametrize("end", ["its process is killed", "its thread ends"])
def test_it_does_not_outlive_who_began_it(end: str) -> None:
    """Killed without a chance to clean up, a Muster leaves no process that has its keys."""
    environment = {**os.environ, "PYTHONPATH": str(INCLUDE)}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", _CALLER], env=environment, **pipes) as caller:
        assert caller.stdout
        assert caller.stdin
        pid = int(caller.stdout.readline())
        assert not Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].startswith(" Z")
        if end == "its thread ends":
            caller.stdin.close()
            assert ended(pid)
        caller.kill()
    assert ended(pid)


def test_nobody_else_begins_it() -> None:
    """Begun by hand it says what it is for and ends."""
    environment = {**os.environ, "PYTHONPATH": str(INCLUDE)}
    begun = subprocess.run(
        [sys.executable, "-m", "muster.vault.second_main"], input=b"", capture_output=True, env=environment, check=False
    )
    assert begun.returncode == 1
    assert b"nobody else begins this process" in begun.stderr
