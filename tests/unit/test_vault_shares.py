"""Recovery shares: any M of N make the key, fewer tell nothing, and every mistake with them is called by its name."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from muster.errors import UsageError
from muster.vault.shares import SPELLING, Share, combine, joined, share_out, split

KEY = X25519PrivateKey.from_private_bytes(bytes(range(32)))


def texts(threshold: int = 3, count: int = 5, key: X25519PrivateKey = KEY) -> list[str]:
    return [share.text for share in share_out(key, threshold, count)]


def test_the_published_test_case_of_the_scheme() -> None:
    """The one of draft-mcgrew-tss-03, section 9: two shares of ``test`` and a zero byte."""
    assert combine({1: bytes.fromhex("b9fa07e185"), 2: bytes.fromhex("f5409b4511")}) == b"test\x00"


@given(secret=st.binary(min_size=1, max_size=8), data=st.data())
@settings(max_examples=60, deadline=None)
def test_as_many_shares_as_are_needed_make_the_secret(secret: bytes, data: st.DataObject) -> None:
    """Whatever the secret, M and N, and whichever M or more are taken."""
    count = data.draw(st.integers(2, 12))
    threshold = data.draw(st.integers(2, count))
    shares = split(secret, threshold, count)
    taken = data.draw(st.lists(st.sampled_from(sorted(shares)), min_size=threshold, max_size=count, unique=True))
    assert combine({number: shares[number] for number in taken}) == secret


def test_every_byte_of_the_field_can_be_shared_at_255_places() -> None:
    """The arithmetic holds at the ends: all 256 bytes, the greatest number of shares, the last two of them."""
    secret = bytes(range(256))
    shares = split(secret, 2, 255)
    assert combine({number: shares[number] for number in (254, 255)}) == secret


def test_one_share_too_few_tells_nothing() -> None:
    """With one share of two, every secret byte is possible: for each there is a second share that makes it."""
    (value,) = split(b"\x2a", 2, 2)[1]
    assert {combine({1: bytes([value]), 2: bytes([other])}) for other in range(256)} == {bytes([n]) for n in range(256)}


def test_any_three_of_five_make_the_key() -> None:
    """All ten ways, typed in small letters and with spaces."""
    shares = texts()
    for chosen in combinations(shares, 3):
        typed = [text.lower().replace("-", " ") for text in chosen]
        assert joined(typed).private_bytes_raw() == KEY.private_bytes_raw()
    assert joined(shares).private_bytes_raw() == KEY.private_bytes_raw()


def test_a_share_says_what_it_is() -> None:
    """Which set, how many are needed of how many, its number; and a repr without its secret."""
    share = Share.read(texts()[3])
    assert (share.threshold, share.count, share.number) == (3, 5, 4)
    assert share.value.hex() not in repr(share)
    assert str(share.value) not in repr(share)


def test_too_few_shares_are_counted() -> None:
    """The message says how many are needed, and which are there."""
    one, two = texts()[1], texts()[1]
    with pytest.raises(UsageError, match=r"1 recovery share of set [0-9a-f]{10} \(number 2\) are too few: 3 of its 5"):
        joined([one])
    with pytest.raises(UsageError, match="no recovery share"):
        joined([])
    assert one != two


def test_the_same_share_twice_counts_once() -> None:
    """Two copies of one share are no second keeper."""
    first, second, *_ = texts()
    with pytest.raises(UsageError, match=r"2 recovery shares .* are too few"):
        joined([first, second, second.lower()])


def test_shares_of_two_sets_do_not_mix() -> None:
    """Both sets are named."""
    other = X25519PrivateKey.generate()
    with pytest.raises(UsageError, match=r"different sets: [0-9a-f]{10}, [0-9a-f]{10}"):
        joined([*texts()[:2], *texts(key=other)[2:]])


def test_two_makings_of_one_key_do_not_mix_unseen() -> None:
    """Shares made anew of the same key are on another polynomial; mixed, they do not make the key, and are refused."""
    with pytest.raises(UsageError, match="do not make its key"):
        joined([*texts()[:2], texts()[2]])
    with pytest.raises(UsageError, match="have the same number"):
        joined([texts()[0], texts()[0], texts()[1]])


@pytest.mark.parametrize("change", ["letter", "missing", "prefix", "sign"])
def test_a_mistyped_share_is_told_from_a_false_one(change: str) -> None:
    """A typing error is called one, and the share is not shown."""
    text = texts()[0]
    typed = {
        "letter": text[:-1] + ("A" if text[-1] != "A" else "B"),
        "missing": text[:-1],
        "prefix": text.removeprefix("MUSTER-"),
        "sign": text[:-1] + "1",
    }[change]
    with pytest.raises(UsageError, match="not a recovery share") as failure:
        joined([typed])
    assert text[20:40] not in str(failure.value)


@pytest.mark.parametrize(("threshold", "count"), [(1, 3), (0, 0), (4, 3), (2, 256)])
def test_shares_that_cannot_be_are_refused(threshold: int, count: int) -> None:
    """One share alone would be the key itself; more are needed than there are; more than bytes can number."""
    with pytest.raises(UsageError, match="cannot be"):
        share_out(KEY, threshold, count)


def test_a_share_that_contradicts_itself_is_refused() -> None:
    """Number 6 of 5, or a threshold of one, with a right checksum."""
    for numbers in ((3, 5, 6), (1, 5, 1), (6, 5, 1), (3, 5, 0)):
        with pytest.raises(UsageError, match="not a recovery share"):
            Share.read(SPELLING.write(bytes(5) + bytes(numbers) + bytes(32)))


@given(text=st.text(max_size=120))
@settings(max_examples=100, deadline=None)
def test_no_text_makes_the_reader_fail_otherwise(text: str) -> None:
    """Whatever is typed is a share or is called none."""
    with pytest.raises(UsageError):
        joined([text, SPELLING.prefix + text])


def test_shares_differ_from_making_to_making() -> None:
    """The polynomial is random: no share of one making is in another."""
    random.seed(1)
    first = set(texts())
    random.seed(1)
    assert not first & set(texts())
