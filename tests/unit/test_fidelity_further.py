"""What rows of MCP servers, questions and the gateway tell a client to see, and what they leave open."""

from __future__ import annotations

from typing import Any

import pytest

from muster.adapters.mlflow_client import ClientView
from muster.adapters.mlflow_fidelity import _compare_views, _Findings
from muster.adapters.mlflow_rows import Column, Table
from muster.adapters.mlflow_view import ExpectedView, View
from muster.adapters.mlflow_view_further import FURTHER, FURTHER_KINDS, FurtherRows, fallback_of, input_of, rounded
from muster.adapters.mlflow_view_mcp import parsed, text_of, tools_of

STAMPS = dict.fromkeys(("created_by", "last_updated_by", "created_at", "last_updated_at"), 1)
SERVER = {"name": "s", "display_name": None, "description": None, "icons": "null", **STAMPS}
VERSION = {"name": "s", "server_json": "{}", "tools": None, "connect_options": None, "source": None, **STAMPS}


def told(rows: dict[str, list[dict[str, Any]]]) -> View:
    """The view of these rows, table by table."""
    expected = ExpectedView()
    for name, some in rows.items():
        for row in some:
            table = Table(name, tuple(Column(column, "text", True) for column in row), ())
            for take in expected.takers(table):
                take(list(row.values()), b"")
    return expected.finished()


def version(number: str, status: str = "active", suffix: str = "~", created_at: int = 1) -> dict[str, Any]:
    major, minor, patch = map(int, number.partition("-")[0].split("."))
    ordered = {"version_major": major, "version_minor": minor, "version_patch": patch}
    ordered |= {"version_prerelease_sort_key": suffix, "created_at": created_at}
    return {**VERSION, **ordered, "version": number, "status": status}


@pytest.mark.parametrize(
    ("versions", "newest"),
    [
        ([version("1.9.0"), version("1.10.0")], "1.10.0"),
        ([version("1.0.0"), version("2.0.0", "draft"), version("3.0.0", "deleted")], "1.0.0"),
        ([version("1.0.0", "draft"), version("2.0.0", "deprecated")], "2.0.0"),
        ([version("1.0.0", created_at=2), version("1.0.0-x", created_at=1)], "1.0.0"),
        ([version("1.0.0-a", suffix="a"), version("1.0.0-b", suffix="b")], None),
        ([version("1.0.0"), version("1.0.0-x")], None),
    ],
)
def test_the_newest_version_is_told_where_no_order_of_text_decides(
    versions: list[dict[str, Any]], newest: str | None
) -> None:
    """Active before others, by number, by time; where a collation has the last word, version and description are left open."""
    view, seen = told({"mcp_servers": [SERVER], "mcp_server_versions": versions}), View()
    open_ = {("newest MCP versions", "s"), ("MCP server descriptions", "s")}
    assert view.left_open == (set() if newest else open_)
    if newest:
        seen.add("newest MCP versions", "s", [newest, next(v["status"] for v in versions if v["version"] == newest)])
        assert list(view.differing("newest MCP versions", seen)) == []


def test_access_endpoints_that_lead_nowhere_are_not_shown() -> None:
    """By version, by alias or to the newest one; a deleted version is none, and one that says both ways is left open."""
    rest = {"server_name": "s", "url": "u", "transport_type": "sse", **STAMPS}
    ways = {
        "version": ("1.0.0", None),
        "deleted": ("2.0.0", None),
        "alias": (None, "live"),
        "dangling": (None, "old"),
        "unknown": (None, "none"),
        "latest": (None, "latest"),
        "both": ("1.0.0", "old"),
    }
    endpoints = [{"id": id_, "server_version": v, "server_alias": alias, **rest} for id_, (v, alias) in ways.items()]
    aliases = [{"name": "s", "alias": a, "version": v} for a, v in (("live", "1.0.0"), ("old", "2.0.0"))]
    tables = {"mcp_servers": [SERVER], "mcp_server_versions": [version("1.0.0"), version("2.0.0", "deleted")]}
    view = told({**tables, "mcp_access_endpoints": endpoints, "mcp_server_aliases": aliases})
    assert set(view.kinds["MCP access endpoints"]) == {"version", "alias", "latest"}
    assert view.left_open == {("MCP access endpoints", "both")}


def test_nothing_of_an_endpoint_without_a_model_is_shown() -> None:
    """Nor a guardrail of another workspace; what is bound to an endpoint that is gone is left open."""
    endpoint = {"name": "e", "routing_strategy": None, "fallback_config_json": "", "experiment_id": None, **STAMPS}
    mapping = {"mapping_id": "m", "model_definition_id": "d", "linkage_type": "PRIMARY", "fallback_order": None}
    binding = {"resource_type": "scorer", "resource_id": "s", "display_name": None, **STAMPS}
    config = {"guardrail_id": "g", "execution_order": 1, "created_by": None, "created_at": 1}
    view = told(
        {
            "endpoints": [{"endpoint_id": id_, "usage_tracking": True, **endpoint} for id_ in ("full", "bare")],
            "endpoint_model_mappings": [{"endpoint_id": "full", "weight": 0.5, **mapping, **STAMPS}],
            "endpoint_tags": [{"endpoint_id": id_, "key": "k", "value": "v"} for id_ in ("full", "bare", "gone")],
            "endpoint_bindings": [{"endpoint_id": id_, **binding} for id_ in ("full", "bare", "gone")],
            "guardrail_configs": [
                {"endpoint_id": id_, "workspace": w, **config} for id_, w in (("full", "x"), ("bare", "default"))
            ],
        }
    )
    gateway = {kind: set(ids) for kind, ids in view.kinds.items() if kind.startswith("gateway") and ids}
    assert gateway == {
        "gateway endpoints": {"full"},
        "gateway endpoint models": {"full"},
        "gateway endpoint tags": {"full"},
        "gateway bindings": {"full", "bare", "gone"},
    }
    assert view.left_open == {("gateway bindings", "gone")}


def test_values_that_mlflow_does_not_understand_are_told_as_nothing() -> None:
    """Rows never fail the comparison: text that is no JSON, and JSON that is not what it should be."""
    assert parsed("{") is parsed(None) is parsed("[" * 100_000) is None
    assert parsed(7) is None
    assert text_of(parsed('{"b": 1, "a": NaN}')) == text_of(parsed('{"a": NaN, "b": 1}'))
    assert tools_of({"name": "t"}) == tools_of(None) == "null"
    assert tools_of([7, {"name": "t", "title": None, "unknown": 1}]) == '[{"name": "t"}]'
    assert input_of("text", ["max_length"]) == input_of("text", {"max_length": None, "other": 1}) == '["text", {}]'
    assert input_of("unknown", {"max_length": 1}) == '["unknown", {}]'
    assert fallback_of([]) is fallback_of(None) is None
    assert fallback_of({"strategy": ""}) == [None, None]
    assert [rounded({"float": "nan"}), rounded(0.1), rounded(0.10000000149011612)] == ["nan", "0.1", "0.1"]


def test_no_secret_and_no_mask_of_one_is_looked_at() -> None:
    """Whatever stands in the columns that hold them, the view is the same."""

    def view(value: str) -> View:
        named = {"secret_id": "s", "secret_name": "n", "provider": None, **STAMPS}
        hook = {"webhook_id": "w", "name": "n", "url": "u", "description": None, "status": "ACTIVE"}
        times = dict.fromkeys(("creation_timestamp", "last_updated_timestamp", "deleted_timestamp"))
        masks = dict.fromkeys(("encrypted_value", "wrapped_dek", "masked_value", "auth_config"), value)
        return told({"secrets": [named | masks], "webhooks": [hook | times | {"secret": value}]})

    one, other = view("sk-1"), view("sk-2")
    kinds = [kind for some in FURTHER.values() for kind in some]
    assert [one.counted(kind) for kind in kinds] == [other.counted(kind) for kind in kinds]
    assert one.counted("gateway secrets").count == one.counted("webhooks").count == 1


@pytest.mark.parametrize("exact", [True, False])
def test_what_mlflow_shows_by_its_own_rules_fails_no_exact_restore(exact: bool) -> None:
    """If all rows are those that were captured, it is told; if not, or of runs and the like, it is a difference."""
    due, seen, findings = View(), ClientView(), _Findings()
    for kind in ("webhooks", "runs"):
        due.add(kind, "x", ["as its rows say"])
        seen.view.add(kind, "x", ["otherwise"])
    lines = {line.kind: line for line in _compare_views(due, seen, findings, exact=exact)}
    assert {one.entity for one in findings.named} == ({"runs"} if exact else {"runs", "webhooks"})
    assert (lines["webhooks"].client is None, lines["runs"].client is None) == (exact, False)
    assert ("1 are shown otherwise" in lines["webhooks"].unseen) == exact


def test_rows_of_another_mlflow_end_nothing() -> None:
    """A column that is not there any more is told, for all of these; their tables are compared all the same."""
    view = View()
    FurtherRows(view).of_tables["webhooks"]({"webhook_id": "w"})
    assert view.untold.keys() == FURTHER_KINDS
    assert view.untold["webhooks"] == "the rows of webhooks are others than MLflow 3.17 makes (KeyError)"
    findings = _Findings()
    lines = {line.kind: line for line in _compare_views(view, ClientView(), findings, exact=False)}
    assert findings.number == 0
    assert "others than MLflow 3.17 makes" in lines["MCP servers"].unseen
