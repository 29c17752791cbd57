"""Every store that locks keeps the port's contract."""

from __future__ import annotations

from dataclasses import replace

import pytest

from contract.locks import LocksContract
from fakes import FaultyStore, MemoryStore
from muster.adapters.object_store import S3Store
from muster.ports import BlobStore
from servers import S3Server


class TestMemoryLocks(LocksContract):
    @pytest.fixture
    def store(self) -> BlobStore:
        return MemoryStore(locking=True)


class TestFaultyLocksWithoutFaults(LocksContract):
    @pytest.fixture
    def store(self) -> BlobStore:
        return FaultyStore(MemoryStore(locking=True))


@pytest.mark.servers
class TestComplianceInS3(LocksContract):
    @pytest.fixture
    def store(self, ceph_s3: S3Server) -> BlobStore:
        return S3Store(replace(ceph_s3.location(ceph_s3.make_bucket(lock=True), "team/vault"), lock="compliance"))


@pytest.mark.servers
class TestGovernanceInS3(LocksContract):
    @pytest.fixture
    def store(self, ceph_s3: S3Server) -> BlobStore:
        return S3Store(replace(ceph_s3.location(ceph_s3.make_bucket(lock=True)), lock="governance"))
