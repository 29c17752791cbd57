"""Which run or logged model holds the artifacts of a model version."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from muster.adapters.mlflow_locations import place_of
from muster.adapters.mlflow_rest_api import MlflowApi
from muster.adapters.mlflow_rest_reading import Holder, pairs
from muster.errors import SourceInvalid

IS_PROMPT = "mlflow.prompt.is_prompt"


@dataclass(frozen=True, slots=True)
class Held:
    """
    A place among the artifacts of a run or logged model.

    :param below: path below the holder's root; empty for all of it
    """

    kind: str
    id: str
    below: str

    def to_json(self) -> dict[str, str]:
        return {"kind": self.kind, "id": self.id, "below": self.below}


def is_prompt(model: Mapping[str, Any]) -> bool:
    """Whether a registered model is a prompt: its text lies in tags, and it has no artifacts."""
    return pairs(model.get("tags")).get(IS_PROMPT, "").lower() == "true"


class Holders:
    """All runs and logged models, found by what versions say of their artifacts."""

    def __init__(self, api: MlflowApi, holders: Iterable[Holder]) -> None:
        self._api = api
        self._ids = {(holder.kind, holder.id) for holder in holders}
        self._roots = {_root(holder.root): (holder.kind, holder.id) for holder in holders if holder.root}

    def of(self, version: Mapping[str, Any]) -> Held:
        """
        Where the artifacts of a version lie.

        :raises SourceInvalid: if no run or logged model that the API gives has them
        """
        source = str(version.get("source", ""))
        held = self._found(source) or self._found(self._location(version))
        if held is None or (held.kind, held.id) not in self._ids:
            raise SourceInvalid(
                f"version {version['version']} of model {version['name']} names its artifacts as {source}, which is in no run"
                " and no logged model that the server gives",
                "delete this version, or register it again; or protect the store itself: registry.store in the catalog",
            )
        return held

    def _found(self, source: str) -> Held | None:
        return self._named(source) or self._placed(source)

    def _named(self, source: str) -> Held | None:
        if match := re.fullmatch(r"models:/(m-[^/]+)/?(.*)", source):
            return Held("logged_models", match.group(1), match.group(2).strip("/"))
        if match := re.fullmatch(r"runs:/+([^/]+)/?(.*)", source):
            return Held("runs", match.group(1), match.group(2).strip("/"))
        return None

    def _placed(self, source: str) -> Held | None:
        location, below = _root(source), list[str]()
        while location:
            if location in self._roots:
                return Held(*self._roots[location], "/".join(reversed(below)))
            location, slash, last = location.rpartition("/")
            below.append(last)
            if not slash:
                return None
        return None

    def _location(self, version: Mapping[str, Any]) -> str:
        asked = {"name": version["name"], "version": str(version["version"])}
        return str(self._api.get("2.0/mlflow/model-versions/get-download-uri", **asked).get("artifact_uri", ""))


def _root(location: str) -> str:
    """A location in one spelling: ``mlflow-artifacts:/1/x`` and ``mlflow-artifacts://host/1/x`` are the same place."""
    place = place_of(location)
    return f"{place.base}:{place.path}" if place else location.rstrip("/")
