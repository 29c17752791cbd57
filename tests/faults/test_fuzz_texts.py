"""What people type and write: keys in letters, addresses, the secrets file, the catalog. Whatever it is, the answer is one of ours."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from catalog_files import FULL, write
from faults.fuzzing import MERGES, bounded, by_chance, mutate, ours
from muster.adapters.stores import open_store
from muster.catalog.durations import parse_duration
from muster.catalog.load import load_catalog
from muster.errors import CatalogError, MusterError, UsageError
from muster.secrets_file import SecretsFile
from muster.vault.holders import Passphrase, RecoveryKey, Shares, generate_recovery_key, kms_key_name, secret_of
from muster.vault.keys import MasterKey, ScryptCost
from muster.vault.shares import Share, joined, share_out
from muster.vault.slots import SlotMaker


def mutated_text(*whole: str) -> st.SearchStrategy[str]:
    """One of some texts with something wrong; what is no UTF-8 then is there as a terminal or a variable would give it."""

    def make(chance: random.Random) -> str:
        return mutate(chance.choice(whole).encode(errors="surrogatepass"), chance).decode(errors="surrogateescape")

    return by_chance(make) | st.text(max_size=30) | st.sampled_from(whole)


# --- keys -------------------------------------------------------------------------------------------------------------

PRIVATE = RecoveryKey(
    "MUSTER-RECOVERY-1-ICSM-7B67-GMGN-CSKY-DPPQ-7XUJ-OUZJ-XHPG-N22G-NENQ-6NAU-DEMW-KJAQ-4UKD"
).private()
SHARES = [share.text for share in share_out(PRIVATE, 2, 3)]


@given(mutated_text(generate_recovery_key().text, *SHARES, "kms:arn:aws:kms:eu:123456789012:key/x"), st.integers(0, 2))
@example("MUSTER-RECOVERY-1-" + "=" * 56, 0)
@example("ß" * 56, 0)
@bounded(250)
def test_any_text_is_a_key_or_mistyped(text: str, number: int) -> None:
    """As a recovery key, as a share beside genuine ones, and as whatever a key file may hold."""
    for read in (
        lambda: RecoveryKey(text).private(),
        lambda: Share.read(text),
        lambda: joined([text, *SHARES[:number]]),
        lambda: kms_key_name(text),
        lambda: secret_of(text, None),  # type: ignore[arg-type]
        lambda: secret_of(f"{text}\n{SHARES[number]}", None),  # type: ignore[arg-type]
    ):
        found = ours(read)
        assert not isinstance(found, MusterError) or isinstance(found, UsageError)


def test_shares_that_fit_together_make_the_key_whatever_is_tried_beside_them() -> None:
    """The genuine ones do, in any letters; so what is tried above does not fail for want of a whole one."""
    assert joined([SHARES[0].lower(), SHARES[2].replace("-", " ")]).private_bytes_raw() == PRIVATE.private_bytes_raw()
    assert isinstance(secret_of("\n".join(SHARES), None), Shares)  # type: ignore[arg-type]


@given(st.text(alphabet=st.characters(), max_size=9))
@example("\ud800")
@example("caf\udce9")
@bounded(60)
def test_any_words_can_be_a_passphrase_or_are_refused(text: str) -> None:
    """A terminal that is not in UTF-8 gives what no text holds."""
    maker = SlotMaker(MasterKey(bytes(32)), "0" * 32, "2026-11-23T02:00:00Z")
    found = ours(lambda: maker.passphrase("x", Passphrase(text), ScryptCost(n=16)))
    assert isinstance(found, bytes | UsageError)


# --- addresses --------------------------------------------------------------------------------------------------------


@given(
    mutated_text(
        *(
            "s3://KEY:SECRET@bucket/prefix?endpoint=https://host:9000&region=eu&lock=compliance&insecure=true",
            "file:///x%00y",
        ),
        *(
            "gs://KEY@bucket/prefix?endpoint=http://localhost:1&lock=governance",
            "s3://bucket?endpoint=http://[::1",
            "/x/y",
        ),
        *(
            "azure://KEY@account/container/prefix?endpoint=http://127.0.0.1:1/account",
            "s3://b\u2100cket?endpoint=//",
            "~/x",
        ),
    )
)
@example("s3://bucket?endpoint=http://[")
@example("s3://bucket?endpoint=http://host\u2100")
@example("~nobody-of-this-name/vault")
@example("/vault\0")
@example("file:///vault%00")
@example("/" + "x" * 5000)
@bounded(250)
def test_any_text_is_an_address_or_refused(text: str) -> None:
    """A store is made, or an error of ours says what an address looks like."""
    found = ours(lambda: open_store(text))
    if not isinstance(found, MusterError):
        assert isinstance(found.url, str)  # type: ignore[attr-defined]
        if not text.startswith(("s3:", "gs:", "azure:")):
            ours(lambda: list(found.list("points/")))  # type: ignore[attr-defined]


@given(mutated_text("30d", "90s", "1000000000000w"))
@bounded(100)
def test_any_text_is_a_duration_or_none(text: str) -> None:
    """Or a ValueError, which the catalog turns into a line of its error."""
    with contextlib.suppress(ValueError):
        assert parse_duration(text).total_seconds() > 0


# --- YAML -------------------------------------------------------------------------------------------------------------

LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n" for before, name in zip("abcdef", "bcdefg", strict=True)
)
ODD = (
    *(
        LAUGHS,
        MERGES,
        "a: &a [*a]",
        "[" * 5000,
        "{" * 5000,
        "a: " + "[" * 300 + "]" * 300,
        "- " * 5000,
        "? " * 3000,
        "\0",
        "\ud800",
    ),
    *(
        "a: !!int ''",
        "a: !!float ''",
        "a: !!bool x",
        "a: !!timestamp x",
        "a: !!python/object/apply:os.system [x]",
        "a: 2026-13-45",
    ),
    *(
        "a: !!binary x",
        "!!set {a, b}",
        "a: " + "9" * 5000,
        "a: 1" + ":1" * 3000,
        "<<: x",
        "? [a, b]\n: c",
        "a: !!null x",
        "%YAML 9.9\n---\na: b",
    ),
    *(
        "a: 0x",
        "a: 0b",
        "a: .inf",
        "a: 12:00:99.9",
        "--- a\n--- b",
        "a: b\na: c",
        "",
        "---",
        "x",
        "- a",
        "1: b",
        "a: 5",
    ),
)


SHORT = [odd for odd in ODD if len(odd) < 300]


@given(mutated_text("muster_vault: s3://bucket\nname: 'text'\n", "a: &a b\nc: *a\n", *SHORT))
@bounded(100)
def test_any_secrets_file_gives_texts_or_is_refused(text: str) -> None:
    """No value of it stands in an error, and none takes more time or memory than its bytes."""
    read_secrets(text)


@pytest.mark.parametrize("text", ODD)
def test_odd_yaml_is_no_secrets_file_or_one_of_texts(text: str) -> None:
    """Each of the shapes by which YAML is known to hurt."""
    read_secrets(text)


def read_secrets(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "secrets.yaml")
        path.write_bytes(text.encode(errors="surrogatepass"))
        path.chmod(0o600)
        found = ours(SecretsFile(path).check)
        assert isinstance(found, tuple | UsageError)


def assert_catalog_reads(file: Path, text: str) -> None:
    """Read the catalog with this text in one of its files."""
    whole = file.read_text()
    try:
        file.write_bytes(text.encode(errors="surrogatepass"))
        found = ours(lambda: load_catalog(file.parents[file.parent.name == "workloads"]))
        assert not isinstance(found, MusterError) or isinstance(found, CatalogError)
    finally:
        file.write_text(whole)


@pytest.mark.parametrize("name", ["vaults.yaml", "workloads/a.yaml"])
def test_any_catalog_is_read_or_its_lines_are_named(tmp_path: Path, name: str) -> None:
    """Odd YAML in the place of a file, in the place of a value, and good files with something wrong."""
    file = write(tmp_path, FULL) / name
    whole = file.read_text()
    lines = [number for number, line in enumerate(whole.splitlines()) if ": " in line]
    for odd in ODD:
        assert_catalog_reads(file, odd)

    @given(mutated_text(whole), st.sampled_from(lines), st.sampled_from(SHORT) | st.text(max_size=9))
    @bounded(40)
    def run(text: str, number: int, odd: str) -> None:
        assert_catalog_reads(file, text)
        replaced = whole.splitlines()
        replaced[number] = replaced[number].partition(": ")[0] + ": " + odd.removeprefix("a: ")
        assert_catalog_reads(file, "\n".join(replaced))

    run()
