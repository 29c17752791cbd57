"""DVC remotes on an S3 server: read from them, and fill them again."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from dvc_repositories import FILES, Repository
from fakes_dataset_tree import content_of, take
from muster.adapters.dvc_datasets import DvcSource, DvcTarget
from muster.errors import IntegrityError, SourceInvalid, StoreUnavailable, TargetNotEmpty
from servers import S3Server

JAN = hashlib.md5(FILES["jan.csv"]).hexdigest()


@pytest.fixture
def bucket(moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket, and its keys where DVC looks for them."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto_s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto_s3.secret_key)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return moto_s3.make_bucket()


@pytest.fixture
def remote_repository(plain_repository: Repository, moto_s3: S3Server, bucket: str) -> Repository:
    """A repository whose default remote is the bucket's folder ``store``."""
    plain_repository.dvc("remote", "add", "--quiet", "--default", "cloud", f"s3://{bucket}/store")
    plain_repository.dvc("remote", "modify", "cloud", "endpointurl", moto_s3.endpoint)
    plain_repository.dvc("push", "--quiet")
    return plain_repository


def keys(server: S3Server, bucket: str, prefix: str = "") -> dict[str, int]:
    import boto3

    s3 = boto3.client(
        "s3", endpoint_url=server.endpoint, aws_access_key_id=server.access_key, aws_secret_access_key=server.secret_key
    )
    return {
        found["Key"]: found["Size"] for found in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    }


def put(server: S3Server, bucket: str, key: str, content: bytes | None) -> None:
    import boto3

    s3 = boto3.client(
        "s3", endpoint_url=server.endpoint, aws_access_key_id=server.access_key, aws_secret_access_key=server.secret_key
    )
    if content is None:
        s3.delete_object(Bucket=bucket, Key=key)
    else:
        s3.put_object(Bucket=bucket, Key=key, Body=content)


def test_cut_of_an_s3_remote_holds_every_file(remote_repository: Repository) -> None:
    """All objects are read from the server; a second cut reads none."""
    source = DvcSource("flights", remote_repository.root, source="remote")
    tree, details = take(source)
    assert dict(content_of(tree, "data/data/flights/")) == FILES
    assert details["remote"].startswith("s3://")
    with source.capture(tree) as cut:
        assert [f.path for f in cut.files() if f.path.startswith("data/") and f.known is None] == []


def test_object_that_the_server_lost_is_named(remote_repository: Repository, moto_s3: S3Server, bucket: str) -> None:
    """A missing object is named with the file that needs it."""
    put(moto_s3, bucket, f"store/files/md5/{JAN[:2]}/{JAN[2:]}", None)
    with pytest.raises(SourceInvalid, match=f"{JAN} of data/data/flights/(jan|same).csv is not in the remote"):
        take(DvcSource("flights", remote_repository.root, source="remote"))


def test_object_damaged_on_the_server_is_named(remote_repository: Repository, moto_s3: S3Server, bucket: str) -> None:
    """A damaged object of the same size is noticed while it is read, and named."""
    damaged = FILES["jan.csv"].replace(b"17", b"71")
    put(moto_s3, bucket, f"store/files/md5/{JAN[:2]}/{JAN[2:]}", damaged)
    with pytest.raises(IntegrityError, match=f"{JAN} at s3://.* is damaged"):
        take(DvcSource("flights", remote_repository.root, source="remote"))


def test_server_that_does_not_answer_is_unavailable(plain_repository: Repository, bucket: str) -> None:
    """A server that is down is a StoreUnavailable, which is tried again."""
    plain_repository.dvc("remote", "add", "--quiet", "--default", "cloud", f"s3://{bucket}/store")
    plain_repository.dvc("remote", "modify", "cloud", "endpointurl", "http://127.0.0.1:9")
    plain_repository.dvc("remote", "modify", "cloud", "connect_timeout", "1")
    with pytest.raises(StoreUnavailable, match="does not answer"):
        take(DvcSource("flights", plain_repository.root, source="remote"))


def test_s3_remote_is_filled_again(
    remote_repository: Repository, moto_s3: S3Server, bucket: str, tmp_path: Path
) -> None:
    """Restored with its emptied S3 remote, every object is on the server and DVC has nothing to push."""
    tree, details = take(DvcSource("flights", remote_repository.root))
    before = keys(moto_s3, bucket)
    for key in before:
        put(moto_s3, bucket, key, None)
    DvcTarget("flights", tmp_path / "back", remote=details["remote"]).restore(details, tree)
    assert keys(moto_s3, bucket) == before
    assert "Everything is up to date" in Repository(tmp_path / "back").dvc("push")


def test_s3_remote_that_holds_anything_is_refused(
    remote_repository: Repository, moto_s3: S3Server, bucket: str, tmp_path: Path
) -> None:
    """A remote with objects is not written to, and nothing is left of the attempt."""
    tree, details = take(DvcSource("flights", remote_repository.root))
    before = keys(moto_s3, bucket)
    with pytest.raises(TargetNotEmpty, match="s3://"):
        DvcTarget("flights", tmp_path / "back", remote=details["remote"]).restore(details, tree)
    assert keys(moto_s3, bucket) == before
    assert not (tmp_path / "back").exists()


def test_failed_restore_takes_its_objects_back(
    remote_repository: Repository, moto_s3: S3Server, bucket: str, tmp_path: Path
) -> None:
    """What was sent to the server is removed when the restore fails after that."""
    tree, details = take(DvcSource("flights", remote_repository.root))
    for key in keys(moto_s3, bucket):
        put(moto_s3, bucket, key, None)
    with pytest.raises(IntegrityError):
        DvcTarget("flights", tmp_path / "back", remote=details["remote"]).restore(details | {"links": 9}, tree)
    assert keys(moto_s3, bucket) == {}
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
