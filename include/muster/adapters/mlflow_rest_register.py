"""Registered models and prompts, made anew on a server with the numbers that their versions had."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from muster.adapters.mlflow_rest_api import MlflowApi
from muster.adapters.mlflow_rest_ids import IdMap
from muster.adapters.mlflow_rest_made import Made
from muster.errors import IntegrityError

Json = Any
_COPY = r"models:/(.+/\d+)"
"""The source of a version that was copied from another one."""
NO_STAGE = (None, "", "None")


class Registrar:
    """
    Registers versions in the order of their numbers. A server counts them up by itself, so where a number is missing a filler is made and
    deleted: a second copy of the version that follows, which any rule of the server's for sources lets pass.

    :param documents: all stored models
    :param fillers: afterwards: how many were made
    """

    def __init__(self, api: MlflowApi, made: Made, ids: IdMap, documents: Sequence[Mapping[str, Json]]) -> None:
        self._api = api
        self._made = made
        self._ids = ids
        self._documents = documents
        self._captured = {f"{v['name']}/{int(v['version'])}" for d in documents for v in d["versions"]}
        self._there: set[str] = set()
        self.fillers = 0

    def register(self) -> None:
        """
        All models and versions, then stages and aliases.

        :raises IntegrityError: if a version gets another number, or refers to itself in a circle
        """
        for document in self._documents:
            self._model(document["model"])
        waiting = [(document, deque(document["versions"])) for document in self._documents if document["versions"]]
        while waiting:
            before = len(self._there)
            for document, versions in waiting:
                while versions and self._ready(versions[0]):
                    self._version(document, versions.popleft())
            waiting = [(document, versions) for document, versions in waiting if versions]
            if waiting and len(self._there) == before:
                stuck = waiting[0][1][0]
                raise IntegrityError(
                    f"version {stuck['version']} of {stuck['name']} is a copy of one that comes after it",
                    "verify the vault",
                )
        for document in self._documents:
            self._aliases(document["model"])

    def body(self, document: Mapping[str, Json], version: Mapping[str, Json]) -> dict[str, Json]:
        """A version as it is made on the server."""
        held = document["held"].get(str(version["version"]))
        asked = {
            "name": version["name"],
            "source": self._ids.version_source(version, held, self._captured),
            "tags": list(version.get("tags") or ()),
        }
        asked |= {key: version[key] for key in ("description", "run_link") if version.get(key)}
        for key, ids in (("run_id", self._ids.runs), ("model_id", self._ids.logged_models)):
            if old := version.get(key):
                asked[key] = ids.get(old, old)
        return asked

    def _model(self, model: Mapping[str, Json]) -> None:
        asked = {"name": model["name"], "tags": list(model.get("tags") or ())}
        if model.get("description"):
            asked["description"] = model["description"]
        self._api.post("2.0/mlflow/registered-models/create", asked, once=True)
        self._made.models.append(str(model["name"]))

    def _ready(self, version: Mapping[str, Json]) -> bool:
        """Whether the version that this one is a copy of is there already, or will never be."""
        match = re.fullmatch(_COPY, str(version.get("source", "")))
        return match is None or match.group(1) not in self._captured or match.group(1) in self._there

    def _version(self, document: Mapping[str, Json], version: Mapping[str, Json]) -> None:
        asked, number = self._asked(document, version), int(version["version"])
        while (given := self._created(asked)) < number:
            self._api.ask(
                "DELETE", "/api/2.0/mlflow/model-versions/delete", body=_which(version["name"], given), once=True
            )
            self.fillers += 1
        if given > number:
            raise IntegrityError(
                f"the server made version {given} of {version['name']}, where {number} was wanted",
                "see who registers models there during the restore",
            )
        self._there.add(f"{version['name']}/{number}")
        stage = version.get("current_stage")
        if stage not in NO_STAGE:
            asked = {**_which(version["name"], number), "stage": stage, "archive_existing_versions": False}
            self._api.post("2.0/mlflow/model-versions/transition-stage", asked)

    def _asked(self, document: Mapping[str, Json], version: Mapping[str, Json]) -> dict[str, Json]:
        """The body, and the logged model that has the source: a server wants to be told, and does not always tell."""
        asked, held = self.body(document, version), document["held"].get(str(version["version"]))
        if held and held["kind"] == "logged_models" and not re.fullmatch(_COPY, asked["source"]):
            asked.setdefault("model_id", self._ids.logged_models[held["id"]])
        return asked

    def _created(self, asked: Mapping[str, Json]) -> int:
        made = self._api.post("2.0/mlflow/model-versions/create", asked, once=True)
        return int(made["model_version"]["version"])

    def _aliases(self, model: Mapping[str, Json]) -> None:
        for alias in model.get("aliases") or ():
            asked = {"name": model["name"], "alias": alias["alias"], "version": str(alias["version"])}
            self._api.post("2.0/mlflow/registered-models/alias", asked)


def _which(name: str, version: int) -> dict[str, str]:
    return {"name": name, "version": str(version)}
