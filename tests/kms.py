"""
Keys of AWS KMS in this process (moto).

It accepts any credentials, and there a key that is disabled or waits for its deletion still decrypts: none of that is proved on it.
"""

from __future__ import annotations

from typing import Any

import pytest

from muster.adapters.kms_keys import AwsKeys
from muster.vault.holders import KmsKey
from servers import S3Server

REGION = "eu-central-1"


class Kms:
    """An account with as many keys as a test needs."""

    def __init__(self, endpoint: str) -> None:
        import boto3

        self._client: Any = boto3.client("kms", region_name=REGION, endpoint_url=endpoint)

    def new_key(self) -> KmsKey:
        return KmsKey(self._client.create_key()["KeyMetadata"]["Arn"], AwsKeys())

    def destroy(self, key: KmsKey) -> None:
        """What is left when the waiting time of a deletion has ended: nothing."""
        from moto.kms.models import kms_backends

        del kms_backends[key.key.split(":")[4]][REGION].keys[key.key.rpartition("/")[2]]


@pytest.fixture
def kms(moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Kms:
    """The server in this process, where boto3 finds it."""
    for name, value in (("AWS_ACCESS_KEY_ID", "any"), ("AWS_SECRET_ACCESS_KEY", "any")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", moto_s3.endpoint)
    return Kms(moto_s3.endpoint)
