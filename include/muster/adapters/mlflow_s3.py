"""Artifact folders on S3, or on what speaks its language."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

from muster.adapters.mlflow_artifacts import Artifact, ArtifactFolder, LocalFolder
from muster.adapters.mlflow_locations import Place
from muster.domain.content import TreeEntry
from muster.errors import SourceChanged, SourceInvalid, StoreUnavailable
from muster.ports import TreeReader

BATCH_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class S3Access:
    """
    How S3 is reached: from ``s3://KEY:SECRET@bucket/prefix?endpoint=URL&region=NAME``, else as boto3 and MLflow find it.

    :param endpoint: URL of the service; ``MLFLOW_S3_ENDPOINT_URL`` where the root names none
    """

    key: str | None = None
    secret: str | None = None
    endpoint: str | None = None
    region: str | None = None

    @staticmethod
    def of(artifact_root: str) -> S3Access:
        parts = urlsplit(artifact_root)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        secret = parts.password
        return S3Access(
            unquote(parts.username) if parts.username else None,
            unquote(secret) if secret else None,
            query.get("endpoint") or os.environ.get("MLFLOW_S3_ENDPOINT_URL"),
            query.get("region"),
        )

    def __repr__(self) -> str:
        return f"S3Access(endpoint={self.endpoint!r})"

    def environment(self) -> dict[str, str]:
        """The same, as environment variables for a server of ours; empty values are left out."""
        named = {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "MLFLOW_S3_ENDPOINT_URL": self.endpoint,
            "AWS_DEFAULT_REGION": self.region,
        }
        return {name: value for name, value in named.items() if value}

    def client(self) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            region_name=self.region or ("us-east-1" if self.endpoint else None),
            config=Config(connect_timeout=10, read_timeout=60, retries={"max_attempts": 4, "mode": "standard"}),
        )


def open_folder(place: Place, access: S3Access) -> ArtifactFolder:
    """The root at a place."""
    return S3Folder(place, access) if place.base == "s3" else LocalFolder(Path(place.path))


@contextmanager
def s3_errors(what: str) -> Iterator[None]:
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in ("NoSuchKey", "404", "PreconditionFailed", "412"):
            raise SourceChanged(
                f"{what} is not there any more, or was replaced: {code}", "take the snapshot again"
            ) from None
        if code in ("NoSuchBucket", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403"):
            raise SourceInvalid(f"{what} cannot be reached: {code}", "see bucket, endpoint and credentials") from None
        raise StoreUnavailable(f"{what}: the store answers {code}", "try again") from None
    except (BotoCoreError, Boto3Error) as error:
        said = type(error).__name__
        raise StoreUnavailable(f"{what} does not answer: {said}", "see endpoint and credentials") from None


class S3Folder:
    """A root on S3, or on what speaks its language."""

    def __init__(self, place: Place, access: S3Access) -> None:
        self.location = place.location
        self.bucket, _, prefix = place.path.partition("/")
        self.prefix = f"{prefix}/" if prefix else ""
        self._received: list[str] = []
        with s3_errors(self.location):
            self.client = access.client()

    def below(self, named: Sequence[str]) -> Iterator[Artifact]:
        """One listing of the whole root: a request for each named folder would be far more of them."""
        wanted = set(named)
        for artifact in self._list():
            parts = artifact.path.split("/")
            if any("/".join(parts[:n]) in wanted for n in range(len(parts) + 1)):
                yield artifact

    def is_empty(self) -> bool:
        return next(self._list(), None) is None

    def _list(self) -> Iterator[Artifact]:
        with s3_errors(self.location):
            pages = self.client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix):
                for item in page.get("Contents", ()):
                    path = item["Key"][len(self.prefix) :]
                    if path and not path.endswith("/"):
                        written = int(item["LastModified"].timestamp() * 1_000_000_000)
                        yield Artifact(path, int(item["Size"]), written, version=item["ETag"])

    def open(self, artifact: Artifact) -> BinaryIO:
        what = f"{self.location}/{artifact.path}"
        with s3_errors(what):
            answer = self.client.get_object(
                Bucket=self.bucket, Key=self.prefix + artifact.path, IfMatch=artifact.version
            )
        return io.BufferedReader(_S3Stream(answer["Body"], what), 1 << 20)

    def unchanged(self, artifacts: Sequence[Artifact]) -> str | None:
        now = {a.path: a.version for a in self._list()}
        return next((f"{self.location}/{a.path}" for a in artifacts if now.get(a.path) != a.version), None)

    def receive(self, wanted: Sequence[tuple[TreeEntry, str]], tree: TreeReader) -> None:
        """Empty folders are left out: S3 has none."""
        files = [(entry, relative) for entry, relative in wanted if entry.kind == "file"]
        try:
            for batch in batches(files):
                with tempfile.TemporaryDirectory(prefix="muster-artifacts-") as scratch:
                    pairs = [(entry, Path(scratch) / relative) for entry, relative in batch]
                    tree.extract(pairs)
                    for (_, path), (_, relative) in zip(pairs, batch, strict=True):
                        with s3_errors(f"{self.location}/{relative}"):
                            self._received.append(relative)
                            self.client.upload_file(str(path), self.bucket, self.prefix + relative)
        except BaseException:
            self.give_back()
            raise

    def keep(self) -> None:
        self._received.clear()

    def give_back(self) -> None:
        for relative in self._received:
            with s3_errors(f"{self.location}/{relative}"):
                self.client.delete_object(Bucket=self.bucket, Key=self.prefix + relative)
        self._received.clear()


def batches(files: Sequence[tuple[TreeEntry, str]]) -> Iterator[list[tuple[TreeEntry, str]]]:
    """Slices of at most `BATCH_BYTES` (one larger file makes one of its own), so that the scratch folder stays small."""
    batch: list[tuple[TreeEntry, str]] = []
    held = 0
    for entry, relative in files:
        size = entry.content.size if entry.content else 0
        if batch and held + size > BATCH_BYTES:
            yield batch
            batch, held = [], 0
        batch.append((entry, relative))
        held += size
    if batch:
        yield batch


class _S3Stream(io.RawIOBase):
    """An object being read; what goes wrong on the way is an error of ours."""

    def __init__(self, body: Any, what: str) -> None:
        super().__init__()
        self._body, self._what = body, what

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with s3_errors(self._what):
            block = self._body.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._body.close()
        super().close()
