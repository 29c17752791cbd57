"""Keys of an MLflow server: whether they open what its store holds, and by what a restore knows them again."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from muster.adapters.mlflow_facts import SERVER_KEYS, Tables, values
from muster.domain.holdings import bounded, shown
from muster.errors import SourceInvalid

if TYPE_CHECKING:
    from sqlalchemy import Connection

KEYS = "keys.json"
"""The `Mark` of each key that the rows of a captured registry need and that was there; sealed as everything in a tree is."""
WEBHOOKS, GATEWAY = SERVER_KEYS.values()
Keys = Mapping[str, str]
"""Environment variable of the server to its value."""
_COST = {"n": 1 << 14, "r": 8, "p": 1, "dklen": 32}  # scrypt (RFC 7914), 16 MiB: a passphrase may be weak


@dataclass(frozen=True, slots=True)
class Mark:
    """
    By what a key is known again that is not kept itself.

    :param salt: hex, 16 random bytes
    :param scrypt: hex, of the key with this salt
    """

    salt: str
    scrypt: str

    @staticmethod
    def of(key: str, salt: bytes | None = None) -> Mark:
        """The mark of a key."""
        salt = salt or secrets.token_bytes(16)
        return Mark(salt.hex(), hashlib.scrypt(key.encode(), salt=salt, **_COST).hex())

    def fits(self, key: str) -> bool:
        """Whether it is of this key."""
        return secrets.compare_digest(self.scrypt, Mark.of(key, bytes.fromhex(self.salt)).scrypt)


def marks_of(needed: list[str], keys: Keys) -> dict[str, Mark]:
    """Marks of the keys that a store needs, as far as they are there."""
    return {name: Mark.of(keys[name]) for name in needed if name in keys}


def require_opening(connection: Connection, tables: Tables, keys: Keys) -> None:
    """
    Open every encrypted value with the key that would be kept for it, as MLflow does. What is opened is forgotten at once.

    :raises SourceInvalid: naming the key and whose values it does not open
    """
    for name, unopened in ((WEBHOOKS, _webhooks), (GATEWAY, _gateway)):
        if name in keys and (found := sorted(unopened(connection, tables, keys[name]))):
            raise SourceInvalid(
                f"the {name} that registry.server_keys names does not open what the store holds: {', '.join(bounded(found))}",
                "give the value that the MLflow server runs with; what no key opens any more, delete in MLflow or give it anew",
            )


def require_same_keys(marks: Mapping[str, Mark], keys: Keys) -> dict[str, str]:
    """
    Hold the keys of this place against those that the captured rows were encrypted with.

    :return: what is known of each: ``the same``, or ``not here``
    :raises SourceInvalid: if one is another: a server with it could not read what is restored
    """
    for name, mark in marks.items():
        if name in keys and not mark.fits(keys[name]):
            raise SourceInvalid(
                f"the {name} that registry.server_keys names here is not the one that the captured rows were encrypted with",
                "restore the configuration of the point: its secrets.json has the value. Give that, or take the reference away",
            )
    return {name: "the same" if name in keys else "not here" for name in sorted(marks)}


def _webhooks(connection: Connection, tables: Tables, key: str) -> Iterator[str]:
    from cryptography.fernet import Fernet, InvalidToken

    columns = ("webhook_id", "name", "secret", "deleted_timestamp")
    for id_, name, secret, deleted in list(values(connection, tables, "webhooks", columns)):
        if secret is None or deleted:
            continue
        try:
            Fernet(key).decrypt(str(secret).encode())
        except (InvalidToken, ValueError):
            yield f"webhook {shown(str(name))} ({id_})"


def _gateway(connection: Connection, tables: Tables, key: str) -> Iterator[str]:
    from mlflow.exceptions import MlflowException

    columns = ("secret_id", "secret_name", "encrypted_value", "wrapped_dek", "kek_version")
    openers: dict[Any, Callable[[bytes, bytes, str, str], None]] = {}
    for id_, name, sealed, wrapped, version in list(values(connection, tables, "secrets", columns)):
        try:
            if version not in openers:
                openers[version] = _opener(key, version)
            openers[version](bytes(sealed), bytes(wrapped), id_, name)
        except (MlflowException, TypeError):  # a part of it may be null
            yield f"gateway secret {shown(str(name))} ({id_})"


def _opener(key: str, version: int) -> Callable[[bytes, bytes, str, str], None]:
    """What opens secrets of one version of a passphrase; to derive its key takes MLflow half a second."""
    from mlflow.utils.crypto import KEKManager, _decrypt_secret

    manager = KEKManager(key, version)

    def opening(sealed: bytes, wrapped: bytes, id_: str, name: str) -> None:
        _decrypt_secret(sealed, wrapped, manager, id_, name)

    return opening
