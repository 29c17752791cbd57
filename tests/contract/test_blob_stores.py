"""Every blob store keeps the port's contract."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_servers import AzureServer, GcsServer
from contract.blob_store import BlobStoreContract
from fakes import FaultyStore, MemoryStore
from muster.adapters.azure_store import azure_store
from muster.adapters.gcs_store import gcs_store
from muster.adapters.local_store import LocalStore
from muster.adapters.object_store import S3Store
from muster.adapters.stores import open_store
from muster.ports import BlobStore
from servers import S3Server


def put_neighbours(store_below: Callable[[str], BlobStore]) -> None:
    """Objects of others in the same bucket, whose names begin as those below ``team/vault`` do."""
    for prefix in ("team", "team/vault2", "team/vaul"):
        store_below(prefix).put("packs/aa/1", b"of a neighbour")


class TestMemoryStore(BlobStoreContract):
    @pytest.fixture
    def store(self) -> BlobStore:
        return MemoryStore()


class TestFaultyStoreWithoutFaults(BlobStoreContract):
    @pytest.fixture
    def store(self) -> BlobStore:
        return FaultyStore(MemoryStore())


class TestLocalStore(BlobStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> BlobStore:
        return LocalStore(tmp_path / "made by the first put" / "vault")


class TestS3StoreOverMoto(BlobStoreContract):
    @pytest.fixture
    def store(self, moto_s3: S3Server) -> BlobStore:
        return S3Store(moto_s3.location(moto_s3.make_bucket()))


class TestS3StoreBelowPrefix(BlobStoreContract):
    """The neighbours in the bucket, whose keys begin alike, are never seen."""

    @pytest.fixture
    def store(self, moto_s3: S3Server) -> BlobStore:
        bucket = moto_s3.make_bucket()
        put_neighbours(lambda prefix: S3Store(moto_s3.location(bucket, prefix)))
        return open_store(moto_s3.address(bucket, "team/vault"))


@pytest.mark.servers
class TestS3StoreOverCeph(BlobStoreContract):
    @pytest.fixture
    def store(self, ceph_s3: S3Server) -> BlobStore:
        return S3Store(ceph_s3.location(ceph_s3.make_bucket()))


@pytest.mark.servers
class TestS3StoreInLockedBucket(BlobStoreContract):
    """A bucket with Object Lock keeps versions, and this server looks at no condition there."""

    @pytest.fixture
    def store(self, ceph_s3: S3Server) -> BlobStore:
        return S3Store(ceph_s3.location(ceph_s3.make_bucket(lock=True)))


@pytest.mark.servers
class TestGcsStore(BlobStoreContract):
    """Below a prefix, over an emulator; a gate before it keeps the preconditions that it ignores. Neighbours are never seen."""

    @pytest.fixture
    def store(self, gcs: GcsServer) -> BlobStore:
        bucket = gcs.make_bucket()
        put_neighbours(lambda prefix: gcs_store(gcs.location(bucket, prefix)))
        return open_store(gcs.address(bucket, "team/vault"))


@pytest.mark.servers
class TestAzureStore(BlobStoreContract):
    """Below a prefix, over Azurite, which keeps conditions; a gate before it keeps the versions that it does not know."""

    @pytest.fixture
    def store(self, azure: AzureServer) -> BlobStore:
        container = azure.make_container()
        put_neighbours(lambda prefix: azure_store(azure.location(container, prefix)))
        return open_store(azure.address(container, "team/vault"))
