"""Artifacts that model versions name and that are not there, or not all of them: found by listing, before any is read."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from muster.adapters.bulk import in_bulk
from muster.adapters.mlflow_artifacts import Artifact, ArtifactFolder
from muster.adapters.mlflow_facts import ModelVersion
from muster.adapters.mlflow_known import Known
from muster.adapters.mlflow_locations import Root, home_of, place_of
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
    Versions that have no file at all; those whose ``MLmodel`` tells of more bytes than there are, since a file is truncated or gone;
    and those that have lost their ``MLmodel``.

    An ``MLmodel`` is read only if something below its folder has another number or size than in the point before.

    :param listed: the artifacts of each root, by its tree
    """
    homes = {version: home_of(version.place, roots) for version in versions}
    before = known_holdings(known)
    missed = {one.path: one for one in before.missing} if before else {}
    below = {tree: _below(artifacts, _wanted(homes, tree)) for tree, artifacts in listed.items()}
    below_before = {tree: _below(known.artifacts(tree), _wanted(homes, tree)) for tree in listed}
    found: list[Missing] = []
    doubtful: dict[str, tuple[str, Artifact]] = {}
    waiting: list[tuple[ModelVersion, str, int]] = []
    for version, (root, relative) in homes.items():
        path = f"{root.place.location.rstrip('/')}/{relative}"
        here, earlier = below[root.tree].get(relative, _Below()), below_before[root.tree].get(relative)
        size = earlier.size if earlier else missed[path].size if path in missed else None
        if not here.files:
            found.append(Missing(str(version), path, size))
        elif here.mlmodel is None:
            if (earlier and earlier.mlmodel) or (path in missed and missed[path].found is not None):
                found.append(Missing(str(version), path, size, here.size))
        elif before is None or path in missed or here != earlier:
            doubtful[path] = (root.tree, here.mlmodel)
            waiting.append((version, path, here.counted))
    promised = dict(zip(doubtful, in_bulk(lambda path: _promised(folders, *doubtful[path]), doubtful), strict=True))
    found += [Missing(str(v), path, promised[path], there) for v, path, there in waiting if there < promised[path]]
    return found


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


def known_holdings(known: Known) -> Holdings | None:
    """What the point before tells; None if it does not."""
    try:
        return from_json(Holdings, json.loads(document)) if (document := known.read(ABOUT)) else None
    except (IntegrityError, ValueError, RecursionError):
        return None


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
    known = Known(tree)
    before = known_holdings(known)
    if before is None:
        raise IntegrityError(f"{ABOUT} of the point, which tells what it lacks, cannot be read", "verify the vault")
    lacked = {one.what: one for one in before.missing}
    found: list[Missing] = []
    for version in (ModelVersion(*version, roots[0].place) for version in versions):
        if not (one := lacked.get(str(version))):
            continue
        place = place_of(one.path)
        if place is None:
            raise IntegrityError(f"{one.path} in {ABOUT} of the point is no place", "verify the vault")
        root, relative = home_of(place, roots)
        there = [artifact for artifact in folders[root.tree].below([relative]) if artifact.kind == "file"]
        known_whole = any(artifact.path == posixpath.join(relative, MLMODEL) for artifact in there)
        by_size = one.size is not None and sum(artifact.size for artifact in there) >= one.size
        named = replace(version, place=place)
        if not (known_whole or by_size) or missing_artifacts([named], roots, folders, {root.tree: there}, known):
            found.append(one)
    return found


def _wanted(homes: Mapping[ModelVersion, tuple[Root, str]], tree: str) -> set[str]:
    return {relative for root, relative in homes.values() if root.tree == tree}


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


def _promised(folders: Mapping[str, ArtifactFolder], tree: str, mlmodel: Artifact) -> int:
    """How many bytes MLflow counted when it wrote the model; 0 if it does not say."""
    with folders[tree].open(mlmodel) as stream:
        said = _SIZE.search(stream.read())
    return int(said[1]) if said else 0
