"""Where a vault in Azure Blob Storage is, and who we are there."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import get_args
from urllib.parse import unquote

from muster.adapters.addresses import Form, checked_transport
from muster.adapters.blob_keys import checked_prefix
from muster.errors import UsageError
from muster.ports import LockMode

AZURE_FORM = (
    "azure://account/container/prefix; the account's key, if not by the environment's credentials, as "
    "azure://KEY@account/container, percent-encoded (docs/stores.md has every option)"
)
_FORM = Form(
    kind="Azure",
    place="account",
    name=re.compile(r"[a-z0-9]{3,24}"),
    hint=AZURE_FORM,
    options={"endpoint", "lock", "encryption_scope", "insecure"},
)
_CONTAINER = re.compile(r"[a-z0-9](?:-?[a-z0-9]){2,62}")


@dataclass(frozen=True, slots=True)
class AzureLocation:
    """
    A container, how it is reached, and how blobs are written to it.

    :param account: name of the storage account
    :param prefix: what all keys begin with in the container, without a slash at either end; may be empty
    :param endpoint: address of a server that is not Azure's public cloud, with the account where that server wants it
    :param key: the account's access key; without: what the environment, the machine or ``az`` give, as azure.identity finds them
    :param lock: mode of the retentions that we set: Azure's ``Locked`` for compliance, ``Unlocked`` for governance
    :param encryption_scope: under which Azure encrypts new blobs; None leaves it to the container
    :param insecure: consent to send in the clear to another machine
    :raises UsageError: if these do not go together
    """

    account: str
    container: str
    prefix: str = ""
    endpoint: str | None = None
    key: str | None = field(default=None, repr=False)
    lock: LockMode = "governance"
    encryption_scope: str | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        checked_prefix(self.prefix)
        checked_transport(self.endpoint, insecure=self.insecure)

    @property
    def url(self) -> str:
        """The location without credentials."""
        path = f"/{self.prefix}" if self.prefix else ""
        return f"azure://{self.account}/{self.container}{path}" + (
            f"?endpoint={self.endpoint}" if self.endpoint else ""
        )

    @property
    def server(self) -> str:
        """The address to which requests go."""
        return self.endpoint or f"https://{self.account}.blob.core.windows.net"


def azure_location(url: str) -> AzureLocation:
    """
    The location of an address ``azure://[KEY@]account/container[/prefix][?option=value&…]``.

    :raises UsageError: if it is wrong; the message shows no credentials
    """
    address = _FORM.taken_apart(url)
    container, _, prefix = address.path.partition("/")
    if not _CONTAINER.fullmatch(container):
        raise UsageError(f"{address.what} has no container, or one that cannot be", f"use {AZURE_FORM}")
    endpoint = address.options.get("endpoint")
    return AzureLocation(
        address.place,
        container,
        prefix,
        endpoint=endpoint.rstrip("/") if endpoint else None,
        key=None if address.credentials is None else unquote(address.credentials),
        lock=address.one_of("lock", get_args(LockMode)) or "governance",
        encryption_scope=address.options.get("encryption_scope"),
        insecure=address.one_of("insecure", ("true", "false")) == "true",
    )
