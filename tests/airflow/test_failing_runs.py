"""What runs do when something is wrong: they fail, they say why, and nothing good is lost."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airflow_runs import APPROVED, Run, Runs, marks
from airflow_site import PROJECT, AirflowSite, commit_dataset
from muster.domain.recovery_point import PointStatus
from vaults import CHEAP

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(600)]
BAD = "id,mass\n1,3000\n2,-4\n"


class Ledger:
    """The quick workload: its sources, and what its vault holds."""

    def __init__(self, site: AirflowSite) -> None:
        self.site = site
        self.repository = site.folder / "ledger"
        self.vault_folder = site.folder / "vault-spare"

    @property
    def points(self) -> list[PointStatus]:
        """Its points, oldest first, read anew."""
        return self.site.platform().vault("spare").points("ledger")

    @property
    def latest(self) -> str:
        """Id of the newest point that nothing speaks against."""
        return self.site.platform().vault("spare").point("latest", "ledger").point.point

    def write(self, name: str, text: str) -> None:
        """Make a new version of the dataset."""
        (self.repository / "data" / "entries" / name).write_text(text)
        commit_dataset(self.repository, "data/entries", name)


@pytest.fixture
def ledger(site: AirflowSite) -> Iterator[Ledger]:
    """The workload as it was made, with an empty vault; what a test leaves is gone for the tests that follow."""
    kept = site.folder / "ledger.kept"
    shutil.copytree(site.folder / "ledger", kept, symlinks=True)
    empty_vault(site)
    yield Ledger(site)
    shutil.rmtree(site.folder / "ledger", ignore_errors=True)
    kept.rename(site.folder / "ledger")
    empty_vault(site)  # next to points of other data, the workload as it was made would look attacked


def empty_vault(site: AirflowSite) -> None:
    """Make the ledger's vault anew."""
    shutil.rmtree(site.folder / "vault-spare")
    site.platform().create_vault("spare", cost=CHEAP)


def digests(folder: Path) -> dict[str, str]:
    """Every file below a folder, by its bytes."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_a_restore_brings_the_files_back_and_marks_the_point(runs: Runs, ledger: Ledger, tmp_path: Path) -> None:
    """
    Data, configuration and its secrets are back, byte for byte. A second restore to the same place leaves all of it as it is, as long
    as it is what was captured; then it is refused, and changes nothing.
    """
    assert runs.run("snapshot__ledger").state == "success"
    lost_at = "2026-01-05T00:00:00+00:00"
    asked = {"point": "latest", "override": "it was sealed a moment ago"}
    conf = {"to": str(tmp_path / "back"), "incident_at": lost_at, **asked}
    done = runs.run("restore__ledger", conf, answers=APPROVED)
    assert done.state == "success"
    assert done.states["restore_registry"] == done.states["smoke_inference"] == "skipped"
    back = tmp_path / "back" / "datasets" / "entries" / "data"
    assert digests(back) == digests(ledger.repository / "data")
    assert ledger.site.token in (tmp_path / "back" / "configuration" / "secrets.json").read_text()
    report = done.xcom("conclude")
    assert report["passed"]
    started = datetime.now(UTC) - datetime.fromisoformat(lost_at)
    assert report["recovery_time_s"]["detect"] == pytest.approx(started.total_seconds(), abs=120)
    assert not report["rto_met"]
    assert marks(ledger.points[0]) == ["restored"]

    before = digests(tmp_path)
    assert runs.run("restore__ledger", conf, answers=APPROVED).state == "success"
    assert digests(tmp_path) == before
    (tmp_path / "back" / "configuration" / "conf" / "mine.yaml").write_text("x")
    before = digests(tmp_path)
    again = runs.run("restore__ledger", conf)
    assert again.state == "failed"
    assert "is not empty" in again.xcom("plan", "failure")
    assert again.states["restore_configuration"] == again.states["restore_dataset"] == "upstream_failed"
    assert digests(tmp_path) == before
    assert marks(ledger.points[0]) == ["restored", "restored"]


def test_a_place_that_cannot_be_put_to_use_fails_the_run_and_all_of_it_is_there(
    runs: Runs, ledger: Ledger, tmp_path: Path
) -> None:
    """The command of the cut over fails: its task is red and says why, the report too, and what came back stays for the next try."""
    file = ledger.site.catalog / "workloads" / "ledger.yaml"
    catalogued, works = file.read_text(), tmp_path / "works"
    target = f'{{directory: "{tmp_path / "place"}", cut_over: {{command: ["test", "-e", "{works}"]}}}}'
    file.write_text(f"{catalogued}targets: {{desk: {target}}}\n")
    try:
        assert runs.run("snapshot__ledger").state == "success"
        conf = {"point": "latest", "to": "desk", "override": "it was sealed a moment ago"}
        done = runs.run("restore__ledger", conf, answers=APPROVED)
        assert done.state == "failed"
        assert {t: s for t, s in done.states.items() if s == "failed"} == {"cut_over": "failed", "conclude": "failed"}
        assert "it was not cut over: test ended with exit code 1" in done.xcom("cut_over", "failure")
        assert "it was not cut over" in done.xcom("conclude", "failure")
        assert marks(ledger.points[0]) == ["restored"]  # nothing is wrong with the point
        before = digests(tmp_path / "place")
        works.touch()
        again = runs.run("restore__ledger", conf, answers=APPROVED)
        assert again.state == "success"
        assert again.xcom("conclude")["cut_over"].endswith("ran test: it ended well")
        assert digests(tmp_path / "place") == before
    finally:
        file.write_text(catalogued)


def test_what_cannot_be_meant_is_said_in_the_plan(runs: Runs, ledger: Ledger, tmp_path: Path) -> None:
    """An unknown point, an unknown target or an incident in the future ends the run before anything is written."""
    assert runs.run("snapshot__ledger").state == "success"
    wrong = {
        "no point '20990101T000000Z'": {"point": "20990101T000000Z"},
        "there is no verified point": {},
        "no restore target 'nowhere'": {"point": "latest", "to": "nowhere"},
        "later than the start of this run": {"point": "latest", "incident_at": "2999-01-01T00:00:00+00:00"},
        "this run was given repalce, which restore__ledger does not know": {"repalce": "True"},
    }
    for says, conf in wrong.items():
        done = runs.run("restore__ledger", {"to": str(tmp_path / "back"), **conf})
        assert done.state == "failed"
        assert says in done.xcom("plan", "failure")
        assert done.xcom("conclude", "failure") == "no plan was drawn, so there is nothing to conclude"
    assert not (tmp_path / "back").exists()
    assert marks(ledger.points[0]) == []


def test_data_that_misses_its_expectations_is_kept_as_suspect(runs: Runs, ledger: Ledger) -> None:
    """The run fails, the point is there but suspect, the last good one stays the latest; mending and repeating the run makes a good one."""
    assert runs.run("snapshot__ledger").state == "success"
    good = ledger.latest
    ledger.write("2026-02.csv", BAD)
    when = datetime(2026, 2, 1, 2, 0, tzinfo=UTC)
    failed = runs.run("snapshot__ledger", when=when)
    assert failed.state == "failed"
    assert (failed.states["validate[0]"], failed.states["seal"]) == ("failed", "failed")
    assert "mass" in failed.xcom("validate", "failure", 0)
    assert "sealed but marked suspect" in failed.xcom("seal", "failure")
    assert [status.suspect for status in ledger.points] == [False, True]
    assert "mass" in ledger.points[1].marks[0].summary["reason"]
    assert ledger.latest == good
    assert events(failed) == []

    ledger.write("2026-02.csv", "id,mass\n1,3000\n")
    mended = runs.run("snapshot__ledger", when=when)
    assert mended.state == "success"
    assert [status.suspect for status in ledger.points] == [False, True, False]
    assert ledger.latest == mended.xcom("seal")["point"]


def test_data_that_was_encrypted_is_sealed_as_suspect_and_the_last_good_point_is_held(
    runs: Runs, ledger: Ledger
) -> None:
    """The task that seals says what happened and what to do; nothing is published; the point before is held."""
    assert runs.run("snapshot__ledger").state == "success"
    good = ledger.latest
    for path in sorted((ledger.repository / "data" / "entries").iterdir()):
        path.chmod(0o644)
        path.unlink()
        path.write_bytes(random.Random(path.name).randbytes(4000))
    commit_dataset(ledger.repository, "data/entries", "encrypted")
    failed = runs.run("snapshot__ledger")
    assert failed.states["seal"] == "failed"
    assert "changed as if by ransomware" in failed.xcom("seal", "failure")
    assert events(failed) == []
    before, after = ledger.points
    assert (before.point.point, ledger.latest) == (good, good)
    assert [hold.summary["cause"] for hold in before.holds] == ["changes"]
    assert after.suspect


def events(run: Run) -> list[str]:
    """Ids of the points that a run has published."""
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session

    with create_session() as session:
        found = session.query(AssetEvent).filter_by(source_run_id=run.run_id, source_task_id="seal").all()
        return [event.extra["point"] for event in found]


def test_a_missing_component_seals_nothing(runs: Runs, ledger: Ledger) -> None:
    """If one component cannot be captured there is no point, whatever else was stored."""
    shutil.rmtree(ledger.repository / ".dvc")
    done = runs.run("snapshot__ledger")
    assert done.state == "failed"
    assert (done.states["capture_dataset[0]"], done.states["capture_dataset[1]"]) == ("failed", "success")
    assert "missing dataset/entries" in done.xcom("seal", "failure")
    assert ledger.points == []


def test_repeating_a_whole_run_gives_the_same_point(runs: Runs, ledger: Ledger) -> None:
    """A run that is cleared after it sealed a point seals no second one, even if the source has moved on."""
    when = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)
    first = runs.run("snapshot__ledger", when=when)
    ledger.write("2026-03.csv", "id,mass\n1,3000\n")
    second = runs.run("snapshot__ledger", when=when)
    assert (first.state, second.state) == ("success", "success")
    assert first.run_id == second.run_id
    assert first.xcom("seal") == second.xcom("seal")
    assert len(ledger.points) == 1
    assert runs.run("snapshot__ledger").xcom("seal")["point"] != first.xcom("seal")["point"]


def damage(ledger: Ledger, how: str) -> Path:
    """
    Spoil every chunk of the largest pack, which holds the suite that the drill validates with; returns its file. Most of the pack is
    the validation's report, which no drill reads, and what is read may stand anywhere between.
    """
    point = ledger.points[0].point
    packs = [next(ledger.vault_folder.glob(f"packs/*/{name}*")) for name in point.packs]
    spoiled = max(packs, key=lambda pack: pack.stat().st_size)
    if how == "lost":
        spoiled.unlink()
    else:
        content = bytearray(spoiled.read_bytes())
        for at in range(64, len(content), 97):
            content[at] ^= 1
        spoiled.chmod(0o600)
        spoiled.write_bytes(content)
    return spoiled


@pytest.mark.parametrize("how", ["altered", "lost"])
def test_a_drill_on_a_damaged_vault_fails_and_cleans_up(runs: Runs, ledger: Ledger, how: str) -> None:
    """The run fails, the sandbox is gone, the mark on the point says failed and why; verification names the pack."""
    assert runs.run("snapshot__ledger").state == "success"
    spoiled = damage(ledger, how)
    done = runs.run("drill__ledger", {"fault": "none"})
    assert done.state == "failed"
    assert (done.states["conclude"], done.states["remove_sandbox"]) == ("failed", "success")
    assert done.states["passed"] == "upstream_failed"
    assert not Path(done.xcom("prepare_sandbox")).exists()
    (status,) = ledger.points
    assert marks(status) == ["drilled"]
    assert status.marks[0].summary["passed"] is False
    assert status.marks[0].summary["failure"]

    checked = runs.run("verify", {"share": 1})
    assert checked.states == {"verify[0]": "success", "verify[1]": "failed"}
    assert checked.state == "failed"
    assert spoiled.name[:16] in checked.xcom("verify", "failure", 1)
    assert ledger.points[0].suspect


def test_a_verification_names_a_damaged_manifest_and_the_rest_goes_on(runs: Runs, ledger: Ledger) -> None:
    """What cannot be listed is a finding: the point beside it is verified all the same, and the next snapshot is good."""
    for _ in range(2):
        assert runs.run("snapshot__ledger").state == "success"
    manifest, whole = sorted(ledger.vault_folder.glob("points/ledger/*"))
    content = bytearray(manifest.read_bytes())
    content[100] ^= 1
    manifest.chmod(0o600)
    manifest.write_bytes(content)
    checked = runs.run("verify", {"share": 1})
    assert checked.states["verify[1]"] == "failed"
    assert manifest.name in checked.xcom("verify", "failure", 1)
    vault = ledger.site.platform().vault("spare")
    assert [record.outcome for record in vault.audit() if record.action == "verify"] == ["damaged"]
    assert runs.run("snapshot__ledger").state == "success"
    assert ledger.latest > whole.stem


KILLED = """
import sys
from datetime import datetime
from pathlib import Path
from airflow_runs import Runs
Runs(Path(sys.argv[1])).run("snapshot__ledger", when=datetime.fromisoformat(sys.argv[2]))
"""


@pytest.mark.parametrize("day", [1, 2])
def test_a_killed_worker_leaves_no_half_made_point(runs: Runs, ledger: Ledger, day: int) -> None:
    """Killed while it stores, the run leaves no point; repeated, it makes one that verifies whole."""
    when = datetime(2026, 4, day, 2, 0, tzinfo=UTC)
    (ledger.repository / "data" / "entries" / "big.csv").write_text(
        "id,mass\n" + "".join(f"{n},{n % 5000}\n" for n in range(300_000))
    )
    ledger.write("2026-04.csv", "id,mass\n1,3000\n")
    path = os.pathsep.join(str(PROJECT / part) for part in ("include", "plugins", "tests"))
    worker = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(runs.folder), when.isoformat()],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 240
        while not any(ledger.vault_folder.glob("packs/*/*")):
            assert worker.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.5))
    finally:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
    assert ledger.points == []
    done = runs.run("snapshot__ledger", when=when)
    assert done.state == "success"
    assert [status.point.point for status in ledger.points] == [done.xcom("seal")["point"]]
    assert ledger.site.platform().vault("spare").verify(share=1.0).ok
