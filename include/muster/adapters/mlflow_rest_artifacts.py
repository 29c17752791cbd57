"""Artifacts of runs and logged models, as a server lists, gives and takes them."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from muster.adapters.mlflow_locations import place_of
from muster.adapters.mlflow_rest_api import MlflowApi, proxied_path
from muster.adapters.mlflow_rest_reading import Holder
from muster.domain.content import checked_path
from muster.errors import NotFound, SourceChanged, SourceInvalid

LOADED_META = "registered_model_meta"
"""What MLflow writes into a stored model, beside its ``MLmodel``, whenever somebody loads it by name."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """
    An artifact that a server lists.

    :param path: relative to the root of its holder
    """

    path: str
    size: int


class RestArtifacts:
    """The artifacts of one server. An API tells path and size, neither time nor digest; empty folders cannot come back by it."""

    def __init__(self, api: MlflowApi) -> None:
        self._api = api

    def files(self, holder: Holder) -> list[RemoteFile]:
        """
        All files of a run or a logged model, sorted by path; without what loading a model leaves in it.

        :raises SourceInvalid: if the server names a path that leads elsewhere
        """
        found = sorted(self._below(holder), key=lambda file: file.path)
        models = {posixpath.dirname(file.path) for file in found if posixpath.basename(file.path) == "MLmodel"}
        return [
            file
            for file in found
            if posixpath.basename(file.path) != LOADED_META or posixpath.dirname(file.path) not in models
        ]

    def _below(self, holder: Holder) -> Iterator[RemoteFile]:
        folders = [""]
        while folders:
            folder = folders.pop()
            for item in self._listed(holder, folder):
                path = posixpath.join(folder, posixpath.basename(str(item["path"]).rstrip("/")))
                if checked_path(path) == folder:
                    raise SourceInvalid(f"{holder} lists a folder {folder} in itself", "see its artifact store")
                if item.get("is_dir"):
                    folders.append(path)
                else:
                    yield RemoteFile(path, int(item.get("file_size") or 0))

    def _listed(self, holder: Holder, folder: str) -> list[dict[str, Any]]:
        if holder.kind == "runs":
            asked = {"run_id": holder.id, **({"path": folder} if folder else {})}
            return list(self._api.pages("2.0/mlflow/artifacts/list", "files", asked, method="GET"))
        asked = {"artifact_directory_path": folder} if folder else {}
        path = f"2.0/mlflow/logged-models/{quote(holder.id)}/artifacts/directories"
        return list(self._api.pages(path, "files", asked, method="GET"))

    def download(self, holder: Holder, file: RemoteFile, to: Path) -> None:
        """
        :raises SourceChanged: if the server does not list it any more
        :raises SourceInvalid: if the server lists it and does not have it
        :raises StoreUnavailable: if it does not come whole
        """
        place = place_of(holder.root)
        if place is not None and place.base == "proxied":
            path, query = proxied_path(posixpath.join(place.path, file.path)), dict[str, str]()
        elif holder.kind == "runs":
            path, query = "/get-artifact", {"run_id": holder.id, "path": file.path}
        else:
            path = f"/ajax-api/2.0/mlflow/logged-models/{quote(holder.id)}/artifacts/files"
            query = {"artifact_file_path": file.path}
        try:
            self._api.download(path, query, to, file.size)
        except NotFound as error:
            if file not in self.files(holder):
                raise SourceChanged(
                    f"the artifact {file.path} of {holder} vanished", "take the snapshot again"
                ) from None
            raise SourceInvalid(
                f"{holder} lists the artifact {file.path}, and the server does not have it",
                f"bring it back, or delete it; {error.message}",
            ) from None

    def upload(self, holder: Holder, relative: str, file: Path) -> None:
        """
        Put a file among the artifacts of a run or logged model.

        :raises SourceInvalid: if the server does not pass artifacts on
        """
        self._api.upload(proxied_path(posixpath.join(upload_root(holder.root), relative)), file)


def upload_root(root: str) -> str:
    """
    The path below the server's own artifact root that a location means.

    :raises SourceInvalid: if it lies elsewhere: what is there is no business of the server's API
    """
    place = place_of(root)
    if place is None or place.base != "proxied":
        raise SourceInvalid(
            f"the MLflow server keeps artifacts at {root}, where its API puts none",
            "start it with --serve-artifacts and --artifacts-destination; then artifacts go through it",
        )
    return place.path
