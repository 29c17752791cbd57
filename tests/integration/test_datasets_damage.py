"""Damaged, missing and moving data: what a cut of a DVC repository makes of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from dvc_repositories import FILES, Repository, run
from fakes_dataset_tree import content_of, store, take
from muster.adapters.dvc_datasets import DvcSource
from muster.adapters.dvc_known import Before
from muster.adapters.dvc_project_files import Project, ProjectFiles
from muster.adapters.dvc_repository import open_repository, read_version
from muster.errors import IntegrityError, MusterError, SourceChanged, SourceInvalid

JAN = hashlib.md5(FILES["jan.csv"]).hexdigest()
FEB = hashlib.md5(FILES["feb.csv"]).hexdigest()


def damage(path: Path, *, keep_times: bool = False) -> None:
    """Flip a bit in the middle of a file, in place."""
    before = path.stat()
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    path.chmod(before.st_mode)
    if keep_times:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


# --- damaged and missing objects ----------------------------------------------------------------------------------------


def test_damaged_cache_object_is_passed_over(repository: Repository) -> None:
    """A damaged object in the cache is not stored: the workspace's whole copy is."""
    damage(repository.cached(JAN))
    tree, _ = take(DvcSource("flights", repository.root))
    assert dict(content_of(tree, "data/data/flights/")) == FILES


def test_what_another_account_added_is_hashed_once_and_told_at_once(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where DVC's state knows nothing, small objects are hashed, the damaged one is passed over, and the state is told in one go."""
    from dvc_data.hashfile.state import State

    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "of-another-account"))
    damage(repository.cached(JAN))
    told: list[list[str]] = []
    save_many = State.save_many

    def listening(state: State, items: Iterable[tuple[str, object, object]], fs: object) -> None:
        items = list(items)
        told.append([path for path, _, _ in items])
        save_many(state, items, fs)

    monkeypatch.setattr(State, "save_many", listening)
    tree, _ = take(DvcSource("flights", repository.root))
    assert dict(content_of(tree, "data/data/flights/")) == FILES
    (cached,) = [paths for paths in told if str(repository.cached(FEB)) in paths]
    whole = {hashlib.md5(content).hexdigest() for content in FILES.values()} - {JAN}
    assert {str(repository.cached(md5)) for md5 in whole} <= set(cached)
    assert str(repository.cached(JAN)) not in cached
    told.clear()
    take(DvcSource("flights", repository.root))
    assert not told, "the state vouches for what was hashed the first time"


def test_damaged_cache_object_is_replaced_by_the_remote(git_repository: Repository) -> None:
    """Where the workspace is not read, the remote's whole copy is taken."""
    damage(git_repository.cached(JAN))
    tree, _ = take(DvcSource("flights", git_repository.root, rev="HEAD"))
    assert dict(content_of(tree, "data/data/flights/")) == FILES


def test_object_without_a_whole_copy_is_named(git_repository: Repository) -> None:
    """With all copies damaged, the object is named with its file and places."""
    damage(git_repository.cached(JAN))
    damage(git_repository.sent(JAN))
    with pytest.raises(IntegrityError, match=f"{JAN} of data/data/flights/jan.csv is damaged at .*cache.*, .*remote"):
        take(DvcSource("flights", git_repository.root, rev="HEAD"))


def test_rot_that_leaves_no_trace_is_found_while_reading(repository: Repository) -> None:
    """Damage under the same inode, size and time, for which DVC vouches, is found by the MD5 and named."""
    source = DvcSource("flights", repository.root)
    take(source)
    damage(repository.cached(FEB), keep_times=True)
    with pytest.raises(IntegrityError, match=f"{FEB} at .* is damaged"):
        take(source)


def test_damaged_object_of_the_remote_is_named(repository: Repository) -> None:
    """A flipped bit in the remote, which `dvc pull` restores without a word, ends the capture."""
    damage(repository.sent(JAN))
    with pytest.raises(IntegrityError, match=f"{JAN} at .* is damaged"):
        take(DvcSource("flights", repository.root, source="remote"))


def test_object_that_the_remote_lost_is_named(repository: Repository) -> None:
    """An object that `dvc status -c` does not miss, since its .dir is there, is missed, with its path."""
    repository.sent(FEB).unlink()
    assert "in sync" in repository.dvc("status", "--cloud")
    with pytest.raises(SourceInvalid, match=f"{FEB} of data/data/flights/feb.csv is not in the remote"):
        take(DvcSource("flights", repository.root, source="remote"))


def test_lost_cache_is_made_up_for_by_the_workspace(repository: Repository) -> None:
    """With the whole cache gone, even the lists of files, the workspace gives the version."""
    run(repository.root, "rm", "-rf", ".dvc/cache", str(repository.remote))
    tree, _ = take(DvcSource("flights", repository.root))
    assert dict(content_of(tree, "data/data/flights/")) == FILES


def test_damaged_list_of_files_is_passed_over(git_repository: Repository) -> None:
    """A damaged .dir object is not believed; the remote's is."""
    (lists,) = (git_repository.root / ".dvc/cache").rglob("*.dir")
    lists.chmod(0o644)
    lists.write_bytes(b'[{"md5": "00", "relpath": "../../evil"}]')
    tree, _ = take(DvcSource("flights", git_repository.root, rev="HEAD"))
    assert dict(content_of(tree, "data/data/flights/")) == FILES


def test_folder_in_place_of_an_object_is_refused(git_repository: Repository) -> None:
    """An object that cannot be read is a SourceInvalid that names it."""
    cached = git_repository.cached(JAN)
    cached.unlink()
    cached.mkdir()
    with pytest.raises(SourceInvalid, match=str(cached)):
        take(DvcSource("flights", git_repository.root, rev="HEAD"))


# --- changes meanwhile --------------------------------------------------------------------------------------------------


def rewrite(repository: Repository) -> None:
    (repository.flights / "jan.csv").write_bytes(b"another version\n")
    repository.dvc("add", "--quiet", "data/flights")


def commit(repository: Repository) -> None:
    repository.git("commit", "--allow-empty", "--quiet", "--message", "meanwhile")


@pytest.mark.parametrize("change", [rewrite, commit], ids=["dvc add", "git commit"])
def test_version_that_moves_is_noticed(git_repository: Repository, change: Callable[[Repository], None]) -> None:
    """A new DVC version, or a new commit, between cut and confirmation makes the cut void."""
    with DvcSource("flights", git_repository.root).capture(None) as cut:
        store(cut.files())
        change(git_repository)
        with pytest.raises(SourceChanged):
            cut.confirm()


def test_workspace_file_that_moves_is_noticed(repository: Repository) -> None:
    """A file that was read from the workspace and changes after that makes the cut void."""
    run(repository.root, "rm", "-rf", ".dvc/cache")
    with DvcSource("flights", repository.root).capture(None) as cut:
        store(cut.files())
        (repository.flights / "jan.csv").write_bytes(FILES["jan.csv"])
        with pytest.raises(SourceChanged, match=r"jan\.csv"):
            cut.confirm()


def test_object_that_goes_away_meanwhile_is_noticed(repository: Repository) -> None:
    """An object that is collected between cut and reading is a change, so the snapshot is tried again."""

    with DvcSource("flights", repository.root).capture(None) as cut:
        files = {file.path: file for file in cut.files()}
        repository.cached(JAN).unlink()
        with pytest.raises(SourceChanged, match="was removed while"):
            store([files["data/data/flights/jan.csv"]])


def test_errors_of_the_vault_are_left_alone(repository: Repository) -> None:
    """What the reader of a cut raises leaves the capture as it is."""
    with (
        pytest.raises(MusterError) as caught,
        DvcSource("flights", repository.root).capture(None),
    ):
        raise MusterError("the vault is full", "make room")
    assert caught.value.message == "the vault is full"


def test_version_that_moves_before_it_is_kept_is_noticed(repository: Repository, tmp_path: Path) -> None:
    """Metafiles that no longer name the version that DVC read from them make the cut void at once."""
    with open_repository(repository.root) as repo:
        version = read_version(repo, ["data/flights"])
        rewrite(repository)
        with pytest.raises(SourceChanged, match="data/flights got another version"):
            ProjectFiles(Project(repository.root, repo, version, None, False, tmp_path), Before(None))
