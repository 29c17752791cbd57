"""What a registry has no more is named, and holds the point that has it; artifacts that are missing refuse a point, or mark it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fakes import FrozenClock
from muster.adapters.mlflow_access import Access
from muster.bootstrap import Platform
from muster.cli.accept import change_lines
from muster.cli.wording import plan_lines, point_lines, points_table, report_lines
from muster.domain.content import TreeEntry
from muster.domain.holdings import ABOUT, MOST_NAMED
from muster.domain.recovery_point import PointStatus
from muster.domain.restore_request import RestoreRequest
from muster.errors import SourceInvalid, ValidationFailed
from muster.operations.hold import accept_point, release_point
from muster.operations.seal import seal_point
from muster.operations.snapshot import capture, pin_point
from muster.vault.tree_reader import StoredTree
from registry_platform import platform_of, restored
from registry_seed import SmallStore
from vaults import reopen

DAY = 86400


@dataclass
class World:
    """A registry that people work in, and the nights on which it is taken."""

    store: SmallStore
    folder: Path
    clock: FrozenClock
    platform: Platform

    @property
    def vault(self) -> Any:
        return self.platform.vault("primary")

    def night(self) -> PointStatus:
        self.clock.advance(DAY)
        return self.platform.snapshot(self.platform.catalog.workload("models"))

    def alarm(self, match: str) -> tuple[PointStatus, ValidationFailed]:
        """A night whose point is suspect; the point, and what was said."""
        with pytest.raises(ValidationFailed, match=match) as caught:
            self.night()
        return self.vault.points("models")[-1], caught.value

    def version(self, model: str, version: int, content: str = "weights") -> Path:
        """A version with a run and a file of its own."""
        folder = self.store.add_run(f"{model}{version}") / "model"
        folder.mkdir(parents=True)
        (folder / "weights.bin").write_text(content)
        self.store.add_version(model, version, str(folder), f"{model}{version}")
        return folder


def make_world(store: SmallStore, folder: Path, more: str = "") -> World:
    clock = FrozenClock(datetime.now(UTC))  # by which the registry is cut
    return World(store, folder, clock, platform_of(folder, store.url, store.artifacts, more, clock))


@pytest.fixture
def world(small_store: SmallStore, tmp_path: Path) -> World:
    """The registry that `taken_apart` takes apart."""
    world = make_world(small_store, tmp_path)
    for model, version in (("delay", 1), ("delay", 2), ("delay", 3), ("old", 1), ("old", 4)):
        world.version(model, version)
    client = client_of(small_store)
    client.set_registered_model_alias("delay", "champion", "2")
    client.set_registered_model_alias("delay", "challenger", "3")
    client.set_registered_model_alias("old", "live", "4")
    client.register_prompt("explain", "Explain {{delay}}")
    client.register_prompt("gone", "…")
    client.create_experiment("trial\nforged line")
    return world


def client_of(store: SmallStore) -> Any:
    import mlflow

    return mlflow.MlflowClient(store.url, store.url)


def taken_apart(store: SmallStore) -> list[str]:
    """Delete one of everything through MLflow's own client; what must be said of it."""
    client = client_of(store)
    client.delete_model_version("delay", "3")  # and with it its alias
    client.delete_registered_model_alias("delay", "champion")
    client.delete_registered_model("old")
    client.delete_prompt_version("explain", "1")
    client.delete_prompt_version("gone", "1")
    client.delete_prompt("gone")
    client.delete_experiment(client.get_experiment_by_name("trial\nforged line").experiment_id)
    return [
        "version 3 of model delay",
        "alias challenger of model delay, which was version 3",
        "alias champion of model delay, which was version 2",
        "version 1 of prompt explain",
        "prompt gone with versions 1",
        "model old with versions 1, 4 and aliases live",
        "experiment trial forged line (1)",
    ]


def text_of(lines: Iterator[Any]) -> str:
    """Lines for people as one text, tables with all of their cells."""
    return "\n".join(
        line if isinstance(line, str) else "\n".join(str(c) for column in line.columns for c in column.cells)
        for line in lines
    )


# --- deletions --------------------------------------------------------------------------------------------------------


def test_what_was_deleted_is_named_and_the_point_before_is_held(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """In the manifest, in the mark, in the log, in the trail and by `show`; the new point is a good one all the same."""
    good = world.night()
    names = taken_apart(world.store)
    status = world.night()
    assert not status.suspect
    assert world.vault.point("latest", "models").point == status.point
    (changes,) = status.point.of_kind("changes")
    assert sorted(changes.details["deleted"]["named"]) == sorted(names)
    assert changes.details["failures"] == []
    (held,) = world.vault.point(good.point.point).holds
    assert held.summary["cause"] == "deletions"
    logged = "\n".join(record.getMessage() for record in caplog.records)
    record = next(r for r in world.vault.audit() if r.subject.endswith(status.point.point) and r.action == "snapshot")
    shown = text_of(change_lines(world.vault, status))
    for name in names:
        assert name in held.summary["reason"]
        assert name in logged
        assert name in record.details["deleted"]
        assert name in shown
    assert f"{good.point.point}, is held until somebody releases it" in logged
    assert good.point.point in shown


def test_whatever_else_has_a_name_is_missed_by_it(world: World) -> None:
    """A webhook, which MLflow only marks, an evaluation dataset and a scorer, of which there are others that stay."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    client, store = client_of(world.store), SqlAlchemyStore(world.store.url, str(world.store.artifacts))
    hooks = [client.create_webhook(name, "https://example.org/", ["registered_model.created"]) for name in ("a", "b")]
    sets = [client.create_dataset(name) for name in ("questions", "answers")]
    for name in ("polite", "brief"):
        store.register_scorer("0", name, "{}")
    scorer = next(s for s in store.list_scorers("0") if s.scorer_name == "polite")
    world.night()
    client.delete_webhook(hooks[0].webhook_id)
    client.delete_dataset(sets[0].dataset_id)
    store.delete_scorer("0", "polite")
    (changes,) = world.night().point.of_kind("changes")
    assert changes.details["deleted"]["named"] == [
        f"evaluation dataset questions ({sets[0].dataset_id})",
        f"scorer polite ({scorer.scorer_id})",
        f"webhook a ({hooks[0].webhook_id})",
    ]


def test_what_merely_changes_is_no_deletion(world: World) -> None:
    """An alias that moves, a version, a model, a prompt and an experiment that come: nothing is held."""
    good = world.night()
    client = client_of(world.store)
    client.set_registered_model_alias("delay", "champion", "3")
    client.update_model_version("delay", "1", "described")
    world.version("delay", 4)
    world.version("new", 1)
    client.register_prompt("explain", "Explain {{delay}} again")
    client.create_experiment("another")
    status = world.night()
    assert "deleted" not in status.point.of_kind("changes")[0].details
    assert world.vault.point(good.point.point).holds == ()


def test_a_version_in_whose_place_another_one_was_made_is_missed(world: World) -> None:
    """MLflow counts from 1 again when a model was deleted: who trains anew under the old name hides the loss, but for this."""
    good = world.night()
    client = client_of(world.store)
    client.delete_registered_model("old")
    run = client.create_run("0").info.run_id
    folder = world.store.artifacts / "0" / run / "artifacts" / "model"
    folder.mkdir(parents=True)
    (folder / "weights.bin").write_text("others")
    client.create_registered_model("old")
    assert client.create_model_version("old", str(folder), run).version == 1
    (changes,) = world.night().point.of_kind("changes")
    assert changes.details["deleted"]["named"] == [
        "version 4 of model old",
        "alias live of model old, which was version 4",
        "version 1 of model old, in whose place another one was made",
    ]
    assert world.vault.point(good.point.point).holds


def test_a_model_that_is_renamed_is_gone_under_its_name(world: World) -> None:
    """MLflow sends no event for that either, and whoever loads it by its name finds nothing."""
    world.night()
    client_of(world.store).rename_registered_model("old", "older")
    (changes,) = world.night().point.of_kind("changes")
    assert changes.details["deleted"]["named"] == ["model old with versions 1, 4 and aliases live"]


def test_many_deletions_are_counted_in_the_clear_and_all_named_under_seal(world: World) -> None:
    """A manifest does not grow with what somebody deletes; `show` names all of it."""
    for number in range(30):
        world.version("many", number + 1)
    world.night()
    world.store.execute("UPDATE model_versions SET current_stage = 'Deleted_Internal' WHERE name = 'many'")
    status = world.night()
    (changes,) = status.point.of_kind("changes")
    named = changes.details["deleted"]["named"]
    assert (changes.details["deleted"]["count"], len(named), named[-1]) == (30, MOST_NAMED + 1, "and 10 more")
    manifest = (world.folder / "vault" / "points" / "models" / f"{status.point.point}.json").read_bytes()
    assert b"version 30 of model many" not in manifest
    assert "version 30 of model many" in text_of(change_lines(world.vault, status))


def test_a_hold_that_was_released_is_not_made_again_for_the_same(world: World) -> None:
    """Sealing again, as a task that is tried again does, makes no second hold, and none after a person has released the first."""
    good = world.night()
    taken_apart(world.store)
    world.clock.advance(DAY)
    job = world.platform.snapshot_job(world.platform.catalog.workload("models"))
    pin = pin_point(world.vault, "models", world.clock)
    handovers = [capture(world.vault, pin, source) for source in job.sources]
    facts: Any = {"expected": job.expected, "objectives": {}, "catalog": {}, "clock": world.clock, "limits": job.limits}
    for _ in range(2):
        world.clock.advance(60)
        seal_point(world.vault, pin, handovers, **facts)
        assert len(world.vault.point(good.point.point).holds) == 1
    release_point(world.vault, world.vault.point(good.point.point), "we cleared up", world.clock)
    world.clock.advance(60)
    seal_point(world.vault, pin, handovers, **facts)
    assert world.vault.point(good.point.point).holds == ()


def test_deletions_are_found_without_reading_rows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of either point one small file of names is read, however many rows there are."""
    world.night()
    taken_apart(world.store)
    world.clock.advance(DAY)
    job = world.platform.snapshot_job(world.platform.catalog.workload("models"))
    pin = pin_point(world.vault, "models", world.clock)
    handovers = [capture(world.vault, pin, source) for source in job.sources]
    read, whole = [], StoredTree.read

    def reading(tree: StoredTree, entry: TreeEntry) -> bytes:
        read.append(entry.path)
        return whole(tree, entry)

    monkeypatch.setattr(StoredTree, "read", reading)
    seal_point(
        world.vault,
        pin,
        handovers,
        expected=job.expected,
        objectives={},
        catalog={},
        clock=world.clock,
        limits=job.limits,
    )
    assert sorted(read) == [ABOUT, ABOUT, "component.json"]


def test_a_catalog_that_compares_nothing_names_nothing(small_store: SmallStore, tmp_path: Path) -> None:
    """No component, no hold."""
    world = make_world(small_store, tmp_path)
    catalog = tmp_path / "include" / "catalog" / "workloads" / "models.yaml"
    catalog.write_text(catalog.read_text() + "anomaly: {judge: false}\n")
    from muster.catalog import load_catalog

    world.platform.catalog = load_catalog(tmp_path / "include" / "catalog")
    world.version("delay", 1)
    good = world.night()
    client_of(small_store).delete_registered_model("delay")
    assert world.night().point.of_kind("changes") == ()
    assert world.vault.point(good.point.point).holds == ()


# --- missing artifacts ------------------------------------------------------------------------------------------------

INCOMPLETE = ", missing_artifacts: incomplete"


def test_missing_artifacts_refuse_a_point_and_all_are_named_with_run_path_and_size(world: World) -> None:
    """The size is that of the point before; no point is sealed, and the point before stays the latest."""
    good = world.night()
    gone = [world.store.artifacts / "0" / run / "artifacts" / "model" for run in ("delay2", "old1")]
    for folder in gone:
        shutil.rmtree(folder)
    with pytest.raises(SourceInvalid) as caught:
        world.night()
    assert caught.value.message == (
        f"version 2 of model delay of run delay2 has no artifacts at {gone[0]} (7 bytes); "
        f"version 1 of model old of run old1 has no artifacts at {gone[1]} (7 bytes)"
    )
    assert "missing_artifacts: incomplete" in caught.value.hint
    assert [status.point for status in world.vault.points("models")] == [good.point]


@pytest.fixture
def lossy(small_store: SmallStore, tmp_path: Path) -> World:
    """A registry of three versions whose catalog takes points without all artifacts."""
    world = make_world(small_store, tmp_path, INCOMPLETE)
    for version in (1, 2, 3):
        world.version("delay", version)
    return world


def lose(world: World, version: int) -> Path:
    folder = world.store.artifacts / "0" / f"delay{version}" / "artifacts" / "model"
    shutil.move(folder, world.folder / f"lost{version}")
    return folder


def test_an_incomplete_point_says_so_everywhere_and_is_not_the_latest(lossy: World) -> None:
    """Sealed, suspect, with the point before held, which stays the latest; `points`, `show` and `plan` say what is missing."""
    good = lossy.night()
    folder = lose(lossy, 2)
    status, error = lossy.alarm("registry/models is incomplete")
    line = f"version 2 of model delay of run delay2 has no artifacts at {folder} (7 bytes)"
    assert line in error.message
    assert f"{good.point.point}, is held" in error.hint
    assert status.point.component("registry/models").details["missing"] == {"count": 1, "named": [line]}
    assert lossy.vault.point("latest", "models").point == good.point
    assert lossy.vault.point("latest", "models").holds
    assert status.incomplete == (f"registry/models: {line}",)
    assert "suspect, incomplete" in text_of(iter([points_table([status], lossy.clock.now())]))
    assert f"incomplete: registry/models: {line}" in text_of(point_lines(status))
    target = lossy.platform.target(lossy.platform.catalog.workload("models"), status, "bench")
    request = RestoreRequest("restore", lossy.clock.now(), override="nothing else is left")
    plan = lossy.platform.plan(lossy.vault, status, target, request)
    assert f"warning: point {status.point.point} is incomplete: registry/models: {line}" in text_of(plan_lines(plan))


def test_an_accepted_incomplete_point_is_the_latest_and_only_new_losses_alarm(lossy: World) -> None:
    """What a person has accepted is not asked again each night, and still is told; what comes back is not told any more."""
    lossy.night()
    first = lose(lossy, 1)
    status, _ = lossy.alarm("is incomplete")
    accept_point(lossy.vault, status, "its bucket is gone for good", lossy.clock)
    assert lossy.vault.point("latest", "models").point == status.point
    after = lossy.night()
    assert not after.suspect
    assert "version 1" in after.incomplete[0]
    lose(lossy, 3)
    further, error = lossy.alarm("is incomplete: version 3")
    assert "version 1" not in error.message
    assert len(further.incomplete) == 2
    shutil.move(lossy.folder / "lost1", first)
    shutil.move(lossy.folder / "lost3", lossy.store.artifacts / "0" / "delay3" / "artifacts" / "model")
    whole = lossy.night()
    assert (whole.suspect, whole.incomplete) == (False, ())


def test_a_first_point_that_is_incomplete_is_suspect_too(lossy: World) -> None:
    """There is nothing to compare it with, and no good point to hold."""
    lose(lossy, 1)
    status, error = lossy.alarm("is incomplete")
    assert status.suspect
    assert "there is no point before it" in error.hint
    assert not reopen_points(lossy)[0].accepted
    accept_point(lossy.vault, status, "it was lost before we began", lossy.clock)
    assert reopen_points(lossy)[0].suspect is False


def reopen_points(world: World) -> list[PointStatus]:
    """As another process sees them."""
    found: list[PointStatus] = reopen(world.vault._store, clock=world.clock).points("models")
    return found


def test_a_restore_of_an_incomplete_point_says_what_is_missing(lossy: World) -> None:
    """The rest comes back as it was; the row of the version, too; both reports name what is missing."""
    folder = lose(lossy, 2)
    status, _ = lossy.alarm("is incomplete")
    report = restored(lossy.platform, status, "bench")
    (fidelity,) = report.fidelity
    assert fidelity.identical
    assert fidelity.missing == (f"version 2 of model delay of run delay2 has no artifacts at {folder}",)
    assert "INCOMPLETE since the point was taken: version 2 of model delay" in text_of(report_lines(report))
    bench = lossy.folder / "bench"
    assert (bench / "artifacts/0/delay1/artifacts/model/weights.bin").read_text() == "weights"
    versions = client_of(SmallStore(bench / "mlflow.db", bench)).search_model_versions("name = 'delay'")
    assert sorted(int(v.version) for v in versions) == [1, 2, 3]
    pages = [p.read_text() for p in (lossy.folder / "state" / "reports" / "models").glob("*-fidelity.html")]
    assert any("Missing since the point was taken" in page and str(folder) in page for page in pages)
    documents = (lossy.folder / "state" / "reports" / "models").glob("*-fidelity.json")
    assert [json.loads(d.read_text())["missing"] for d in documents] == [list(fidelity.missing)]


def test_artifacts_cleared_up_during_the_cut_are_no_dangling_reference(
    lossy: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that is deleted with its files between the look at the tables and the listing: the cut is taken again without it."""
    opened, cuts = Access.open, []

    def cleared_up(access: Access, place: Any) -> Any:
        cuts.append(place)
        if len(cuts) == 1:
            client_of(lossy.store).delete_model_version("delay", "2")
            shutil.rmtree(lossy.store.artifacts / "0" / "delay2")
        return opened(access, place)

    monkeypatch.setattr(Access, "open", cleared_up)
    status = lossy.night()
    assert len(cuts) == 2
    assert status.incomplete == ()
    registry = status.point.component("registry/models")
    assert registry is not None
    assert registry.details["models"] == {"delay": {"versions": [1, 3], "aliases": {}}}


# --- points of chosen models ------------------------------------------------------------------------------------------

CHOSEN = ', models: ["delay"], scope: models'


def asked_anew(world: World, before: str, after: str) -> None:
    """Write other models into the catalog, or other rules."""
    from muster.catalog import load_catalog

    catalog = world.folder / "include" / "catalog"
    file = catalog / "workloads" / "models.yaml"
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))
    world.platform.catalog = load_catalog(catalog)


@pytest.mark.parametrize("before", [", scope: store", ', models: ["delay", "old"], scope: models'])
def test_what_the_catalog_does_not_name_any_more_was_not_deleted(
    small_store: SmallStore, tmp_path: Path, before: str
) -> None:
    """Fewer models are asked for: the others live on, though most files are gone from the point, and nothing is held."""
    world = make_world(small_store, tmp_path, before)
    world.version("delay", 1)
    for number in range(4):
        world.version("old", number + 1, "many weights")
    good = world.night()
    asked_anew(world, before, CHOSEN)
    status = world.night()
    assert set(status.point.component("registry/models").details["models"]) == {"delay"}
    assert status.point.of_kind("changes") == ()
    assert world.vault.point(good.point.point).holds == ()


def test_what_leaves_a_point_of_chosen_models_with_a_deleted_version_is_not_deleted_itself(
    small_store: SmallStore, tmp_path: Path
) -> None:
    """The version is named; its run, its experiment and its files live on, and are no loss, however much of the point they were."""
    world = make_world(small_store, tmp_path, CHOSEN)
    client = client_of(small_store)
    trial = client.create_experiment("trial")
    for version in range(1, 6):
        world.version("delay", version)
    small_store.execute("UPDATE runs SET experiment_id = ? WHERE run_uuid <> 'delay1'", trial)
    world.night()
    for version in range(2, 6):
        client.delete_model_version("delay", str(version))
    status = world.night()
    (changes,) = status.point.of_kind("changes")
    assert changes.details["deleted"]["named"] == [f"version {version} of model delay" for version in range(2, 6)]
    assert changes.details["profile"]["removed"] == 4
    assert not status.suspect


def test_a_deleted_model_that_a_pattern_means_is_named(small_store: SmallStore, tmp_path: Path) -> None:
    """Nothing matches in its place, and yet it was asked for."""
    world = make_world(small_store, tmp_path, ', models: ["d*"], scope: models')
    world.version("delay", 1)
    world.version("dusk", 1)
    good = world.night()
    client_of(small_store).delete_registered_model("dusk")
    (changes,) = world.night().point.of_kind("changes")
    assert changes.details["deleted"]["named"] == ["model dusk with versions 1"]
    assert world.vault.point(good.point.point).holds


def test_a_model_that_nobody_asked_for_may_lead_nowhere(small_store: SmallStore, tmp_path: Path) -> None:
    """It is looked past, too, when the versions of the chosen model are asked for again."""
    world = make_world(small_store, tmp_path, CHOSEN + INCOMPLETE)
    world.version("delay", 1)
    world.version("delay", 2)
    small_store.add_version("foreign", 1, "dummy-source")
    world.night()
    lose(world, 2)
    world.alarm("is incomplete: version 2")
