"""What a DVC repository says of itself: its outputs, the files that describe them, its cache and its remote."""

from __future__ import annotations

import os
import posixpath
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muster.adapters.git_history import is_git_root
from muster.domain.restore_plan import without_secrets
from muster.errors import MusterError, SourceInvalid, StoreUnavailable

LEGACY_MEND = "run: dvc cache migrate --dvc-files, then commit the .dvc files"

CONFIG = ".dvc/config"
METAFILES = frozenset({"dvc.yaml", "dvc.lock", ".dvcignore", ".gitignore"})

# dvc.repo.Repo.site_cache_dir sets the umask of the whole process to 0 for a moment; two at a time could leave it there.
_OPENING = threading.Lock()


@dataclass(frozen=True, slots=True)
class Output:
    """
    Something that DVC tracks.

    :param path: POSIX path, relative to the repository
    :param oid: DVC's name of the content: its MD5, followed by ``.dir`` for a folder
    :param cached: whether DVC keeps the content; if not, it is an ordinary file of the project
    :param executable: whether DVC recorded the execute bit
    :param remote: the name of its own remote; None if it goes to the default one
    """

    path: str
    oid: str
    cached: bool
    executable: bool
    remote: str | None = None

    @property
    def folder(self) -> bool:
        return self.oid.endswith(".dir")


@dataclass(frozen=True, slots=True)
class Version:
    """
    One version of what a repository tracks.

    :param metafiles: .dvc, dvc.yaml, dvc.lock, .dvcignore, .gitignore and .dvc/config files that describe it
    :param dependencies: files and folders of the project that its pipelines read, and outputs that DVC does not keep
    :param targets: what was asked for; empty for all that is tracked
    """

    outputs: tuple[Output, ...]
    metafiles: tuple[str, ...]
    dependencies: tuple[str, ...]
    targets: tuple[str, ...] = ()


@contextmanager
def open_repository(root: Path, rev: str | None = None, site: Path | None = None) -> Iterator[Any]:
    """
    A `dvc.repo.Repo`, closed again.

    :param rev: read the metafiles of this Git revision; None reads those of the workspace
    :param site: where DVC keeps what it learns of files; None for its usual place, which outlives the repository
    :raises SourceInvalid: if this is not a DVC repository, or DVC cannot read it
    """
    if not (root / ".dvc").is_dir():
        raise SourceInvalid(
            f"{root} is not a DVC repository: it has no folder .dvc",
            "check the dataset's repo in the catalog; or run: dvc init",
        )
    with dvc_errors(root), _OPENING:
        from dvc.repo import Repo

        repo = Repo(str(root), rev=rev, config={"core": {"site_cache_dir": str(site)}} if site else None)
    try:
        yield repo
    finally:
        repo.close()


def check_git(root: Path, repo: Any) -> bool:
    """
    Whether the repository is kept in Git.

    :raises SourceInvalid: if it is a subfolder of a Git repository, whose history is not the dataset's alone
    """
    if repo.config["core"].get("no_scm"):
        return False
    if not is_git_root(root):
        raise SourceInvalid(
            f"the DVC repository {root} is a subfolder of the Git repository {repo.scm.root_dir}",
            "only a DVC repository at the root of its Git repository, or one with core.no_scm, can be captured",
        )
    return True


@contextmanager
def dvc_errors(what: object) -> Iterator[None]:
    """
    Translate whatever DVC throws while it works on `what`.

    :raises SourceInvalid: for DVC's own errors, and files that cannot be read
    :raises StoreUnavailable: for network errors of its remotes
    """
    try:
        yield
    except (MusterError, GeneratorExit, KeyboardInterrupt):
        raise
    except (ConnectionError, TimeoutError) as error:
        raise StoreUnavailable(f"DVC cannot reach the remote of {what}: {error}", "see that it is up") from error
    except Exception as error:
        raise _translated(what, error) from error


def _translated(what: object, error: Exception) -> BaseException:
    from dvc.exceptions import DvcException
    from dvc_objects.errors import ObjectDBError

    module = type(error).__module__.partition(".")[0]
    if isinstance(error, DvcException | ObjectDBError):
        return SourceInvalid(f"DVC cannot read {what}: {error}", "run dvc status in the repository to see more")
    if module in CLOUD_CLIENTS:
        return StoreUnavailable(
            f"the DVC remote of {what} does not answer: {error}", "see that it is up and that its credentials are set"
        )
    if isinstance(error, OSError):
        return SourceInvalid(f"DVC cannot read {what}: {error}", "see that the file is there and readable")
    return error


CLOUD_CLIENTS = frozenset({"botocore", "aiobotocore", "aiohttp", "azure", "google", "gcsfs", "adlfs", "paramiko"})


def read_version(repo: Any, targets: Sequence[str]) -> Version:
    """
    What the targets name; all outputs if there are none.

    :param targets: tracked paths, or the .dvc files that track them, relative to the repository
    :raises SourceInvalid: if nothing is tracked, a target is not, or an output is of a kind that cannot be restored
    """
    every = list(repo.index.outs)
    chosen = _chosen(repo, every, targets) if targets else every
    if not any(out.use_cache for out in chosen):
        raise SourceInvalid(f"nothing is tracked by DVC in {repo.root_dir}", "run: dvc add PATH; or check the targets")
    for out in chosen:
        _check_supported(repo, out)
    outputs = sorted((_output(repo, out) for out in chosen), key=lambda output: output.path)
    stages = {out.stage.addressing: out.stage for out in chosen}.values()
    metafiles, dependencies = _metafiles(repo, stages, outputs), _dependencies(repo, stages, outputs)
    return Version(tuple(outputs), tuple(metafiles), tuple(dependencies), tuple(targets))


def relative(repo: Any, path: str) -> str:
    """A path of DVC's as a POSIX path relative to the repository."""
    return str(repo.fs.relpath(path, repo.root_dir)).replace(os.sep, "/")


def describe_remote(repo: Any) -> str | None:
    """The default remote's URL, without credentials; an absolute path for a local one; None if there is none."""
    name = repo.config["core"].get("remote")
    url = repo.config["remote"].get(name, {}).get("url") if name else None
    if url is None:
        return None
    return without_secrets(url) if "://" in url else os.path.normpath(os.path.join(repo.root_dir, ".dvc", url))  # noqa: PTH118


def _chosen(repo: Any, outs: Iterable[Any], targets: Sequence[str]) -> list[Any]:
    found: dict[int, Any] = {}
    for target in targets:
        wanted = posixpath.normpath(target.rstrip("/"))
        matched = [out for out in outs if _matches(repo, out, wanted)]
        if not matched:
            raise _untracked(repo, outs, target, wanted)
        found.update((id(out), out) for out in matched)
    return list(found.values())


def _matches(repo: Any, out: Any, wanted: str) -> bool:
    path, stage = relative(repo, out.fs_path), relative(repo, out.stage.path)
    below = wanted == "." or path.startswith(f"{wanted}/")
    return wanted in (path, stage, out.stage.addressing) or below


def _untracked(repo: Any, outs: Iterable[Any], target: str, wanted: str) -> SourceInvalid:
    tracked = sorted(relative(repo, out.fs_path) for out in outs)
    around = next((path for path in tracked if wanted.startswith(f"{path}/")), None)
    if around:
        return SourceInvalid(f"{target} is a part of {around}, which DVC tracks as a whole", f"name {around} as target")
    named = ", ".join(tracked[:5]) or "nothing"
    return SourceInvalid(f"{target} is not tracked by DVC in {repo.root_dir}", f"tracked are: {named}")


def _check_supported(repo: Any, out: Any) -> None:
    path = str(out)
    if out.protocol != "local" or not out.is_in_repo:
        raise SourceInvalid(
            f"the output {path} lies outside of the repository {repo.root_dir}", "track a copy inside it"
        )
    if out.files is not None or out.meta.version_id:
        raise SourceInvalid(
            f"the output {path} is kept in a cloud-versioned remote, which is not content-addressed",
            "use a remote without version_aware and worktree: dvc remote modify",
        )
    if not out.hash_info or not out.hash_info.value:
        raise SourceInvalid(
            f"the output {path} has no recorded version yet", "run: dvc repro or dvc commit; or name targets"
        )
    if out.hash_name != "md5":
        raise SourceInvalid(f"the output {path} was tracked by DVC 2, by another hash ({out.hash_name})", LEGACY_MEND)


def _output(repo: Any, out: Any) -> Output:
    path, oid, cached = relative(repo, out.fs_path), out.hash_info.value, bool(out.use_cache)
    return Output(path, oid, cached, bool(out.meta.isexec), out.remote or None)


def _metafiles(repo: Any, stages: Iterable[Any], outputs: Iterable[Output]) -> list[str]:
    names = {".dvcignore", CONFIG, ".dvc/.gitignore", ".gitignore"}
    described = {relative(repo, stage.path) for stage in stages}
    for path in described:
        if posixpath.basename(path) == "dvc.yaml":
            names.add(posixpath.join(posixpath.dirname(path), "dvc.lock"))
    for path in (*described, *(output.path for output in outputs)):
        for folder in folders_above(path):
            names.update({f"{folder}/.gitignore", f"{folder}/.dvcignore"})
    names |= described
    return sorted(name for name in names if repo.fs.isfile(repo.fs.join(repo.root_dir, *name.split("/"))))


def _templates(repo: Any) -> Iterator[str]:
    """Files that give values to a dvc.yaml, without which DVC cannot read it: params.yaml beside it, and those of its ``vars``."""
    for stage in repo.index.stages:
        if posixpath.basename(relative(repo, stage.path)) != "dvc.yaml":
            continue
        beside, contents = repo.fs.parent(stage.path), stage.dvcfile.contents
        definition = contents["stages"][stage.name.partition("@")[0]]
        own = definition.get("do", definition).get("vars", [])
        named = [
            (beside, "params.yaml"),
            *((beside, one) for one in contents.get("vars", [])),
            *((stage.wdir, one) for one in own),
        ]
        for folder, name in named:
            if isinstance(name, str) and repo.fs.isin(path := _beside(repo, folder, name), repo.root_dir):
                yield relative(repo, path)


def _beside(repo: Any, folder: str, name: str) -> str:
    """:param name: of a file, and after a colon of what is taken from it"""
    return str(repo.fs.normpath(repo.fs.join(folder, name.partition(":")[0])))


def is_metafile(path: str) -> bool:
    """Whether a path of the project is that of a file which says what DVC tracks."""
    return path == CONFIG or path.endswith(".dvc") or posixpath.basename(path) in METAFILES


def folders_above(path: str) -> Iterator[str]:
    """The folders that a relative path lies in, innermost first."""
    while path := posixpath.dirname(path):
        yield path


def _dependencies(repo: Any, stages: Iterable[Any], outputs: Sequence[Output]) -> list[str]:
    """Files that nothing else of the capture holds, and without which `dvc status` would speak of changes."""
    found = {output.path for output in outputs if not output.cached}
    for stage in stages:
        for dep in stage.deps:
            if stage.is_import or dep.protocol != "local" or not repo.fs.isin(dep.fs_path, repo.root_dir):
                continue
            found.add(relative(repo, dep.fs_path))
    found.update(_templates(repo))
    tracked = [relative(repo, out.fs_path) for out in repo.index.outs if out.use_cache]
    return sorted(path for path in found if not any(path == t or path.startswith(f"{t}/") for t in tracked))
