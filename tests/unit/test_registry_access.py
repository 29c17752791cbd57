"""How buckets of artifacts are reached: what an address says, what the environment says, and what a server of ours is told."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from urllib.parse import quote

import pytest

from muster.adapters.azure_location import AzureLocation
from muster.adapters.gcs_location import GOOGLE, GcsLocation
from muster.adapters.mlflow_access import Access
from muster.errors import UsageError

CONNECTION = "AZURE_STORAGE_CONNECTION_STRING"


@pytest.fixture(autouse=True)
def nothing_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (CONNECTION, "AZURE_STORAGE_ACCESS_KEY", "STORAGE_EMULATOR_HOST", "MLFLOW_S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)


def test_a_folder_needs_nothing(tmp_path: Path) -> None:
    """Nor is anything of other clouds handed to its server."""
    assert Access.of("/data").environment(tmp_path) == {}


def test_a_key_of_google_goes_through_a_file_that_only_we_may_read(tmp_path: Path) -> None:
    """And wins over an emulator that our own environment names."""
    key = json.dumps({"type": "service_account", "private_key": "s3cret/+"})
    access = Access.of(f"gs://{quote(key, safe='')}@bucket/a/b?endpoint=https://private.example.org")
    assert access.gcs == GcsLocation("bucket", endpoint="https://private.example.org", key=key)
    assert "s3cret" not in repr(access)
    told = access.environment(tmp_path)
    file = Path(told["GOOGLE_APPLICATION_CREDENTIALS"])
    assert file.read_text() == key
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert told["STORAGE_EMULATOR_HOST"] == ""
    assert told["API_ENDPOINT_OVERRIDE"] == "https://private.example.org"


def test_an_emulator_of_google_is_found_as_its_client_finds_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By the address, else by the environment; without either it is Google's own."""
    assert Access.of("gs://bucket").gcs == GcsLocation("bucket")
    assert Access.of("gs://bucket").environment(tmp_path) == {"STORAGE_EMULATOR_HOST": ""}
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9/")
    found = GcsLocation("bucket", endpoint="http://127.0.0.1:9", anonymous=True)
    assert Access.of("gs://bucket").gcs == found
    assert Access.of("gs://anonymous@bucket").gcs == GcsLocation("bucket", anonymous=True)
    assert Access.of("gs://anonymous@bucket").environment(tmp_path) == {"STORAGE_EMULATOR_HOST": GOOGLE}


def test_an_account_is_found_as_mlflow_finds_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The address, then the connection string, then the key; the identity at last."""
    root = "wasbs://models@acct.blob.core.windows.net/a"
    assert Access.of(root).azure == AzureLocation("acct", "models")
    assert Access.of(root).environment(tmp_path) == {}
    monkeypatch.setenv("AZURE_STORAGE_ACCESS_KEY", "a2V5")
    assert Access.of(root).azure == AzureLocation("acct", "models", key="a2V5")
    elsewhere = root.replace("windows.net", "chinacloudapi.cn")
    endpoint = "https://acct.blob.core.chinacloudapi.cn"
    assert Access.of(elsewhere).azure == AzureLocation("acct", "models", endpoint=endpoint, key="a2V5")
    monkeypatch.setenv(
        CONNECTION, "DefaultEndpointsProtocol=https;AccountName=other;AccountKey=b2==;EndpointSuffix=x.org"
    )
    found = AzureLocation("other", "models", endpoint="https://other.blob.x.org", key="b2==")
    assert Access.of(root).azure == found
    assert Access.of("azure://a%2Fb@acct/models/p q").azure == AzureLocation("acct", "models", key="a/b")


def test_a_server_is_told_of_a_key_by_a_connection_string(tmp_path: Path) -> None:
    """Which wins over whatever else MLflow may find; the key is in no text of ours."""
    access = Access.of("azure://a%2Fb@acct/models?endpoint=http://127.0.0.1:9/acct")
    told = access.environment(tmp_path)
    assert told == {CONNECTION: "AccountName=acct;AccountKey=a/b;BlobEndpoint=http://127.0.0.1:9/acct"}
    assert "a/b" not in repr(access)


@pytest.mark.parametrize(
    ("root", "words"),
    [
        ("gs://bucket?lock=compliance", "no option 'lock'"),
        ("azure://acct/models?encryption_scope=x", "no option 'encryption_scope'"),
        ("azure://acct", "no container"),
        ("gs://@bucket", "no bucket"),
        ("gs://bucket?endpoint=http://elsewhere.example.org", "in the clear"),
        ("wasbs://models@acct.blob.core.windows.net/a?endpoint=x", "has no options"),
    ],
)
def test_an_address_that_is_wrong_is_refused(root: str, words: str) -> None:
    """Before anything is sent; an option that would do nothing is not taken in silence."""
    with pytest.raises(UsageError, match=words):
        Access.of(root)


def test_mlflow_cannot_be_sent_elsewhere_without_a_key(tmp_path: Path) -> None:
    """It reaches another server of Azure's protocol by a connection string alone."""
    with pytest.raises(UsageError, match="only with the key of its account"):
        Access.of("azure://acct/models?endpoint=https://private.example.org").environment(tmp_path)
