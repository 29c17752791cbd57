"""
Model versions behind a server whose artifacts are missing: by what its API lists, and by what an ``MLmodel`` promises.

As in a store (`muster.adapters.mlflow_missing`), with two differences. Artifacts of a logged model that was deleted are out of an API's
reach, whether they are there or not: such a version is refused as leading nowhere. And what is missing is known when everything else was
read, not before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from muster.adapters.mlflow_artifacts import Artifact
from muster.adapters.mlflow_missing import Home, missing_at
from muster.adapters.mlflow_rest_artifacts import RemoteFile
from muster.adapters.mlflow_rest_before import Before
from muster.adapters.mlflow_rest_held import Held, Holders, is_prompt
from muster.adapters.mlflow_rest_reading import Holder
from muster.domain.holdings import Missing
from muster.errors import NotFound, SourceChanged, SourceInvalid

Json = Any
Version = tuple[str, int]
"""Model and number."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A run or logged model, and the artifacts that the server lists of it."""

    holder: Holder
    files: Sequence[RemoteFile]

    @property
    def tree(self) -> str:
        """Where they lie in the stored tree."""
        return f"artifacts/{self.holder.kind}/{self.holder.id}"


class VersionArtifacts:
    """
    The artifacts of all versions that must have some: of all that are no prompts.

    :param models: as `Reading.models` gives them
    :param now: gives the same anew
    """

    def __init__(self, models: Mapping[str, Json], now: Callable[[], Mapping[str, Json]]) -> None:
        self._versions = _versions(models)
        self._now = now

    def held(self, holders: Holders) -> dict[Version, Held]:
        """
        Where they lie.

        :raises SourceChanged: if a version was deleted meanwhile
        :raises SourceInvalid: if no run or logged model that the API gives has them
        """
        found = {}
        for version, document in self._versions.items():
            try:
                found[version] = holders.of(document)
            except (NotFound, SourceInvalid):
                self._require_there([version])
                raise
        return found

    def missing(
        self,
        held: Mapping[Version, Held],
        listed: Mapping[tuple[str, str], Listed],
        before: Before,
        opened: Callable[[Holder, RemoteFile], BinaryIO],
    ) -> list[Missing]:
        """
        Those that are missing.

        :param listed: all runs and logged models, by kind and id
        :raises SourceChanged: if such a version was deleted meanwhile: somebody clears up just now
        """
        needed = {one.tree: one for one in (listed[held[version].kind, held[version].id] for version in held)}
        homes = {version: _home(version, where, listed[where.kind, where.id]) for version, where in held.items()}
        missing = missing_at(
            list(homes.values()),
            {tree: [Artifact(file.path, file.size, 0) for file in one.files] for tree, one in needed.items()},
            before.earlier(needed),
            lambda tree, artifact: opened(needed[tree].holder, RemoteFile(artifact.path, artifact.size)),
        )
        lacking = {one.what for one in missing}
        self._require_there([version for version, home in homes.items() if home.what in lacking])
        return missing

    def _require_there(self, versions: Sequence[Version]) -> None:
        if not versions:
            return
        now = _versions(self._now())
        if gone := [f"version {number} of model {name}" for name, number in versions if (name, number) not in now]:
            raise SourceChanged(f"{gone[0]} was deleted while it was captured", "take the snapshot again")


def _versions(models: Mapping[str, Json]) -> dict[Version, Json]:
    return {
        (name, int(version["version"])): version
        for name, document in models.items()
        if not is_prompt(document["model"])
        for version in document["versions"]
    }


def _home(version: Version, held: Held, listed: Listed) -> Home:
    name, number = version
    root = listed.holder.root.rstrip("/") or str(listed.holder)
    path = f"{root}/{held.below}" if held.below else root
    return Home(f"version {number} of model {name} of {listed.holder}", path, listed.tree, held.below)
