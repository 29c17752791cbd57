"""What the restore of a DVC repository refuses, and that a failed one leaves nothing."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dvc_repositories import Repository, lay_of, run
from fakes_dataset_tree import MemoryTree, take
from muster.adapters.dvc_datasets import DvcSource, DvcTarget
from muster.domain.content import ContentRef, TreeEntry
from muster.errors import IntegrityError, MusterError, SourceInvalid, TargetNotEmpty, UsageError

# --- what is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("taken", ["back", "back.remote"])
def test_nothing_is_overwritten(repository: Repository, tmp_path: Path, taken: str) -> None:
    """A folder or remote that holds anything is refused before anything is done, and stays as it is."""
    tree, details = take(DvcSource("flights", repository.root))
    (tmp_path / taken).mkdir()
    (tmp_path / taken / "mine.txt").write_text("mine")
    before = lay_of(tmp_path)
    target = DvcTarget("flights", tmp_path / "back")
    for attempt in (lambda: target.check(details), lambda: target.restore(details, tree)):
        with pytest.raises(TargetNotEmpty, match=str(tmp_path / taken)):
            attempt()
    assert lay_of(tmp_path) == before


def test_file_in_place_of_the_target_is_refused(tmp_path: Path) -> None:
    """A file where the folder shall be is not replaced."""
    (tmp_path / "back").write_text("mine")
    with pytest.raises(TargetNotEmpty):
        DvcTarget("flights", tmp_path / "back").check({})


def test_repository_inside_its_remote_is_refused(tmp_path: Path) -> None:
    """A remote that would hold its own repository makes no sense."""
    with pytest.raises(UsageError, match="inside of its own remote"):
        DvcTarget("flights", tmp_path / "store" / "back", remote=str(tmp_path / "store")).check({})


def test_place_that_cannot_be_made_is_named(plain_repository: Repository, tmp_path: Path) -> None:
    """A target below a file is a SourceInvalid that names it."""
    tree, details = take(DvcSource("flights", plain_repository.root))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SourceInvalid, match=str(tmp_path / "file" / "back")):
        DvcTarget("flights", tmp_path / "file" / "back").restore(details, tree)


def test_no_hook_runs(git_repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hooks of the source, and hooks and filters of the user's own Git, run neither at capture nor at restore."""
    trace, template = tmp_path / "trace", tmp_path / "template"
    hooks = [git_repository.root / ".git/hooks", template / "hooks"]
    for folder in hooks:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("post-checkout", "post-merge", "reference-transaction", "post-index-change"):
            (folder / name).write_text(f"#!/bin/sh\necho {name} >> {trace}\n")
            (folder / name).chmod(0o755)
    config = tmp_path / "home" / ".gitconfig"
    config.parent.mkdir()
    (git_repository.root / ".gitattributes").write_text("*.py filter=traced\n")
    git_repository.commit()
    config.write_text(
        f"[init]\n templateDir = {template}\n[core]\n hooksPath = {template / 'hooks'}\n"
        f'[filter "traced"]\n smudge = echo smudge >> {trace}; cat\n'
    )
    trace.unlink(missing_ok=True)
    monkeypatch.setenv("HOME", str(config.parent))
    monkeypatch.delenv("GIT_CONFIG_GLOBAL")
    tree, details = take(DvcSource("flights", git_repository.root))
    DvcTarget("flights", tmp_path / "back").restore(details, tree)
    assert not trace.exists()
    assert not (tmp_path / "back/.git/hooks").exists()
    run(git_repository.root, "git", "checkout", "--quiet", "-b", "x")
    assert trace.exists(), "the hooks would not have run anyway"


# --- failures leave nothing ---------------------------------------------------------------------------------------------

Damage = Callable[[MemoryTree, dict[str, Any]], tuple[MemoryTree, dict[str, Any]]]


def lost_bytes(tree: MemoryTree, details: dict[str, Any]) -> tuple[MemoryTree, dict[str, Any]]:
    """One byte of a data file is damaged in the vault."""
    ref = tree.entry("data/data/flights/north/été.bin").content
    assert ref is not None
    tree.contents[ref.sha256] = b"x" + tree.contents[ref.sha256][1:]
    return tree, details


def rewritten(tree: MemoryTree, name: str, change: Callable[[bytes], bytes]) -> MemoryTree:
    """The tree with another content of one file."""
    content = change(tree.read(tree.entry(name)))
    sha256 = hashlib.sha256(content).hexdigest()
    ref = ContentRef(len(content), sha256, (sha256,))
    entries = [dataclasses.replace(e, content=ref) if e.path == name else e for e in tree.entries()]
    return MemoryTree(entries, tree.contents | {sha256: content})


def other_content(tree: MemoryTree, details: dict[str, Any]) -> tuple[MemoryTree, dict[str, Any]]:
    """A file's content is whole, but is not that of its MD5."""
    return rewritten(tree, "data/data/flights/jan.csv", lambda content: content.replace(b"17", b"71")), details


def without(name: str) -> Damage:
    def lose(tree: MemoryTree, details: dict[str, Any]) -> tuple[MemoryTree, dict[str, Any]]:
        return MemoryTree([entry for entry in tree.entries() if entry.path != name], tree.contents), details

    return lose


def and_also(*added: TreeEntry) -> Damage:
    def add(tree: MemoryTree, details: dict[str, Any]) -> tuple[MemoryTree, dict[str, Any]]:
        some = tree.entry("data/data/flights/jan.csv")
        filled = [dataclasses.replace(e, content=some.content, md5=some.md5) if e.kind == "file" else e for e in added]
        described = sum(e.path.startswith("repo/") for e in added)
        details = details | {"metafiles": details["metafiles"] + described}
        return MemoryTree([*tree.entries(), *filled], tree.contents), details

    return add


def other_ref(tree: MemoryTree, details: dict[str, Any]) -> tuple[MemoryTree, dict[str, Any]]:
    """A branch that was captured is not in the stored history."""
    line = b"%s refs/heads/other\n" % details["revision"].encode()
    return rewritten(tree, "git/refs", lambda refs: refs + line), details


def other_metafile(tree: MemoryTree, details: dict[str, Any]) -> tuple[MemoryTree, dict[str, Any]]:
    """A .dvc file names another version than the one that was captured."""
    return rewritten(tree, "repo/airports.csv.dvc", lambda text: text.replace(b"md5: ", b"md5: 0", 1)), details


def unreadable_metafile(tree: MemoryTree, details: dict[str, Any]) -> tuple[MemoryTree, dict[str, Any]]:
    """A .dvc file is none."""
    return rewritten(tree, "repo/airports.csv.dvc", lambda _: b"outs: ["), details


def swapped(tree: MemoryTree, details: dict[str, Any]) -> tuple[MemoryTree, dict[str, Any]]:
    """Two files have changed places: both are whole, but not where they were."""
    names = {"data/data/flights/jan.csv": "data/data/flights/feb.csv"}
    names |= {there: here for here, there in names.items()}
    return MemoryTree(
        [dataclasses.replace(e, path=names.get(e.path, e.path)) for e in tree.entries()], tree.contents
    ), details


def counting(key: str, value: object) -> Damage:
    def change(tree: MemoryTree, details: dict[str, Any]) -> tuple[MemoryTree, dict[str, Any]]:
        return tree, details | {key: value}

    return change


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lost_bytes, id="damaged chunk"),
        pytest.param(other_content, id="other content"),
        pytest.param(swapped, id="files swapped"),
        pytest.param(without("data/data/flights/jan.csv"), id="file missing"),
        pytest.param(without("data/data/flights/empty/deep"), id="folder missing"),
        pytest.param(without("git/history.bundle"), id="history missing"),
        pytest.param(without("git/refs"), id="refs missing"),
        pytest.param(other_metafile, id="other version recorded"),
        pytest.param(unreadable_metafile, id="metafile unreadable"),
        pytest.param(other_ref, id="branch missing"),
        pytest.param(and_also(TreeEntry("data/data/flights/more.csv")), id="file too many"),
        pytest.param(and_also(TreeEntry("repo/.git/hooks/post-checkout")), id="hook smuggled in"),
        pytest.param(
            and_also(TreeEntry("data/out", "link", link="/tmp"), TreeEntry("data/out/evil")), id="behind a link"
        ),
        pytest.param(counting("revision", "0" * 40), id="other revision"),
        pytest.param(counting("links", 3), id="links missing"),
        pytest.param(counting("bytes", 1), id="other size"),
    ],
)
def test_whatever_is_wrong_leaves_nothing(git_repository: Repository, tmp_path: Path, damage: Damage) -> None:
    """A restore that finds anything other than what was captured fails, and its place is as empty as it was."""
    tree, details = damage(*take(DvcSource("flights", git_repository.root)))
    place = tmp_path / "restores" / "deep"
    with pytest.raises(IntegrityError):
        DvcTarget("flights", place / "back").restore(details, tree)
    assert not (tmp_path / "restores").exists()


def test_existing_folder_survives_a_failure(plain_repository: Repository, tmp_path: Path) -> None:
    """An empty target that was there is there after a failure, and empty."""
    tree, details = lost_bytes(*take(DvcSource("flights", plain_repository.root)))
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "back").mkdir()
    with pytest.raises(MusterError):
        DvcTarget("flights", tmp_path / "there" / "back").restore(details, tree)
    assert list((tmp_path / "there").iterdir()) == [tmp_path / "there" / "back"]
    assert list((tmp_path / "there" / "back").iterdir()) == []
