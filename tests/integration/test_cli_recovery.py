"""The whole way by the command line, over a real vault, a real DVC dataset and real configuration."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import pytest

from muster.adapters.local_store import LocalStore
from muster.cli import main as cli
from muster.errors import Refused
from protected_project import PASSPHRASE, RESTORE, UNPROVEN, Project, contents, make_project

PLAN = ("plan", "latest", *UNPROVEN)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a vault, and one point in it. Tests add to it, and take nothing away."""
    project = make_project(tmp_path_factory.mktemp("project"))
    project.ask("init", "--recovery-key-file", str(project.recovery_key))
    project.ask("snapshot", "small")
    return project


def test_init_writes_the_recovery_key_once_and_refuses_to_do_it_again(project: Project, tmp_path: Path) -> None:
    """The key file is private; a vault is never made over another, and a failed attempt leaves no key file."""
    assert stat.S_IMODE(project.recovery_key.stat().st_mode) == 0o600
    assert project.recovery_key.read_text().startswith("MUSTER-RECOVERY-1-")
    error = project.refuse("init", "--recovery-key-file", str(tmp_path / "second"))
    assert (error["kind"], error["exit_code"]) == ("AlreadyExists", 6)
    assert not (tmp_path / "second").exists()


def test_a_snapshot_is_listed_and_shown(project: Project) -> None:
    """The point holds every component of the catalog, and no secret stands in what is shown."""
    (first, *_) = project.ask("points")
    shown = project.run("show", first["point"]["point"])
    assert {c["kind"] for c in first["point"]["components"]} == {"dataset", "configuration", "runbook"}
    assert "dataset/numbers" in shown.stdout
    assert "configuration/small" in shown.stdout
    listed = project.run("points", "small")
    assert first["point"]["point"] in listed.stdout
    assert "hunter2" not in shown.stdout + listed.stdout + json.dumps(first)


def test_a_plan_changes_nothing(project: Project, tmp_path: Path) -> None:
    """What would be done is said, component by component."""
    plan = project.ask(*PLAN, "--to", f"{tmp_path}/back")
    assert [action["component"] for action in plan["actions"]] == ["configuration/small", "dataset/numbers"]
    assert plan["refusals"] == []
    assert not (tmp_path / "back").exists()


def test_a_restore_brings_every_byte_back(project: Project, tmp_path: Path) -> None:
    """Data, empty folders, configuration and secrets are what they were, and the report says how long it took."""
    report = project.ask(*RESTORE, "--to", f"{tmp_path}/back", "-w", "small")
    assert contents(tmp_path / "back/datasets/numbers/data") == contents(project.root / "numbers/data")
    assert (tmp_path / "back/datasets/numbers/data/empty").is_dir()
    assert (tmp_path / "back/configuration/conf/service.yaml").read_text() == "late_minutes: 15\n"
    assert json.loads((tmp_path / "back/configuration/secrets.json").read_text()) == {"conn:token": "hunter2"}
    assert report["failure"] is None
    assert report["summary"]["passed"] is True
    assert report["summary"]["recovery_time_s"]["total"] > 0
    kept = project.ask(*RESTORE, "--to", f"{tmp_path}/back", "-w", "small")
    assert kept["summary"]["passed"] is True
    (tmp_path / "back/configuration/conf/service.yaml").write_text("late_minutes: 16\n")
    again = project.refuse(*RESTORE, "--to", f"{tmp_path}/back")
    assert (again["kind"], again["exit_code"]) == ("TargetNotEmpty", 6)
    assert contents(tmp_path / "back/datasets/numbers/data") == contents(project.root / "numbers/data")


def test_a_refused_plan_is_shown_and_ends_with_the_refusals_code(project: Project, tmp_path: Path) -> None:
    """A place that is taken is named, and the exit code is 6."""
    (tmp_path / "back/configuration").mkdir(parents=True)
    (tmp_path / "back/configuration/mine").write_text("x")
    done = project.run(*PLAN, "--to", f"{tmp_path}/back")
    assert done.returncode == 6
    assert f"refused: configuration/small: {tmp_path}/back/configuration" in done.stdout


def test_a_named_target_is_found_in_the_catalog(project: Project) -> None:
    """A target's folder is relative to the project; an unknown one is answered with those there are."""
    plan = project.ask(*PLAN, "--to", "standby")
    assert plan["actions"][0]["where"] == f"{project.root}/standby/configuration"
    error = project.refuse(*PLAN, "--to", "standbi")
    assert error["exit_code"] == 2
    assert "origin, standby" in error["hint"]


@pytest.mark.parametrize(("at", "told"), [("soon", "is not a time"), ("2199-01-01T00:00:00Z", "still to come")])
def test_the_time_of_an_incident_is_checked_before_anything_is_done(
    project: Project, tmp_path: Path, at: str, told: str
) -> None:
    """A wrong time restores nothing."""
    error = project.refuse(*RESTORE, "--to", f"{tmp_path}/back", "--incident-at", at)
    assert told in error["message"]
    assert not (tmp_path / "back").exists()


def test_a_drill_leaves_a_report_and_no_sandbox(project: Project, tmp_path: Path) -> None:
    """The point is marked as drilled, its report can be taken out of the vault, and the sandbox is gone."""
    report = project.ask("drill", "small")
    assert report["kind"] == "drill"
    assert report["summary"]["passed"] is True
    assert list((project.root / ".state/muster/drills").iterdir()) == []
    marks = project.ask("show", report["point"])["marks"]
    assert "drilled" in {mark["kind"] for mark in marks}
    written = project.ask("show", report["point"], "--report", f"{tmp_path}/reports")["reports"]
    assert {Path(path).name for path in written} == {"report.html", "report.json", "postmortem.md"}
    (drilled,) = [Path(path) for path in written if "drilled-" in path and path.endswith(".json")]
    assert json.loads(drilled.read_text()) == report
    twice = project.refuse("show", report["point"], "--report", f"{tmp_path}/reports")
    assert twice["kind"] == "TargetNotEmpty"


def test_with_the_vault_and_a_key_everything_comes_back_without_a_catalog(project: Project, tmp_path: Path) -> None:
    """Break glass: in an empty folder, the URL and either key list, check and restore."""
    (tmp_path / "passphrase").write_text(PASSPHRASE + "\n")
    url, state = project.vault.as_uri(), {"MUSTER_STATE": f"{tmp_path}/state"}
    for number, key in enumerate(
        (("--passphrase-file", f"{tmp_path}/passphrase"), ("--recovery-key-file", str(project.recovery_key)))
    ):
        before = ("--vault", url, *key)
        back = tmp_path / f"back-{number}"
        assert project.ask(*before, "points", at=tmp_path, **state)
        project.ask(*before, *RESTORE, "--to", f"{back}", at=tmp_path, **state)
        assert contents(back / "datasets/numbers/data") == contents(project.root / "numbers/data")
    assert project.ask("--vault", url, "points", at=tmp_path, MUSTER_PASSPHRASE=PASSPHRASE)
    assert project.ask("--vault", url, "audit", "verify", at=tmp_path, MUSTER_PASSPHRASE=PASSPHRASE)["audit"]


def test_a_key_that_a_rotation_left_out_still_brings_old_points_back(project: Project, tmp_path: Path) -> None:
    """Break glass with an old recovery key: everything comes back and is reported here; the vault is not written to."""
    shutil.copytree(project.vault, tmp_path / "vault")
    (tmp_path / "passphrase").write_text(PASSPHRASE + "\n")
    url, state = str(tmp_path / "vault"), {"MUSTER_STATE": f"{tmp_path}/state"}
    new = ("--vault", url, "--passphrase-file", f"{tmp_path}/passphrase")
    project.ask(*new, "keys", "rotate", "--without", "recovery", "--yes", at=tmp_path)
    before = sorted((tmp_path / "vault").rglob("*"))
    old = ("--vault", url, "--recovery-key-file", str(project.recovery_key))
    report = project.ask(*old, *RESTORE, "--to", f"{tmp_path}/back", at=tmp_path, **state)
    assert report["failure"] is None
    assert contents(tmp_path / "back/datasets/numbers/data") == contents(project.root / "numbers/data")
    assert len(list((tmp_path / "state/reports").rglob("*.json"))) == 1
    assert sorted((tmp_path / "vault").rglob("*")) == before


def test_a_wrong_key_and_no_key_are_told_apart(project: Project, tmp_path: Path) -> None:
    """Both end with 2; the words of the wrong passphrase are not repeated."""
    url = str(project.vault)
    wrong = project.refuse("--vault", url, "points", at=tmp_path, MUSTER_PASSPHRASE="tr0ub4dor")
    assert (wrong["kind"], wrong["exit_code"]) == ("WrongKey", 2)
    assert "tr0ub4dor" not in json.dumps(wrong)
    missing = project.refuse("--vault", url, "points", at=tmp_path)
    assert (missing["kind"], missing["exit_code"]) == ("UsageError", 2)
    assert "--passphrase-file FILE" in missing["hint"]
    nowhere = project.refuse("--vault", f"{tmp_path}/nothing", "points", at=tmp_path, MUSTER_PASSPHRASE="x")
    assert (nowhere["kind"], nowhere["exit_code"]) == ("NotFound", 4)


def test_another_passphrase_opens_the_vault_once_it_was_added(project: Project, tmp_path: Path) -> None:
    """Keys are listed by name, and a new one works."""
    (tmp_path / "new").write_text("a second passphrase\n")
    project.ask("keys", "add", "passphrase", "night-shift", "--new-passphrase-file", f"{tmp_path}/new")
    names = [slot["name"] for slot in project.ask("keys", "list")["keys"]]
    assert "night-shift" in names
    assert project.ask("--vault", str(project.vault), "--passphrase-file", f"{tmp_path}/new", "points", at=tmp_path)


def test_an_unknown_point_is_answered_with_those_there_are(project: Project) -> None:
    """Exit code 4, and the ids to choose from."""
    error = project.refuse("restore", "2011", "--to", "./back")
    assert (error["kind"], error["exit_code"]) == ("NotFound", 4)
    assert "small/" in error["hint"]


def test_verify_reads_everything_and_names_what_was_damaged(project: Project, tmp_path: Path) -> None:
    """A whole vault is said to be whole; one flipped byte ends with 3, and the point is no longer the latest good one."""
    checked = project.ask("verify")["verified"][0]
    assert checked["share"] == 1.0
    assert checked["bytes"] > 0
    hurt = tmp_path / "vault"
    shutil.copytree(project.vault, hurt)
    needed = [hurt / "packs" / name[:2] / name for name in project.ask("points")[-1]["point"]["packs"]]
    pack = max(needed, key=lambda path: path.stat().st_size)
    pack.chmod(0o600)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    error = project.refuse("--vault", str(hurt), "verify", at=tmp_path, MUSTER_PASSPHRASE=PASSPHRASE)
    assert (error["kind"], error["exit_code"]) == ("IntegrityError", 3)
    assert pack.name[:12] in error["message"]
    statuses = project.ask("--vault", str(hurt), "points", at=tmp_path, MUSTER_PASSPHRASE=PASSPHRASE)
    assert any(mark["kind"] == "suspect" for status in statuses for mark in status["marks"])


def test_verify_names_a_damaged_mark_among_all_findings(project: Project, tmp_path: Path) -> None:
    """What cannot be listed is a finding beside the others, not the end of the verification."""
    hurt = tmp_path / "vault"
    shutil.copytree(project.vault, hurt)
    project.ask("--vault", str(hurt), "verify", "--read-data=0%", at=tmp_path, MUSTER_PASSPHRASE=PASSPHRASE)
    mark = max(hurt.glob("marks/*/verified-*"))
    pack = max(hurt.glob("packs/*/*"), key=lambda path: path.stat().st_size)
    for path in (mark, pack):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.chmod(0o600)
        path.write_bytes(data)
    error = project.refuse("--vault", str(hurt), "verify", at=tmp_path, MUSTER_PASSPHRASE=PASSPHRASE)
    assert (error["kind"], error["exit_code"]) == ("IntegrityError", 3)
    assert mark.name in error["message"]
    assert pack.name in error["message"]


def test_verify_of_a_point_whose_manifest_is_damaged_names_it(project: Project, tmp_path: Path) -> None:
    """As a finding, with exit code 3; the point need not be readable to be asked for."""
    hurt = tmp_path / "vault"
    shutil.copytree(project.vault, hurt)
    manifest = max(hurt.glob("points/*/*"))
    _spoil(manifest)
    for name in (manifest.stem, manifest.stem[:20]):
        error = project.refuse("--vault", str(hurt), "verify", name, at=tmp_path, MUSTER_PASSPHRASE=PASSPHRASE)
        assert (error["kind"], error["exit_code"]) == ("IntegrityError", 3)
        assert f"{manifest.name}: " in error["message"]
    error = project.refuse("--vault", str(hurt), "verify", "2025", at=tmp_path, MUSTER_PASSPHRASE=PASSPHRASE)
    assert error["exit_code"] == 4


def test_a_vault_that_was_put_back_to_an_older_state_is_noticed(project: Project, tmp_path: Path) -> None:
    """By the note of the last verification, or by one that a person kept; a record that is there is no reason to fail."""
    put_back, state = tmp_path / "vault", str(tmp_path / "state")
    shutil.copytree(project.vault, put_back)
    own = {"at": tmp_path, "MUSTER_PASSPHRASE": PASSPHRASE}
    head = project.ask("--vault", str(put_back), "--state", state, "verify", **own)["verified"][0]["head"]
    shutil.copytree(put_back, tmp_path / "older")
    newer = project.ask("--vault", str(put_back), "--state", state, "verify", "--head", head, **own)["verified"][0][
        "head"
    ]
    shutil.rmtree(put_back)
    shutil.copytree(tmp_path / "older", put_back)
    for option in (["--state", state], []):
        asked = [] if option else ["--head", newer]
        error = project.refuse("--vault", str(put_back), *option, "verify", *asked, **own)
        assert error["exit_code"] == 3
        assert newer in error["message"]
    project.ask("--vault", str(put_back), "verify", "--head", head, **own)


def test_heal_brings_back_what_a_replica_has(project: Project, tmp_path: Path) -> None:
    """Damaged and lost packs and a lost manifest; then the vault verifies, and the point is the latest good one again."""
    hurt = tmp_path / "vault"
    shutil.copytree(project.vault, hurt)
    own = {"at": tmp_path, "MUSTER_PASSPHRASE": PASSPHRASE}
    points = list(hurt.glob("points/*/*"))
    named = {pack for status in project.ask("points") for pack in status["point"]["packs"]}
    damaged, *lost = (path for path in hurt.glob("packs/*/*") if path.name in named)
    _spoil(damaged)
    for path in (*lost, *points):
        path.unlink()
    assert project.refuse("--vault", str(hurt), "heal", **own)["kind"] == "UsageError"
    healed = project.ask("--vault", str(hurt), "heal", "--from", str(project.vault), **own)["healed"]
    assert sorted(healed["put_back"]) == sorted(str(path.relative_to(hurt)) for path in (*lost, *points))
    project.ask("--vault", str(hurt), "verify", "--files", **own)
    project.ask("--vault", str(hurt), *RESTORE, "-w", "small", "--to", f"{tmp_path}/back", **own)
    assert contents(tmp_path / "back/datasets/numbers/data") == contents(project.root / "numbers/data")


def test_heal_brings_back_what_the_source_still_has(project: Project, tmp_path: Path) -> None:
    """The workload's own data, read again: what is the same gives the same chunks."""
    root = tmp_path / "project"
    shutil.copytree(project.root, root, symlinks=True)
    secrets = root / ".muster" / "secrets.yaml"
    secrets.write_text(secrets.read_text().replace(str(project.root), str(root)))
    copy = Project(root, project.python)
    copy.ask("snapshot", "small")
    for pack in copy.vault.glob("packs/*/*"):
        _spoil(pack)
    error = copy.refuse("heal", "--from", str(tmp_path), "--from-source", "small")
    assert error["kind"] == "UsageError", "the folder of the project holds no vault"
    assert copy.refuse("verify")["kind"] == "IntegrityError"
    assert "suspect" in copy.run("points").stdout
    healed = copy.ask("heal", "--from-source", "small")["healed"]
    assert healed["chunks"] >= 1
    assert healed["points"] == [status["point"]["point"] for status in copy.ask("points")]
    listed = copy.run("points").stdout
    assert "suspect" not in listed  # it was answered; `muster show` still has the marks
    assert "suspect" in copy.run("show", "latest").stdout
    copy.ask("verify", "--files")


def _spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


@pytest.mark.parametrize("share", ["ten", "101%", "-1%", "0.5"])
def test_a_share_is_a_percentage(project: Project, share: str) -> None:
    """Whatever else is given is a wrong command line."""
    assert project.refuse("verify", f"--read-data={share}")["exit_code"] == 2


def test_the_audit_chain_tells_who_did_what(project: Project) -> None:
    """Every command that changed something is in it, with who and by what."""
    (audit,) = project.ask("audit", "verify", "--last", "100")["audit"]
    assert audit["records"] == len(audit["last"])
    assert audit["last"][0]["action"] == "create"
    assert {"snapshot", "seal"} <= {record["action"] for record in audit["last"]}
    assert {record["actor"]["via"] for record in audit["last"]} == {"cli"}


def test_the_doctor_finds_a_healthy_platform_healthy(project: Project) -> None:
    """Everything is tried: the vault, its promise, the chain, each source, the age of the latest point."""
    document = project.ask("doctor")
    assert document["ok"] is True
    assert {check["check"] for check in document["checks"]} >= {
        "python", "uv", "free space", "catalog", "secrets file", "vault primary opens", "vault primary: an object is never overwritten",
        "vault primary audit chain", "small dataset/numbers can be cut", "small configuration/small can be cut", "small latest point",
    }  # fmt: skip


def test_the_doctor_names_what_is_amiss(tmp_path: Path) -> None:
    """A secrets file that others read, a vault that is not there, and a dataset that is no repository: each with its mend."""
    project = make_project(tmp_path)
    done = project.run("--json", "doctor")
    assert done.returncode == 1
    failed = {check["check"]: check for check in json.loads(done.stdout)["checks"] if not check["ok"]}
    assert "muster init" in failed["vault primary opens"]["mend"]
    shutil.rmtree(tmp_path / "numbers" / ".dvc")
    (tmp_path / ".muster/secrets.yaml").chmod(0o644)
    done = project.run("doctor")
    assert done.returncode == 1
    assert f"run: chmod 600 {tmp_path}/.muster/secrets.yaml" in done.stdout
    (tmp_path / ".muster/secrets.yaml").chmod(0o600)
    failed = {c["check"]: c for c in json.loads(project.run("--json", "doctor").stdout)["checks"] if not c["ok"]}
    assert "small dataset/numbers can be cut" in failed


def test_a_vault_that_cannot_be_written_to_is_verified_and_restored_from(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A write-protected copy, or a disk that is full: everything comes back, and it is said that nothing of it is recorded."""
    copy = tmp_path / "copy"
    shutil.copytree(project.vault, copy)

    def refused(_store: LocalStore, key: str, _data: bytes) -> None:
        raise Refused(f"no permission for {key}: Read-only file system")

    monkeypatch.setattr(LocalStore, "put", refused)
    monkeypatch.chdir(tmp_path)
    named = (
        "--vault",
        f"file://{copy}",
        "--recovery-key-file",
        str(project.recovery_key),
        "--state",
        f"{tmp_path}/state",
    )
    before = contents(copy)
    for words, note in (
        (("verify",), "no point is marked as verified or suspect: no permission for"),
        (("keys", "test"), ""),
        (
            ("restore", "latest", "-w", "small", "--to", f"{tmp_path}/back", *RESTORE[2:]),
            "nothing of this is recorded, the reason neither",
        ),
    ):
        code = cli.run((*named, *words))
        said = capsys.readouterr()
        assert code == (1 if words == ("keys", "test") else 0), said.err
        assert note in said.err
    assert "1 of 2 holders are proven" not in said.err
    assert contents(tmp_path / "back/datasets/numbers/data") == contents(project.root / "numbers/data")
    assert contents(copy) == before
    assert list((tmp_path / "state/reports/small").iterdir())
