"""Addresses of vaults, and what may name an object."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.adapters.blob_keys import checked_key, is_key
from muster.adapters.bucket_store import BucketStore
from muster.adapters.local_store import LocalStore
from muster.adapters.object_store import S3Store
from muster.adapters.s3_location import Credentials, s3_location
from muster.adapters.stores import open_store
from muster.errors import UsageError

SEGMENTS = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}", fullmatch=True)


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("/srv/vault", "file:///srv/vault"),
        ("file:///srv/vault", "file:///srv/vault"),
        ("file:///srv/my%20vault", "file:///srv/my%20vault"),
        ("file://localhost/srv/vault", "file:///srv/vault"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/team/vault/", "s3://bucket/team/vault"),
        (
            "s3://AK:SE%2FCRET+@bucket/v?endpoint=http://127.0.0.1:9000&region=eu-west-1",
            "s3://bucket/v?endpoint=http://127.0.0.1:9000&region=eu-west-1",
        ),
        ("gs://bucket/team/vault/", "gs://bucket/team/vault"),
        ("gs://anonymous@bucket?endpoint=http://127.0.0.1:4443/", "gs://bucket?endpoint=http://127.0.0.1:4443"),
        ("gs://%7B%22SECRET%22%3A1%7D@bucket/v?lock=compliance&kms_key=projects%2Fp", "gs://bucket/v"),
        ("azure://account/vaults/team", "azure://account/vaults/team"),
        ("azure://SE%2FCRET%3D@account/vaults?lock=governance&encryption_scope=s", "azure://account/vaults"),
    ],
)
def test_an_address_leads_to_its_store(address: str, url: str) -> None:
    """Folders and buckets are told apart, and the shown address has no credentials."""
    store = open_store(address)
    assert store.url == url
    kinds = {"s3": S3Store, "gs": BucketStore, "azure": BucketStore}
    assert isinstance(store, kinds.get(address.partition("://")[0], LocalStore))
    assert repr(store).count("CRET") == 0


def test_a_relative_path_is_below_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path without a scheme is meant as a shell means it, also after somebody changes the folder."""
    monkeypatch.chdir(tmp_path)
    store = open_store("my-vault")
    monkeypatch.chdir("/")
    store.put("a", b"x")
    assert (tmp_path / "my-vault" / "a").read_bytes() == b"x"


def test_opening_makes_nothing(tmp_path: Path) -> None:
    """A mistyped address leaves no trace."""
    assert list(open_store(str(tmp_path / "typo")).list()) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "address",
    [
        "",
        "gopher://vault",
        "file://host/vault",
        "file://",
        "s3://",
        "s3:///prefix",
        "s3://bucket/a b",
        "s3://bucket/../up",
        "s3://bucket?endpiont=http://h:1",
        "s3://bucket?endpoint=h:1",
        "s3://bucket?endpoint=ftp://h:1",
        "s3://bucket?endpoint=http://AK:HIDDEN@h:1",
        "s3://bucket?lock=forever",
        "s3://bucket?sse=rot13",
        "s3://bucket?kms_key=mine",
        "s3://bucket?sse=AES256&kms_key=mine",
        "s3://bucket?insecure=yes",
        "s3://AK:HIDDEN@bucket?profile=mine",
        "s3://bucket#part",
        "s3://AK@bucket",
        "s3://AK:@bucket",
        "s3://:HIDDEN@bucket",
        "s3://AK:HIDDEN@",
        "s3://AK:HID/HIDDEN@bucket/prefix",
        "s3://AK/HIDDEN@bucket/prefix",
        "s3://AK:HIDDEN?HIDDEN@bucket/prefix",
        "s3://AK:HIDDEN#HIDDEN@bucket/prefix",
        "s3://AK:HIDDEN[@bucket",
        "gs://",
        "gs://Bucket",
        "gs://@bucket",
        "gs://bucket/../up",
        "gs://bucket?region=eu",
        "gs://bucket?lock=Locked",
        "gs://HID/HIDDEN@bucket",
        "gs://bucket?endpoint=https://HIDDEN@h:1",
        "azure://account",
        "azure://account/",
        "azure://account/UPPER",
        "azure://account/two--dashes",
        "azure://an-account/vaults",
        "azure://HID/HIDDEN==@account/vaults",
        "azure://HID?HIDDEN@account/vaults",
        "azure://account/vaults?region=eu",
        "azure://account/vaults?insecure=maybe",
    ],
)
def test_a_wrong_address_is_explained_without_its_secrets(address: str) -> None:
    """What is wrong is said in a sentence, with the right form as the hint; no part of a password is shown."""
    with pytest.raises(UsageError) as caught:
        open_store(address)
    assert caught.value.hint
    assert "HID" not in "".join(traceback.format_exception(caught.value, chain=True)).replace(repr(address), "")


@pytest.mark.parametrize("place", ["s3://bucket", "gs://bucket", "azure://account/vaults"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.0.1", "[::1]"])
def test_plain_http_stays_on_this_machine(place: str, host: str) -> None:
    """What is sent in the clear goes to loopback, or where the address says that it may."""
    assert open_store(f"{place}?endpoint=http://{host}:9000")
    for elsewhere in ("storage", "10.0.0.1", "localhost.example.org", "[2001:db8::1]"):
        address = f"{place}?endpoint=http://{elsewhere}:9000"
        with pytest.raises(UsageError, match="in the clear") as caught:
            open_store(address)
        assert "insecure=true" in caught.value.hint
        assert open_store(f"{address}&insecure=true")
        assert open_store(address, insecure=True)
        assert open_store(f"{address}&insecure=true", insecure=True)
        assert open_store(address.replace("http:", "https:"))


def test_consent_given_elsewhere_spoils_no_other_address(tmp_path: Path) -> None:
    """A folder has no transport, an address without options gets one, and a wrong option stays wrong."""
    assert open_store(str(tmp_path), insecure=True).url == tmp_path.as_uri()
    assert open_store(tmp_path.as_uri(), insecure=True).url == tmp_path.as_uri()
    assert open_store("s3://bucket?endpoint=https://s3.example.org", insecure=True)
    assert "insecure" not in open_store("azure://account/vaults", insecure=True).url
    with pytest.raises(UsageError, match="insecure=maybe"):
        open_store("azure://account/vaults?insecure=maybe", insecure=True)


def test_the_environments_endpoint_is_held_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data and locks go to one server: the one that the address names, or else the one that Amazon's own tools would take."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://s3.example.org")
    assert open_store("s3://bucket").url == "s3://bucket?endpoint=https://s3.example.org"
    assert "127.0.0.1" in open_store("s3://bucket?endpoint=http://127.0.0.1:9").url
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://s3.example.org")
    with pytest.raises(UsageError, match="in the clear"):
        open_store("s3://bucket")


@given(st.lists(SEGMENTS, min_size=1, max_size=6).map("/".join))
def test_segments_make_a_key(key: str) -> None:
    """All that the port allows, apart from a leading dot, is a key."""
    assert checked_key(key) == key


@given(st.text(max_size=30))
def test_a_key_stays_within_its_folder(text: str) -> None:
    """Whatever is a key is ASCII and names a file below the folder, at the place of its segments."""
    if is_key(text):
        assert text.isascii()
        assert Path("/v", text).resolve().parts[2:] == tuple(text.split("/"))
    else:
        with pytest.raises(UsageError):
            checked_key(text)


def test_a_key_has_an_end() -> None:
    """Names that a file system or S3 would refuse are refused here, the same in every store."""
    assert is_key("a" * 200)
    assert not is_key("a" * 201)
    assert is_key("/".join(["a" * 99] * 8))
    assert not is_key("/".join(["a" * 99] * 9))


def test_a_key_of_a_service_account_must_be_one() -> None:
    """What is no key is said when it is needed, without a word of it."""
    with pytest.raises(UsageError, match="no service account's") as caught:
        open_store("gs://HIDDEN@bucket").get("a")
    assert "HIDDEN" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("address", "environment", "known"),
    [
        ("s3://AK:SK@bucket", {}, True),
        ("s3://AK:SK@bucket", {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "t"}, True),
        ("s3://bucket", {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}, True),
        ("s3://bucket", {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "t"}, True),
        (
            "s3://bucket",
            {
                "AWS_ACCESS_KEY_ID": "a",
                "AWS_SECRET_ACCESS_KEY": "b",
                "AWS_SECURITY_TOKEN": "s",
                "AWS_SESSION_TOKEN": "t",
            },
            True,
        ),
        ("s3://bucket", {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_PROFILE": "other"}, False),
        ("s3://bucket?profile=other", {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}, False),
        ("s3://bucket", {"AWS_PROFILE": "other"}, False),
    ],
)
def test_credentials_at_hand_are_those_that_boto3_finds(
    address: str, environment: dict[str, str], known: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Address before environment, a token with its own keys only; what takes more than that to find is left to boto3."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    (tmp_path / "credentials").write_text("[other]\naws_access_key_id = c\naws_secret_access_key = d\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    location = s3_location(address)
    theirs = location.session().get_credentials().get_frozen_credentials()
    assert (location.keys_at_hand() is not None) == known
    given = Credentials(location)()
    assert (given["access_key_id"], given["secret_access_key"], given["token"]) == tuple(theirs)[:3]


@pytest.mark.parametrize(
    "environment",
    [
        {"AWS_ACCESS_KEY_ID": "a"},
        {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_CREDENTIAL_EXPIRATION": "2040-01-01T00:00:00Z"},
    ],
)
def test_half_credentials_and_those_that_expire_are_left_to_boto3(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It refuses the first, and watches the time of the second."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert s3_location("s3://bucket").keys_at_hand() is None
