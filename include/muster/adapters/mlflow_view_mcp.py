"""What an API client must see of MCP servers, told by their rows."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from muster.domain.selection import label_of

if TYPE_CHECKING:
    from muster.adapters.mlflow_view import View

MCP_KINDS = (
    *("MCP servers", "MCP server descriptions", "MCP server tags", "MCP aliases", "newest MCP versions"),
    *("MCP server versions", "MCP version tags", "MCP access endpoints"),
)
CHANGES = ("created_by", "last_updated_by", "created_at", "last_updated_at")
ENDPOINT = ("url", "transport_type", "server_version", "server_alias")
TOOL = ("name", "title", "description", "inputSchema", "outputSchema", "annotations", "icons", "execution")
"""Columns, and members of tools, that are looked at."""
DELETED, ACTIVE, LATEST = "deleted", "active", "latest"


@dataclass(frozen=True, slots=True)
class _Version:
    """
    By what MLflow chooses the newest version of a server, and what it shows of it.

    :param rank: active ones first, then the numbers
    :param suffix: what orders those with the same numbers, as the collation of a database has it
    """

    version: str
    status: str
    rank: tuple[Any, ...]
    suffix: str
    created_at: int
    description: Any


class McpRows:
    """The rows of MCP servers, and what they give together once all of them are told."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._servers: dict[str, Mapping[str, Any]] = {}
        self._versions: dict[str, list[_Version]] = defaultdict(list)
        self._aliases: dict[tuple[str, str], str] = {}
        self._endpoints: list[Mapping[str, Any]] = []
        self.of_tables: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "mcp_servers": self._server,
            "mcp_server_tags": self._tag,
            "mcp_server_aliases": self._alias,
            "mcp_server_versions": self._version,
            "mcp_server_version_tags": self._version_tag,
            "mcp_access_endpoints": self._endpoints.append,
        }

    def _server(self, row: Mapping[str, Any]) -> None:
        self._servers[label_of(row.get("workspace"), str(row["name"]))] = row

    def _tag(self, row: Mapping[str, Any]) -> None:
        if (id_ := label_of(row.get("workspace"), str(row["name"]))) in self._servers:
            self._view.add("MCP server tags", id_, [row["key"], row["value"]])

    def _alias(self, row: Mapping[str, Any]) -> None:
        id_ = label_of(row.get("workspace"), str(row["name"]))
        self._aliases[id_, row["alias"]] = row["version"]
        if id_ in self._servers:
            self._view.add("MCP aliases", id_, [row["alias"], row["version"]])

    def _version(self, row: Mapping[str, Any]) -> None:
        id_, said = label_of(row.get("workspace"), str(row["name"])), parsed(row["server_json"])
        rank = (row["status"] == ACTIVE, *(row[f"version_{part}"] for part in ("major", "minor", "patch")))
        description = said.get("description") if isinstance(said, dict) else None
        suffix, created = row["version_prerelease_sort_key"], row["created_at"]
        self._versions[id_].append(_Version(row["version"], row["status"], rank, suffix, created, description))
        if row["status"] != DELETED and id_ in self._servers:
            shown = [text_of(said), row["status"], tools_of(parsed(row["tools"])), _options(row["connect_options"])]
            changes = [row[column] for column in CHANGES]
            self._view.add("MCP server versions", f"{id_}/{row['version']}", [*shown, row["source"], *changes])

    def _version_tag(self, row: Mapping[str, Any]) -> None:
        id_ = f"{label_of(row.get('workspace'), str(row['name']))}/{row['version']}"
        if self._view.has("MCP server versions", id_):
            self._view.add("MCP version tags", id_, [row["key"], row["value"]])

    def finish(self) -> None:
        """Show servers, which MLflow describes by their newest version, and access endpoints, which it hides if they lead nowhere."""
        for id_, row in self._servers.items():
            self._show_server(id_, row, _newest(self._versions[id_]))
        for row in self._endpoints:
            self._show_endpoint(row)

    def _show_server(self, id_: str, row: Mapping[str, Any], newest: list[_Version]) -> None:
        description, own = row["description"], parsed(row["icons"])
        if description is None and newest:
            description = newest[0].description
        icons = icons_of([icon for icon in own if isinstance(icon, dict)] if isinstance(own, list) else [])
        changes = [row[column] for column in CHANGES]
        self._view.add("MCP servers", id_, [row["display_name"], icons, *changes])
        self._view.add("MCP server descriptions", id_, [text_of(description)])
        if newest:
            self._view.add("newest MCP versions", id_, [newest[0].version, newest[0].status])
        if len(newest) > 1:
            self._view.leave_open("newest MCP versions", id_)
            if row["description"] is None:
                self._view.leave_open("MCP server descriptions", id_)

    def _show_endpoint(self, row: Mapping[str, Any]) -> None:
        server, id_ = label_of(row.get("workspace"), str(row["server_name"])), row["id"]
        version, alias = row["server_version"], row["server_alias"]
        living = {known.version for known in self._versions[server] if known.status != DELETED}
        target = self._aliases.get((server, alias)) if alias is not None else version
        if target in living or (alias == LATEST and living):
            said = [server, *(row[column] for column in (*ENDPOINT, *CHANGES))]
            self._view.add("MCP access endpoints", id_, said)
        if server not in self._servers or (version is not None and alias is not None):
            self._view.leave_open("MCP access endpoints", id_)


def _newest(versions: list[_Version]) -> list[_Version]:
    """Those that may be the newest one: more than one if that depends on how a database orders text."""
    living = [one for one in versions if one.status != DELETED]
    first = max((one.rank for one in living), default=())
    tied = [one for one in living if one.rank == first]
    if len({one.suffix for one in tied}) == 1:
        last = max(one.created_at for one in tied)
        tied = [one for one in tied if one.created_at == last]
    return tied


def parsed(text: Any) -> Any:
    """What a column of JSON says; nothing if that is no JSON, which MLflow cannot show either."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None


def text_of(value: Any) -> str:
    """The same text for the same value of JSON, in whatever order its members are."""
    return json.dumps(value, sort_keys=True, default=str)


def tools_of(tools: Any) -> str:
    """Tools by what MLflow knows of them; a member that says nothing is like one that is not there."""
    if not isinstance(tools, list):
        return text_of(None)
    return text_of([{key: t[key] for key in TOOL if t.get(key) is not None} for t in tools if isinstance(t, dict)])


def icons_of(icons: list[dict[str, Any]]) -> str:
    """Icons without the mark by which MLflow says whose they are."""
    return text_of([{key: value for key, value in icon.items() if key != "source"} for icon in icons])


def _options(text: Any) -> str:
    options = parsed(text)
    if not isinstance(options, dict):
        return text_of({})
    return text_of({key: bool(o.get("hidden", False)) for key, o in options.items() if isinstance(o, dict)})
