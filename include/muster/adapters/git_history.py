"""
A Git repository's history as one file, and back.

Git runs with the user's and the system's configuration cut off and with no hook, neither of the repository nor of a template: what
was captured is data, and restoring data must not run it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from muster.errors import IntegrityError, SourceInvalid
from muster.folders import remove_folder

QUIET = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "gc.auto=0", "-c", "pack.threads=1")
TIMEOUT_S = 3600.0
SHA1 = "sha1"
BRANCHES = "refs/heads/"
HEAD = " HEAD"  # how the line of HEAD ends; that of a remote's HEAD ends in "/HEAD"


@dataclass(frozen=True, slots=True)
class GitState:
    """
    Where a repository stands.

    :param revision: the commit, 40 or 64 hex digits; None if the branch that is checked out has none yet
    :param branch: the branch that is checked out; None with a detached HEAD
    :param refs: every ref, and HEAD if it has a commit, as ``git show-ref --head`` lists them
    :param format: the hash that names its objects, ``sha1`` or ``sha256``
    """

    revision: str | None
    branch: str | None
    refs: str
    format: str = SHA1

    @property
    def head(self) -> str | None:
        """The commit of HEAD, which is not `revision` where another one was asked for."""
        return next((line.split()[0] for line in self.refs.splitlines() if line.endswith(HEAD)), None)

    @property
    def named(self) -> list[str]:
        """The lines of `refs` without that of HEAD."""
        return sorted(line for line in self.refs.splitlines() if not line.endswith(HEAD))


def is_git_root(folder: Path) -> bool:
    """Whether a Git working tree begins at this folder."""
    return (folder / ".git").exists()


def read_state(root: Path, rev: str | None = None) -> GitState:
    """
    Where the repository stands, or the commit that `rev` names in it.

    :raises SourceInvalid: if it is shallow, there is no such commit, or Git does not read it
    """
    if run_git(root, "rev-parse", "--is-shallow-repository").strip() == "true":
        raise SourceInvalid(
            f"the Git repository {root} is a shallow clone: its history is not whole", "run: git fetch --unshallow"
        )
    refs = run_git(root, "show-ref", "--head", accept=(0, 1))
    objects = run_git(root, "rev-parse", "--show-object-format").strip()
    if rev is None:
        at = run_git(root, "symbolic-ref", "--quiet", "HEAD", accept=(0, 1)).strip()
        branch = at.removeprefix(BRANCHES) if at.startswith(BRANCHES) else None
        return GitState(GitState(None, None, refs).head, branch, refs, objects)
    commit = run_git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}", accept=(0, 1))
    if not commit.strip():
        raise SourceInvalid(f"the Git repository {root} has no revision {rev!r}", "see: git log --all --oneline")
    named = run_git(root, "show-ref", "--verify", "--quiet", f"{BRANCHES}{rev}", accept=(0, 1, 128), status=True)
    return GitState(commit.strip(), rev if named == "0" else None, refs, objects)


def committed_files(root: Path, revision: str) -> list[str]:
    """Paths of all files of a commit."""
    return run_git(root, "ls-tree", "-r", "-z", "--name-only", "--full-tree", revision).split("\0")[:-1]


def write_bundle(root: Path, bundle: Path, git: GitState) -> None:
    """
    Write all refs, HEAD if it has a commit, and all they lead to, into a bundle that needs nothing else; a repository is made of it to
    prove that, and removed again.

    :param git: where the repository stands; it has a ref, or a commit
    :raises SourceInvalid: if the bundle does not give all of it: objects are missing, damaged, or left out by grafts
    """
    run_git(root, "bundle", "create", "--quiet", str(bundle), "--all", *(["HEAD"] if git.head else []))
    proof = bundle.with_name(f"{bundle.name}.proof")
    try:
        _init(proof, git, "--bare")
        _fetch(bundle, proof, git)
        if git.revision:
            run_git(proof, "cat-file", "-e", f"{git.revision}^{{commit}}", broken=bundle)
    except IntegrityError as error:
        raise SourceInvalid(
            f"the history of the Git repository {root} cannot be brought back from a bundle: {error.message}",
            f"run: git -C {root} fsck --full; look for grafts in .git/info/grafts, and keep the revision by a branch or tag",
        ) from error
    finally:
        remove_folder(proof)


def restore_history(bundle: Path | None, folder: Path, captured: GitState) -> None:
    """
    Make a repository in a new or empty folder, with every ref, and check out the commit; without one, HEAD names the branch alone.

    :param bundle: None if nothing was captured but the branch
    :raises IntegrityError: if the bundle does not give these refs, or this commit
    """
    branch = captured.branch
    _init(folder, captured)
    if bundle is None:
        return
    _fetch(bundle, folder, captured)
    if captured.revision is None:
        return
    tip = run_git(folder, "rev-parse", "--verify", "--quiet", f"{BRANCHES}{branch}", accept=(0, 1)).strip()
    at = [branch] if branch and tip == captured.revision else ["--detach", captured.revision]
    run_git(folder, "-c", "advice.detachedHead=false", "checkout", "--quiet", "--force", *at, "--", broken=bundle)
    came = run_git(folder, "rev-parse", "HEAD").strip()
    if came != captured.revision:
        raise IntegrityError(
            f"the stored Git history leads to commit {came}, but {captured.revision} was captured", "verify the vault"
        )


def _init(folder: Path, captured: GitState, *options: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    named = () if captured.format == SHA1 else (f"--object-format={captured.format}",)
    begin = ("--initial-branch", captured.branch or "main")
    run_git(folder, "init", "--quiet", "--template=", *options, *named, *begin, str(folder))


def _fetch(bundle: Path, folder: Path, captured: GitState) -> None:
    wanted = ("+refs/*:refs/*", *(["HEAD"] if captured.head else []))
    quiet = ("--quiet", "--update-head-ok", "--no-write-fetch-head")
    run_git(folder, "fetch", *quiet, str(bundle), *wanted, broken=bundle)
    came = GitState(None, None, run_git(folder, "show-ref", accept=(0, 1))).named
    different = sorted({*came} ^ {*captured.named})
    if different:
        raise IntegrityError(
            f"the stored Git history does not give the refs that were captured; it differs in {different[0].split()[-1]}",
            "verify the vault",
        )


def run_git(
    root: Path, *arguments: str, accept: Sequence[int] = (0,), status: bool = False, broken: Path | None = None
) -> str:
    """
    What Git printed; with `status`, its exit status instead.

    :param accept: exit statuses that are answers, not failures
    :param broken: the stored file to blame if it fails; None blames the repository
    :raises SourceInvalid: if Git is not installed or fails
    :raises IntegrityError: if it fails over `broken`
    """
    command = ["git", *QUIET, "-c", f"safe.directory={root}", "-C", str(root), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, env=_environment(), stdin=subprocess.DEVNULL, timeout=TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceInvalid(
            f"git {arguments[0]} in {root} cannot run: {error}", "install Git 2.28 or newer and put it on the PATH"
        ) from error
    if done.returncode not in accept:
        said = done.stderr.decode(errors="replace").strip() or f"exit status {done.returncode}"
        if broken is not None:
            raise IntegrityError(f"the stored Git history cannot be read: {said}", "verify the vault")
        raise SourceInvalid(f"git {arguments[0]} in {root} failed: {said}", f"run: git -C {root} fsck")
    return str(done.returncode) if status else done.stdout.decode(errors="surrogateescape")


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "LC_ALL": "C",
    }


def check_installed() -> None:
    """
    :raises SourceInvalid: if there is no Git on the PATH
    """
    if shutil.which("git") is None:
        raise SourceInvalid("there is no git on the PATH", "install Git 2.28 or newer")
