"""What belongs to a Git repository and is in no bundle of its refs, in words for people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from muster.adapters.git_history import GitState, run_git

GITLINK = "160000 "
LFS = "filter=lfs"


def outside_bundle(root: Path, git: GitState) -> list[str]:
    """
    A sentence for each thing that a restore cannot bring back.

    :param git: where the repository stands
    """
    if not git.refs:
        return []
    committed = [*_submodules(root, git.revision), *_large_files(root, git.revision)] if git.revision else []
    return [*committed, *_stashes(root, git), *_other_heads(root, git)]


def _submodules(root: Path, revision: str) -> Iterator[str]:
    for line in run_git(root, "ls-tree", "-r", "-z", "--full-tree", revision).split("\0"):
        if line.startswith(GITLINK):
            facts, _, path = line.partition("\t")
            yield f"the submodule {path} at commit {facts.split()[2]}: its history is a repository of its own"


def _large_files(root: Path, revision: str) -> Iterator[str]:
    attributes = (".gitattributes", ":(glob)**/.gitattributes")
    found = run_git(root, "grep", "-l", "-z", "-F", LFS, revision, "--", *attributes, accept=(0, 1)).split("\0")
    for name in found[:-1]:
        yield f"files that {name.partition(':')[2]} gives to Git LFS: the history holds only their pointers"


def _stashes(root: Path, git: GitState) -> Iterator[str]:
    if not any(line.endswith(" refs/stash") for line in git.named):
        return
    older = run_git(root, "rev-list", "--walk-reflogs", "refs/stash").split()[1:]
    if older:
        yield f"{len(older)} stashes older than the newest: Git keeps them in no ref"


def _other_heads(root: Path, git: GitState) -> Iterator[str]:
    """Commits of detached heads that no ref and not our own HEAD leads to."""
    for told in run_git(root, "worktree", "list", "--porcelain").split("\n\n"):
        facts = dict(line.partition(" ")[::2] for line in told.splitlines())
        head = facts.get("HEAD", "")
        if "detached" not in facts or head == git.head:
            continue
        known = "--single-worktree", "--not", "--all", *([git.head] if git.head else [])
        if run_git(root, "rev-list", "--max-count=1", head, *known).strip():
            yield f"the commit {head} of the worktree {facts['worktree']}: no branch or tag keeps it"
