"""What readers are fed: whole objects with something wrong, values that stand where others belong, and words under a good signature."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import reduce
from operator import getitem
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope

from muster.errors import MusterError
from muster.vault.envelope import SigningKey

Json = Any
DEADLINE = timedelta(seconds=5)
"""For one example: none is larger than some kilobytes, so whatever takes longer hangs."""


def bounded(examples: int) -> settings:
    """So many examples, the same in every run, each within `DEADLINE`."""
    return settings(
        max_examples=examples,
        derandomize=True,
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
    *("", ".", "..", "a/b", "/", "\0", "ü", "\ud800", "zz", "ab cd", "abc", "ab" * 32, "AB" * 32, "5", "9" * 5000, "nan"),
    *("2026-11-23T02:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-11-23T02:00:00Z", "2026-11-23"),
    *("verified", "suspect", "held", "released", "verification", "keys.add", "keys.test", "expire", "seal", "dataset"),
)
_DEEP = tuple(nested(depth) for depth in (30, 400, 960))
LEAVES = st.none() | st.sampled_from(_NUMBERS) | st.sampled_from(_WORDS) | st.integers() | st.text(max_size=6)
ANYTHING = (
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_WORDS), inner, max_size=3),
        max_leaves=6,
    )
    | st.sampled_from(_DEEP)
)
"""JSON that is of another type, too large, too deep, not in UTF-8, or almost right."""


def raw_json(data: Json) -> bytes:
    """JSON as somebody else may write it: NaN and lone surrogates included, sorted and without white space as ours."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode(errors="surrogatepass")


def places(data: Json, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in JSON data, but not far into what is deep."""
    inside = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for name, value in inside if len(way) < 20 else ():
        yield (*way, name)
        yield from places(value, (*way, name))


@st.composite
def altered(draw: st.DrawFn, whole: Json) -> Json:
    """A document with one to three values gone, doubled, added or replaced."""
    document = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        ways = list(places(document))
        if not ways:
            break
        *way, last = draw(st.sampled_from(ways))
        holder = reduce(getitem, way, document)
        how = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add"]))
        if how == "replace":
            holder[last] = copy.deepcopy(draw(ANYTHING))
        elif how == "remove":
            del holder[last]
        elif isinstance(holder, list):
            holder.insert(last, copy.deepcopy(draw(ANYTHING) if draw(st.booleans()) else holder[last]))
        else:
            holder[draw(st.sampled_from(_WORDS))] = copy.deepcopy(draw(ANYTHING))
    return document


@st.composite
def mutated(draw: st.DrawFn, whole: bytes) -> bytes:
    """Bytes with one to three places flipped, cut out, doubled, overwritten as a number would be, or slipped in."""
    data = whole
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        to = draw(st.integers(at, min(len(data), at + 64)))
        how = draw(st.sampled_from(["flip", "truncate", "cut", "double", "number", "insert", "digits"]))
        if how == "flip" and data:
            data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
        elif how == "truncate":
            data = data[:at]
        elif how == "number":
            size = draw(st.sampled_from([1, 4, 8]))
            data = data[:at] + draw(st.sampled_from([0, 1, 2 ** (8 * size) - 1])).to_bytes(size, "big") + data[at + size :]
        elif how == "digits":
            data = data[:at] + draw(st.sampled_from([b"0", b"-1", b"1" * 30, b"1e999", b"[" * 2000])) + data[to:]
        else:
            more = {"cut": b"", "double": data[at:to] * 2, "insert": draw(st.binary(max_size=9)) + data[at:to]}
            data = data[:at] + more.get(how, b"") + data[to:]
    return data


def documents(whole: Json) -> st.SearchStrategy[bytes]:
    """What may stand where a JSON document belongs: the document with values wrong, with bytes wrong, or anything at all."""
    words = st.just(whole) | altered(whole) | ANYTHING
    doubled = altered(whole).map(lambda one: raw_json(one)[:-1] + b"," + raw_json(whole)[1:])
    return words.map(raw_json) | altered(whole).map(raw_json) | mutated(raw_json(whole)) | doubled | st.binary(max_size=80)


def signed(signer: SigningKey, payload_type: str, payload: bytes) -> bytes:
    """An envelope over any bytes, as whoever has the private key can make it."""
    envelope = Envelope(payload, payload_type, {})
    envelope.sign(signer._signer)
    return raw_json(envelope.to_dict())


def ours(work: Callable[[], object]) -> object:
    """What a piece of work gives, or the error of ours with which it ended, which must be fit to be shown. Any other error comes out."""
    try:
        return work()
    except MusterError as error:
        str(error).encode(errors="backslashreplace")
        return error
