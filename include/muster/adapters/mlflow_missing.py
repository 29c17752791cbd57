"""Artifacts that model versions name and that are not there, or not all of them: found by listing, before any is read."""

from __future__ import annotations

import functools
import json
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from muster.adapters.bulk import in_bulk
from muster.adapters.mlflow_artifacts import Artifact, ArtifactFolder, LocalFolder
from muster.adapters.mlflow_facts import ModelVersion
from muster.adapters.mlflow_known import Known
from muster.adapters.mlflow_locations import Place, Root, home_of, place_of
from muster.codec import from_json
from muster.domain.holdings import ABOUT, Holdings, Missing, bounded
from muster.errors import IntegrityError, SourceInvalid
from muster.ports import TreeReader

LOADED_META = "registered_model_meta"
MLMODEL = "MLmodel"
_MOST_SAID = 5
_LATER = frozenset({MLMODEL, "conda.yaml", "python_env.yaml", "requirements.txt", LOADED_META})
"""What MLflow writes into a model's folder after it has counted the bytes there for ``model_size_bytes``."""
_SIZE = re.compile(rb"^model_size_bytes: (\d{1,18})\s*$", re.MULTILINE)


def require_root(roots: Sequence[Root], folders: Mapping[str, ArtifactFolder], places: Iterable[Place]) -> None:
    """
    See that the artifact root is no typing error: a folder that is not there, below which nothing lies that the store names.

    :param roots: the store's own one first
    :param places: all that the store names
    :raises SourceInvalid: if it is
    """
    root, *others = roots
    folder = folders[root.tree]
    if not others or not isinstance(folder, LocalFolder) or folder.root.is_dir():
        return
    if all(place.base != "proxied" and place.below(root.place) is None for place in places):
        named = ", ".join(bounded([other.place.location for other in others]))
        raise SourceInvalid(
            f"there is no artifact root {root.place.location}, and the store names other places: {named}",
            "see `artifacts` in the catalog, and what `mlflow server` was given; if it is right, make the folder",
        )


@dataclass(frozen=True, slots=True)
class Home:
    """
    Where the artifacts of a model version belong.

    :param what: whose they are, for people
    :param path: where that is, for people, and the same from point to point
    :param relative: the same, below what the stored tree has under `tree`
    """

    what: str
    path: str
    tree: str
    relative: str


@dataclass(frozen=True, slots=True)
class Earlier:
    """
    What the point before tells.

    :param holdings: None if there is no such point, or it does not tell
    :param artifacts: what it has of each tree
    """

    holdings: Holdings | None
    artifacts: Mapping[str, Iterable[Artifact]]


@dataclass(slots=True)
class _Below:
    """What lies below a folder: all files, and the bytes of those that MLflow counted."""

    files: int = 0
    size: int = 0
    counted: int = 0
    mlmodel: Artifact | None = field(default=None, compare=False)


def missing_artifacts(
    versions: Sequence[ModelVersion],
    roots: Sequence[Root],
    folders: Mapping[str, ArtifactFolder],
    listed: Mapping[str, Sequence[Artifact]],
    known: Known,
) -> list[Missing]:
    """
    As `missing_at`, of a store.

    :param listed: the artifacts of each root, by its tree
    """
    homes = []
    for version in versions:
        root, relative = home_of(version.place, roots)
        named = replace(root.place, path=posixpath.join(root.place.path, relative))
        homes.append(Home(str(version), named.location, root.tree, relative))
    earlier = Earlier(known_holdings(known.read(ABOUT)), {tree: known.artifacts(tree) for tree in listed})
    return missing_at(homes, listed, earlier, lambda tree, artifact: folders[tree].open(artifact))


def missing_at(
    homes: Sequence[Home],
    listed: Mapping[str, Iterable[Artifact]],
    earlier: Earlier,
    opened: Callable[[str, Artifact], BinaryIO],
) -> list[Missing]:
    """
    Versions that have no file at all; those whose ``MLmodel`` tells of more bytes than there are, since a file is truncated or gone;
    and those that have lost their ``MLmodel``.

    An ``MLmodel`` is opened only if something below its folder has another number or size than in the point before.

    :param listed: the artifacts that there are, by tree
    """
    before = earlier.holdings
    missed = {one.path: one for one in before.missing} if before else {}
    wanted: dict[str, set[str]] = {}
    for home in homes:
        wanted.setdefault(home.tree, set()).add(home.relative)
    below = {tree: _below(listed[tree], relatives) for tree, relatives in wanted.items()}
    below_before = {tree: _below(earlier.artifacts.get(tree, ()), relatives) for tree, relatives in wanted.items()}
    found: list[Missing] = []
    doubtful: dict[str, tuple[str, Artifact]] = {}
    waiting: list[tuple[Home, int]] = []
    for home in homes:
        here, there = below[home.tree].get(home.relative, _Below()), below_before[home.tree].get(home.relative)
        lacked = missed[home.path].size if home.path in missed else None
        size = lacked if lacked is not None or there is None else there.size
        if not here.files:
            found.append(Missing(home.what, home.path, size))
        elif here.mlmodel is None:
            if (there and there.mlmodel) or (home.path in missed and missed[home.path].found is not None):
                found.append(Missing(home.what, home.path, size, here.size))
        elif before is None or home.path in missed or here != there:
            doubtful[home.path] = (home.tree, here.mlmodel)
            waiting.append((home, here.counted))
    ask = functools.partial(_promised, opened)
    promised = dict(zip(doubtful, in_bulk(lambda path: ask(*doubtful[path]), doubtful), strict=True))
    return found + [
        Missing(home.what, home.path, promised[home.path], there)
        for home, there in waiting
        if there < promised[home.path]
    ]


def refuse(missing: Sequence[Missing]) -> None:
    """
    :raises SourceInvalid: if there is any
    """
    if missing:
        raise SourceInvalid(
            "; ".join(bounded([str(one) for one in missing], _MOST_SAID)),
            "bring them back, or delete these versions: a recovery point without them would not restore them. Or let the catalog say"
            " `missing_artifacts: incomplete`: then a point is taken that is suspect until you accept it",
        )


def known_holdings(document: bytes | None) -> Holdings | None:
    """What the point before tells in `ABOUT`; None if it does not."""
    try:
        return from_json(Holdings, json.loads(document)) if document else None
    except (IntegrityError, ValueError, RecursionError):
        return None


def lacked_at(tree: TreeReader) -> dict[str, tuple[Missing, Place]]:
    """
    The artifacts that a point lacks and where they belonged, by whose they are.

    :param tree: the registry of the point
    :raises IntegrityError: if it does not tell
    """
    holdings = known_holdings(Known(tree).read(ABOUT))
    if holdings is None:
        raise IntegrityError(f"{ABOUT} of the point, which tells what it lacks, cannot be read", "verify the vault")
    lacked: dict[str, tuple[Missing, Place]] = {}
    for one in holdings.missing:
        if (place := place_of(one.path)) is None:
            raise IntegrityError(f"{one.path} in {ABOUT} of the point is no place", "verify the vault")
        lacked[one.what] = one, place
    return lacked


def still_missing(
    versions: Iterable[tuple[str, int, str | None]],
    tree: TreeReader,
    roots: Sequence[Root],
    folders: Mapping[str, ArtifactFolder],
) -> list[Missing]:
    """
    Artifacts that a point lacked of some versions, and that are not whole where they belong now: by the measure of `missing_artifacts`,
    and where that cannot be applied, by the bytes that there should be.

    :param versions: model, number, and id of the run
    :param tree: the registry of the point; `roots` are those of the point, too
    :param folders: where each root lies now, by its tree
    :raises IntegrityError: if the point does not tell what it lacked
    """
    known, lacked = Known(tree), lacked_at(tree)
    found: list[Missing] = []
    for version in (ModelVersion(*version, roots[0].place) for version in versions):
        if not (told := lacked.get(str(version))):
            continue
        one, place = told
        root, relative = home_of(place, roots)
        there = [artifact for artifact in folders[root.tree].below([relative]) if artifact.kind == "file"]
        known_whole = any(artifact.path == posixpath.join(relative, MLMODEL) for artifact in there)
        by_size = one.size is not None and sum(artifact.size for artifact in there) >= one.size
        named = replace(version, place=place)
        if not (known_whole or by_size) or missing_artifacts([named], roots, folders, {root.tree: there}, known):
            found.append(one)
    return found


def _below(artifacts: Iterable[Artifact], folders: set[str]) -> dict[str, _Below]:
    """What lies at or below each of these folders."""
    found: dict[str, _Below] = {}
    for artifact in artifacts:
        if artifact.kind != "file" or posixpath.basename(artifact.path) == LOADED_META:
            continue
        place, inside = artifact.path, ""
        while True:
            if place in folders:
                _add(found.setdefault(place, _Below()), artifact, inside)
            if not place:
                break
            place, name = posixpath.split(place)
            inside = f"{name}/{inside}" if inside else name
    return found


def _add(below: _Below, artifact: Artifact, inside: str) -> None:
    below.files += 1
    below.size += artifact.size
    below.counted += artifact.size if inside not in _LATER else 0
    if inside == MLMODEL:
        below.mlmodel = artifact


def _promised(opened: Callable[[str, Artifact], BinaryIO], tree: str, mlmodel: Artifact) -> int:
    """How many bytes MLflow counted when it wrote the model; 0 if it does not say."""
    with opened(tree, mlmodel) as stream:
        said = _SIZE.search(stream.read())
    return int(said[1]) if said else 0
