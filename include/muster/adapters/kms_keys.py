"""AWS KMS as a key service: what is sealed under one of its keys can be opened only by asking it, and it logs who asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from muster.adapters.addresses import in_the_clear
from muster.errors import MusterError, Refused, StoreUnavailable, UsageError

_NOT_OURS = ("InvalidCiphertextException", "IncorrectKeyException", "InvalidKeyUsageException")
_BUSY = ("ThrottlingException", "KMSInternalException", "DependencyTimeoutException", "LimitExceededException")


class AwsKeys:
    """
    A `KeyService` over AWS KMS. Credentials and endpoint are those that boto3 finds; the region is that of the key.

    Requests are retried by boto3 alone, three times.
    """

    def seal(self, key: str, secret: bytes, context: Mapping[str, str]) -> bytes:
        """See `KeyService.seal`: KMS's Encrypt."""
        answer = _asked(
            key, lambda client: client.encrypt(KeyId=key, Plaintext=secret, EncryptionContext=dict(context))
        )
        if answer is None:
            raise Refused(f"the KMS key {key} does not encrypt", "name a symmetric key for encryption and decryption")
        return bytes(answer["CiphertextBlob"])

    def open(self, key: str, sealed: bytes, context: Mapping[str, str]) -> bytes | None:
        """See `KeyService.open`: KMS's Decrypt."""
        answer = _asked(
            key, lambda client: client.decrypt(KeyId=key, CiphertextBlob=sealed, EncryptionContext=dict(context))
        )
        return bytes(answer["Plaintext"]) if answer else None


def _asked(key: str, request: Callable[[Any], dict[str, Any]]) -> dict[str, Any] | None:
    """The answer of KMS; None if what was sent is not of this key and context."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        settings = Config(retries={"total_max_attempts": 3, "mode": "standard"}, connect_timeout=10, read_timeout=30)
        client = boto3.client("kms", region_name=key.split(":")[3], config=settings)
        _require_tls(client.meta.endpoint_url)
        return request(client)
    except ClientError as error:
        if str(error.response.get("Error", {}).get("Code")) in _NOT_OURS:
            return None
        raise _failure(key, error.response) from error
    except NoCredentialsError as error:
        raise Refused(
            f"no AWS credentials were found to use the KMS key {key}", "set them as for the AWS command line"
        ) from error
    except BotoCoreError as error:
        raise StoreUnavailable(
            f"AWS KMS did not answer for the key {key}: {error}", "check network and region; trying again may help"
        ) from error


def _require_tls(endpoint: str) -> None:
    """
    The key that opens a vault goes over this connection, so there is no consent to have it in the clear.

    :raises UsageError: if the environment or a profile names an endpoint without TLS on another machine
    """
    if in_the_clear(endpoint):
        raise UsageError(
            f"the key of a vault would be sent to AWS KMS at {endpoint} in the clear",
            "give an https:// address in AWS_ENDPOINT_URL_KMS, AWS_ENDPOINT_URL or endpoint_url of the AWS profile",
        )


def _failure(key: str, response: Any) -> MusterError:
    """What KMS's own word for a failure means: that asking again may help, or that somebody must change something."""
    found = response.get("Error", {})
    code, message = str(found.get("Code")), str(found.get("Message"))
    if code in _BUSY or response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500:
        return StoreUnavailable(f"AWS KMS could not use the key {key} now: {code}", "try again in a moment")
    return Refused(
        f"AWS KMS did not let us use the key {key}: {code}: {message}",
        "ask for kms:Encrypt and kms:Decrypt on it, and see that it is enabled and not scheduled for deletion",
    )
