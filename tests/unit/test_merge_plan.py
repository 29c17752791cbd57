"""What is decided about a row that comes back: the pure part of moving models back, and which models are meant."""

from __future__ import annotations

from typing import Any

import pytest

from muster.domain.merge_plan import ALIASES, PROMPT_TAGS, Conflict, MergePlan, judge
from muster.domain.selection import Wanted, label_of, means, same_part, selected
from muster.errors import NotFound, Refused, UsageError

VERSION = ("name", "version", "source", "run_id", "description", "current_stage", "creation_time", "last_updated_time")
STORED = ["m", 3, "models:/m-1", "r1", "words", "None", 7, 8]
TOMBSTONE = ["m", 3, "REDACTED-SOURCE-PATH", "REDACTED-RUN-ID", None, "Deleted_Internal", 7, 99]
RUN = ("run_uuid", "name", "status", "end_time", "lifecycle_stage", "deleted_time", "artifact_uri", "experiment_id")


def changed(row: list[Any], columns: tuple[str, ...], **values: Any) -> list[Any]:
    return [values.get(column, value) for column, value in zip(columns, row, strict=True)]


def test_a_row_that_is_gone_is_added() -> None:
    """As it was."""
    verdict = judge("model_versions", VERSION, STORED, None)
    assert (verdict.action, verdict.due) == ("add", STORED)


def test_the_time_of_the_last_change_is_no_difference() -> None:
    """MLflow sets it when something near the row changes; what is there stays there."""
    live = changed(STORED, VERSION, last_updated_time=99)
    verdict = judge("model_versions", VERSION, STORED, live)
    assert (verdict.action, verdict.due) == ("equal", live)


def test_an_alias_that_points_elsewhere_is_moved() -> None:
    """It is the only row that is written over."""
    verdict = judge(ALIASES, ("name", "alias", "version"), ["m", "champion", 3], ["m", "champion", 1])
    assert (verdict.action, verdict.due) == ("move", ["m", "champion", 3])


def test_what_mlflow_leaves_of_a_deleted_version_is_filled() -> None:
    """The time of its creation is still there, and says that it is the same one."""
    verdict = judge("model_versions", VERSION, STORED, TOMBSTONE)
    assert (verdict.action, verdict.due) == ("revive", STORED)


def test_the_rest_of_another_version_of_that_number_is_a_conflict() -> None:
    """Made at another time: another version, of a model that was registered anew."""
    verdict = judge("model_versions", VERSION, STORED, changed(TOMBSTONE, VERSION, creation_time=50))
    assert (verdict.action, verdict.keepable) == ("conflict", False)


def test_a_version_that_was_deleted_at_the_point_and_lives_now_stays() -> None:
    """Going back deletes nothing."""
    assert judge("model_versions", VERSION, TOMBSTONE, STORED).action == "left"


@pytest.mark.parametrize(("column", "keepable"), [("description", True), ("source", False), ("run_id", False)])
def test_words_may_be_kept_and_identity_not(column: str, keepable: bool) -> None:
    """What a version is made of is what it is."""
    verdict = judge("model_versions", VERSION, STORED, changed(STORED, VERSION, **{column: "other"}))
    assert (verdict.action, verdict.differing, verdict.keepable) == ("conflict", (column,), keepable)


@pytest.mark.parametrize(
    ("key", "keepable"), [("mlflow.prompt.text", False), ("_mlflow_prompt_type", False), ("team", True)]
)
def test_of_a_prompt_the_tag_is_the_content(key: str, keepable: bool) -> None:
    """With another text there, the name would lead to another prompt."""
    columns = ("name", "version", "key", "value")
    verdict = judge("model_version_tags", columns, ["p", 1, key, "a"], ["p", 1, key, "b"])
    assert (verdict.action, verdict.keepable) == ("conflict", keepable)


def test_the_tags_of_prompts_are_mlflows() -> None:
    """As the MLflow that is installed calls them."""
    from mlflow.prompt import constants

    kept = {constants.PROMPT_ASSOCIATED_RUN_IDS_TAG_KEY, constants.PROMPT_EXPERIMENT_IDS_TAG_KEY}
    assert {value for name, value in vars(constants).items() if name.endswith("TAG_KEY")} - kept == PROMPT_TAGS


def test_a_deleted_run_lives_again_and_keeps_what_else_was_changed() -> None:
    """Left deleted, it would be collected with its model; but a run of another place is another run."""
    stored = ["r1", "train", "RUNNING", None, "active", None, "/a/r1", 1]
    gone = changed(stored, RUN, lifecycle_stage="deleted", deleted_time=5)
    verdict = judge("runs", RUN, stored, gone)
    assert (verdict.action, verdict.due, verdict.staying) == ("revive", stored, ())
    gone = changed(gone, RUN, name="other", status="FINISHED", end_time=4)
    verdict = judge("runs", RUN, stored, gone)
    assert (verdict.action, verdict.staying) == ("revive", ("name", "status", "end_time"))
    assert verdict.due == changed(gone, RUN, lifecycle_stage="active", deleted_time=None)
    verdict = judge("runs", RUN, stored, changed(gone, RUN, artifact_uri="/b"))
    assert (verdict.action, verdict.keepable) == ("conflict", False)


@pytest.mark.parametrize(
    ("then", "now", "action"),
    [("RUNNING", "FINISHED", "left"), ("SCHEDULED", "KILLED", "left"), ("FINISHED", "FAILED", "conflict")],
)
def test_a_run_that_merely_ended_since_is_no_conflict(then: str, now: str, action: str) -> None:
    """A point may be taken while it goes on; what had ended at the point ends no other way."""
    stored = ["r1", "train", then, None, "active", None, "/a/r1", 1]
    live = changed(stored, RUN, status=now, end_time=4)
    verdict = judge("runs", RUN, stored, live)
    assert (verdict.action, verdict.due, verdict.differing) == (action, live, ("status", "end_time"))
    assert judge("runs", RUN, stored, changed(live, RUN, name="other")).action == "conflict"


@pytest.mark.parametrize(("key", "action"), [("mlflow.modelVersions", "left"), ("team", "conflict")])
def test_where_else_a_model_was_registered_since_is_no_conflict(key: str, action: str) -> None:
    """MLflow lists that in a tag of the logged model, which nobody changed; other tags somebody did."""
    columns = ("model_id", "experiment_id", "tag_key", "tag_value")
    assert judge("logged_model_tags", columns, ["m-1", 1, key, "a"], ["m-1", 1, key, "b"]).action == action


@pytest.mark.parametrize(("then", "action"), [(1, "left"), (2, "conflict")])
def test_a_model_that_was_finished_since_is_no_conflict(then: int, action: str) -> None:
    """As with a run: what was written at the point is ready now."""
    columns = ("model_id", "status", "status_message")
    assert judge("logged_models", columns, ["m-1", then, None], ["m-1", 3, "disk full"]).action == action


@pytest.mark.parametrize(
    ("step", "time", "action"), [(2, 7, "left"), (1, 8, "left"), (1, 7, "conflict"), (0, 9, "conflict")]
)
def test_a_metric_that_was_logged_again_is_no_conflict(step: int, time: int, action: str) -> None:
    """MLflow keeps the latest value besides all of them; one that is not later was written by somebody else."""
    columns = ("run_uuid", "key", "value", "timestamp", "step", "is_nan")
    assert (
        judge("latest_metrics", columns, ["r1", "mae", 0.5, 7, 1, False], ["r1", "mae", 0.0, time, step, True]).action
        == action
    )


def test_a_run_that_was_deleted_at_the_point_and_lives_now_stays() -> None:
    """Going back deletes nothing."""
    stored = ["r1", "train", "FINISHED", 4, "deleted", 5, "/a/r1", 1]
    assert (
        judge("runs", RUN, stored, changed(stored, RUN, lifecycle_stage="active", deleted_time=None)).action == "left"
    )


EXPERIMENT = ("experiment_id", "name", "lifecycle_stage", "creation_time")


def test_a_renamed_experiment_stays_renamed() -> None:
    """It holds others as well; its time of creation says that it is the same."""
    verdict = judge("experiments", EXPERIMENT, [1, "a", "active", 7], [1, "b", "active", 7])
    assert (verdict.action, verdict.due) == ("left", [1, "b", "active", 7])


def test_a_deleted_experiment_lives_again_under_its_present_name() -> None:
    """Else MLflow would collect it with the runs that come back."""
    verdict = judge("experiments", EXPERIMENT, [1, "a", "active", 7], [1, "b", "deleted", 7])
    assert (verdict.action, verdict.due) == ("revive", [1, "b", "active", 7])


@pytest.mark.parametrize("live", [[1, "a", "active", 8], [1, "b", "active", None]])
def test_another_experiment_of_the_same_number_is_a_conflict(live: list[Any]) -> None:
    """Told by its creation; in old stores, which do not know that, by its name."""
    stored = [1, "a", "active", live[3] and 7]
    verdict = judge("experiments", EXPERIMENT, stored, live)
    assert (verdict.action, verdict.keepable) == ("conflict", False)


WORDS = Conflict("tags", "a/r1", "has another value now", keepable=True)
IDENTITY = Conflict("model_versions", "m/3", "has another source now", keepable=False)


def test_every_conflict_is_named_in_one_refusal() -> None:
    """Whoever mends one does not learn of the next one afterwards."""
    with pytest.raises(Refused, match=r"in 2 places: tags a/r1[\s\S]*model_versions m/3"):
        MergePlan(("m",), conflicts=(WORDS, IDENTITY)).approve("refuse")


def test_the_rule_lets_words_pass_and_nothing_else() -> None:
    """With `keep`, identity is still refused, and the hint does not offer what would not help."""
    MergePlan(("m",), conflicts=(WORDS,)).approve("keep")
    with pytest.raises(Refused, match="in 1 places: model_versions m/3") as caught:
        MergePlan(("m",), conflicts=(WORDS, IDENTITY)).approve("keep")
    assert "keep" not in caught.value.hint


# --- which models -----------------------------------------------------------------------------------------------------

MODELS: dict[str, dict[str, int]] = {
    "flight-delay": {"champion": 3},
    "flight-price": {},
    "team/weather": {"champion": 1},
}


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["flight-delay"], {"flight-delay": None}),
        (["flight-*"], {"flight-delay": None, "flight-price": None}),
        (["flight-*@champion"], {"flight-delay": {"champion"}}),
        (["team/weather@champion"], {"team/weather": {"champion"}}),
        (["flight-delay@champion", "flight-delay"], {"flight-delay": None}),
    ],
)
def test_models_are_meant_by_name_pattern_and_alias(texts: list[str], found: dict[str, Any]) -> None:
    """A whole model is more than one of its aliases, in whatever order they are named."""
    for order in (texts, texts[::-1]):
        assert selected([Wanted.parse(text) for text in order], MODELS) == found


def test_what_is_not_there_is_answered_with_what_is() -> None:
    """A model, or an alias of those that match."""
    with pytest.raises(NotFound, match=r"no registered model fligth[\s\S]*flight-delay"):
        selected([Wanted("fligth")], MODELS)
    with pytest.raises(NotFound, match=r"flight-price has no alias champion[\s\S]*it has: none"):
        selected([Wanted("flight-price", "champion")], MODELS)


@pytest.mark.parametrize("text", ["", "@champion", "model@"])
def test_half_a_name_is_a_usage_error(text: str) -> None:
    """An empty name or alias means nothing."""
    with pytest.raises(UsageError, match="names no registered model"):
        Wanted.parse(text)


def test_models_of_other_workspaces_carry_their_name() -> None:
    """As in the details of a point."""
    assert (label_of(None, "m"), label_of("default", "m"), label_of("team", "m")) == ("m", "m", "team/m")


# --- what a point was asked for ---------------------------------------------------------------------------------------


def test_a_point_is_meant_to_have_what_it_was_asked_for() -> None:
    """A whole store all of it; else what it has as a whole, and what a pattern means that matches nothing just now."""
    assert means(None, "weather")
    part = {"models": ["flight-delay"], "asked": ["flight-*"]}
    assert [means(part, label) for label in ("flight-delay", "flight-gone", "weather")] == [True, True, False]
    assert not means({"models": ["flight-delay"]}, "flight-gone")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (None, None, True),
        (None, {"models": ["a"], "asked": ["a"]}, False),
        ({"models": ["a"], "asked": ["*"]}, {"models": ["a", "b"], "asked": ["*"]}, True),
        ({"models": ["a"], "asked": ["*"]}, {"models": ["a"], "asked": ["a"]}, False),
        ({"models": ["a"]}, {"models": ["a"], "asked": ["a*"]}, True),
        ({"models": ["a"]}, {"models": ["b"], "asked": ["*"]}, False),
    ],
)
def test_two_points_are_of_the_same_models_if_the_same_was_asked(one: Any, other: Any, same: bool) -> None:
    """Whichever of them there were; of a point that does not tell what was asked, those that it has count."""
    assert same_part(one, other) is same_part(other, one) is same
