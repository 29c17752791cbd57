"""A model of a registry in use, moved back to what it was at a point, while nothing else changes."""

from __future__ import annotations

from live_registries import MODEL, OTHER, LiveRegistry
from muster.domain.merge_plan import AliasMove
from registry_seed import query


def rows_apart(state: dict[str, list[str]]) -> dict[str, list[str]]:
    """All rows but that of the model itself: MLflow notes there when it was touched last, and a rollback leaves it."""
    return {name: [r for r in rows if name != "registered_models" or MODEL not in r] for name, rows in state.items()}


def test_a_deleted_version_comes_back_with_its_run_and_its_alias(live: LiveRegistry) -> None:
    """Same number, same ids, same files; it answers bit by bit as it did; every other row and file is what it was."""
    rows, files = live.state()
    run, model = live.lose_a_version()
    harmed = live.state()
    plan = live.plan(f"{MODEL}@champion")
    assert live.state() == harmed
    assert plan.aliases == (AliasMove(MODEL, "champion", 1, 3),)
    assert {(c.table, c.id) for c in plan.added} == {("runs", run), ("logged_models", model)}
    assert [(c.table, c.id) for c in plan.revived] == [("model_versions", f"{MODEL}/3")]
    assert plan.conflicts == ()
    assert live.roll_back(f"{MODEL}@champion") == plan
    assert rows_apart(live.state()[0]) == rows_apart(rows)
    assert live.state()[1] == files
    for uri in (f"models:/{MODEL}@champion", f"models:/{MODEL}/3", f"models:/{model}"):
        assert live.ask(uri) == live.answers[f"models:/{MODEL}@champion"]
    assert live.ask(f"models:/{OTHER}@champion") == live.answers[f"models:/{OTHER}@champion"]
    assert live.client.get_run(run).info.run_id == run


def test_done_twice_it_changes_nothing(live: LiveRegistry) -> None:
    """The second time everything is there."""
    live.lose_a_version()
    live.roll_back(f"{MODEL}@champion")
    after = live.state()
    again = live.roll_back(f"{MODEL}@champion")
    assert not again.changes
    assert sum(line.equal for line in again.tables) > 20
    assert live.state() == after


def test_a_moved_alias_is_all_that_changes(live: LiveRegistry) -> None:
    """Where the version is still there, one row is written."""
    before = live.state()
    live.client.set_registered_model_alias(MODEL, "champion", "1")
    plan = live.roll_back(f"{MODEL}@champion")
    assert [(t.table, t.add, t.change) for t in plan.tables if t.add or t.change] == [
        ("registered_model_aliases", 0, 1)
    ]
    assert plan.artifacts.add == 0
    assert live.state() == before


def test_a_whole_model_comes_back_after_it_was_deleted(live: LiveRegistry) -> None:
    """All versions, the numbers of deleted ones too, aliases and tags; the next version gets the next number."""
    rows, files = live.state()
    live.client.delete_registered_model(MODEL)
    plan = live.roll_back("flight-*")
    assert ("registered_models", MODEL) in {(c.table, c.id) for c in plan.added}
    assert {(m.alias, m.after) for m in plan.aliases} == {("champion", 3), ("challenger", 1)}
    assert live.state() == (rows, files)
    assert live.client.create_model_version(MODEL, str(live.artifacts)).version == 4


def test_a_deleted_run_that_was_renamed_lives_again_under_its_new_name(live: LiveRegistry) -> None:
    """What merely differs does not leave it deleted, for MLflow would collect it, and the model with it; what stays is said."""
    client = live.client
    run = client.get_model_version(MODEL, "3").run_id
    client.update_run(run, status="FAILED", name="renamed")
    client.delete_run(run)
    plan = live.roll_back(f"{MODEL}@champion", rule="keep")
    assert [(c.table, c.id) for c in plan.revived] == [("runs", run)]
    assert ("runs", run, ("name", "status")) in {(c.table, c.id, c.columns) for c in plan.left}
    assert [(c.where, c.keepable) for c in plan.conflicts] == [("tags", True)]
    info = client.get_run(run).info
    assert (info.lifecycle_stage, info.run_name, info.status) == ("active", "renamed", "FAILED")
    assert query(live.url, f"SELECT deleted_time FROM runs WHERE run_uuid = '{run}'")[0][0] is None


def test_a_model_that_was_registered_elsewhere_too_comes_back(live_sqlite: LiveRegistry) -> None:
    """MLflow has noted that in a tag of the logged model, which stays as it is and is named."""
    import mlflow

    live = live_sqlite
    source = live.client.get_model_version(MODEL, "3").source
    mlflow.register_model(source, "another-name")
    live.client.set_registered_model_alias(MODEL, "champion", "1")
    plan = live.roll_back(f"{MODEL}@champion")
    assert [c.table for c in plan.left] == ["logged_model_tags"]
    assert int(live.client.get_model_version_by_alias(MODEL, "champion").version) == 3
    assert "another-name" in live.client.get_logged_model(source.removeprefix("models:/")).tags["mlflow.modelVersions"]


def test_numbers_go_on_after_an_experiment_came_back(live: LiveRegistry) -> None:
    """A number that was put in by hand is not given out again."""
    live.lose_a_version()
    live.roll_back(MODEL)
    highest = query(live.url, "SELECT max(experiment_id) FROM experiments")[0][0]
    assert int(live.client.create_experiment("next")) == highest + 1
