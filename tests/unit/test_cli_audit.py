"""``muster audit``: what an auditor types, and what a SIEM reads of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from anchored_catalog import write_anchored_catalog
from muster.adapters.local_store import LocalStore
from muster.adapters.system_clock import SystemClock
from muster.cli import main as cli
from muster.vault.vault import Passphrase, Vault
from vaults import ACTOR, CHEAP, flip

WORDS = "the auditors' passphrase"


@dataclass
class Desk:
    """Two vaults in folders that one passphrase opens, and whoever looks at their trails."""

    folder: Path
    run: Callable[..., tuple[int, str, str]]

    def vault(self, name: str = "vault") -> Vault:
        store = LocalStore(self.folder / name)
        return Vault.open(store, Passphrase(WORDS), clock=SystemClock(), actor=ACTOR)

    def asks(self, *words: str, vault: str = "vault") -> tuple[int, Any]:
        """Exit code and JSON document."""
        code, out, _ = self.run("--json", "--vault", str(self.folder / vault), "--passphrase-file", "words", *words)
        return code, json.loads(out)

    def exports(self, *words: str) -> tuple[int, list[dict[str, Any]]]:
        """Exit code, and the object in each line of standard output."""
        code, out, _ = self.run("--vault", str(self.folder / "vault"), "--passphrase-file", "words", *words)
        return code, [json.loads(line) for line in out.splitlines()]

    def records(self, name: str = "vault") -> list[Path]:
        return sorted((self.folder / name / "audit").iterdir())


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MUSTER_STATE", str(tmp_path / "state"))
    (tmp_path / "words").write_text(f"{WORDS}\n")
    for name in ("vault", "witness"):
        store = LocalStore(tmp_path / name)
        vault, _ = Vault.create(store, Passphrase(WORDS), clock=SystemClock(), actor=ACTOR, cost=CHEAP)
        for number in range(3):
            vault.record("act", f"thing {number}", "refused", {"why": "a test", "naïve": [1, 2.5]})

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.run(words)
        return code, *capsys.readouterr()

    return Desk(tmp_path, run)


def test_a_whole_trail_is_told_with_its_ends(desk: Desk) -> None:
    """Number of records, the ends, and the newest ones."""
    code, document = desk.asks("audit", "verify", "--last", "2")
    (audit,) = document["audit"]
    assert code == 0
    assert (audit["records"], [record["subject"] for record in audit["last"]]) == (4, ["thing 1", "thing 2"])
    assert audit["heads"] == [desk.vault().audit()[-1].digest]


def test_a_broken_trail_ends_with_3_and_every_finding(desk: Desk) -> None:
    """Removal in the middle, and an edit."""
    desk.records()[1].unlink()
    edited = desk.records()[2]
    edited.chmod(0o600)
    edited.write_bytes(flip(edited.read_bytes(), 300))
    code, document = desk.asks("audit", "verify")
    assert code == document["error"]["exit_code"] == 3
    for told in ("is not whole", "that it follows is missing", "does not carry a valid signature"):
        assert told in document["error"]["message"]
    assert "muster heal" in document["error"]["hint"]


def test_a_trail_that_was_seen_longer_on_this_machine_is_cut_off(desk: Desk) -> None:
    """Each check of a whole trail notes its end below the state folder."""
    assert desk.asks("audit", "verify")[0] == 0
    desk.records()[-1].unlink()
    code, document = desk.asks("audit", "verify")
    assert code == 3
    assert "which was seen here earlier, is gone" in document["error"]["message"]


@pytest.mark.parametrize("command", [("audit", "verify"), ("verify", "--read-data", "0%")])
def test_a_record_that_is_asked_for_does_not_make_this_machine_forget_what_it_saw(
    desk: Desk, command: tuple[str, ...]
) -> None:
    """An older one is there still, and the newest is missed all the same, however often one asks."""
    older = desk.vault().audit()[-2].digest
    assert desk.asks(*command)[0] == 0
    newest = desk.vault().audit()[-1].digest
    desk.records()[-1].unlink()
    for _ in range(2):
        code, document = desk.asks(*command, "--head", older)
        assert code == 3
        assert f"the record {newest}, which was seen here earlier, is gone" in document["error"]["message"]


def test_a_record_that_is_asked_for_is_missed_although_this_machine_saw_an_older_one(desk: Desk) -> None:
    """Both are asked for."""
    assert desk.asks("audit", "verify")[0] == 0
    code, document = desk.asks("audit", "verify", "--head", "ab" * 32)
    assert code == 3
    assert f"the record {'ab' * 32}, which was seen" in document["error"]["message"]


def test_every_end_of_a_fork_is_seen_on_this_machine(desk: Desk) -> None:
    """Cutting off either branch is noticed."""
    vault = desk.vault()
    last = vault.audit()[-1]
    for branch in ("one", "other"):
        vault._trail._put(replace(last, parents=(last.digest,), seq=last.seq + 1, before=4, subject=branch, digest=""))
    assert desk.asks("audit", "verify")[0] == 0
    for end in desk.records()[-2:]:
        data = end.read_bytes()
        end.unlink()
        code, document = desk.asks("audit", "verify")
        assert code == 3
        assert f"{end.stem.rpartition('-')[2]}, which was seen here earlier, is gone" in document["error"]["message"]
        end.write_bytes(data)
    assert desk.asks("audit", "verify")[0] == 0


def test_a_copy_of_the_vault_is_compared(desk: Desk) -> None:
    """By its place alone: the key of the vault reads it."""
    shutil.copytree(desk.folder / "vault", desk.folder / "copy")
    assert desk.asks("audit", "verify", "--replica", str(desk.folder / "copy"))[0] == 0
    shutil.rmtree(desk.folder / "state")
    desk.records()[-1].unlink()
    assert desk.asks("audit", "verify")[0] == 0
    shutil.rmtree(desk.folder / "state")
    code, document = desk.asks("audit", "verify", "--replica", str(desk.folder / "copy"))
    assert code == 3
    assert "has it and the vault has not (act thing 2 by tester on" in document["error"]["message"]


def test_a_trail_is_anchored_in_another_vault_and_asked_for_there(desk: Desk) -> None:
    """The other vault's trail names this one's end; cut off with all its marks, it is missed."""
    witness = str(desk.folder / "witness")
    code, document = desk.asks("audit", "anchor", "--to", witness)
    assert (code, document["anchor"]["records"]) == (0, 4)
    assert [record.action for record in desk.vault("witness").audit()][-1] == "audit.anchor"
    code, document = desk.asks("audit", "verify", "--replica", witness)
    assert (code, document["audit"][0]["anchors"], document["audit"][0]["notices"]) == (0, 1, [])
    shutil.rmtree(desk.folder / "state")
    for record in desk.records()[2:]:
        record.unlink()
    code, document = desk.asks("audit", "verify", "--replica", witness)
    assert code == 3
    assert "newest of 4 when it was written, is gone, and 2 are there" in document["error"]["message"]


def test_a_vault_is_not_anchored_in_itself(desk: Desk) -> None:
    """That would prove nothing."""
    code, document = desk.asks("audit", "anchor", "--to", str(desk.folder / "vault"))
    assert code == 2
    assert "holds the same vault, or a copy of it" in document["error"]["message"]
    assert len(desk.records()) == 4


def test_the_export_has_stable_fields_and_one_object_a_line(desk: Desk) -> None:
    """These, and no others: docs/audit.md promises them."""
    code, lines = desk.exports("audit", "export")
    assert code == 0
    assert [line["seq"] for line in lines] == [0, 1, 2, 3]
    for line, record in zip(lines, desk.vault().audit(), strict=True):
        assert list(line) == [
            "time", "vault", "seq", "digest", "parents", "action", "subject", "outcome", "actor", "details",
        ]  # fmt: skip
        assert line["digest"] == record.digest
        assert line["actor"] == {"name": "tester", "host": "localhost", "via": "pytest"}
        assert line["time"].endswith("Z")
    assert lines[3]["details"] == {"why": "a test", "naïve": [1, 2.5]}


def test_the_export_since_a_time_has_that_record_and_later_ones(desk: Desk) -> None:
    """Told by the time that an earlier line had."""
    _, lines = desk.exports("audit", "export")
    code, later = desk.exports("audit", "export", "--since", lines[2]["time"])
    assert (code, later) == (0, lines[2:])
    assert desk.run("--vault", str(desk.folder / "vault"), "audit", "export", "--since", "yesterday")[0] == 2


def test_an_export_of_a_broken_trail_has_what_is_left_and_ends_with_3(desk: Desk) -> None:
    """A SIEM gets what there is, and whoever runs it learns that it is not all."""
    desk.records()[1].unlink()
    code, lines = desk.exports("audit", "export")
    assert code == 3
    assert [line["seq"] for line in lines] == [0, 2, 3]


@pytest.mark.parametrize("action", ["export", "verify", "anchor"])
def test_docs_tell_of_every_command(action: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
    assert f"audit {action}" in text


@pytest.fixture
def catalogued(desk: Desk) -> Callable[..., tuple[int, Any]]:
    """The two vaults and the copy of one as a catalog names them."""
    folder = write_anchored_catalog(desk.folder)
    lie = {"primary": "vault", "frankfurt": "copy", "witness": "witness"}
    places = {name: str(desk.folder / place) for name, place in lie.items()}
    secrets = desk.folder / "secrets.yaml"
    secrets.write_text(json.dumps({**places, "words": WORDS}))
    secrets.chmod(0o600)

    def asks(*words: str) -> tuple[int, Any]:
        code, out, _ = desk.run(
            "--json", "--catalog", str(folder), "--secrets", str(secrets), "audit", "verify", *words
        )
        return code, json.loads(out)

    return asks


def test_whom_the_catalog_names_is_asked_without_being_named(
    desk: Desk, catalogued: Callable[..., tuple[int, Any]]
) -> None:
    """A trail that is cut off is whole in itself; the copy knows better, and so does the vault in which it was anchored."""
    assert desk.asks("audit", "anchor", "--to", str(desk.folder / "witness"))[0] == 0
    shutil.copytree(desk.folder / "vault", desk.folder / "copy")
    code, document = catalogued()
    assert (code, document["audit"][0]["anchors"]) == (0, 2)
    shutil.rmtree(desk.folder / "state")
    desk.records()[-1].unlink()
    desk.records()[-1].unlink()
    assert catalogued("--alone")[0] == 0
    shutil.rmtree(desk.folder / "state")
    code, document = catalogued()
    assert code == 3
    assert "has it and the vault has not (act thing 2 by tester on" in document["error"]["message"]
    assert "newest of 4 when it was written, is gone, and 3 are there" in document["error"]["message"]


def test_who_cannot_be_asked_hides_nothing_that_is_wrong_here(
    desk: Desk, catalogued: Callable[..., tuple[int, Any]]
) -> None:
    """First the trail itself is told to be broken; once it is whole, that others are silent, or not there, is an error."""
    header = desk.folder / "witness" / "vault.json"
    header.unlink()
    header.symlink_to(header)  # what lies on a disk that has gone
    first = desk.records()[0]
    data = first.read_bytes()
    first.unlink()
    code, document = catalogued()
    assert code == 3
    assert "does not begin with the creation" in document["error"]["message"]
    first.write_bytes(data)
    code, document = catalogued()
    assert code == 7
    assert "is whole in itself, and what others know of it cannot be asked" in document["error"]["message"]
    assert "--alone" in document["error"]["hint"]
    assert catalogued("--alone")[0] == 0
    assert catalogued("--alone", "--replica", "witness")[0] == 2
    header.unlink()
    for named in ((), ("--replica", "witness")):
        code, document = catalogued(*named)
        assert (code, document["error"]["kind"]) == (3, "IntegrityError")
