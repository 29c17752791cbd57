"""Artifacts on S3, or on what speaks its language."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from muster.adapters.mlflow_artifacts import Artifact
from muster.adapters.mlflow_buckets import UPLOADS, Body, changed
from muster.adapters.mlflow_locations import Place
from muster.errors import SourceInvalid, StoreUnavailable

LARGEST_PUT = 5 * (1 << 30)
"""Bytes that S3 takes at once."""


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
            config=Config(
                connect_timeout=10,
                read_timeout=60,
                retries={"max_attempts": 4, "mode": "standard"},
                max_pool_connections=10 * UPLOADS,
            ),
        )


class S3Objects:
    """The objects below a root. The version of an object is its ETag."""

    def __init__(self, place: Place, access: S3Access) -> None:
        self.location = place.location
        self._bucket, self._prefix = place.in_bucket
        with self.errors():
            self._client = access.client()

    def list(self) -> Iterator[Artifact]:
        pages = self._client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix):
            for item in page.get("Contents", ()):
                written = int(item["LastModified"].timestamp() * 1_000_000_000)
                yield Artifact(item["Key"][len(self._prefix) :], int(item["Size"]), written, version=item["ETag"])

    def open(self, artifact: Artifact) -> Body:
        body: Body = self._client.get_object(
            Bucket=self._bucket, Key=self._prefix + artifact.path, IfMatch=artifact.version
        )["Body"]
        return body

    def put(self, path: str, file: Path, *, create: bool) -> None:
        if not create:
            self._client.upload_file(str(file), self._bucket, self._prefix + path)
            return
        if file.stat().st_size > LARGEST_PUT:
            raise SourceInvalid(
                f"{self.location}/{path} is larger than what S3 takes at once",
                "restore the point to a place of its own",
            )
        with file.open("rb") as body:
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + path, Body=body, IfNoneMatch="*")

    def remove(self, path: str) -> None:
        self._client.delete_object(Bucket=self._bucket, Key=self._prefix + path)

    @contextmanager
    def errors(self, path: str = "") -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        what = f"{self.location}/{path}" if path else self.location
        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in ("NoSuchKey", "404", "PreconditionFailed", "412"):
                raise changed(what, code) from None
            if code in ("NoSuchBucket", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403"):
                raise SourceInvalid(
                    f"{what} cannot be reached: {code}", "see bucket, endpoint and credentials"
                ) from None
            raise StoreUnavailable(f"{what}: the store answers {code}", "try again") from None
        except (BotoCoreError, Boto3Error) as error:
            said = type(error).__name__
            raise StoreUnavailable(f"{what} does not answer: {said}", "see endpoint and credentials") from None
