"""``--insecure``: consent to plain HTTP, given on the command line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from muster import errors
from muster.cli import main as cli
from muster.cli.screen import Screen
from muster.cli.session import Options, Session

CLEAR = "s3://bucket?endpoint=http://storage.example.org:9000"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose only vault is reached in the clear."""
    (tmp_path / "include" / "catalog" / "workloads").mkdir(parents=True)
    vaults = f'vaults:\n  primary: {{url: "{CLEAR}", passphrase: conn:passphrase}}\n'
    (tmp_path / "include" / "catalog" / "vaults.yaml").write_text(vaults)
    for name in [name for name in os.environ if name.startswith(("MUSTER_", "AWS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stores(session: Session) -> list[str]:
    """The addresses of the vault's store, by each of the ways that commands open one."""
    named = "primary" if session.vault_url is None else CLEAR
    config = Session(Options(), Screen(as_json=False)).catalog.vaults["primary"]
    return [session.store(named).url, session.store_at(CLEAR).url, session.platform._store(config).url]


@pytest.mark.parametrize("vault", [None, CLEAR])
def test_plain_http_to_another_machine_needs_consent_before_the_command(project: Path, vault: str | None) -> None:
    """With it every way to a store is open; without it none is, and the hint names the option."""
    assert stores(Session(Options(vault=vault, insecure=True), Screen(as_json=False))) == [CLEAR] * 3
    with pytest.raises(errors.UsageError, match="in the clear") as caught:
        Session(Options(vault=vault), Screen(as_json=False)).store(vault or "primary")
    assert "--insecure" in caught.value.hint


def test_a_command_without_consent_ends_before_anything_is_sent(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, without a look at the network: there is no such machine."""
    (project / "words").write_text("correct horse\n")
    assert cli.run(["--vault", CLEAR, "--passphrase-file", "words", "points"]) == 2
    assert "credentials and data in the clear" in capsys.readouterr().err


def test_consent_is_a_flag_of_the_whole_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """It stands before the command, and the help names it."""
    assert cli.run(["--insecure", "--help"]) == 0
    assert "--insecure" in capsys.readouterr().out
