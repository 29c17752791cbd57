"""What readers are fed: whole objects with something wrong, values that stand where others belong, and words under a good signature."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import reduce
from operator import getitem
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, SSlibKey

from muster.errors import MusterError
from muster.vault.envelope import SigningKey

Json = Any
Value = TypeVar("Value")
DEADLINE = timedelta(seconds=10)
"""For one example: none is larger than some kilobytes, so whatever takes longer hangs."""


def bounded(examples: int) -> settings:
    """So many examples, the same in every run, each within `DEADLINE`."""
    return settings(
        max_examples=examples,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],  # a seed does not become simpler by being smaller
        deadline=DEADLINE,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def nested(depth: int) -> Json:
    """An empty list within lists."""
    found: Json = []
    for _ in range(depth):
        found = [found]
    return found


_NUMBERS = (0, -1, 1, True, 0.5, 1e308, 2**31, 2**32, 2**63, 2**64, -(2**63) - 1, 10**30, float("nan"), float("inf"))
_WORDS = (
    *(
        "",
        ".",
        "..",
        "a/b",
        "/",
        "\0",
        "ü",
        "\ud800",
        "zz",
        "ab cd",
        "abc",
        "ab" * 32,
        "AB" * 32,
        "5",
        "9" * 5000,
        "nan",
    ),
    *(
        "2026-11-23T02:00:00",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "2026-11-23T02:00:00Z",
        "2026-11-23",
    ),
    *("verified", "suspect", "held", "released", "verification", "keys.add", "keys.test", "expire", "seal", "dataset"),
)
_DEEP = (30, 400, 960, 3000)


MERGES = "a: &a {x: y, z: w}\n" + "".join(
    f"{name}: &{name} {{<<: [{','.join(['*' + before] * 9)}]}}\n"
    for before, name in zip("abcdef", "bcdefg", strict=True)
)
"""YAML of a kilobyte: mappings merged into mappings, nine each time, of which each has what the nine before have."""


def anything(chance: random.Random, depth: int = 0) -> Json:
    """JSON that is of another type, too large, too deep, not in UTF-8, or almost right."""
    kind = chance.randrange(9 if depth < 3 else 6)
    if kind < 2:
        return chance.choice(_NUMBERS)
    if kind < 5:
        return chance.choice(_WORDS)
    if kind == 5:
        return nested(chance.choice(_DEEP)) if chance.random() < 0.2 else None
    inner = [anything(chance, depth + 1) for _ in range(chance.randrange(4))]
    return inner if kind == 6 else {chance.choice(_WORDS): value for value in inner}


def raw_json(data: Json) -> bytes:
    """JSON as somebody else may write it: NaN, lone surrogates and any depth included, sorted and without white space as ours."""
    try:
        text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    except RecursionError:
        text = "[" * 3000 + "]" * 3000
    return text.encode(errors="surrogatepass")


def places(data: Json, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in JSON data, but not far into what is deep."""
    inside = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for name, value in inside if len(way) < 20 else ():
        yield (*way, name)
        yield from places(value, (*way, name))


def alter(whole: Json, chance: random.Random) -> Json:
    """A document with one to three values gone, doubled, added or replaced."""
    document = json.loads(json.dumps(whole))
    for _ in range(chance.randint(1, 3)):
        ways = list(places(document))
        if not ways:
            break
        *way, last = chance.choice(ways)
        holder = reduce(getitem, way, document)
        how = chance.choice(["replace", "replace", "replace", "remove", "add"])
        if how == "replace":
            holder[last] = anything(chance)
        elif how == "remove":
            del holder[last]
        elif isinstance(holder, list):
            holder.insert(last, anything(chance) if chance.random() < 0.5 else holder[last])
        else:
            holder[chance.choice(_WORDS)] = anything(chance)
    return document


def mutate(whole: bytes, chance: random.Random) -> bytes:
    """Bytes with one to three places flipped, cut out, doubled, overwritten as a number would be, or slipped in."""
    data = whole
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(max(1, len(data)))
        to = chance.randint(at, max(at, min(len(data), at + 64)))
        size = chance.choice([1, 4, 8])
        data = data[:at] + chance.choice(
            [
                bytes(byte ^ 1 << chance.randrange(8) for byte in data[at : at + 1]) + data[at + 1 :],
                b"",
                data[to:],
                data[at:to] * 2 + data[to:],
                chance.choice([0, 1, 2 ** (8 * size) - 1]).to_bytes(size, "big") + data[at + size :],
                chance.choice([b"0", b"-1", b"1" * 30, b"1e999", b"[" * 5000]) + data[to:],
                chance.randbytes(chance.randrange(9)) + data[at:],
            ]
        )
    return data


def by_chance(make: Callable[[random.Random], Value]) -> st.SearchStrategy[Value]:
    """What is made by chance. Hypothesis gives the seed alone: to choose each step by itself takes it longer than to read the result."""
    return st.integers(0, 2**63).map(lambda seed: make(random.Random(seed)))


ANYTHING = by_chance(anything)


def altered(whole: Json) -> st.SearchStrategy[Json]:
    """See `alter`."""
    return by_chance(lambda chance: alter(whole, chance))


def mutated(whole: bytes) -> st.SearchStrategy[bytes]:
    """See `mutate`."""
    return by_chance(lambda chance: mutate(whole, chance))


def wrong_document(whole: Json, chance: random.Random) -> bytes:
    """What may stand where a JSON document belongs: it with values wrong, with bytes wrong, with a key twice, or anything at all."""
    kind = chance.randrange(9)
    if kind < 5:
        return raw_json(alter(whole, chance))
    if kind < 7:
        return mutate(raw_json(whole), chance)
    if kind == 7:
        return raw_json(alter(whole, chance))[:-1] + b"," + raw_json(whole)[1:]
    return chance.choice(
        [raw_json(anything(chance)), raw_json(whole), chance.randbytes(chance.randrange(90)), b"[" * 200_000]
    )


def documents(whole: Json) -> st.SearchStrategy[bytes]:
    """See `wrong_document`."""
    return by_chance(lambda chance: wrong_document(whole, chance))


def signed(signer: SigningKey, payload_type: str, payload: bytes) -> bytes:
    """An envelope over any bytes, as whoever has the private key can make it."""
    envelope = Envelope(payload, payload_type, {})
    envelope.sign(CryptoSigner(signer.private, SSlibKey.from_crypto(signer.public, keyid=signer.fingerprint)))
    return raw_json(envelope.to_dict())


def ours(work: Callable[[], object]) -> object:
    """What a piece of work gives, or the error of ours with which it ended, which must be fit to be shown. Any other error comes out."""
    try:
        return work()
    except MusterError as error:
        str(error).encode(errors="backslashreplace")
        return error
