"""What bytes look like, and which changes look like ransomware."""

from __future__ import annotations

import base64
import bz2
import gzip
import lzma
import random
import struct
from dataclasses import replace
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.domain.anomaly import HISTORY, Limits, Profile, judge
from muster.domain.formats import entropy, format_of, noise_entropy
from vaults import noise

ROWS = b"".join(b'{"flight": %d, "delay": %d, "carrier": "UA"}\n' % (n, n * 7 % 61) for n in range(400))
QUIET = Profile(1000, 10_000, 1000, 10_000)
NIGHTLY = replace(QUIET, changed=100, lost=100, lost_size=1000, formats_lost={"text": 32}, formats_new={"text": 32})
ENCRYPTED = replace(QUIET, changed=900, lost=900, lost_size=9000, formats_lost={"text": 32}, formats_new={"noise": 32})
DELETED = replace(QUIET, files=200, removed=800, removed_size=8000, lost=800, lost_size=8000, formats_lost={"text": 32})


def share(profile: Profile, percent: int, **formats: dict[str, int]) -> Profile:
    """The same profile with so many files in a hundred lost."""
    return replace(profile, lost=10 * percent, lost_size=100 * percent, changed=10 * percent, **formats)


def look(data: bytes) -> str:
    return format_of(data[: 16 * 1024], data[-16 * 1024 :])


# --- formats ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [128, 1000, 4096, 300_000])
def test_random_bytes_are_noise_at_any_length(size: int) -> None:
    """Nearly all of them: entropy counted in few bytes is lower, and so is what is asked for."""
    assert sum(look(noise(size, seed)) == "noise" for seed in range(200)) >= 190


@pytest.mark.parametrize("symbols", [64, 256])
def test_the_entropy_that_is_expected_of_noise_is_what_is_found(symbols: int) -> None:
    """The formula agrees with the mean of made-up noise to two hundredths of a bit."""
    for size in (70, 500, 5000):
        found = mean(entropy(bytes(random.Random(seed).choices(range(symbols), k=size))) for seed in range(200))
        assert noise_entropy(size, symbols) == pytest.approx(found, abs=0.02)


def test_what_people_keep_in_datasets_is_not_noise() -> None:
    """Text, tables of numbers, compressed files: each is known for what it is, or at least not taken for noise."""
    chance = random.Random(1)
    normal = [chance.gauss(0, 1) for _ in range(4096)]
    assert look(ROWS) == look("Wörter, ωορδς, 言葉\n".encode() * 2000) == look(b"x") == "text"
    assert look(gzip.compress(ROWS * 50)) == "gzip"
    assert look(bz2.compress(ROWS * 50)) == "bzip2"
    assert look(lzma.compress(ROWS * 50)) == "xz"
    assert look(struct.pack("<4096d", *normal)) == look(struct.pack("<4096f", *normal)) == "other"
    assert look(b"\0" * 5000) == look(b"") == "blank"


def test_a_character_that_is_cut_at_an_end_leaves_text_text() -> None:
    """A window need not begin or end where a character does."""
    text = "言葉" * 20
    for cut in range(1, 6):
        assert format_of(text.encode()[:-cut], text.encode()[cut:]) == "text"


def test_encryption_shows_however_it_is_dressed() -> None:
    """As it is, in Base64, after a beginning that was left as it was, and every other piece of 16 bytes."""
    secret = noise(len(ROWS), 5)
    partly = b"".join((secret if n % 32 else ROWS)[n : n + 16] for n in range(0, len(ROWS), 16))
    assert look(secret) == "noise"
    assert look(base64.b64encode(secret)) == "coded text"
    assert format_of(ROWS, secret) == "noise"
    assert look(partly) not in ("text", "blank")


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes_have_a_format(head: bytes, tail: bytes) -> None:
    """Whatever an attacker puts there, it is named and nothing fails."""
    assert format_of(head, tail)


# --- the judge --------------------------------------------------------------------------------------------------------


def test_a_quiet_night_and_a_usual_one_pass() -> None:
    """Nothing changed, or text became other text."""
    for night in (QUIET, NIGHTLY, share(NIGHTLY, 100)):
        assert judge(night, [], Limits()) == judge(night, [QUIET] * 20, Limits()) == []


def test_noise_where_text_was_is_told_with_numbers() -> None:
    """No history is needed, and none excuses it."""
    for history in ([], [NIGHTLY] * 20):
        (line,) = judge(ENCRYPTED, history, Limits())
        assert line == "90.0% became noise (900 files lost their content; looked at: before 32 text, now 32 noise)"


def test_what_was_noise_before_may_be_noise_again() -> None:
    """A dataset that is kept encrypted, or is random by nature, is replaced without an alarm."""
    same = replace(ENCRYPTED, formats_lost={"noise": 30, "text": 2})
    assert judge(same, [], Limits()) == []


def test_creeping_encryption_adds_up() -> None:
    """Half a percent a night is nothing yet; the third night is too much, and says since when."""
    night = replace(share(NIGHTLY, 1, formats_new={"noise": 10}), lost=4, lost_size=40)
    assert judge(night, [], Limits()) == []
    assert judge(night, [QUIET, night], Limits()) == []
    (line,) = judge(night, [night, night], Limits())
    assert "1.2% in the last 3 points" in line
    assert judge(QUIET, [night] * 9, Limits()) == []
    assert judge(night, [night, night, *[QUIET] * HISTORY], Limits()) == []


def test_other_formats_are_suspect_only_where_half_became_so() -> None:
    """Converting a tenth of the files is work; converting nine tenths at once is a decision, and somebody has to stand for it."""
    archives = {"formats_new": {"zip": 32}}
    assert judge(share(NIGHTLY, 10, **archives), [], Limits()) == []
    (line,) = judge(share(NIGHTLY, 90, **archives), [], Limits())
    assert line.startswith("90.0% became other formats")


def test_half_of_a_dataset_gone_is_suspect_unless_that_is_usual() -> None:
    """A dataset that grows and shrinks every week does not alarm each time; one that never did, does."""
    assert judge(DELETED, [], Limits()) == ["80.0% is gone (800 of 1000 files, 0 came)"]
    assert judge(DELETED, [QUIET] * 20, Limits())
    assert judge(DELETED, [QUIET, DELETED] * 10, Limits()) == []
    assert judge(DELETED, [QUIET] * 19 + [DELETED], Limits())


def test_what_always_changes_wholly_alarms_only_when_it_turns() -> None:
    """All new names and contents each night: nothing to say; the night when they are noise: everything."""
    rotating = replace(share(NIGHTLY, 100), changed=0, removed=1000, removed_size=10_000, added=1000, added_size=10_000)
    assert judge(rotating, [], Limits()) == judge(rotating, [rotating] * 20, Limits()) == []
    assert judge(replace(rotating, formats_new={"noise": 32}), [rotating] * 20, Limits())
    assert judge(replace(rotating, formats_new={"zip": 32}), [rotating] * 20, Limits())


def test_single_files_of_many_may_become_anything() -> None:
    """One file of a hundred that is encrypted on purpose is no attack; the one file that holds nearly all bytes is."""
    one = Profile(
        100, 1000, 100, 1000, changed=1, lost=1, lost_size=10, formats_lost={"text": 1}, formats_new={"noise": 1}
    )
    assert judge(one, [], Limits()) == []
    assert judge(replace(one, lost_size=900), [], Limits())
    assert judge(replace(one, files_before=1, size_before=10), [], Limits())


counts = st.integers(0, 1000)
formats = st.none() | st.dictionaries(st.sampled_from(["noise", "text", "zip", "other"]), st.integers(1, 32))
profiles = st.builds(Profile, *[counts] * 4, *[counts] * 8, formats, formats)


@given(profiles, st.lists(profiles, max_size=5))
def test_any_numbers_are_judged(now: Profile, history: list[Profile]) -> None:
    """No division by zero, and every share lies between nothing and all."""
    judge(now, history, Limits())
    assert all(0 <= share <= 1.000001 for share in (now.spoiled, now.converted, now.shrunk))


@given(profiles, st.lists(profiles, max_size=5))
def test_nothing_lost_is_nothing_to_judge(now: Profile, history: list[Profile]) -> None:
    """Whatever is added, in whichever format, an alarm needs a loss."""
    harmless = replace(now, lost=0, lost_size=0, removed=0, removed_size=0)
    assert judge(harmless, history, Limits()) == []
