"""Addresses of MLflow servers: what they may say, and that nothing of their secrets is ever shown."""

from __future__ import annotations

import base64

import pytest

from muster.adapters.mlflow_rest_api import RestServer
from muster.adapters.mlflow_rest_artifacts import upload_root
from muster.adapters.mlflow_rest_ids import IdMap
from muster.adapters.mlflow_rest_reading import Holder, abandoned, number, plain
from muster.errors import SourceInvalid, UsageError


def test_address_is_taken_apart() -> None:
    """User and password go into a header, whatever characters they have; the address that is left holds neither."""
    server = RestServer.parse("https://ada:p%40ss%2Fw%3A@mlflow.example.org:8443/team/")
    assert server.url == "https://mlflow.example.org:8443/team"
    assert server.authorization == "Basic " + base64.b64encode(b"ada:p@ss/w:").decode()
    assert RestServer.parse("https://mlflow.example.org", "t0ken").authorization == "Bearer t0ken"
    assert RestServer.parse("http://127.0.0.1:5000").authorization is None
    assert "p@ss" not in repr(server)
    assert "p%40ss" not in repr(server)


def test_nothing_goes_in_the_clear_without_consent() -> None:
    """Plain http reaches this machine only, unless the address or the caller says that the network is trusted."""
    with pytest.raises(UsageError, match="in the clear"):
        RestServer.parse("http://mlflow.example.org", "t0ken")
    for server in (
        RestServer.parse("http://mlflow.example.org?insecure=true"),
        RestServer.parse("http://mlflow.example.org", insecure=True),
    ):
        assert server.url == "http://mlflow.example.org"


@pytest.mark.parametrize(
    "address",
    [
        "sqlite:////tmp/s3cret.db",
        "https://",
        "https://s3cret@mlflow.example.org",
        "https://ada:@mlflow.example.org",
        "https://ada:s3c/ret@mlflow.example.org",
        "https://s3c:123/ret@mlflow.example.org",
        "https://mlflow.example.org?pass=s3cret",
        "https://mlflow.example.org#s3cret",
    ],
)
def test_wrong_address_is_refused_and_not_shown(address: str) -> None:
    """Nobody can tell which part of a broken address is the secret."""
    with pytest.raises(UsageError) as caught:
        RestServer.parse(address)
    assert "s3c" not in str(caught.value)


def test_password_and_token_contradict_each_other() -> None:
    """One of the two would be ignored."""
    with pytest.raises(UsageError, match="token") as caught:
        RestServer.parse("https://ada:s3cret@mlflow.example.org", "t0ken")
    assert "s3cret" not in str(caught.value)
    assert "t0ken" not in str(caught.value)


def test_foreign_words_are_shown_without_secrets() -> None:
    """A server may repeat what it was sent."""
    server = RestServer.parse("https://ada:s3cret@mlflow.example.org")
    said = f"denied: s3cret, {base64.b64encode(b'ada:s3cret').decode()}"
    assert "s3cret" not in server.without_secrets(said)
    assert base64.b64encode(b"ada:s3cret").decode() not in server.without_secrets(said)


def test_numbers_that_json_lacks_have_words() -> None:
    """Those of protobuf, whichever way a server writes them; keyed lists have one order, other lists keep theirs."""
    assert [number(float(x)) for x in ("nan", "inf", "-inf", "1e-300")] == ["NaN", "Infinity", "-Infinity", 1e-300]
    assert number("NaN") == "NaN"
    assert plain({"metrics": [{"key": "b", "value": float("nan")}, {"key": "a", "value": 1}], "other": [2, 1]}) == {
        "metrics": [{"key": "a", "value": 1}, {"key": "b", "value": "NaN"}],
        "other": [2, 1],
    }


def test_sources_of_versions_are_mapped() -> None:
    """By run, by logged model, by place, by another version; a copy of one that is gone points to the files themselves."""
    ids = IdMap({"1": "7"}, {"old": "new"}, {"m-old": "m-new"})
    ids.holders["runs", "old"] = Holder("runs", "new", "mlflow-artifacts:/7/new/artifacts", "", None)
    run = {"kind": "runs", "id": "old", "below": "net/best"}
    model = {"kind": "logged_models", "id": "m-old", "below": ""}
    there = {"a/1"}

    def mapped(source: str, held: dict[str, str] | None) -> str:
        return ids.version_source({"source": source}, held, there)

    assert mapped("runs:/old/net/best", run) == "runs:/new/net/best"
    assert mapped("models:/m-old", model) == "models:/m-new"
    assert mapped("mlflow-artifacts:/1/old/artifacts/net/best", run) == "mlflow-artifacts:/7/new/artifacts/net/best"
    assert mapped("s3://elsewhere/old/net/best", run) == "mlflow-artifacts:/7/new/artifacts/net/best"
    assert mapped("models:/a/1", run) == "models:/a/1"
    assert mapped("models:/a/2", run) == "mlflow-artifacts:/7/new/artifacts/net/best"
    assert mapped("dummy-source", None) == "dummy-source"


def test_artifacts_go_only_to_a_server_that_passes_them_on() -> None:
    """A location that the server itself would have to be told to write to is refused."""
    assert upload_root("mlflow-artifacts://host:5000/1/r/artifacts") == "1/r/artifacts"
    for root in ("s3://bucket/1", "/srv/artifacts/1", ""):
        with pytest.raises(SourceInvalid, match="serve-artifacts"):
            upload_root(root)


def test_only_what_is_deleted_can_be_abandoned() -> None:
    """A living run that somebody gave the tag is one."""
    tags = [{"key": "muster.abandoned", "value": "true"}]
    assert abandoned({"lifecycle_stage": "deleted"}, tags)
    assert not abandoned({"lifecycle_stage": "active"}, tags)
    assert not abandoned({"lifecycle_stage": "deleted"}, [])
