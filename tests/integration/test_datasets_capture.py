"""What a cut of a DVC repository holds, and what it refuses."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from dvc_repositories import DVC, FILES, Repository, run
from fakes_dataset_tree import MemoryTree, content_of, take
from muster.adapters.dvc_datasets import DvcSource
from muster.errors import SourceInvalid, UsageError
from permissions import modes_bind

JAN = hashlib.md5(FILES["jan.csv"]).hexdigest()
FEB = hashlib.md5(FILES["feb.csv"]).hexdigest()


def opened(source: DvcSource, previous: MemoryTree) -> list[str]:
    """Paths of the data files whose content would be read."""
    with source.capture(previous) as cut:
        return [f.path for f in cut.files() if f.path.startswith("data/") and f.kind == "file" and f.known is None]


# --- what is captured --------------------------------------------------------------------------------------------------


def test_cut_holds_every_file_byte_for_byte(repository: Repository) -> None:
    """Every tracked file is in the tree at its workspace path, with its bytes, its MD5 and its mode."""
    tree, _ = take(DvcSource("flights", repository.root))
    assert dict(content_of(tree, "data/data/flights/")) == FILES
    assert dict(content_of(tree, "data/airports.csv")) == {"": b"JFK\nLGA\n"}
    entry = tree.entry("data/data/flights/feb.csv")
    assert entry.md5 == FEB
    assert entry.mode == 0o755


def test_cut_holds_what_dvc_drops(repository: Repository) -> None:
    """Empty folders and links are in the tree; a link that leads out of the output is its file."""
    (repository.flights / "jan.csv").unlink()
    (repository.flights / "jan.csv").symlink_to("same.csv")
    (repository.flights / "folder-link").symlink_to("north")
    outside = repository.root.parent / "outside.csv"
    outside.write_bytes(FILES["feb.csv"])
    (repository.flights / "feb.csv").unlink()
    (repository.flights / "feb.csv").symlink_to(outside)
    tree, details = take(DvcSource("flights", repository.root))
    assert tree.entry("data/data/flights/jan.csv").link == "same.csv"
    assert tree.entry("data/data/flights/folder-link").link == "north"
    assert tree.entry("data/data/flights/feb.csv").kind == "file"
    assert tree.entry("data/data/flights/empty/deep").kind == "dir"
    assert (details["links"], details["empty_folders"], details["files"]) == (2, 1, 7)


def test_details_count_what_is_there(git_repository: Repository) -> None:
    """The details give revision, branch, outputs, counts and the remote."""
    _, details = take(DvcSource("flights", git_repository.root))
    flights = next(output for output in details["outputs"] if output["path"] == "data/flights")
    assert details["revision"] == git_repository.git("rev-parse", "HEAD").strip()
    assert details["branch"] == "trunk"
    assert flights["nfiles"] == len(FILES)
    assert flights["size"] == sum(len(content) for content in FILES.values())
    assert details["files"] == len(FILES) + 1
    assert details["objects"] == len(set(FILES.values())) + 2
    assert details["remote"] == str(git_repository.remote)


def test_details_name_a_file_that_is_tracked_by_itself_by_its_md5(plain_repository: Repository) -> None:
    """So whoever reads the manifest can tell whether it is a file that they know, as docs/threat-model.md admits."""
    _, details = take(DvcSource("flights", plain_repository.root))
    (single,) = (output for output in details["outputs"] if output["nfiles"] == 1)
    assert single["md5"] == hashlib.md5((plain_repository.root / single["path"]).read_bytes()).hexdigest()


def test_details_name_what_no_bundle_holds(
    git_repository: Repository, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Submodules, files of Git LFS, older stashes and detached heads of other worktrees are named, and warned of."""
    assert take(DvcSource("flights", git_repository.root))[1]["not_in_git_bundle"] == []
    root = git_repository.root
    git_repository.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", f"{root}/.git", "part")
    (root / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    git_repository.commit()
    git_repository.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "kept"))
    git_repository.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "lost"))
    run(tmp_path / "lost", "git", "commit", "--quiet", "--allow-empty", "--message", "lost")
    for number in range(3):
        (root / "train.py").write_text(f"print({number})\n")
        git_repository.git("stash")
    _, details = take(DvcSource("flights", root))
    told = details["not_in_git_bundle"]
    assert [sentence.split()[0:2] for sentence in told] == [
        ["the", "submodule"],
        ["files", "that"],
        ["2", "stashes"],
        ["the", "commit"],
    ]
    assert all(
        name in sentence for name, sentence in zip(("part", ".gitattributes", "newest", "lost"), told, strict=True)
    )
    assert all(sentence in caplog.text for sentence in told)


@pytest.mark.parametrize("target", ["data/flights", "data/flights.dvc", "./data/flights/", "data"])
def test_target_is_a_path_or_a_dvc_file(plain_repository: Repository, target: str) -> None:
    """A target names an output, its .dvc file, or the folder above it; other outputs are left out."""
    tree, details = take(DvcSource("flights", plain_repository.root, targets=[target]))
    assert [output["path"] for output in details["outputs"]] == ["data/flights"]
    assert not any("airports" in path for path in tree.paths())


def test_credentials_stay_out(repository: Repository) -> None:
    """.dvc/config.local, and passwords in URLs, are neither in the tree nor in the details."""
    repository.dvc("remote", "add", "--quiet", "--default", "other", "https://me:hunter2@example.org/store")
    repository.dvc("config", "--local", "remote.other.password", "hunter3")
    tree, details = take(DvcSource("flights", repository.root))
    assert not any("config.local" in path for path in tree.paths())
    assert b"hunter3" not in b"".join(content for _, content in content_of(tree, ""))
    assert "hunter2" not in repr(details)


def test_remote_source_needs_no_data_here(repository: Repository) -> None:
    """With the remote as source, a clone without cache and workspace gives the same files."""
    for path in (repository.root / ".dvc/cache", repository.flights):
        run(repository.root, "rm", "-rf", str(path))
    tree, details = take(DvcSource("flights", repository.root, source="remote"))
    assert dict(content_of(tree, "data/data/flights/")) == FILES
    assert details["source"] == "remote"


def test_revision_is_captured_as_it_was(git_repository: Repository) -> None:
    """An older revision gives its own files, whatever the workspace holds now."""
    first = git_repository.git("rev-parse", "HEAD").strip()
    (git_repository.flights / "jan.csv").write_bytes(b"rewritten\n")
    git_repository.dvc("add", "--quiet", "data/flights")
    git_repository.commit()
    tree, details = take(DvcSource("flights", git_repository.root, rev=first))
    assert dict(content_of(tree, "data/data/flights/")) == FILES
    assert (details["revision"], details["branch"]) == (first, None)


# --- what is not read again ---------------------------------------------------------------------------------------------


def test_unchanged_dataset_opens_no_file(repository: Repository) -> None:
    """With the point before at hand, an unchanged dataset is stored without reading a data file or bundling history again."""
    source = DvcSource("flights", repository.root)
    tree, details = take(source)
    assert opened(source, tree) == []
    with source.capture(tree) as cut:
        again = {file.path: file for file in cut.files()}
        assert cut.details() == details
    assert "git/history.bundle" not in again or again["git/history.bundle"].known is not None


def test_only_new_content_is_opened(repository: Repository) -> None:
    """After a change, the changed file alone is read."""
    source = DvcSource("flights", repository.root)
    tree, _ = take(source)
    (repository.flights / "jan.csv").write_bytes(b"rewritten\n")
    repository.dvc("add", "--quiet", "data/flights")
    assert opened(source, tree) == ["data/data/flights/jan.csv"]


# --- what is refused ----------------------------------------------------------------------------------------------------


def test_workspace_must_be_the_recorded_version(repository: Repository) -> None:
    """Changed, added and deleted files that were not added to DVC are named, five at most, with the mend."""
    (repository.flights / "jan.csv").write_bytes(b"day,delay\n1,18\n")
    (repository.flights / "feb.csv").unlink()
    for number in range(5):
        (repository.flights / f"new{number}.csv").write_bytes(b"new")
    with pytest.raises(SourceInvalid, match=r"new0.csv \(added\).* and 2 more") as caught:
        take(DvcSource("flights", repository.root))
    assert "dvc add data/flights" in caught.value.hint


def test_edit_of_the_same_size_is_noticed(repository: Repository) -> None:
    """A change that keeps the size is found after DVC has hashed the file once."""
    take(DvcSource("flights", repository.root))
    (repository.flights / "jan.csv").write_bytes(b"day,delay\n1,99\n")
    with pytest.raises(SourceInvalid, match=r"data/flights/jan.csv \(changed\)"):
        take(DvcSource("flights", repository.root))


def test_missing_output_is_not_taken_for_empty(repository: Repository) -> None:
    """A tracked folder that is not there is refused, with the mend."""
    run(repository.root, "rm", "-rf", str(repository.flights))
    with pytest.raises(SourceInvalid, match="not in the workspace") as caught:
        take(DvcSource("flights", repository.root))
    assert "dvc checkout" in caught.value.hint


def test_folder_without_dvc_is_refused(tmp_path: Path) -> None:
    """A folder that is no DVC repository is named."""
    with pytest.raises(SourceInvalid, match=f"{tmp_path} is not a DVC repository"):
        take(DvcSource("flights", tmp_path))


@pytest.mark.parametrize(
    ("target", "message"),
    [("data/nothing", "data/nothing is not tracked"), ("data/flights/jan.csv", "a part of data/flights")],
)
def test_untracked_target_is_refused(plain_repository: Repository, target: str, message: str) -> None:
    """A target that is not tracked, or only as a part of something, is refused, and what is tracked is named."""
    with pytest.raises(SourceInvalid, match=message) as caught:
        take(DvcSource("flights", plain_repository.root, targets=[target]))
    assert "data/flights" in caught.value.hint


def test_unknown_revision_is_refused(git_repository: Repository) -> None:
    """A revision that does not exist is named."""
    with pytest.raises(SourceInvalid, match="no-such-tag"):
        take(DvcSource("flights", git_repository.root, rev="no-such-tag"))


def test_shallow_history_is_refused(git_repository: Repository, tmp_path: Path) -> None:
    """A shallow clone has not its whole history, and is told how to get it."""
    git_repository.git("commit", "--allow-empty", "--quiet", "--message", "second")
    run(tmp_path, "git", "clone", "-q", "--depth", "1", f"file://{git_repository.root}", "shallow")
    with pytest.raises(SourceInvalid, match="shallow clone"):
        take(DvcSource("flights", tmp_path / "shallow", source="remote"))


def test_history_that_a_graft_cuts_is_refused(git_repository: Repository) -> None:
    """A bundle without the commits that a graft hides could never be read again: it is refused before anything is sealed."""
    git_repository.git("commit", "--allow-empty", "--quiet", "--message", "second")
    head = git_repository.git("rev-parse", "HEAD")
    (git_repository.root / ".git/info").mkdir(exist_ok=True)
    (git_repository.root / ".git/info/grafts").write_text(head)
    with pytest.raises(SourceInvalid, match="cannot be brought back from a bundle") as caught:
        take(DvcSource("flights", git_repository.root))
    assert "grafts" in caught.value.hint


def test_revision_that_no_ref_leads_to_is_refused(git_repository: Repository) -> None:
    """A commit that no branch or tag keeps is in no bundle."""
    lost = git_repository.git("commit-tree", "-m", "lost", "HEAD^{tree}").strip()
    with pytest.raises(SourceInvalid, match="cannot be brought back") as caught:
        take(DvcSource("flights", git_repository.root, rev=lost))
    assert "by a branch or tag" in caught.value.hint


def test_subfolder_of_a_git_repository_is_refused(git_repository: Repository) -> None:
    """A DVC repository that shares its Git history with others is refused by name."""
    below = git_repository.root / "below"
    below.mkdir()
    run(below, str(DVC), "init", "--quiet", "--subdir")
    with pytest.raises(SourceInvalid, match="is a subfolder of the Git repository"):
        take(DvcSource("flights", below))


def test_hashes_of_dvc_2_are_refused(plain_repository: Repository) -> None:
    """An output that was tracked by DVC 2 is refused with the command that migrates it."""
    pointer = plain_repository.root / "airports.csv.dvc"
    pointer.write_text(pointer.read_text().replace("  hash: md5\n", ""))
    with pytest.raises(SourceInvalid, match="DVC 2") as caught:
        take(DvcSource("flights", plain_repository.root))
    assert "dvc cache migrate" in caught.value.hint


def test_unreadable_metafile_is_refused(repository: Repository) -> None:
    """A .dvc file that is no YAML is a SourceInvalid, not DVC's own error."""
    (repository.root / "airports.csv.dvc").write_text("outs: [")
    with pytest.raises(SourceInvalid, match=r"airports\.csv\.dvc"):
        take(DvcSource("flights", repository.root))


def test_pipe_in_a_dataset_is_refused(repository: Repository) -> None:
    """What is neither file nor folder is named instead of being waited for."""
    os.mkfifo(repository.flights / "pipe")
    with pytest.raises(SourceInvalid, match="pipe"):
        take(DvcSource("flights", repository.root))


def test_unreadable_folder_of_a_pipeline_is_refused(plain_repository: Repository) -> None:
    """A folder that a stage reads and we may not is named, instead of being taken for empty."""
    scripts = plain_repository.root / "scripts"
    (scripts / "deep").mkdir(parents=True)
    (scripts / "deep" / "count.sh").write_text("wc -l < airports.csv > lines.txt\n")
    stage = ["--name", "count", "-d", "scripts", "-d", "airports.csv", "-o", "lines.txt"]
    plain_repository.dvc("stage", "add", "--quiet", *stage, "sh scripts/deep/count.sh")
    plain_repository.dvc("repro", "--quiet")
    source = DvcSource("flights", plain_repository.root)
    tree, _ = take(source)
    assert "repo/scripts/deep/count.sh" in tree.paths()
    (scripts / "deep").chmod(0)
    with modes_bind(), pytest.raises(SourceInvalid, match=r"scripts/deep cannot be read"):
        take(source)


def test_unknown_kind_of_source_is_refused(tmp_path: Path) -> None:
    """A source that is neither workspace nor remote is refused at once."""
    with pytest.raises(UsageError, match="cache"):
        DvcSource("flights", tmp_path, source="cache")  # type: ignore[arg-type]
