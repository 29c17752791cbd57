"""The tables of a stored database, brought to disk and held to their digests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muster.adapters.mlflow_fill import Stored, require_same
from muster.adapters.mlflow_lines import sum_of_file
from muster.adapters.mlflow_store import StoreUrl
from muster.adapters.mlflow_tables import Schema
from muster.codec import to_json
from muster.ports import TreeReader


def fetch(tree: TreeReader, prefix: str, store: StoreUrl, details: Mapping[str, Any], scratch: Path) -> Stored:
    """
    Bring the tables of a database to disk, and hold each of them to its digest before any row is used.

    :param prefix: empty, or ``auth/``
    :raises IntegrityError: if what is stored is not what was captured
    """
    schema = Schema.read(json.loads(tree.read(tree.entry(f"{prefix}schema.json"))))
    names = {table.name for table in schema.tables}
    require_same("tables", dict.fromkeys(details["tables"]), dict.fromkeys(names))
    require_same("schema revisions", dict(details["revisions"]), schema.revisions)
    files = {name: scratch / f"{prefix.strip('/')}-{n}.jsonl" for n, name in enumerate(sorted(names))}
    tree.extract((tree.entry(f"{prefix}tables/{name}.jsonl"), path) for name, path in files.items())
    measured = {name: to_json(sum_of_file(path)) for name, path in files.items()}
    require_same("rows", dict(details["tables"]), measured)
    return Stored(prefix, store, schema, files, details["tables"])
