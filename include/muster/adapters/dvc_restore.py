"""Rebuild a DVC repository from a captured tree, and reconcile it with what was captured."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from os.path import islink
from pathlib import Path

from muster.adapters.dvc_known import DATA, OBJECTS
from muster.adapters.dvc_object_fill import ObjectFill, check_file
from muster.adapters.dvc_objects_map import FolderStore, read_folder_object
from muster.adapters.dvc_place import Place, Staging, remote_for_people, staged
from muster.adapters.dvc_project_files import BUNDLE, REFS, REPO
from muster.adapters.dvc_repository import dvc_errors, folders_above, is_metafile, open_repository, read_version
from muster.adapters.dvc_restored_remote import cache_kinds, fill_cloud_remote, write_local_config
from muster.adapters.git_history import SHA1, GitState, read_state, restore_history
from muster.adapters.same_files import same_files
from muster.domain.content import TreeEntry, checked_path
from muster.errors import IntegrityError, PermanentError, SourceInvalid
from muster.folders import remove_any
from muster.ports import Json, TreeReader
from muster.scratch import scratch_folder

OBJECT_FOLDERS = ("files", "md5")
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
CACHE = ".dvc/cache"
INNER = (".git", CACHE, ".dvc/tmp", ".dvc/config.local")


def rebuild(place: Place, details: Mapping[str, Json], tree: TreeReader) -> dict[str, Json]:
    """
    Put everything back and return what was measured. The place is empty when this begins; if it fails, it is so again.

    :raises IntegrityError: if anything is not as it was captured
    """
    with staged(place) as staging:
        _history(staging.directory, details, tree)
        entries = _put_files(staging.directory, details, tree)
        write_local_config(staging.directory, place, details)
        _check_recorded(staging.directory, details)
        _fill(staging, place, entries)
        facts = _measure(staging.directory, staging.remote, details, entries)
        _reconcile(details, facts)
    return facts | {"remote": remote_for_people(place), "dvc": _dvc_version()}


def standing(place: Place, details: Mapping[str, Json], tree: TreeReader) -> dict[str, Json] | None:
    """What `rebuild` would return, if exactly that is at the place already: every file by its digest, cache, remote and Git state."""
    entries = _Entries(_below(tree, DATA), _below(tree, REPO), _below(tree, OBJECTS))
    directory, remote = place.directory, place.remote_folder
    workspace = [(entry, directory / path) for path, entry in (entries.data | entries.repo).items()]
    try:
        cache = _cache(directory)
        listed = [(entry, Path(cache.path(oid))) for oid, entry in entries.objects.items()]
        if remote is None or not same_files([*workspace, *listed]):
            return None
        stores = [cache, FolderStore(remote.joinpath(*OBJECT_FOLDERS))]
        for oid, md5 in _objects(entries).items():
            for store in stores:
                check_file(store.path(oid), md5)
        facts = _measure(directory, remote, details, entries)
        _reconcile(details, facts)
    except (OSError, PermanentError):
        return None
    return facts | {"remote": remote_for_people(place), "dvc": _dvc_version()}


@dataclass(frozen=True, slots=True)
class _Entries:
    """Entries of the tree, by their path below ``data/``, ``repo/`` and ``objects/``."""

    data: dict[str, TreeEntry]
    repo: dict[str, TreeEntry]
    objects: dict[str, TreeEntry]


def _history(directory: Path, details: Mapping[str, Json], tree: TreeReader) -> None:
    if details.get("scm") != "git":
        return
    bundle, refs = (next((entry for entry in tree.entries() if entry.path == path), None) for path in (BUNDLE, REFS))
    if (bundle is None) != (refs is None) or (bundle is None and details.get("revision") is not None):
        raise IntegrityError("the captured dataset lacks its Git history", "verify the vault")
    told = tree.read(refs).decode(errors="surrogateescape") if refs else ""
    file = directory.with_name(f"{directory.name}.bundle")
    try:
        if bundle is not None:
            tree.extract([(bundle, file)])
        captured = GitState(details.get("revision"), details.get("branch"), told, details.get("object_format") or SHA1)
        restore_history(file if bundle else None, directory, captured)
    finally:
        file.unlink(missing_ok=True)


def _put_files(directory: Path, details: Mapping[str, Json], tree: TreeReader) -> _Entries:
    entries = _Entries(_below(tree, DATA), _below(tree, REPO), _below(tree, OBJECTS))
    cache = _cache(directory)
    workspace = entries.data | entries.repo
    outputs = [str(output["path"]) for output in details["outputs"]]
    absent = [str(path) for path in details.get("absent_metafiles", ())]
    above = _check_paths(workspace, (*outputs, *absent))
    for path in absent:
        _inside(directory, path).unlink(missing_ok=True)
    _make_way(directory, above, (*outputs, CACHE, *entries.repo))
    wanted = [(entry, f"{directory}/{path}") for path, entry in workspace.items()]
    tree.extract([*wanted, *((entry, cache.path(oid)) for oid, entry in entries.objects.items())])
    return entries


def _check_paths(entries: Mapping[str, TreeEntry], others: Sequence[str]) -> set[str]:
    """
    The folders that they lie in. Nothing may be written or removed through a link, in Git's or DVC's own folders, or outside.

    :raises IntegrityError: if something would be
    """
    links = {path for path, entry in entries.items() if entry.kind == "link"}
    folders = {posixpath.dirname(checked_path(path)) for path in (*entries, *others)} - {""}
    folders |= {above for folder in folders for above in folders_above(folder)}
    if behind := sorted(folders & links):
        raise IntegrityError(f"the captured dataset has files behind the link {behind[0]}", "do not restore it")
    inner = tuple(f"{name}/" for name in INNER)
    for path in (*entries, *others):
        if path in INNER or path.startswith(inner):
            raise IntegrityError(
                f"the captured dataset holds {path}, which is no file of a dataset", "do not restore it"
            )
    return folders


def _inside(directory: Path, path: str) -> Path:
    """A path of the repository; what is behind a link is not in it."""
    if not is_metafile(path) or any((directory / above).is_symlink() for above in folders_above(checked_path(path))):
        raise IntegrityError(
            f"the captured dataset says that the metafile {path} is absent, which is none", "do not restore it"
        )
    return directory / path


def _make_way(directory: Path, folders: Collection[str], paths: Sequence[str]) -> None:
    """Remove what Git's checkout has where something was captured: that may be newer than the commit, and of another kind."""
    for above in sorted(folders):
        if (there := directory / above).is_symlink() or there.is_file():
            there.unlink()
    for path in paths:
        remove_any(directory / path)


def _check_recorded(directory: Path, details: Mapping[str, Json]) -> None:
    """What DVC reads in the restored repository must be what was captured; asked where all that it tracks was captured."""
    if details.get("targets", ["unknown"]):
        return
    try:
        with scratch_folder("dvc") as site, open_repository(directory, site=site) as repo, dvc_errors(directory):
            outputs = read_version(repo, ()).outputs
    except SourceInvalid as error:
        told = f"the restored dataset is none that DVC reads: {error.message}"
        raise IntegrityError(told, "restore its files alone: --only dataset/NAME/PATH") from error
    recorded = {output.path: output.oid for output in outputs if output.cached}
    captured = {output["path"]: output["md5"] for output in details["outputs"]}
    if different := sorted({*recorded.items()} ^ {*captured.items()}):
        raise IntegrityError(
            f"DVC tracks something else in the restored dataset than was captured: {different[0][0]}",
            "restore its files alone: --only dataset/NAME/PATH",
        )


def _fill(staging: Staging, place: Place, entries: _Entries) -> None:
    cache = _cache(staging.directory)
    remote = FolderStore(staging.remote.joinpath(*OBJECT_FOLDERS)) if staging.remote else None
    if remote is not None:
        remote.folder.mkdir(parents=True, exist_ok=True)
    fill = ObjectFill(cache, remote, cache_kinds(staging.directory))
    files = [
        (f"{staging.directory}/{path}", _md5(entry)) for path, entry in entries.data.items() if entry.kind == "file"
    ]
    fill.add_files(files)
    fill.add_objects(entries.objects)
    if remote is None:
        oids = {*(md5 for _, md5 in files), *entries.objects}
        staging.undo.append(fill_cloud_remote(staging.directory, place, oids))


def _measure(directory: Path, remote: Path | None, details: Mapping[str, Json], entries: _Entries) -> dict[str, Json]:
    cache = _cache(directory)
    git = read_state(directory) if details.get("scm") == "git" else None
    found = [_Found.below(directory / str(output["path"])) for output in details["outputs"]]
    pairs = list(zip(details["outputs"], found, strict=True))
    outputs = [_measure_output(output, one, cache, entries) for output, one in pairs]
    stores = [cache, *([FolderStore(remote.joinpath(*OBJECT_FOLDERS))] if remote else [])]
    counts = {_count_objects(store) for store in stores}
    if len(counts) != 1:
        raise IntegrityError(f"cache and remote hold {sorted(counts)} objects", "restore again")
    return {
        "scm": "git" if git else "none",
        "revision": git.revision if git else None,
        "branch": git.branch if git else None,
        "object_format": git.format if git else None,
        "outputs": outputs,
        "files": sum(output["nfiles"] for output in outputs),
        "bytes": sum(output["size"] for output in outputs),
        "objects": counts.pop(),
        "folders": sum(one.folders for one in found),
        "empty_folders": sum(len(one.empty_folders) for one in found),
        "links": sum(len(one.links) for one in found),
        "metafiles": sum(os.path.lexists(directory / path) for path in entries.repo),
        "absent_metafiles": [
            path for path in details.get("absent_metafiles", ()) if not os.path.lexists(directory / path)
        ],
    }


@dataclass(slots=True)
class _Found:
    """What lies at and below a restored output; `links` are also in `files` if they lead to a file."""

    files: dict[str, str] = field(default_factory=dict)
    folders: int = 0
    links: list[str] = field(default_factory=list)
    empty_folders: list[str] = field(default_factory=list)

    @classmethod
    def below(cls, top: Path) -> _Found:
        if not top.is_dir():
            return cls({"": str(top)} if top.is_file() else {})
        found, start = cls(), len(f"{top}/")
        for folder, folders, files in os.walk(str(top)):
            found.folders += 1
            if not folders and not files:
                found.empty_folders.append(folder)
            paths = [f"{folder}/{name}" for name in files]
            found.links += [path for path in (*paths, *(f"{folder}/{name}" for name in folders)) if islink(path)]  # noqa: PTH114
            found.files.update({path[start:]: path for path in paths})
        return found


def _measure_output(
    output: Mapping[str, Json], found: _Found, cache: FolderStore, entries: _Entries
) -> dict[str, Json]:
    """An output is right if its files are those of its list, each with its MD5; the bytes were hashed when the cache was filled."""
    oid, path = str(output["md5"]), str(output["path"])
    recorded = {"": oid}
    if oid.endswith(".dir"):
        recorded = read_folder_object(oid, Path(cache.path(oid)).read_bytes())
    _same_files(path, recorded, found)
    for name, md5 in recorded.items():
        entry = entries.data[posixpath.join(path, name) if name else path]
        if entry.kind == "link":
            check_file(found.files[name], md5)
        elif entry.md5 != md5:
            raise IntegrityError(f"{entry.path} has the MD5 {entry.md5}, but DVC's list says {md5}", "verify the vault")
    size = sum(os.stat(file).st_size for file in found.files.values())  # noqa: PTH116
    return {"path": path, "md5": oid, "nfiles": len(found.files), "size": size}


def _same_files(path: str, recorded: Mapping[str, str], found: _Found) -> None:
    different = sorted(recorded.keys() ^ found.files.keys())
    if different:
        raise IntegrityError(
            f"{len(different)} files of {path} came back that were not captured, or did not: {different[0]}",
            "verify the vault",
        )


def _reconcile(details: Mapping[str, Json], facts: Mapping[str, Json]) -> None:
    different = [key for key in RECONCILED if key in details and details[key] != facts[key]]
    if different:
        told = "; ".join(f"{key}: {facts[key]} instead of {details[key]}" for key in different)
        raise IntegrityError(f"the restored dataset is not what was captured: {told}", "verify the vault")


def _objects(entries: _Entries) -> dict[str, str]:
    """Every object that cache and remote must have, with its MD5."""
    data = {_md5(entry): _md5(entry) for entry in entries.data.values() if entry.kind == "file"}
    return data | {oid: oid.removesuffix(".dir") for oid in entries.objects}


def _below(tree: TreeReader, prefix: str) -> dict[str, TreeEntry]:
    return {entry.path.removeprefix(prefix): entry for entry in tree.entries() if entry.path.startswith(prefix)}


def _md5(entry: TreeEntry) -> str:
    if entry.md5 is None:
        raise IntegrityError(f"the captured file {entry.path} has no MD5", "verify the vault")
    return entry.md5


def _cache(directory: Path) -> FolderStore:
    return FolderStore(directory.joinpath(CACHE, *OBJECT_FOLDERS))


def _count_objects(store: FolderStore) -> int:
    return sum(len(files) for _, _, files in os.walk(store.folder))


def _dvc_version() -> str:
    from dvc import __version__

    return str(__version__)
