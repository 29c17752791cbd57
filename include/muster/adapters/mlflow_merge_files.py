"""Artifacts of a point, put next to those of a registry that is in use: what is there is never written over."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from muster.adapters.bulk import in_bulk
from muster.adapters.made_folders import missing_folders, take_back
from muster.adapters.mlflow_access import Access
from muster.adapters.mlflow_artifacts import Artifact, ArtifactFolder, LocalFolder, disk_errors
from muster.adapters.mlflow_buckets import BucketFolder, extracted
from muster.adapters.mlflow_locations import Place, Root, home_of
from muster.adapters.mlflow_strays import CLAIM, Wanted, barred, in_the_way, inside, left_behind, surplus
from muster.adapters.restore_claim import claimed
from muster.domain.content import TreeEntry, checked_path
from muster.domain.merge_plan import Conflict, FileCounts
from muster.errors import IntegrityError, Refused, SourceChanged
from muster.ports import TreeReader

HASHERS = 4


class Adding(Protocol):
    """A root that files are added to."""

    def put(self, wanted: Sequence[Wanted], tree: TreeReader) -> None:
        """
        Add files, each of them whole and only if nothing has its name; what was added before an error stays until `give_back`.

        :raises SourceChanged: if something has the name of one of them by now
        """

    def give_back(self) -> None:
        """Remove what was added."""


@dataclass(frozen=True, slots=True)
class Named:
    """
    Places of artifacts that chosen rows name, as they were at the point.

    :param own: those that make a model what it is
    :param closed: those of them in which nothing else may be
    """

    places: set[Place]
    own: set[Place]
    closed: set[Place]


@dataclass(slots=True)
class Found:
    """What is there of the artifacts that belong below one root, and what is not."""

    folder: ArtifactFolder
    location: str
    adds: list[Wanted] = field(default_factory=list)
    equal: list[Wanted] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    seen: list[Artifact] = field(default_factory=list)

    def conflict(self, path: str, what: str, *, keepable: bool) -> Conflict:
        """What is said of a path below this root."""
        return Conflict("artifacts", f"{self.location.rstrip('/')}/{path}", what, keepable)


@dataclass(slots=True)
class FileMerge:
    """What is to be done about the artifacts of the chosen rows."""

    found: list[Found] = field(default_factory=list)

    @property
    def counts(self) -> FileCounts:
        adds = [entry for one in self.found for entry, _ in one.adds if entry.content]
        equal = sum(entry.content is not None for one in self.found for entry, _ in one.equal)
        return FileCounts(len(adds), sum(entry.content.size for entry in adds if entry.content), equal)

    @property
    def conflicts(self) -> list[Conflict]:
        return [conflict for one in self.found for conflict in one.conflicts]


def look(
    tree: TreeReader,
    roots: Sequence[Root],
    new: Sequence[Place],
    named: Named,
    access: Access,
) -> FileMerge:
    """
    Hold the artifacts of chosen rows against what lies at their places now.

    :param new: where each root lies now
    """
    below, own, closed = (_below(places, roots) for places in (named.places, named.own, named.closed))
    wanted: dict[str, list[Wanted]] = {}
    for entry in tree.stream():
        for root in roots:
            relative = entry.path.removeprefix(f"{root.tree}/")
            if relative != entry.path and inside(checked_path(relative), below.get(root.tree, ())):
                wanted.setdefault(root.tree, []).append((entry, relative))
    merge = FileMerge()
    for root, place in zip(roots, new, strict=True):
        if entries := wanted.get(root.tree):
            found, nothing = Found(access.open(place), place.location), set[str]()
            _compare(found, entries, below[root.tree], own.get(root.tree, nothing), closed.get(root.tree, nothing))
            merge.found.append(found)
    return merge


def _below(places: Iterable[Place], roots: Sequence[Root]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for place in places:
        root, relative = home_of(place, roots)
        found.setdefault(root.tree, set()).add(relative)
    return found


def _compare(found: Found, wanted: Sequence[Wanted], named: set[str], own: set[str], closed: set[str]) -> None:
    left = left_behind(found.folder)
    there = {one.path: one for one in found.folder.below(sorted(named)) if not inside(one.path, left)}
    bars = barred(wanted, there, in_the_way(found.folder, named) - there.keys())
    for path, bar in bars.items():
        found.conflicts.append(found.conflict(path, bar.what, keepable=not any(inside(p, own) for p in bar.paths)))
    out_of_reach = {path for bar in bars.values() for path in bar.paths}
    known = [(entry, path, there.get(path)) for entry, path in wanted if path not in out_of_reach]
    with ThreadPoolExecutor(HASHERS) as hashers:
        same = list(hashers.map(lambda one: one[2] is not None and _same(found.folder, one[0], one[2]), known))
    for (entry, path, artifact), equal in zip(known, same, strict=True):
        if artifact is None:
            found.adds.append((entry, path))
        elif equal:
            found.equal.append((entry, path))
            found.seen.append(artifact)
        else:
            found.conflicts.append(found.conflict(path, "has another content now", keepable=not inside(path, own)))
    for path in surplus(there, {path for _, path in wanted} | bars.keys(), closed):
        found.conflicts.append(found.conflict(path, "was not there at the point", keepable=False))


def _same(folder: ArtifactFolder, entry: TreeEntry, artifact: Artifact) -> bool:
    if entry.kind != artifact.kind:
        return False
    if entry.content is None:
        return True
    return entry.content.size == artifact.size and _digest(folder, artifact) == entry.content.sha256


def _digest(folder: ArtifactFolder, artifact: Artifact) -> str:
    digest = hashlib.sha256()
    with folder.open(artifact) as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# --- adding -----------------------------------------------------------------------------------------------------------


class Added:
    """Artifacts that were added for rows that are about to be written; taken back, unless they are kept."""

    def __init__(self, merge: FileMerge, tree: TreeReader) -> None:
        self._merge, self._tree = merge, tree
        self._adding: list[Adding] = []

    def put(self) -> None:
        """
        Add what is missing, and read it again.

        :raises SourceChanged: if something came to lie there meanwhile
        :raises IntegrityError: if what was added does not read as it was written
        """
        for one in self._merge.found:
            if not one.adds:
                continue
            adding = _adding(one.folder)
            self._adding.append(adding)
            adding.put(one.adds, self._tree)
        self._require_whole()

    def _require_whole(self) -> None:
        for one in self._merge.found:
            due = {path: entry for entry, path in one.adds if entry.content}
            there = {a.path: a for a in one.folder.below(sorted(due))}
            for path, entry in due.items():
                artifact = there.get(path)
                if artifact is None or not _same(one.folder, entry, artifact):
                    raise IntegrityError(
                        f"{one.location}/{path} does not read as it was written", "see the artifact store"
                    )
                one.seen.append(artifact)

    def confirm(self) -> None:
        """
        :raises SourceChanged: if an artifact is not there any more, or is another one
        """
        for one in self._merge.found:
            if moved := one.folder.unchanged(one.seen):
                raise SourceChanged(f"the artifact {moved} changed during the rollback", "run it again")

    def keep(self) -> None:
        """What was added stays from now on, whatever happens."""
        self._adding.clear()

    def give_back(self) -> None:
        """Remove what was added, as far as it can be reached."""
        with ExitStack() as stack:
            for adding in self._adding:
                stack.callback(adding.give_back)


def _adding(folder: ArtifactFolder) -> Adding:
    if isinstance(folder, LocalFolder):
        return LocalAdding(folder.root)
    if isinstance(folder, BucketFolder):
        return BucketAdding(folder)
    raise TypeError(folder)


class LocalAdding:
    """Files appear by links: whole, and never over another one. Who is killed leaves whole files, which the next run finds equal."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._placed: list[Path] = []
        self._made: list[Path] = []

    def put(self, wanted: Sequence[Wanted], tree: TreeReader) -> None:
        with disk_errors(self._root):
            self._folder(self._root)
            with claimed(self._root / CLAIM, self._root) as claim:
                staging = claim.scratch(self._root, self._root)
                tree.extract((entry, staging / relative) for entry, relative in wanted)
                for _, relative in wanted:
                    self._place(staging / relative, self._root / relative)

    def _place(self, prepared: Path, final: Path) -> None:
        self._folder(final if prepared.is_dir() else final.parent)
        if prepared.is_dir():
            return
        try:
            _sync(prepared)
            os.link(prepared, final, follow_symlinks=False)
        except FileExistsError:
            if final.is_dir():
                raise Refused(f"{final} is to be a file, and a folder lies there", "move it out of the way") from None
            raise SourceChanged(f"{final} appeared just now", "run it again") from None
        self._placed.append(final)
        _sync(final.parent)

    def _folder(self, folder: Path) -> None:
        missing = missing_folders(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise Refused(f"{folder} is to be a folder, and a file lies there", "move it out of the way") from None
        finally:
            self._made[:0] = missing

    def give_back(self) -> None:
        for path in self._placed:
            path.unlink(missing_ok=True)
        take_back(self._made)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class BucketAdding:
    """Objects are put only if there is none of their name. Empty folders are left out: a bucket has none."""

    def __init__(self, folder: BucketFolder) -> None:
        self._folder = folder
        self._placed: list[str] = []

    def put(self, wanted: Sequence[Wanted], tree: TreeReader) -> None:
        for batch in extracted(wanted, tree):
            for path, file in batch.items():
                self._folder.add(path, file)
                self._placed.append(path)

    def give_back(self) -> None:
        in_bulk(self._folder.remove, self._placed)
