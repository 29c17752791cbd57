"""Every fault of the catalog, struck in a sandbox over a real vault, and what must come of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from drill_site import DrillSite, digests, make_drill_site
from muster.domain.faults import BY_NAME
from muster.errors import IncompletePoint, Refused

pytestmark = pytest.mark.timeout(600)
HERE = (
    *("region_gone", "bit_rot", "missing_pack", "poisoned_dataset", "stale_key", "disk_full"),
    *("clock_skew", "slow_store", "worker_killed"),
)
"""The faults that need no model: test_drill_models.py has the others."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> DrillSite:
    return make_drill_site(tmp_path_factory.mktemp("drills"))


@pytest.fixture
def site(made: DrillSite) -> Iterator[DrillSite]:
    """The site; whatever a drill does, sources, copy and vault have what they had, byte for byte, and no sandbox is left."""
    folders = (made.vault_folder, made.copy_folder, made.folder / "entries", made.folder / "conf")
    before, records = digests(*folders), len(made.platform().vault("primary").audit())
    yield made
    after = digests(*folders)
    assert {name: after.get(name) for name in before} == before
    new = [Path(name).relative_to(made.vault_folder).parts for name in after.keys() - before.keys()]
    assert {parts[0] for parts in new} <= {"packs", "indexes", "marks", "audit"}
    assert {parts[-1].partition("-")[0] for parts in new if parts[0] == "marks"} <= {"drilled"}
    done = [record.action for record in made.platform().vault("primary").audit()[records:]]
    assert done == ["mark", "drill"] * (len(done) // 2), "a drill does nothing to the vault but to report"
    assert made.sandboxes == []


@pytest.mark.parametrize("fault", HERE)
def test_each_fault_ends_as_it_must(site: DrillSite, fault: str) -> None:
    """The drill passes, since what happened is what must happen; mark and report say so, and the true point is not suspect."""
    report = site.drill(fault)
    drilled = report.drilled
    assert drilled is not None
    assert (drilled.fault, drilled.observed) == (fault, BY_NAME[fault].expects)
    assert drilled.expected == drilled.observed
    assert drilled.story
    assert report.passed
    assert {c.component for c in report.components} == {"dataset/entries", "configuration/ledger"}
    assert [v.success for v in report.validations] == [True]
    older, newest = site.points()
    assert report.point == (older if drilled.observed == "older_point" else newest)
    mark = site.platform().vault("primary").point(report.point, "ledger").marks[-1]
    assert (mark.kind, mark.summary["passed"]) == ("drilled", True)
    assert mark.summary["fault"]["observed"] == drilled.observed
    assert site.reported()["drilled"]["story"] == list(drilled.story)
    assert not any(status.suspect for status in site.platform().vault("primary").points())


def test_a_drill_without_a_fault_says_how_it_was_kept_apart(site: DrillSite) -> None:
    """No fault is told of, and the isolation that was in force is."""
    drilled = site.drill("none").drilled
    assert drilled is not None
    assert (drilled.fault, drilled.expected, drilled.observed) == (None, None, None)
    assert "the vault is only read" in drilled.isolation


def test_a_drill_reads_with_the_credentials_that_may_only_read(site: DrillSite) -> None:
    """Where the catalog has an address for readers, all reading goes there, and the report says so; only the report goes to the other."""
    vaults = site.folder / "include" / "catalog" / "vaults.yaml"
    kept = vaults.read_text()
    vaults.write_text(
        kept.replace('primary: {url: "conn:vault"', f'primary: {{read_url: "{site.folder}/readers", url: "conn:vault"')
    )
    (site.folder / "readers").symlink_to(site.vault_folder)
    try:
        drilled = site.drill("stale_key").drilled
    finally:
        vaults.write_text(kept)
        (site.folder / "readers").unlink()
    assert drilled is not None
    assert any((site.folder / "readers").as_uri() in line for line in drilled.story)
    assert drilled.isolation.endswith("the vault is only read, with credentials of its own for that")


def test_without_a_replica_damage_must_be_refused_and_a_gone_region_cannot_be_drilled(site: DrillSite) -> None:
    """What must happen follows from what the workload has: nobody expects to be healed from nowhere."""
    site.copy_folder.rename(site.folder / "away")
    try:
        with pytest.raises(Refused, match=r"no replica"):
            site.drill("region_gone")
        drilled = site.drill("missing_pack").drilled
    finally:
        (site.folder / "away").rename(site.copy_folder)
    assert drilled is not None
    assert (drilled.expected, drilled.observed) == ("refused", "refused")


def test_a_drill_that_should_be_healed_fails_if_the_copy_is_damaged_too(site: DrillSite) -> None:
    """The verdict is what happened: with nothing whole to heal from, the restore is refused, and the drill fails for it."""
    kept = {path: path.read_bytes() for path in site.copy_folder.rglob("packs/*/*")}
    for path, content in kept.items():
        path.chmod(0o600)
        path.write_bytes(bytes(byte ^ 1 for byte in content))
    try:
        with pytest.raises(IncompletePoint, match=r"bit_rot must end so: healed.*what happened: refused"):
            site.drill("bit_rot")
    finally:
        for path, content in kept.items():
            path.write_bytes(content)
    report = site.reported()
    assert report["failure"]
    assert (report["drilled"]["expected"], report["drilled"]["observed"]) == ("healed", "refused")


def test_poison_that_no_expectation_notices_fails_the_drill(tmp_path: Path) -> None:
    """Expectations that pass over poisoned data are worth nothing, and the drill says so."""
    site = make_drill_site(tmp_path)
    suite = site.folder / "include" / "expectations" / "ledger" / "entries.json"
    weak = json.loads(suite.read_text())
    weak["expectations"] = [{"type": "expect_table_column_count_to_be_between", "kwargs": {"min_value": 1}}]
    suite.write_text(json.dumps(weak))
    site.snapshot()
    with pytest.raises(IncompletePoint, match=r"nobody noticed it"):
        site.drill("poisoned_dataset")
    assert site.reported()["drilled"]["observed"] == "unnoticed"


def test_a_random_fault_is_the_same_for_the_same_seed(site: DrillSite) -> None:
    """Who names the seed gets the same drill again."""
    seed = next(n for n in range(1000) if _drawn(n) == "stale_key")
    drilled = site.drill("random", seed).drilled
    assert drilled is not None
    assert (drilled.fault, drilled.chosen) == ("stale_key", f"at random, seed {seed}")


def _drawn(seed: int) -> str | None:
    from datetime import date

    from muster.domain.drill import RANDOM, choose

    have = frozenset({"replica", "older_point", "expectations", "small_disk", "files"})
    return choose(RANDOM, have=have, day=date(2026, 1, 1), seed=seed).fault
