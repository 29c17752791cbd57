"""``muster keys``: what a person who looks after a vault's keys types, and what a machine reads of it."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kms import Kms
from muster.adapters.local_store import LocalStore
from muster.adapters.system_clock import SystemClock
from muster.cli import main as cli
from muster.vault.vault import Passphrase, Vault
from terminal import on_a_terminal
from vaults import ACTOR, CHEAP

WORDS = "the first passphrase"


@dataclass
class Desk:
    """A vault in a folder, and somebody who has its passphrase and recovery key in files."""

    vault: Path
    run: Callable[..., tuple[int, Any]]

    def file(self, name: str, text: str) -> str:
        path = self.vault.parent / name
        path.write_text(f"{text}\n")
        return str(path)

    def does(self, *arguments: str, key: str = "first") -> Any:
        """The JSON document of a command that ends well."""
        code, document = self.run(*self._opened(key), *arguments)
        assert code == 0, document
        return document

    def is_refused(self, *arguments: str, key: str = "first") -> dict[str, Any]:
        """The error of one that does not."""
        code, document = self.run(*self._opened(key), *arguments)
        assert code == document["error"]["exit_code"] != 0
        return dict(document["error"])

    def _opened(self, key: str) -> list[str]:
        option = "--recovery-key-file" if key == "recovery" else "--passphrase-file"
        return ["--json", "--vault", str(self.vault), option, str(self.vault.parent / key)]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    monkeypatch.chdir(tmp_path)
    _, recovery = Vault.create(
        LocalStore(tmp_path / "vault"), Passphrase(WORDS), clock=SystemClock(), actor=ACTOR, cost=CHEAP
    )

    def run(*arguments: str) -> tuple[int, Any]:
        capsys.readouterr()
        code = cli.run(arguments)
        return code, json.loads(capsys.readouterr().out)

    desk = Desk(tmp_path / "vault", run)
    desk.file("first", WORDS)
    desk.file("recovery", recovery.text)
    return desk


def names(document: dict[str, Any]) -> list[str]:
    return sorted(one["name"] for one in document["keys"])


def test_every_kind_of_holder_is_added_and_opens_the_vault(desk: Desk, kms: Kms) -> None:
    """Each by its own file or name, given before the command."""
    desk.file("second", "the second passphrase")
    key = f"kms:{kms.new_key().key}"
    folder = desk.vault.parent / "shares"
    folder.mkdir()
    desk.does("keys", "add", "passphrase", "night shift", "--new-passphrase-file", "second")
    desk.does("keys", "add", "kms", "cloud", key)
    desk.does("keys", "add", "recovery", "safe", "--to", "safe")
    desk.does("keys", "add", "shares", "board", "--threshold", "2", "--shares", "3", "--to", str(folder))
    assert names(desk.does("keys", "list")) == ["board", "cloud", "first", "night shift", "recovery", "safe"]
    assert sorted(path.name for path in folder.iterdir()) == [f"share-{n}-of-3.txt" for n in (1, 2, 3)]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in (*folder.iterdir(), Path("safe")))
    shares = [option for n in (1, 3) for option in ("--share-file", f"{folder}/share-{n}-of-3.txt")]
    for way in (["--passphrase-file", "second"], ["--kms-key", key], ["--recovery-key-file", "safe"], shares):
        code, found = desk.run("--json", "--vault", str(desk.vault), *way, "keys", "list")
        assert (code, len(found["keys"])) == (0, 6)


def test_holders_are_proven_and_whoever_is_not_is_named_by_the_exit_code(desk: Desk, kms: Kms) -> None:
    """The opener, every KMS key and the files given; exit code 1 while somebody is missing, 0 when nobody is."""
    key = f"kms:{kms.new_key().key}"
    desk.does("keys", "add", "kms", "cloud", key)
    folder = desk.vault.parent / "shares"
    folder.mkdir()
    desk.does("keys", "add", "shares", "board", "--threshold", "2", "--shares", "2", "--to", str(folder))
    code, found = desk.run(*desk._opened("first"), "keys", "test", "--with", "recovery")
    assert code == 1
    assert {one["name"]: one["proven"] for one in found["holders"]} == {
        "first": True,
        "recovery": True,
        "cloud": True,
        "board": False,
    }
    given = [option for path in folder.iterdir() for option in ("--with", str(path))]
    desk.does("keys", "test", "--with", "recovery", *given)
    assert all(one["proven_at"] for one in desk.does("keys", "list")["keys"])


def test_a_leaked_passphrase_is_shut_out_in_four_commands(desk: Desk) -> None:
    """A new one, proven; the old one revoked, the keys rotated: the way of docs/keys.md."""
    desk.file("second", "the second passphrase")
    desk.does("keys", "add", "passphrase", "new", "--new-passphrase-file", "second")
    desk.does("keys", "test", "--with", "first", "--with", "recovery", key="second")
    revoked = desk.does("keys", "revoke", "first", key="second")
    assert list(revoked["slots"].values()) == [True]
    rotated = desk.does("keys", "rotate", key="second")
    assert (rotated["generation"], rotated["left_out"]) == (1, [])
    assert desk.is_refused("points")["kind"] == "WrongKey"
    assert names(desk.does("keys", "list", key="recovery")) == ["new", "recovery"]
    assert desk.does("keys", "adopt", key="second")["late"] == []


def test_a_rotation_says_who_is_left_out_before_it_does_anything(desk: Desk) -> None:
    """A dry run lists them; without a person and without --yes it is refused; with their key files they stay."""
    desk.file("second", "the second passphrase")
    desk.does("keys", "add", "passphrase", "night shift", "--new-passphrase-file", "second")
    planned = desk.does("keys", "rotate", "--dry-run")
    assert [one["name"] for one in planned["left_out"]] == ["night shift"]
    error = desk.is_refused("keys", "rotate")
    assert error["kind"] == "Refused"
    assert "night shift (their passphrase was not given)" in error["message"]
    assert desk.does("keys", "list")["generation"] == 0
    rotated = desk.does("keys", "rotate", "--with", "second", "--without", "recovery", "--yes")
    assert [one["name"] for one in rotated["left_out"]] == ["recovery"]
    found = desk.does("keys", "list", "--all", key="second")
    assert sorted(one["standing"] for one in found["keys"]) == ["earlier", "earlier", "earlier", "holder", "holder"]


def test_an_earlier_key_is_told_what_it_is(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """It lists the points; what it would write is refused, with who rotated and when."""
    desk.does("keys", "rotate", "--without", "recovery", "--yes")
    code = cli.run(["--vault", str(desk.vault), "--recovery-key-file", "recovery", "points"])
    assert code == 0
    assert "it reads what was stored before, and writes nothing" in capsys.readouterr().err
    error = desk.is_refused("keys", "add", "recovery", "x", "--to", "x", key="recovery")
    assert error["kind"] == "WrongKey"
    assert "were rotated at" in error["message"]
    assert not Path("x").exists()


def test_the_last_holder_who_is_known_to_come_in_is_not_revoked(desk: Desk) -> None:
    """Exit code 6, and how to prove another."""
    error = desk.is_refused("keys", "revoke", "first")
    assert (error["kind"], error["exit_code"]) == ("Refused", 6)
    assert "recovery was not tested" in error["message"]
    assert "muster keys test" in error["hint"]


def test_one_holder_is_warned_of(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """By the command that brings it about, in the list and with every test, while another can still be added; refused is the last."""
    revoked = desk.does("keys", "revoke", "recovery")
    for document in (revoked, desk.does("keys", "list"), desk.does("keys", "test")):
        (warning,) = document["warnings"]
        assert "only first can open this vault" in warning
        assert "lost for ever; add another holder" in warning
    for words in (("list",), ("test",)):
        capsys.readouterr()
        cli.run(["--vault", str(desk.vault), "--passphrase-file", "first", "keys", *words])
        assert "warning: only first can open this vault" in " ".join(capsys.readouterr().out.split())
    error = desk.is_refused("keys", "revoke", "first")
    assert "there is no other holder; without any key everything in it is lost for ever" in error["message"]


def test_a_rotation_after_which_one_holder_is_left_says_so_before_it_does_anything(desk: Desk) -> None:
    """In the plan, in the refusal where nobody can be asked, and in what it did."""
    planned = desk.does("keys", "rotate", "--dry-run", "--without", "recovery")
    error = desk.is_refused("keys", "rotate", "--without", "recovery")
    done = desk.does("keys", "rotate", "--without", "recovery", "--yes")
    for told in (*planned["warnings"], error["message"], *done["warnings"]):
        assert "only first holds the new keys: if that key is lost" in told
    assert len(planned["warnings"]) == len(done["warnings"]) == 1


def test_what_is_shown_once_needs_a_reader(desk: Desk) -> None:
    """A machine gets keys in files or not at all; nothing was added."""
    for words in (("recovery", "safe"), ("shares", "board", "--threshold", "2", "--shares", "3")):
        assert "nobody is there to read it" in desk.is_refused("keys", "add", *words)["message"]
    assert desk.is_refused("keys", "add", "kms", "cloud", "kms:alias/x")["kind"] == "UsageError"
    assert (
        desk.is_refused("keys", "add", "passphrase", "p", "--new-passphrase-file", "recovery")["kind"] == "UsageError"
    )
    assert names(desk.does("keys", "list")) == ["first", "recovery"]


def test_a_share_file_that_cannot_be_made_adds_no_holder(desk: Desk) -> None:
    """All files are made before the shares are: of one that exists, none is left over, and no share is lost."""
    Path("share-2-of-3.txt").write_text("mine")
    error = desk.is_refused("keys", "add", "shares", "board", "--threshold", "2", "--shares", "3", "--to", ".")
    assert error["kind"] == "AlreadyExists"
    assert [path.name for path in Path().glob("share-*")] == ["share-2-of-3.txt"]
    assert names(desk.does("keys", "list")) == ["first", "recovery"]


def test_nothing_is_adopted_that_is_not_late(desk: Desk) -> None:
    """A typing error adopts nothing."""
    assert desk.is_refused("keys", "adopt", "points/w/p.json")["kind"] == "NotFound"


def test_at_a_terminal_shares_are_shown_once_and_typed_one_after_the_other(desk: Desk) -> None:
    """A person adds them, opens with them, and is asked for what the test of holders lacks."""
    base = ("--vault", str(desk.vault))
    add = ("keys", "add", "shares", "board", "--threshold", "2", "--shares", "3")
    code, shown = on_a_terminal(*base, *add, answers=(WORDS,))
    assert code == 0, shown
    shares = [word for word in shown.split() if word.startswith("MUSTER-SHARE-1-")]
    assert len(shares) == 3
    code, shown = on_a_terminal(*base, "points", answers=(shares[2], shares[0]))
    assert (code, "there is no recovery point yet" in shown) == (0, True), shown
    recovery = Path("recovery").read_text().strip()
    code, shown = on_a_terminal(*base, "keys", "test", answers=(WORDS, recovery))
    assert code == 1
    assert "2 of 3 holders are proven" in shown
    assert recovery not in shown


def test_at_a_terminal_a_rotation_asks_before_it_leaves_somebody_out(desk: Desk) -> None:
    """No is an answer: nothing was rotated."""
    base = ("--vault", str(desk.vault), "--recovery-key-file", "recovery")
    _, shown = on_a_terminal(*base, "keys", "rotate", answers=("n",))
    assert "Left out of the new keys: first (their passphrase was not given)" in shown
    assert desk.does("keys", "list")["generation"] == 0
