"""The fidelity of a registry: how rows are counted as entities, what a view is, what the report says and shows."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from muster.adapters.mlflow_entities import EntityCount, entity_of, prompts_among
from muster.adapters.mlflow_fidelity import _differing, _id
from muster.adapters.mlflow_lines import Row, RowSum, line_of
from muster.adapters.mlflow_rows import Column, Table
from muster.adapters.mlflow_view import ExpectedView, View
from muster.cli.wording import report_lines
from muster.codec import from_json
from muster.domain.fidelity import (
    ClientLine,
    Counted,
    Difference,
    EntityLine,
    FidelityReport,
    FilesLine,
    TableLine,
)
from muster.errors import IntegrityError, Unfaithful
from muster.report import render_fidelity, render_report
from report_pages import Page, a_report

THREE, TWO = Counted(3, "ab" * 32), Counted(2, "cd" * 32)


def a_fidelity() -> FidelityReport:
    """Of a registry that came back as it was."""
    return FidelityReport(
        engines=("sqlite", "postgresql"),
        tables=(TableLine("runs", TWO, THREE, THREE, mapped=3), TableLine("params", TWO, TWO, TWO)),
        entities=(EntityLine("runs", ("runs",), THREE, THREE), EntityLine("params", ("params",), TWO, TWO)),
        artifacts_captured=FilesLine(4, 2048, "ef" * 32),
        artifacts_restored=FilesLine(4, 2048, "ef" * 32),
        client=(ClientLine("runs", THREE, THREE), ClientLine("params", TWO, TWO)),
        left_out={"job_locks": "locks of server processes that run no more"},
        component="registry/flights",
    )


def table(name: str, columns: str, key: str) -> Table:
    return Table(name, tuple(Column(c, "text", True) for c in columns.split()), tuple(key.split()))


def counted(prompts: frozenset[tuple[Any, Any]], tables: Iterable[tuple[Table, list[Row]]]) -> dict[str, int]:
    count = EntityCount(prompts)
    for one, rows in tables:
        takers = count.takers(one)
        for row in rows:
            for take in takers:
                take(row, line_of(row))
        count.done(one.name, RowSum(len(rows), "00" * 32), one.name)
    return {kind: total.count for kind, (_, total) in count.totals().items()}


# --- counting ---------------------------------------------------------------------------------------------------------


def test_rows_are_counted_as_what_people_call_them() -> None:
    """Deleted things, prompts and gaps stand apart; tables nobody knows stand under their own names."""
    tags = table("registered_model_tags", "workspace name key value", "workspace key name")
    prompts = prompts_among([["default", "p", "mlflow.prompt.is_prompt", "true"], ["default", "m", "a", "b"]], tags)
    versions = table("model_versions", "workspace name version current_stage", "workspace name version")
    found = counted(
        prompts,
        [
            (
                table("runs", "run_uuid lifecycle_stage", "run_uuid"),
                [["a", "active"], ["b", "deleted"], ["c", "active"]],
            ),
            (table("registered_models", "workspace name", "workspace name"), [["default", "m"], ["default", "p"]]),
            (
                versions,
                [
                    ["default", "m", 2, "None"],
                    ["default", "m", 5, "Deleted_Internal"],
                    ["default", "p", 1, "None"],
                    ["other", "p", 1, "None"],
                ],
            ),
            (table("metrics", "key", "key"), [["k"]]),
            (table("experiment_tags", "key", "key"), [["k"]]),
            (table("tags", "key", "key"), [["k"], ["l"]]),
            (table("site_notes", "id", "id"), [["1"]]),
        ],
    )
    assert found == {
        "runs": 2,
        "deleted runs": 1,
        "registered models": 1,
        "prompts": 1,
        "model versions": 2,
        "deleted model versions": 1,
        "prompt versions": 1,
        "gaps in version numbers": 4,  # 1, 3, 4 and 5 of m
        "metric history points": 1,
        "tags of experiments and runs": 3,
        "site_notes": 1,
    }
    assert entity_of("site_notes") == "site_notes"


def test_rows_that_differ_are_told_by_their_keys() -> None:
    """Lost, added and changed rows, in any mixture, with nulls before all else; ids are cut, values are not told."""
    one = table("params", "key run value", "key run")
    due: list[Row] = [[None, "r", "1"], ["a", "r", "1"], ["b", "r", "1"], ["d", "r", "1"]]
    there: list[Row] = [["a", "r", "2"], ["c", "r", "1"], ["d", "r", "1"], ["e", "r", "1"]]
    told = [(row[0], what) for row, what in _differing(one, iter(due), iter(there))]
    assert told == [
        (None, "is lost"),
        ("a", "differs in value"),
        ("b", "is lost"),
        ("c", "was not captured"),
        ("e", "was not captured"),
    ]
    assert list(_differing(one, iter(due), iter(due))) == []
    assert _id(one, ["k" * 500, "r", "secret"]) == f"key {'k' * 80}…, run r"
    nameless = _id(table("tokens", "token", ""), ["secret"])
    assert nameless.startswith("with digest ")
    assert "secret" not in nameless


# --- views ------------------------------------------------------------------------------------------------------------


def test_a_view_knows_no_order_and_notices_everything_else() -> None:
    """The same items in another order are the same view; one item more, less, twice or otherwise is another."""

    def seen(*items: tuple[str, Any]) -> View:
        view = View()
        for id_, item in items:
            view.add("params", id_, ["alpha", item])
        return view

    base = seen(("a", 1), ("a", 2), ("b", 3))
    assert seen(("b", 3), ("a", 2), ("a", 1)).counted("params") == base.counted("params")
    for other, told in (
        (seen(("a", 1), ("a", 2)), [("b", "is lost")]),
        (seen(("a", 1), ("a", 2), ("b", 3), ("c", 1)), [("c", "was not captured")]),
        (seen(("a", 1), ("a", 1), ("b", 3)), [("a", "is shown otherwise")]),
        (seen(("a", 1), ("a", 2), ("b", 3), ("b", 3)), [("b", "is shown otherwise")]),
    ):
        assert list(base.differing("params", other)) == told
        assert other.counted("params") != base.counted("params")
    assert list(seen(("a", 1), ("a", 1)).differing("params", seen(("a", 2), ("a", 2)))) == [("a", "is shown otherwise")]


def test_rows_tell_what_a_client_must_see() -> None:
    """Not what is deleted for good or hangs on nothing; of another workspace under its name; a run without a name has that of its tag."""
    expected = ExpectedView()

    def tell(name: str, rows: list[dict[str, Any]]) -> None:
        one = table(name, " ".join(rows[0]), "")
        for row in rows:
            for take in expected.takers(one):
                take(list(row.values()), b"")

    times = {"creation_time": 1, "last_updated_time": 2}
    run = {"status": "FINISHED", "user_id": "u", "artifact_uri": "/a", "start_time": 1, "end_time": None}
    tell("experiments", [{"experiment_id": 1, "name": "e", "artifact_location": "/e", "lifecycle_stage": "deleted"}])
    tell(
        "runs",
        [
            {"run_uuid": r, "experiment_id": e, "lifecycle_stage": "active", "name": name, **run}
            for r, e, name in (("r", 1, ""), ("orphan", 2, "n"))
        ],
    )
    tell("tags", [{"run_uuid": r, "key": "mlflow.runName", "value": "named"} for r in ("r", "orphan")])
    tell("latest_metrics", [{"run_uuid": "r", "key": "k", "value": 0.0, "is_nan": True}])
    tell("registered_models", [{"workspace": w, "name": "m", "description": None, **times} for w in ("default", "x")])
    rest = dict.fromkeys(("source", "run_id", "status", "description", "user_id", "run_link"))
    tell(
        "model_versions",
        [
            {"workspace": w, "name": "m", "version": v, "current_stage": stage, **rest, **times}
            for w, v, stage in (("default", 1, "None"), ("default", 2, "Deleted_Internal"), ("x", 7, "None"))
        ],
    )
    aliased = [{"workspace": w, "name": "m", "alias": "a", "version": v} for w, v in (("x", 7), ("gone", 1))]
    tell("registered_model_aliases", aliased)
    view, seen = expected.finished(), View()
    seen.add("runs", "r", ["1", "FINISHED", "active", "u", "/a", 1, None])
    seen.add("runs", "r", ["name", "named"])
    seen.add("latest metrics", "r", ["k", repr(float("nan"))])
    seen.add("model versions", "m/1", [None, None, None, "None", None, None, None, 1, 2])
    seen.add("model versions", "x/m/7", [None, None, None, "None", None, None, None, 1, 2])
    for kind in ("runs", "latest metrics", "model versions"):
        assert list(view.differing(kind, seen)) == []
    assert {kind: sorted(ids) for kind, ids in view.kinds.items()} == {
        "experiments": ["1"],
        "runs": ["r"],
        "run tags": ["r"],
        "latest metrics": ["r"],
        "registered models": ["m", "x/m"],
        "model versions": ["m/1", "x/m/7"],
        "aliases": ["x/m"],
    }


# --- the report -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "worse",
    [
        {"tables": (TableLine("runs", THREE, THREE, TWO),)},
        {"entities": (EntityLine("runs", ("runs",), THREE, TWO),)},
        {"client": (ClientLine("runs", THREE, TWO),)},
        {"artifacts_restored": FilesLine(3, 2048, "ef" * 32)},
        {"differing": 1, "differences": (Difference("runs", "runs", "r1", "is lost"),)},
    ],
    ids=lambda given: next(iter(given)),
)
def test_any_difference_is_the_verdict(worse: dict[str, Any]) -> None:
    """A table, an entity, a client's view, a file, or a finding: each alone fails the restore as an error of integrity."""
    a_fidelity().require_identical()
    report = replace(a_fidelity(), **worse)
    with pytest.raises(Unfaithful, match="is not what was captured") as caught:
        report.require_identical()
    assert isinstance(caught.value, IntegrityError)
    assert caught.value.report == report


def test_the_json_is_the_report_and_its_verdict() -> None:
    """It can be read back as the same report."""
    document = json.loads(render_fidelity(a_fidelity(), a_report())[0])
    assert (document.pop("identical"), document.pop("verdict")) == (True, "identical")
    assert from_json(FidelityReport, document) == a_fidelity()


def test_the_page_shows_both_sides_of_everything() -> None:
    """Verdict, entities, tables with what was mapped, the client's view, artifacts, and what is never carried."""
    page = Page(render_fidelity(a_fidelity(), a_report())[1])
    assert page.stack == []
    for told in (
        "Fidelity of registry/flights identical",
        "sqlite to postgresql",
        "runs 2 cdcdcdcdcdcd 3 0 3 abababababab 3 abababababab same",
        "params 2 cdcdcdcdcdcd 2 cdcdcdcdcdcd same params",
        "artifacts 4 efefefefefef 4 efefefefefef same",
        "2 of 2 kinds of things are the same",
        "job_locks never carried: locks of server processes that run no more",
    ):
        assert told in page.words
    assert "different" not in page.words.replace("0 different", "")


def test_the_page_needs_nothing_from_outside_and_names_cannot_become_markup() -> None:
    """One file that loads and runs nothing, whatever the restored names are."""
    evil = Difference("<b>t</b>", '"><img src=x>', "<script>alert(1)</script>", "is lost")
    unseen = ClientLine("runs", THREE, None, "<i>Exception</i>")
    report = replace(
        a_fidelity(), differences=(evil,), differing=150, component="<u>", client=(unseen,), left_out={"<s>": "<em>"}
    )
    html = render_fidelity(report, replace(a_report(), workload="<h3>", target="<h4>"))[1]
    page = Page(html)
    assert page.loads == []
    assert not {"script", "link", "img", "iframe", "object", "b>t", "u", "s", "i", "em", "h3", "h4"} & set(page.tags)
    assert "<script>alert(1)</script>" in page.words
    assert "150 things differ" in page.words
    assert "and 149 more" in page.words
    assert b"@media print" in html
    assert b"url(" not in html


def test_a_restore_tells_the_fidelity_in_a_line() -> None:
    """The command line shows one line, the report of the restore a row, the mark the same line; a failed one says what differs."""
    report = a_report()
    dataset, registry = report.components
    whole = replace(report, components=(dataset, replace(registry, fidelity=a_fidelity())))
    line = "identical; 5 rows of 2 tables, 4 artifacts, 2 kinds as MLflow's client sees them"
    assert f"fidelity of registry/flights: {line}" in [str(one) for one in report_lines(whole)]
    assert line in Page(render_report(whole)[1]).words
    assert whole.summary()["fidelity"] == {"registry/flights": line}
    lost = Difference("runs", "runs", "run_uuid r1", "is lost")
    failed = replace(report, unfaithful=(replace(a_fidelity(), differences=(lost,), differing=1),))
    assert "1 difference: runs run_uuid r1 is lost (runs)" in failed.summary()["fidelity"]["registry/flights"]
    assert "different, and was removed again" in Page(render_report(failed)[1]).words
    assert a_report().summary()["fidelity"] == {}
    assert "Fidelity" not in Page(render_report(a_report())[1]).words


def test_what_came_through_an_api_is_told_as_that() -> None:
    """No rows, no client: what the API shows, and all that it does not let one set."""
    changed = ("runs, id: 3, a new one; see id_map", "artifacts, times: 4, the time of the restore")
    report = replace(a_fidelity(), tables=(), client=(), left_out={}, changed=changed)
    assert report.identical
    assert report.line == (
        "identical but for 2 kinds of facts that an API does not let one set; 5 things and 4 artifacts as the API shows them"
    )
    assert "INCOMPLETE since the point was taken: a model" in replace(report, missing=("a model",)).line
    text = Page(render_fidelity(report, a_report())[1]).words
    assert all(one in text for one in changed)
    assert "As the API shows it 5 things, of 2 kinds" in text
    assert "Table by table" not in text
    assert "rows" not in text.lower()
