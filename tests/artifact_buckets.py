"""Buckets that tests keep artifacts in: on S3, in Google Cloud Storage, in Azure Blob Storage. Each is looked into by its own client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote

import pytest

from cloud_servers import ACCOUNT, AzureServer, GcsServer
from muster.loopback import free_port
from servers import S3Server

PREFIX = "deep/prefix of é"
"""What a vault's prefix may not be."""


class ArtifactBucket(Protocol):
    """
    A root in a bucket, and another client of it. Paths are relative to the root.

    `variables` are what MLflow's own client wants in its environment to reach it.
    """

    @property
    def address(self) -> str:
        """As a person writes the root."""

    @property
    def location(self) -> str:
        """As MLflow writes it."""

    @property
    def secret(self) -> str:
        """What nobody must be shown."""

    @property
    def variables(self) -> Mapping[str, str]: ...

    @property
    def nowhere(self) -> str:
        """The address of a bucket that is not there."""

    @property
    def silent(self) -> str:
        """The address of the same bucket at a server that does not answer."""

    def paths(self) -> list[str]: ...

    def get(self, path: str) -> bytes: ...

    def put(self, path: str, data: bytes) -> None: ...

    def delete(self, path: str) -> None: ...


@dataclass(frozen=True)
class S3Bucket:
    server: S3Server
    name: str

    @property
    def address(self) -> str:
        return self.server.address(self.name, PREFIX)

    @property
    def location(self) -> str:
        return f"s3://{self.name}/{PREFIX}"

    @property
    def secret(self) -> str:
        return self.server.secret_key

    @property
    def variables(self) -> Mapping[str, str]:
        keys = {"AWS_ACCESS_KEY_ID": self.server.access_key, "AWS_SECRET_ACCESS_KEY": self.server.secret_key}
        return {**keys, "MLFLOW_S3_ENDPOINT_URL": self.server.endpoint, "AWS_DEFAULT_REGION": "us-east-1"}

    @property
    def nowhere(self) -> str:
        return self.server.address("muster-nowhere")

    @property
    def silent(self) -> str:
        return self.address.replace(self.server.endpoint, f"http://127.0.0.1:{free_port()}")

    def paths(self) -> list[str]:
        found = self.server.client.list_objects_v2(Bucket=self.name, Prefix=f"{PREFIX}/").get("Contents", [])
        return [item["Key"].removeprefix(f"{PREFIX}/") for item in found]

    def get(self, path: str) -> bytes:
        return bytes(self.server.client.get_object(Bucket=self.name, Key=f"{PREFIX}/{path}")["Body"].read())

    def put(self, path: str, data: bytes) -> None:
        self.server.client.put_object(Bucket=self.name, Key=f"{PREFIX}/{path}", Body=data)

    def delete(self, path: str) -> None:
        self.server.client.delete_object(Bucket=self.name, Key=f"{PREFIX}/{path}")


@dataclass(frozen=True)
class GcsBucket:
    server: GcsServer
    name: str
    secret: str = "-no-secret-"

    @property
    def address(self) -> str:
        return self.server.address(self.name, PREFIX)

    @property
    def location(self) -> str:
        return f"gs://{self.name}/{PREFIX}"

    @property
    def variables(self) -> Mapping[str, str]:
        return {"STORAGE_EMULATOR_HOST": self.server.relay.endpoint}

    @property
    def nowhere(self) -> str:
        return self.server.address("muster-nowhere")

    @property
    def silent(self) -> str:
        return self.address.replace(self.server.relay.endpoint, f"http://127.0.0.1:{free_port()}")

    @property
    def _bucket(self) -> Any:
        from google.auth.credentials import AnonymousCredentials
        from google.cloud.storage import Client

        options = {"api_endpoint": self.server.relay.endpoint}
        return Client("tests", AnonymousCredentials(), client_options=options).bucket(self.name)

    def paths(self) -> list[str]:
        return [blob.name.removeprefix(f"{PREFIX}/") for blob in self._bucket.list_blobs(prefix=f"{PREFIX}/")]

    def get(self, path: str) -> bytes:
        return bytes(self._bucket.blob(f"{PREFIX}/{path}").download_as_bytes())

    def put(self, path: str, data: bytes) -> None:
        self._bucket.blob(f"{PREFIX}/{path}").upload_from_string(data)

    def delete(self, path: str) -> None:
        self._bucket.blob(f"{PREFIX}/{path}").delete()


@dataclass(frozen=True)
class AzureContainer:
    server: AzureServer
    name: str
    made: dict[str, Any] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return self.server.address(self.name, PREFIX)

    @property
    def location(self) -> str:
        return f"wasbs://{self.name}@{ACCOUNT}.blob.core.windows.net/{PREFIX}"

    @property
    def secret(self) -> str:
        return self.server.key

    @property
    def variables(self) -> Mapping[str, str]:
        parts = f"AccountName={ACCOUNT};AccountKey={self.server.key};BlobEndpoint={self.server.endpoint}"
        return {"AZURE_STORAGE_CONNECTION_STRING": parts}

    @property
    def nowhere(self) -> str:
        return self.server.address("muster-nowhere")

    @property
    def silent(self) -> str:
        return self.address.replace(self.server.relay.endpoint, f"http://127.0.0.1:{free_port()}")

    @property
    def wrong(self) -> str:
        """The address, with another key."""
        key = quote(self.server.key, safe="")
        return self.address.replace(key, key.replace("Eby8", "XXXX"))

    @property
    def _container(self) -> Any:
        from azure.storage.blob import ContainerClient

        if not self.made:
            self.made["client"] = ContainerClient(self.server.endpoint, self.name, credential=self.server.key)
        return self.made["client"]

    def paths(self) -> list[str]:
        found = self._container.list_blobs(name_starts_with=f"{PREFIX}/")
        return [blob.name.removeprefix(f"{PREFIX}/") for blob in found]

    def get(self, path: str) -> bytes:
        return bytes(self._container.download_blob(f"{PREFIX}/{path}").readall())

    def put(self, path: str, data: bytes, **more: Any) -> None:
        self._container.upload_blob(f"{PREFIX}/{path}", data, overwrite=True, **more)

    def delete(self, path: str) -> None:
        self._container.delete_blob(f"{PREFIX}/{path}")


CLOUDS = [
    "s3",
    pytest.param("gs", marks=pytest.mark.servers),
    pytest.param("wasbs", marks=pytest.mark.servers),
]


def make_bucket(cloud: str, request: pytest.FixtureRequest) -> ArtifactBucket:
    """A new bucket in a cloud."""
    if cloud == "s3":
        s3: S3Server = request.getfixturevalue("moto_s3")
        return S3Bucket(s3, s3.make_bucket())
    if cloud == "gs":
        gcs: GcsServer = request.getfixturevalue("gcs")
        return GcsBucket(gcs, gcs.make_bucket())
    azure: AzureServer = request.getfixturevalue("azure")
    return AzureContainer(azure, azure.make_container())


@pytest.fixture(params=CLOUDS)
def bucket(request: pytest.FixtureRequest) -> ArtifactBucket:
    """A bucket of each kind."""
    return make_bucket(request.param, request)
