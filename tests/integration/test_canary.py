"""Canaries in a real registry: written, captured, lost, restored, and read out of what came back."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fakes import FrozenClock
from muster.adapters.mlflow_canary import EXPERIMENT, read_canary, write_canary
from muster.adapters.mlflow_rest_api import RestServer
from muster.adapters.mlflow_server import LocalMlflowServer
from muster.adapters.mlflow_store import StoreUrl, connect
from muster.bootstrap import Platform
from muster.catalog import load_catalog
from muster.domain.recovery_point import PointStatus
from muster.errors import IncompletePoint, Refused, SourceInvalid, UsageError
from protected_project import make_project
from registry_platform import platform_of, restored
from registry_seed import SmallStore, content, driven, query
from vaults import ACTOR

CANARY = "canary: {every: 5m}\n"
TAGS = "SELECT count(*) FROM experiment_tags"


@pytest.fixture
def platform(small_store: SmallStore, tmp_path: Path) -> Platform:
    """A registry that wants canaries, and a clock that stands still, six minutes ago: what is captured is cut by the true time."""
    clock = FrozenClock(datetime.now(UTC) - timedelta(minutes=6))
    return platform_of(tmp_path, small_store.url, small_store.artifacts, clock=clock, rest=CANARY)


def snapshot(platform: Platform) -> PointStatus:
    return platform.snapshot(platform.catalog.workload("models"))


def wrote(platform: Platform) -> datetime:
    at = platform.write_canary(platform.catalog.workload("models")).at
    assert at is not None
    return at


def report_in(platform: Platform, status: PointStatus) -> tuple[dict[str, object], str]:
    """The newest report in the vault, as JSON and as HTML."""
    vault = platform.vault("primary")
    tree = vault.tree(vault.point(status.point.point, "models").marks[-1].report)  # type: ignore[arg-type]
    return json.loads(tree.read(tree.entry("report.json"))), tree.read(tree.entry("report.html")).decode()


def test_the_recovery_point_actual_counts_from_the_canary_that_came_back(
    platform: Platform, small_store: SmallStore
) -> None:
    """Written, captured four minutes later, written again and lost: what was captured counts, and nothing that was written later."""
    clock = platform.clock
    assert isinstance(clock, FrozenClock)
    wrote(platform)
    clock.advance(300)
    second = wrote(platform)
    clock.advance(60)
    status = snapshot(platform)
    clock.advance(300)
    wrote(platform)
    lost_at = clock.now()
    small_store.file.unlink()
    shutil.rmtree(small_store.artifacts)
    clock.advance(5)

    report = restored(platform, status, "origin", lost_at)
    assert report.passed, report.failure
    assert report.recovery_point_by_canary == report.recovery_point_actual == (lost_at - second).total_seconds() == 360
    (registry,) = report.points
    assert registry.newest is not None
    assert (registry.component, registry.newest.what, registry.newest.at) == ("registry/models", "canary", second)
    assert registry.by_cut_s <= 300
    assert report.cut_over is not None
    assert report.cut_over.done == (
        "registry/models is still what was proven",
        "nothing to switch: the target is in place",
    )
    document, page = report_in(platform, status)
    assert document["summary"]["recovery_points_s"]["registry/models"]["canary"] == 360  # type: ignore[index]
    assert f"canary <code>{registry.newest.id[:12]}</code>" in page
    (told,) = [event for event in report.events if event.what.startswith("canary ")]
    assert (told.at, told.outcome) == (second, "the newest in registry/models that came back")


def test_a_point_without_the_canary_that_its_catalog_wants_does_not_pass(platform: Platform) -> None:
    """Nobody has written one before the snapshot; the restore fails, says so, and is not cut over."""
    status = snapshot(platform)
    with pytest.raises(
        IncompletePoint, match=r"came back without a canary, and the catalog wants one every 5m: the experiment"
    ):
        restored(platform, status, "bench")
    document, page = report_in(platform, status)
    assert document["cut_over"] is None
    assert "no canary: the experiment muster-canary has no tag muster.canary.models" in page


def test_a_canary_that_is_newer_than_its_cut_does_not_pass(platform: Platform, small_store: SmallStore) -> None:
    """Whoever writes times of the future makes every figure look well."""
    write_canary(StoreUrl.parse(small_store.url), "models", datetime.now(UTC) + timedelta(hours=1))
    with pytest.raises(IncompletePoint, match=r"its canary of .* is newer than its cut"):
        restored(platform, snapshot(platform), "bench")


def test_canaries_do_not_grow_and_touch_one_small_table(platform: Platform, small_store: SmallStore) -> None:
    """The second one replaces the first; of all tables only the tags of experiments differ; another workload has a tag of its own."""
    wrote(platform)
    first, tags = content(small_store.url), query(small_store.url, TAGS)
    wrote(platform)
    second = content(small_store.url)
    assert {table for table in first if first[table] != second[table]} == {"experiment_tags"}
    assert query(small_store.url, TAGS) == tags == [(2,)]
    write_canary(StoreUrl.parse(small_store.url), "others", platform.clock.now())
    assert query(small_store.url, f"SELECT count(*) FROM experiments WHERE name = '{EXPERIMENT}'") == [(1,)]
    assert query(small_store.url, TAGS) == [(3,)]


def test_a_store_and_its_server_see_the_same_canary(small_store: SmallStore) -> None:
    """What was written as rows is what the API shows, and the other way round; MLflow's own server makes the same experiment."""
    store, at = StoreUrl.parse(small_store.url), datetime(2026, 11, 23, 2, 0, 0, 123456, UTC)
    with LocalMlflowServer().serve(small_store.url, str(small_store.artifacts)) as uri:
        server = RestServer.parse(uri)
        assert read_canary(server, "a").at is None
        by_rows = write_canary(store, "a", at)
        assert read_canary(server, "a") == read_canary(store, "a") == by_rows
        by_api = write_canary(server, "b", at)
        assert read_canary(store, "b") == read_canary(server, "b") == by_api
        again = write_canary(server, "a", at + timedelta(minutes=5))
        assert read_canary(store, "a") == again != by_rows


def test_a_registry_behind_a_server_comes_back_with_its_canary(small_store: SmallStore, tmp_path: Path) -> None:
    """Written and captured by the API, read out of the store that came back; what cannot be compared once more is told."""
    file = tmp_path / "include" / "catalog" / "workloads" / "models.yaml"
    with LocalMlflowServer().serve(small_store.url, str(small_store.artifacts)) as uri:
        platform = platform_of(tmp_path, small_store.url, small_store.artifacts, rest=CANARY)
        stored = f'{{store: "{small_store.url}", artifacts: "{small_store.artifacts}"}}'
        file.write_text(file.read_text().replace(f"registry: {stored}", f'registry: {{server: "{uri}"}}', 1))
        platform = Platform(load_catalog(file.parents[1]), platform._places.resolve, state=platform.state, actor=ACTOR)
        written = platform.write_canary(platform.catalog.workload("models"))
        status = snapshot(platform)
    report = restored(platform, status, f"{tmp_path}/back")
    assert report.passed, report.failure
    assert [point.newest for point in report.points] == [written]
    assert report.cut_over is not None
    assert report.cut_over.done[0] == "registry/models was not compared once more: at such a place that cannot be told"


def test_a_server_makes_the_experiment_where_there_is_none(small_store: SmallStore) -> None:
    """The first canary of all, by the API."""
    with LocalMlflowServer().serve(small_store.url, str(small_store.artifacts)) as uri:
        written = write_canary(RestServer.parse(uri), "a", datetime.now(UTC))
        assert read_canary(StoreUrl.parse(small_store.url), "a") == written


@pytest.mark.parametrize("through", ["store", "server"])
def test_an_experiment_that_somebody_deleted_is_not_brought_back(small_store: SmallStore, through: str) -> None:
    """He may have meant it."""
    write_canary(StoreUrl.parse(small_store.url), "a", datetime.now(UTC))
    small_store.execute("UPDATE experiments SET lifecycle_stage = 'deleted' WHERE name = ?", EXPERIMENT)
    with LocalMlflowServer().serve(small_store.url, str(small_store.artifacts)) as uri:
        place = StoreUrl.parse(small_store.url) if through == "store" else RestServer.parse(uri)
        with pytest.raises(Refused, match="muster-canary was deleted"):
            write_canary(place, "a", datetime.now(UTC))


def test_nothing_is_written_where_no_registry_is(tmp_path: Path, small_store: SmallStore) -> None:
    """No file is made, and no table; a server that is none says so."""
    with pytest.raises(SourceInvalid, match="there is no MLflow store"):
        write_canary(StoreUrl.parse(f"sqlite:///{tmp_path}/none.db"), "a", datetime.now(UTC))
    assert not (tmp_path / "none.db").exists()
    small_store.execute("DROP TABLE alembic_version")
    with pytest.raises(SourceInvalid, match="is no MLflow store"):
        write_canary(StoreUrl.parse(small_store.url), "a", datetime.now(UTC))


def test_what_somebody_else_wrote_into_the_tag_is_no_canary(small_store: SmallStore) -> None:
    """Neither a text nor a time without a zone."""
    store = StoreUrl.parse(small_store.url)
    for value in ("yesterday", "2026-11-23T02:00:00 abc", ""):
        write_canary(store, "a", datetime.now(UTC))
        small_store.execute("UPDATE experiment_tags SET value = ? WHERE key = 'muster.canary.a'", value)
        found = read_canary(store, "a")
        assert (found.at, found.failure) == (None, "the tag muster.canary.a is none that Muster has written")


def test_it_is_written_only_if_the_catalog_wants_it(small_store: SmallStore, tmp_path: Path) -> None:
    """It writes into the users' systems, so it is off unless it is asked for."""
    platform = platform_of(tmp_path, small_store.url, small_store.artifacts)
    with pytest.raises(UsageError, match="wants no canary of models"):
        platform.write_canary(platform.catalog.workload("models"))


def test_the_command_line_writes_one(small_store: SmallStore, tmp_path: Path) -> None:
    """What it says is what stands in the registry; a workload that wants none is refused before anything is written."""
    project = make_project(tmp_path / "project")
    file = project.root / "include/catalog/workloads/small.yaml"
    plain = file.read_text()
    file.write_text(f'{plain}registry: {{store: "{small_store.url}", artifacts: "{small_store.artifacts}"}}\n')
    error = project.refuse("canary", "write", "small")
    assert (error["kind"], error["exit_code"]) == ("UsageError", 2)
    assert query(small_store.url, TAGS) == [(0,)]
    file.write_text(file.read_text() + CANARY)
    told = project.ask("canary", "write", "small")
    found = read_canary(StoreUrl.parse(small_store.url), "small")
    assert (told["id"], datetime.fromisoformat(told["at"])) == (found.id, found.at)


def test_another_address_may_be_given_to_write_through(small_store: SmallStore, tmp_path: Path) -> None:
    """Whoever takes snapshots may only read; the server writes."""
    with LocalMlflowServer().serve(small_store.url, str(small_store.artifacts)) as uri:
        rest = f'canary: {{every: 5m, through: "{uri}"}}\n'
        platform = platform_of(tmp_path, "sqlite:////nobody/reads/this.db", small_store.artifacts, rest=rest)
        written = platform.write_canary(platform.catalog.workload("models"))
    assert read_canary(StoreUrl.parse(small_store.url), "models") == written


@pytest.mark.parametrize("engine", ["postgres", "mariadb"])
def test_servers_of_databases_take_canaries_too(engine: str, request: pytest.FixtureRequest) -> None:
    """The first makes the experiment, the second finds it; MLflow's own client sees both."""
    from mlflow import MlflowClient

    seeded = request.getfixturevalue(f"seeded_{'postgres' if engine == 'postgres' else 'mariadb'}")
    store, now = StoreUrl.parse(seeded.store), datetime.now(UTC)
    try:
        write_canary(store, "models", now)
        written = write_canary(store, "models", now + timedelta(minutes=5))
        assert read_canary(store, "models") == written
        seen = MlflowClient(driven(seeded.store), driven(seeded.store)).get_experiment_by_name(EXPERIMENT)
        assert seen is not None
        assert seen.tags["muster.canary.models"] == f"{written.at:%Y-%m-%dT%H:%M:%S.%f}+00:00 {written.id}"
    finally:  # the registry is there for other tests, too
        with connect(store).begin() as connection:
            ours = f"(SELECT experiment_id FROM experiments WHERE name = '{EXPERIMENT}')"
            connection.exec_driver_sql(f"DELETE FROM experiment_tags WHERE experiment_id IN {ours}")
            connection.exec_driver_sql(f"DELETE FROM experiments WHERE name = '{EXPERIMENT}'")
