"""A restored DVC repository is the one that was captured, and nothing less ever appears."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

from dvc_repositories import DVC, FILES, Repository, lay_of, run
from fakes_dataset_tree import take
from muster.adapters.dvc_datasets import DvcSource, DvcTarget

RECONCILED = (
    "revision",
    "branch",
    "object_format",
    "outputs",
    "files",
    "bytes",
    "objects",
    "folders",
    "empty_folders",
    "links",
    "metafiles",
    "absent_metafiles",
)


def restored(captured: Repository, to: Path, **options: Any) -> Repository:
    """A repository, captured and put back at `to`."""
    tree, details = take(DvcSource("flights", captured.root, **options))
    facts = DvcTarget("flights", to).restore(details, tree)
    assert {key: facts[key] for key in RECONCILED} == {key: details[key] for key in RECONCILED}
    return Repository(to)


def remote_of(repository: Repository) -> Path:
    return repository.root.with_name(f"{repository.root.name}.remote")


# --- the way back -------------------------------------------------------------------------------------------------------


def test_everything_comes_back(repository: Repository, tmp_path: Path) -> None:
    """Files, bytes, modes, empty folders, links and metafiles of the restored workspace are those of the source."""
    (repository.flights / "jan.csv").unlink()
    (repository.flights / "jan.csv").symlink_to("same.csv")
    (repository.flights / "folder-link").symlink_to("north")
    back = restored(repository, tmp_path / "back")
    lay = lay_of(back.root)
    assert lay.pop(".dvc/config.local")
    assert lay == lay_of(repository.root)
    assert (back.flights / "feb.csv").stat().st_mtime_ns == (repository.flights / "feb.csv").stat().st_mtime_ns


def test_dvc_finds_nothing_to_do(repository: Repository, tmp_path: Path) -> None:
    """To the DVC command, workspace, cache and remote agree, and there is nothing to push."""
    back = restored(repository, tmp_path / "back")
    assert "up to date" in run(back.root, str(DVC), "status")
    assert "in sync" in back.dvc("status", "--cloud")
    assert "Everything is up to date" in back.dvc("push")


def test_remote_and_cache_hold_every_object(repository: Repository, tmp_path: Path) -> None:
    """Cache and remote hold the same objects as the original's, byte for byte, whatever DVC says of them, write-protected."""
    back = restored(repository, tmp_path / "back")
    objects = {p.relative_to(repository.remote): p.read_bytes() for p in repository.remote.rglob("*") if p.is_file()}
    for folder in (remote_of(back), back.root / ".dvc" / "cache"):
        found = [p for p in folder.rglob("*") if p.is_file()]
        assert {p.relative_to(folder): p.read_bytes() for p in found} == objects
        assert {p.stat().st_mode & 0o777 for p in found} == {0o444}


def test_fresh_clone_pulls_what_was_restored(git_repository: Repository, tmp_path: Path) -> None:
    """A clone of the restored repository pulls all data from the restored remote, with verification on."""
    back = restored(git_repository, tmp_path / "back")
    run(tmp_path, "git", "clone", "--quiet", str(back.root), "clone")
    clone = Repository(tmp_path / "clone")
    clone.dvc("remote", "modify", "--local", "store", "url", str(remote_of(back)))
    clone.dvc("remote", "modify", "--local", "store", "verify", "true")
    clone.dvc("pull", "--quiet")
    assert {name: (clone.flights / name).read_bytes() for name in FILES} == FILES


def test_git_is_where_it_was(git_repository: Repository, tmp_path: Path) -> None:
    """Commit, branch, tags, other branches and committed files come back, and Git sees no change."""
    git_repository.git("tag", "v1")
    git_repository.git("branch", "other")
    back = restored(git_repository, tmp_path / "back")
    assert back.git("status", "--short", "--branch").strip() == "## trunk"
    assert back.git("show-ref", "--head") == git_repository.git("show-ref", "--head")
    assert (back.root / "train.py").read_text() == "print('hello')\n"
    back.git("fsck", "--strict")


def test_detached_head_comes_back(git_repository: Repository, tmp_path: Path) -> None:
    """A detached HEAD on a commit of no branch is restored as that."""
    git_repository.git("checkout", "--quiet", "--detach")
    git_repository.git("commit", "--allow-empty", "--quiet", "--message", "nowhere")
    back = restored(git_repository, tmp_path / "back")
    assert back.git("rev-parse", "HEAD") == git_repository.git("rev-parse", "HEAD")
    assert back.git("branch", "--show-current") == ""


def test_objects_named_by_sha256_come_back(plain_repository: Repository, tmp_path: Path) -> None:
    """A Git repository whose objects are named by SHA-256, which DVC reads but does not begin, is restored as one."""
    (plain_repository.root / ".dvc/.gitignore").write_text("/cache\n/tmp\n/config.local\n")
    plain_repository.git("init", "--quiet", "--object-format=sha256")
    plain_repository.dvc("config", "--unset", "core.no_scm")
    plain_repository.commit()
    back = restored(plain_repository, tmp_path / "back")
    assert back.git("show-ref", "--head") == plain_repository.git("show-ref", "--head")
    assert len(back.git("rev-parse", "HEAD").strip()) == 64


def test_repository_without_a_commit_comes_back(tmp_path: Path, dvc_site: Path) -> None:
    """A repository before its first commit is restored with its branch and its data."""
    source = Repository(tmp_path / "young")
    source.root.mkdir()
    source.git("init", "--quiet", "--initial-branch", "trunk")
    source.dvc("init", "--quiet")
    (source.root / "a.csv").write_bytes(b"1\n")
    source.dvc("add", "--quiet", "a.csv")
    back = restored(source, tmp_path / "back")
    assert back.git("branch", "--show-current").strip() == "trunk"
    assert "up to date" in back.dvc("status")


def test_history_comes_back_where_the_branch_has_no_commit_yet(git_repository: Repository, tmp_path: Path) -> None:
    """With a new branch without a commit, all other branches and tags come back, and the new branch is checked out."""
    git_repository.git("tag", "v1")
    git_repository.git("checkout", "--quiet", "--orphan", "fresh")
    back = restored(git_repository, tmp_path / "back")
    assert back.git("show-ref", "--head") == git_repository.git("show-ref", "--head")
    assert "refs/heads/trunk" in back.git("show-ref")
    assert back.git("branch", "--show-current").strip() == "fresh"
    assert "up to date" in back.dvc("status")


def test_branch_comes_back_that_is_called_as_a_tag(git_repository: Repository, tmp_path: Path) -> None:
    """Branch and tag of one name are told apart, and the branch is checked out again."""
    git_repository.git("tag", "trunk")
    back = restored(git_repository, tmp_path / "back")
    assert back.git("branch", "--show-current").strip() == "trunk"
    assert back.git("show-ref", "--head") == git_repository.git("show-ref", "--head")


def test_version_that_is_not_committed_comes_back(git_repository: Repository, tmp_path: Path) -> None:
    """A .dvc file that is newer than the commit is laid over it."""
    (git_repository.flights / "jan.csv").write_bytes(b"newer\n")
    git_repository.dvc("add", "--quiet", "data/flights")
    back = restored(git_repository, tmp_path / "back")
    assert (back.flights / "jan.csv").read_bytes() == b"newer\n"
    assert "up to date" in back.dvc("status")
    assert back.git("status", "--short") == git_repository.git("status", "--short")


def test_folder_comes_back_that_moved_from_git_to_dvc(git_repository: Repository, tmp_path: Path) -> None:
    """A folder of which the commit has other files, and one of which it has a link, come back as DVC has them now."""
    root = git_repository.root
    (root / "tables").mkdir()
    (root / "tables" / "old.csv").write_text("1\n")
    (root / "linked").symlink_to("tables")
    git_repository.commit()
    git_repository.git("rm", "--quiet", "-r", "--cached", "tables", "linked")
    (root / "tables" / "old.csv").rename(root / "tables" / "new.csv")
    (root / "linked").unlink()
    (root / "linked").mkdir()
    (root / "linked" / "a.csv").write_text("2\n")
    git_repository.dvc("add", "--quiet", "tables", "linked")
    back = restored(git_repository, tmp_path / "back")
    assert lay_of(back.root / "tables") == lay_of(root / "tables")
    assert lay_of(back.root / "linked") == lay_of(root / "linked")
    assert "up to date" in back.dvc("status")


def test_cache_that_was_committed_is_no_obstacle(git_repository: Repository, tmp_path: Path) -> None:
    """Where the commit holds DVC's cache, the restored one is what was captured, and DVC finds it whole."""
    git_repository.git("add", "--force", ".dvc/cache")
    git_repository.commit()
    back = restored(git_repository, tmp_path / "back")
    assert "up to date" in back.dvc("status")
    assert "in sync" in back.dvc("status", "--cloud")


def test_removed_output_stays_removed(git_repository: Repository, tmp_path: Path) -> None:
    """An output that was removed from DVC, and not committed, does not come back out of the commit."""
    git_repository.dvc("remove", "--outs", "airports.csv.dvc")
    back = restored(git_repository, tmp_path / "back")
    assert not (back.root / "airports.csv.dvc").exists()
    assert back.git("status", "--short") == git_repository.git("status", "--short")
    assert "up to date" in back.dvc("status")


def test_older_revision_comes_back(git_repository: Repository, tmp_path: Path) -> None:
    """A revision captured by name is restored at that commit with its own data."""
    first = git_repository.git("rev-parse", "HEAD").strip()
    (git_repository.flights / "jan.csv").write_bytes(b"newer\n")
    git_repository.dvc("add", "--quiet", "data/flights")
    git_repository.commit()
    back = restored(git_repository, tmp_path / "back", rev=first)
    assert back.git("rev-parse", "HEAD").strip() == first
    assert {name: (back.flights / name).read_bytes() for name in FILES} == FILES


def test_capture_of_the_remote_comes_back(repository: Repository, tmp_path: Path) -> None:
    """What was captured from the remote alone is restored as a whole repository."""
    shutil.rmtree(repository.root / ".dvc" / "cache")
    back = restored(repository, tmp_path / "back", source="remote")
    assert {name: (back.flights / name).read_bytes() for name in FILES} == FILES
    assert "up to date" in back.dvc("status")


def test_pipeline_comes_back_clean(plain_repository: Repository, tmp_path: Path) -> None:
    """A pipeline's stages, parameters, scripts and uncached metrics come back, so that DVC has nothing to run."""
    root = plain_repository.root
    (root / "params.yaml").write_text("rows: 2\n")
    (root / "count.sh").write_text("wc -l < airports.csv > lines.txt; echo 2 > metric.json\n")
    stage = ["--name", "count", "-d", "count.sh", "-d", "airports.csv", "-p", "rows", "-o", "lines.txt"]
    plain_repository.dvc("stage", "add", "--quiet", *stage, "-M", "metric.json", "sh count.sh")
    plain_repository.dvc("repro", "--quiet")
    back = restored(plain_repository, tmp_path / "back")
    assert "up to date" in back.dvc("status")
    assert (back.root / "metric.json").read_text() == "2\n"


def test_links_that_a_pipeline_reads_come_back(repository: Repository, tmp_path: Path) -> None:
    """A linked file and a linked folder that a stage depends on come back as links, with what they lead to."""
    root = repository.root
    (root / "lib-2" / "deep").mkdir(parents=True)
    (root / "lib-2" / "deep" / "run.sh").write_text("echo 1 > one.txt\n")
    (root / "lib-2" / "up").symlink_to("..")
    (root / "lib-2" / "same.sh").symlink_to("deep/run.sh")
    (root / "lib").symlink_to("lib-2")
    (root / "run.sh").symlink_to("lib/deep/run.sh")
    stage = ["--name", "one", "-d", "lib/deep", "-d", "lib-2", "-d", "run.sh", "-o", "one.txt"]
    repository.dvc("stage", "add", "--quiet", *stage, "sh run.sh")
    repository.dvc("repro", "--quiet")
    if (root / ".git").exists():
        repository.commit()
    back = restored(repository, tmp_path / "back")
    lay = lay_of(back.root)
    assert lay.pop(".dvc/config.local")
    assert lay == lay_of(root)
    assert "up to date" in back.dvc("status")


def test_templated_pipeline_comes_back(repository: Repository, tmp_path: Path) -> None:
    """Files that give a dvc.yaml its values come back as they are, though Git has them not, or older."""
    root = repository.root
    (root / "step").mkdir()
    (root / "step" / "own.yaml").write_text("own: {three: c.txt}\n")
    (root / "names.yaml").write_text("names: {two: b.txt}\nother: 1\n")
    (root / "params.yaml").write_text("one: older.txt\n")
    if (root / ".git").exists():
        repository.git("add", "params.yaml")
        repository.git("commit", "--quiet", "--message", "older")
    (root / "params.yaml").write_text("one: a.txt\n")
    (root / "dvc.yaml").write_text(
        "vars: [names.yaml:names, {inline: 1}]\n"
        "stages:\n"
        "  one: {cmd: 'echo 1 > ${one}', outs: ['${one}']}\n"
        "  two: {foreach: [x], do: {cmd: 'echo ${item} > ${names.two}', outs: ['${names.two}']}}\n"
        "  three: {wdir: step, vars: [own.yaml], cmd: 'echo 3 > ${own.three}', outs: ['${own.three}']}\n"
    )
    repository.dvc("repro", "--quiet")
    back = restored(repository, tmp_path / "back")
    assert "up to date" in back.dvc("status")
    assert (back.root / "params.yaml").read_text() == "one: a.txt\n"


def test_repository_that_only_its_own_settings_keep_out_of_git_comes_back(
    plain_repository: Repository, tmp_path: Path
) -> None:
    """With core.no_scm in .dvc/config.local, which is not captured, DVC reads the restored repository all the same."""
    plain_repository.dvc("config", "--unset", "core.no_scm")
    plain_repository.dvc("config", "--local", "core.no_scm", "true")
    back = restored(plain_repository, tmp_path / "back")
    assert "up to date" in back.dvc("status")
    assert "in sync" in back.dvc("status", "--cloud")


def test_snapshot_of_the_restored_is_the_same(repository: Repository, tmp_path: Path) -> None:
    """A cut of the restored repository has the same data as the cut that it came from, and nothing new to store."""
    tree, details = take(DvcSource("flights", repository.root))
    DvcTarget("flights", tmp_path / "back").restore(details, tree)
    again, _ = take(DvcSource("flights", tmp_path / "back"), tree)
    data = [entry for entry in tree.entries() if entry.path.startswith(("data/", "objects/", "git/refs"))]
    assert [entry for entry in again.entries() if entry.path.startswith(("data/", "objects/", "git/refs"))] == data


def test_output_with_its_own_remote_comes_back(repository: Repository, tmp_path: Path) -> None:
    """It is read from there, and the restored remote holds it; DVC finds it whole, and pushes nothing to the original's."""
    own = tmp_path / "own"
    repository.dvc("remote", "add", "--quiet", "own", str(own))
    (repository.root / "own.csv").write_bytes(b"own\n")
    repository.dvc("add", "--quiet", "own.csv")
    pointer = repository.root / "own.csv.dvc"
    pointer.write_text(f"{pointer.read_text()}  remote: own\n")
    repository.dvc("push", "--quiet")
    shutil.rmtree(repository.root / ".dvc" / "cache")
    back = restored(repository, tmp_path / "back", source="remote")
    before = lay_of(own)
    assert (back.root / "own.csv").read_bytes() == b"own\n"
    shutil.rmtree(back.root / ".dvc" / "cache")
    back.dvc("pull", "--quiet")
    (back.root / "own.csv").write_bytes(b"other\n")
    back.dvc("add", "--quiet", "own.csv")
    back.dvc("push", "--quiet")
    assert lay_of(own) == before != {}


def test_settings_of_an_own_remote_that_go_with_no_folder_are_left(repository: Repository, tmp_path: Path) -> None:
    """An output's own remote on a server keeps its settings, with which DVC still reads the restored repository."""
    repository.dvc("remote", "add", "--quiet", "own", "s3://nowhere/store")
    repository.dvc("remote", "modify", "own", "endpointurl", "http://127.0.0.1:9")
    pointer = repository.root / "airports.csv.dvc"
    pointer.write_text(f"{pointer.read_text()}  remote: own\n")
    back = restored(repository, tmp_path / "back")
    assert "up to date" in back.dvc("status")
    assert "Everything is up to date" in back.dvc("push", "data/flights")


# --- where it goes ------------------------------------------------------------------------------------------------------


def test_origin_keeps_its_remote(repository: Repository) -> None:
    """Restored to where it was, with its remote where that was, the repository needs no setting of its own."""
    tree, details = take(DvcSource("flights", repository.root))
    shutil.rmtree(repository.root)
    shutil.rmtree(repository.remote)
    DvcTarget("flights", repository.root, remote=details["remote"]).restore(details, tree)
    assert not (repository.root / ".dvc/config.local").exists()
    assert "Everything is up to date" in repository.dvc("push")


def test_original_remote_is_not_written_to(repository: Repository, tmp_path: Path) -> None:
    """What is restored elsewhere pushes to its own remote: the original's stays as it is."""
    back = restored(repository, tmp_path / "back")
    before = lay_of(repository.remote)
    (back.root / "airports.csv").unlink()
    (back.root / "airports.csv").write_bytes(b"EWR\n")
    back.dvc("add", "--quiet", "airports.csv")
    back.dvc("push", "--quiet")
    assert lay_of(repository.remote) == before


def test_remote_may_lie_in_the_repository(plain_repository: Repository, tmp_path: Path) -> None:
    """A remote below the repository's own folder is restored with it."""
    tree, details = take(DvcSource("flights", plain_repository.root))
    DvcTarget("flights", tmp_path / "back", remote=str(tmp_path / "back" / "store")).restore(details, tree)
    assert "in sync" in Repository(tmp_path / "back").dvc("status", "--cloud")


def test_shared_cache_is_not_used(plain_repository: Repository, tmp_path: Path) -> None:
    """A cache that the original shares with others is not filled by a restore elsewhere."""
    shared = tmp_path / "shared"
    plain_repository.dvc("config", "cache.dir", str(shared))
    plain_repository.dvc("fetch", "--quiet")
    before = lay_of(shared)
    back = restored(plain_repository, tmp_path / "back")
    assert back.dvc("cache", "dir").strip() == str(back.root / ".dvc" / "cache")
    assert lay_of(shared) == before
    assert (back.root / ".dvc/cache/files/md5").is_dir()


def test_hard_links_are_used_where_asked_for(plain_repository: Repository, tmp_path: Path) -> None:
    """With cache.type hardlink, workspace and cache are one file, protected; without it, two."""
    apart = restored(plain_repository, tmp_path / "apart")
    plain_repository.dvc("config", "cache.type", "hardlink,copy")
    linked = restored(plain_repository, tmp_path / "linked")
    oid = hashlib.md5(FILES["feb.csv"]).hexdigest()
    assert not apart.cached(oid).samefile(apart.flights / "feb.csv")
    assert linked.cached(oid).samefile(linked.flights / "feb.csv")
    assert "up to date" in linked.dvc("status")


def test_empty_folders_are_taken(plain_repository: Repository, tmp_path: Path) -> None:
    """A target and a remote that exist and are empty are filled."""
    (tmp_path / "back").mkdir()
    (tmp_path / "back.remote").mkdir()
    assert restored(plain_repository, tmp_path / "back").flights.is_dir()
