"""
Recovery shares: M of N pieces of one X25519 private key, for people who open a vault only together.

Shamir's scheme ("How to share a secret", CACM 22(11), 1979), byte by byte over GF(256) with the polynomial of AES (x^8 + x^4 + x^3 +
x + 1), the secret at x = 0, shares at x = 1 … N, as in draft-mcgrew-tss-03. M - 1 shares tell nothing about the key. The arithmetic has
no table and no branch on a secret, but Python promises no constant time: combine shares on a machine that you trust.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import xor

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from muster.errors import UsageError
from muster.vault.letters import Spelling

MOST_SHARES = 255
SET_BYTES = 5
SPELLING = Spelling("recovery share", "MUSTER-SHARE-1", SET_BYTES + 3 + 32, 5, b"muster recovery share v1")


@dataclass(frozen=True, slots=True)
class Share:
    """
    One piece of a key.

    :param set: which key it is a piece of: the first bytes of SHA-256(``muster share set v1`` ‖ its public key)
    :param threshold: how many pieces make the key
    :param count: how many pieces were made
    :param number: which of them this is, from 1
    """

    set: bytes
    threshold: int
    count: int
    number: int
    value: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """The piece as its keeper gets it."""
        return SPELLING.write(self.set + bytes((self.threshold, self.count, self.number)) + self.value)

    @staticmethod
    def read(text: str) -> Share:
        """
        A piece as it was typed.

        :raises UsageError: if it has a typing error
        """
        raw = SPELLING.read(text)
        threshold, count, number = raw[SET_BYTES : SET_BYTES + 3]
        if not (1 < threshold <= count and 1 <= number <= count):
            raise SPELLING.mistyped(f"it says that it is number {number} of {count}, of which {threshold} are needed")
        return Share(raw[:SET_BYTES], threshold, count, number, raw[SET_BYTES + 3 :])


def share_out(private: X25519PrivateKey, threshold: int, count: int) -> list[Share]:
    """
    Cut a private key into shares.

    :raises UsageError: unless 2 <= threshold <= count <= 255
    """
    if not 2 <= threshold <= count <= MOST_SHARES:
        raise UsageError(
            f"{threshold} of {count} shares cannot be",
            f"let 2 or more be needed, of as many or more, of {MOST_SHARES} at most; for one keeper add a recovery key",
        )
    values = split(private.private_bytes_raw(), threshold, count)
    return [Share(set_id(private), threshold, count, number, value) for number, value in values.items()]


def joined(texts: Sequence[str]) -> X25519PrivateKey:
    """
    The private key of which these are shares.

    :raises UsageError: if one is mistyped, they are of several sets, too few, contradict each other, or do not make the key of their set
    """
    shares = [Share.read(text) for text in texts]
    sets = {(share.set, share.threshold, share.count) for share in shares}
    if len(sets) > 1:
        names = ", ".join(sorted({share.set.hex() for share in shares}))
        raise UsageError(
            f"these recovery shares are of different sets: {names}", "only shares of one set belong together"
        )
    values = {share.number: share.value for share in shares}
    if any(values[share.number] != share.value for share in shares):
        raise UsageError(
            "two different recovery shares have the same number", "one of them is not genuine: find out which"
        )
    first = shares[0] if shares else None
    if first is None or len(values) < first.threshold:
        raise _too_few(first, values)
    private = X25519PrivateKey.from_private_bytes(combine(values))
    if set_id(private) != first.set:
        raise UsageError(
            f"the recovery shares {_numbers(values)} of set {first.set.hex()} do not make its key",
            "one of them is not genuine: try other shares of the set",
        )
    return private


def set_id(private: X25519PrivateKey) -> bytes:
    """What all shares of a key have in common."""
    return hashlib.sha256(b"muster share set v1" + private.public_key().public_bytes_raw()).digest()[:SET_BYTES]


def split(secret: bytes, threshold: int, count: int) -> dict[int, bytes]:
    """The values at 1 … count of one random polynomial a byte, of degree threshold - 1, whose value at 0 is the byte."""
    polynomials = [(byte, *secrets.token_bytes(threshold - 1)) for byte in secret]
    return {x: bytes(_value(polynomial, x) for polynomial in polynomials) for x in range(1, count + 1)}


def combine(values: Mapping[int, bytes]) -> bytes:
    """The values at 0 of the polynomials through these points, by Lagrange's formula."""
    weights = {x: _weight(x, values) for x in values}
    columns = zip(*values.values(), strict=True)
    return bytes(
        reduce(xor, (_times(y, weights[x]) for x, y in zip(values, column, strict=True))) for column in columns
    )


def _weight(x: int, points: Mapping[int, bytes]) -> int:
    weight = 1
    for other in points:
        if other != x:
            weight = _times(weight, _times(other, _inverse(other ^ x)))
    return weight


def _value(polynomial: Sequence[int], x: int) -> int:
    value = 0
    for coefficient in reversed(polynomial):
        value = _times(value, x) ^ coefficient
    return value


def _times(a: int, b: int) -> int:
    product = 0
    for bit in range(8):
        product ^= a * (b >> bit & 1)
        a = (a << 1) ^ (0x11B * (a >> 7))
    return product


def _inverse(a: int) -> int:
    """a to the power of 254, which is its inverse, since every power of 255 is 1."""
    inverse, power = 1, a
    for _ in range(7):
        power = _times(power, power)
        inverse = _times(inverse, power)
    return inverse


def _too_few(share: Share | None, values: Mapping[int, bytes]) -> UsageError:
    if share is None:
        return UsageError("no recovery share was given", "give as many as the set needs")
    return UsageError(
        f"{len(values)} recovery share{'s' if len(values) > 1 else ''} of set {share.set.hex()} "
        f"(number {_numbers(values)}) are too few: {share.threshold} of its {share.count} are needed",
        f"find {share.threshold - len(values)} more of the same set",
    )


def _numbers(values: Mapping[int, bytes]) -> str:
    return ", ".join(str(number) for number in sorted(values))
