"""Keys as people keep them: letters in groups of four after a prefix, with a checksum that tells a typing error from a wrong key."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from muster.errors import UsageError

_GROUP = 4


@dataclass(frozen=True, slots=True)
class Spelling:
    """
    How one kind of key is written: Base32 (RFC 4648) of its bytes and the first bytes of a SHA-256 over them.

    :param what: its name, for messages
    :param size: bytes of the key; with the checksum a multiple of five, so that no padding is needed
    :param label: goes into the checksum, so that no kind is taken for another
    """

    what: str
    prefix: str
    size: int
    checksum: int
    label: bytes

    def write(self, raw: bytes) -> str:
        """The letters of a key."""
        letters = base64.b32encode(raw + self._checksum_of(raw)).decode()
        groups = [letters[start : start + _GROUP] for start in range(0, len(letters), _GROUP)]
        return "-".join([self.prefix, *groups])

    def read(self, text: str) -> bytes:
        """
        The bytes of a key. Case, spaces and hyphens do not matter.

        :raises UsageError: if it has a typing error; the message does not show it
        """
        joined = "".join(text.upper().replace("-", "").split())
        prefix = self.prefix.replace("-", "")
        if not joined.startswith(prefix):
            raise self.mistyped(f"it does not begin with {self.prefix}")
        letters, wanted = joined.removeprefix(prefix), (self.size + self.checksum) * 8 // 5
        if len(letters) != wanted:
            raise self.mistyped(f"it has {len(letters)} letters after {self.prefix} instead of {wanted}")
        try:
            raw = base64.b32decode(letters)
        except ValueError:
            raise self.mistyped("it has signs other than A-Z and 2-7") from None
        if self._checksum_of(raw[: self.size]) != raw[self.size :]:
            raise self.mistyped("its checksum is wrong")
        return raw[: self.size]

    def mistyped(self, why: str) -> UsageError:
        """The error of a text that is no such key."""
        return UsageError(f"this is not a {self.what}: {why}", "type all of its groups as they were shown")

    def _checksum_of(self, raw: bytes) -> bytes:
        return hashlib.sha256(self.label + raw).digest()[: self.checksum]
