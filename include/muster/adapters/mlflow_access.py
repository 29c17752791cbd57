"""Artifact roots, opened: on disk, on S3, in Google Cloud Storage, in Azure Blob Storage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from muster.adapters.azure_location import AzureLocation
from muster.adapters.gcs_location import GcsLocation
from muster.adapters.mlflow_artifacts import ArtifactFolder, LocalFolder
from muster.adapters.mlflow_azure import AzureObjects, azure_access, azure_environment, azure_found
from muster.adapters.mlflow_buckets import BucketFolder, Objects
from muster.adapters.mlflow_gcs import GcsObjects, gcs_access, gcs_environment, gcs_found
from muster.adapters.mlflow_locations import WASBS, Place
from muster.adapters.mlflow_s3 import S3Access, S3Objects


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
        return Access(
            S3Access.of(artifact_root if scheme == "s3" else ""),
            gcs_access(artifact_root) if scheme == "gs" else None,
            azure_access(artifact_root) if scheme in ("wasbs", "azure") else None,
        )

    def open(self, place: Place) -> ArtifactFolder:
        """The root at a place; no request is sent yet."""
        return LocalFolder(Path(place.path)) if place.base == "file" else BucketFolder(self._objects(place))

    def environment(self, scratch: Path) -> dict[str, str]:
        """
        What a server of ours must find in its environment to reach the same.

        :param scratch: a folder that only we may read, and that lasts as long as the server
        """
        return {
            **self.s3.environment(),
            **(gcs_environment(self.gcs, scratch) if self.gcs else {}),
            **(azure_environment(self.azure) if self.azure else {}),
        }

    def _objects(self, place: Place) -> Objects:
        if place.base == "s3":
            return S3Objects(place, self.s3)
        if place.base == "gs":
            return GcsObjects(place, self.gcs or gcs_found(place.in_bucket[0]))
        return AzureObjects(place, self._of_account(place))

    def _of_account(self, place: Place) -> AzureLocation:
        """A key opens one account alone."""
        name = WASBS.match(place.path)
        if self.azure and name and name["account"] == self.azure.account:
            return replace(self.azure, container=name["container"])
        return azure_found(place.path)
