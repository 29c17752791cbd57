"""Artifact roots, opened: on disk, on S3, in Google Cloud Storage, in Azure Blob Storage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from muster.adapters.mlflow_artifacts import ArtifactFolder, LocalFolder
from muster.adapters.mlflow_buckets import BucketFolder, Objects
from muster.adapters.mlflow_locations import WASBS, Place
from muster.adapters.mlflow_s3 import S3Access, S3Objects

if TYPE_CHECKING:
    from muster.adapters.azure_location import AzureLocation
    from muster.adapters.gcs_location import GcsLocation


@dataclass(frozen=True, slots=True)
class Access:
    """
    How buckets are reached: as the address of an artifact root says, and where it says nothing, as MLflow would find them.

    :param gcs: of an artifact root in Google Cloud Storage
    :param azure: of an artifact root in Azure Blob Storage
    """

    s3: S3Access
    gcs: GcsLocation | None = None
    azure: AzureLocation | None = None

    @staticmethod
    def of(artifact_root: str) -> Access:
        """
        :raises UsageError: if the address is wrong
        """
        scheme = artifact_root.partition("://")[0]
        access = Access(S3Access.of(artifact_root if scheme == "s3" else ""))
        if scheme == "gs":
            from muster.adapters.mlflow_gcs import gcs_access

            return replace(access, gcs=gcs_access(artifact_root))
        if scheme in ("wasbs", "azure"):
            from muster.adapters.mlflow_azure import azure_access

            return replace(access, azure=azure_access(artifact_root))
        return access

    def open(self, place: Place) -> ArtifactFolder:
        """The root at a place; no request is sent yet."""
        return LocalFolder(Path(place.path)) if place.base == "file" else BucketFolder(self._objects(place))

    def environment(self, scratch: Path) -> dict[str, str]:
        """
        What a server of ours must find in its environment to reach the same.

        :param scratch: a folder that only we may read, and that lasts as long as the server
        """
        if self.gcs:
            from muster.adapters.mlflow_gcs import gcs_environment

            return {**self.s3.environment(), **gcs_environment(self.gcs, scratch)}
        if self.azure:
            from muster.adapters.mlflow_azure import azure_environment

            return {**self.s3.environment(), **azure_environment(self.azure)}
        return self.s3.environment()

    def _objects(self, place: Place) -> Objects:
        if place.base == "s3":
            return S3Objects(place, self.s3)
        if place.base == "gs":
            from muster.adapters.mlflow_gcs import GcsObjects, gcs_found

            return GcsObjects(place, self.gcs or gcs_found(place.in_bucket[0]))
        from muster.adapters.mlflow_azure import AzureObjects

        return AzureObjects(place, self._of_account(place))

    def _of_account(self, place: Place) -> AzureLocation:
        """A key opens one account alone."""
        from muster.adapters.mlflow_azure import azure_found

        name = WASBS.match(place.path)
        if self.azure and name and name["account"] == self.azure.account:
            return replace(self.azure, container=name["container"])
        return azure_found(place.path)
