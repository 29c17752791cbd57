"""The command line's connections: a file that only its owner may read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from muster.errors import NotFound, Refused, UsageError
from muster.secrets_file import SecretsFile, default_secrets_file


def private(path: Path, text: str, mode: int = 0o600) -> SecretsFile:
    path.write_text(text)
    path.chmod(mode)
    return SecretsFile(path)


def test_references_are_resolved_and_everything_else_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """conn: comes from the file, env: from the environment, a URL is a URL."""
    monkeypatch.setenv("KEK", "from-environment")
    secrets = private(tmp_path / "s.yaml", "store: postgresql://u:hunter2@db/x\n")
    assert secrets("conn:store") == "postgresql://u:hunter2@db/x"
    assert secrets("env:KEK") == "from-environment"
    assert secrets("sqlite:///x.db") == "sqlite:///x.db"
    assert secrets("data/flights") == "data/flights"
    assert secrets.check() == ("store",)


def test_without_connections_no_file_is_needed(tmp_path: Path) -> None:
    """The file is opened only when a connection is asked for."""
    assert SecretsFile(tmp_path / "nowhere.yaml")("plain/path") == "plain/path"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o610, 0o601])
def test_a_file_that_others_can_reach_is_refused_with_the_command_that_mends_it(tmp_path: Path, mode: int) -> None:
    """Any bit for group or others is one too many."""
    path = tmp_path / "s.yaml"
    with pytest.raises(Refused, match=f"has mode {mode:03o}") as caught:
        private(path, "store: x\n", mode)("conn:store")
    assert caught.value.hint == f"run: chmod 600 {path}"
    path.chmod(0o600)
    assert SecretsFile(path)("conn:store") == "x"


def test_what_is_not_a_regular_file_is_refused(tmp_path: Path) -> None:
    """A folder or a pipe is not read, and nobody waits for it."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(Refused, match="is not a regular file"):
            SecretsFile(path)("conn:store")


def test_unknown_names_list_the_names_but_no_value(tmp_path: Path) -> None:
    """A missing name is told with what there is."""
    secrets = private(tmp_path / "s.yaml", "store: hunter2\nvault: hunter3\n")
    with pytest.raises(NotFound, match="has no stores") as caught:
        secrets("conn:stores")
    assert caught.value.hint.endswith("it has: store, vault")
    assert "hunter" not in str(caught.value)
    with pytest.raises(NotFound, match="MUSTER_NOWHERE is not set"):
        secrets("env:MUSTER_NOWHERE")


@pytest.mark.parametrize(
    "text",
    ["store: [hunter2]\n", "- hunter2\n", "store: 'hunter2\n", "a: !!python/name:hunter2\n", "7: hunter2\n", "a: ''\n"],
)
def test_a_wrong_file_is_told_without_showing_what_is_in_it(tmp_path: Path, text: str) -> None:
    """Neither a parser's excerpt nor a value gets into the message."""
    secrets = private(tmp_path / "s.yaml", text)
    with pytest.raises(UsageError) as caught:
        secrets("conn:store")
    told = f"{caught.value!r} {caught.value.__cause__!r} {secrets!r}"
    assert "hunter2" not in told
    assert caught.value.exit_code == 2


def test_an_empty_file_and_a_missing_file_are_told(tmp_path: Path) -> None:
    """Both say what to do."""
    with pytest.raises(NotFound, match="has no store"):
        private(tmp_path / "s.yaml", "")("conn:store")
    with pytest.raises(UsageError, match="there is no secrets file") as caught:
        SecretsFile(tmp_path / "nowhere.yaml")("conn:store")
    assert "--secrets" in caught.value.hint


def test_the_place_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lies in the project, unless the environment names another."""
    monkeypatch.delenv("MUSTER_SECRETS", raising=False)
    assert default_secrets_file(tmp_path) == tmp_path / ".muster" / "secrets.yaml"
    monkeypatch.setenv("MUSTER_SECRETS", "/run/secrets/muster.yaml")
    assert default_secrets_file(tmp_path) == Path("/run/secrets/muster.yaml")
