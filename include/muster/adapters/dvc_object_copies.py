"""Which copy of each object a capture reads: the first whole one of cache, workspace and remote, or the remote's alone."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from muster.adapters.dvc_objects_map import (
    CloudStore,
    Copy,
    FolderStore,
    ObjectFile,
    ObjectStore,
    folder_object,
    md5_of,
    md5_of_file,
    read_folder_object,
)
from muster.adapters.dvc_repository import Output, describe_remote, dvc_errors
from muster.adapters.dvc_workspace import (
    LOT,
    Stamp,
    Workspace,
    WorkspaceFile,
    changed_files,
    remember_digests,
    trusted_digests,
)
from muster.batches import batched
from muster.errors import IntegrityError, SourceChanged, SourceInvalid

Side = Literal["workspace", "remote"]
_SMALL = 128 * 1024
"""Objects up to this size in bytes are hashed some thousand at a time, which stay in memory until they are read."""


class ObjectCopies:
    """
    Finds objects of one repository and remembers what was taken from where.

    A copy in the cache is taken as it is if DVC's state vouches for it (same inode, time and size as when DVC hashed it); if not, it
    is hashed first, so that a damaged one is passed over for another. The vault's writer checks the MD5 of all that is read anyway.

    :param side: ``remote`` asks nothing but the remotes: that of the output, if it has its own, and the default one
    """

    def __init__(self, repo: Any, side: Side) -> None:
        self._repo = repo
        self._side = side
        self._trusted: set[str] = set()
        self._taken: dict[str, ObjectStore] = {}
        self._from_workspace: list[WorkspaceFile] = []
        self._remotes: dict[str | None, ObjectStore] = {}

    def prepare(self, oids: Iterable[str]) -> None:
        """
        Find out, some thousand at a time, which of these objects in the cache are whole.

        DVC's state is asked. It knows nothing where another account or machine ran `dvc add`: then small ones are hashed, and the state is
        told of them all at once; a large one waits until it is chosen, so that it is read from memory after it was hashed.
        """
        if self._side == "remote":
            return
        for lot in batched(oids, LOT):
            found: dict[str, os.stat_result] = {}
            of = {self._cache.path(oid): oid for oid in lot}
            for path in of:
                with suppress(OSError):  # what cannot be looked at here is met again, and named, when it is chosen
                    found[path] = os.stat(path)  # noqa: PTH116
            known, unknown = trusted_digests(self._repo, found)
            hashed = _hashed([path for path in unknown if found[path].st_size <= _SMALL], found)
            whole = {path: md5 for path, md5 in hashed.items() if md5 == of[path]}
            remember_digests(self._repo, whole, found)
            self._trusted |= {of[path] for path, md5 in known.items() if md5 == of[path]} | set(whole.values())

    def choose(self, md5: str, path: str, found: WorkspaceFile | None, remote: str | None = None) -> Copy:
        """
        The first whole copy of an object.

        :param path: the file that needs it, for messages
        :param remote: the output's own remote; None if it has none
        :raises IntegrityError: if there are only damaged ones
        :raises SourceInvalid: if there is none
        """
        damaged: list[str] = []
        for store in self._stores(found, remote):
            copy = store.copy(md5)
            if copy is None:
                continue
            if self._is_whole(store, copy, md5):
                self._remember(md5, store)
                return copy
            damaged.append(copy.where)
        if damaged:
            raise IntegrityError(
                f"DVC's object {md5} of {path} is damaged at {', '.join(damaged)}, and there is no whole copy",
                "bring it back from another remote, or dvc add the file anew",
            )
        raise self._missing(md5, path)

    def folder_object(self, output: Output, workspace: Workspace | None) -> bytes:
        """
        The list of files of a tracked folder; where it is lost, written anew from an unchanged workspace.

        :raises IntegrityError: if there are only damaged copies
        :raises SourceInvalid: if there is none
        """
        damaged: IntegrityError | None = None
        for content in self._folder_objects(output, workspace):
            try:
                read_folder_object(output.oid, content)
            except IntegrityError as error:
                damaged = error
            else:
                return content
        raise damaged or self._missing(output.oid, output.path)

    def changed(self) -> list[str]:
        """Files of the workspace that were read and are not what they were."""
        return changed_files(self._from_workspace)

    def explain(self) -> None:
        """
        Look for a damaged object behind a mismatch: bytes that were named by an MD5 and do not have it.

        :raises IntegrityError: if there is one
        """
        for oid, store in self._taken.items():
            copy = store.copy(oid)
            if copy is None:
                continue
            with copy.open() as stream:
                found = md5_of(stream)
            if found != oid:
                raise IntegrityError(
                    f"DVC's object {oid} at {copy.where} is damaged: its bytes have the MD5 {found}",
                    "remove this copy; the next snapshot takes another one, if there is one",
                )

    @functools.cached_property
    def _cache(self) -> FolderStore:
        return FolderStore(Path(self._repo.cache.repo.path))

    def _remote(self, name: str | None) -> ObjectStore:
        if name not in self._remotes:
            with dvc_errors(self._repo.root_dir):
                odb = self._repo.cloud.get_remote_odb(name)
            self._remotes[name] = FolderStore(Path(odb.path)) if odb.fs.protocol == "local" else CloudStore(odb)
        return self._remotes[name]

    def _stores(self, found: WorkspaceFile | None, remote: str | None) -> Iterator[ObjectStore]:
        """Cache, workspace, remotes; a remote is not connected to before it is needed."""
        if self._side == "workspace":
            yield self._cache
            if found is not None:
                yield _InWorkspace(found)
        if remote is not None:
            yield self._remote(remote)
        if describe_remote(self._repo) is not None or (self._side == "remote" and remote is None):
            yield self._remote(None)

    def _folder_objects(self, output: Output, workspace: Workspace | None) -> Iterator[bytes]:
        for store in self._stores(None, output.remote):
            copy = store.copy(output.oid)
            if copy is not None:
                with copy.open() as stream:
                    yield stream.read()
            if workspace is not None:
                yield folder_object(workspace.digests)

    def _is_whole(self, store: ObjectStore, copy: Copy, md5: str) -> bool:
        if not isinstance(store, FolderStore) or self._side == "remote":
            return True
        if store is self._cache and md5 in self._trusted:
            return True
        path = store.path(md5)
        before = Stamp.now(path)
        with copy.open() as stream:
            whole = md5_of(stream) == md5
        if whole and before == Stamp.now(path):
            remember_digests(self._repo, {path: md5}, {path: os.stat(path)})  # noqa: PTH116
        return whole

    def _remember(self, md5: str, store: ObjectStore) -> None:
        if isinstance(store, _InWorkspace):
            self._from_workspace.append(store.found)
        else:
            self._taken[md5] = store

    def _missing(self, oid: str, path: str) -> SourceInvalid:
        places = "remote" if self._side == "remote" else "cache, workspace or remote"
        return SourceInvalid(
            f"DVC's object {oid} of {path} is not in the {places} of {self._repo.root_dir}",
            "run dvc push where the file still is; if it is nowhere, this version is lost: dvc add it anew",
        )


@dataclass(frozen=True, slots=True)
class _InWorkspace:
    found: WorkspaceFile

    def copy(self, oid: str) -> Copy | None:
        if self.found.md5 != oid:
            return None
        return Copy(self.found.path, self.found.stamp.size, ObjectFile(self.found.path))


def _hashed(paths: Iterable[str], found: Mapping[str, os.stat_result]) -> dict[str, str]:
    """The MD5 of each of these files that stayed what it was meanwhile."""
    hashed = {}
    for path in paths:
        with suppress(SourceChanged, SourceInvalid):
            hashed[path] = md5_of_file(path)
    return {path: md5 for path, md5 in hashed.items() if Stamp.now(path) == Stamp.of(found[path])}
