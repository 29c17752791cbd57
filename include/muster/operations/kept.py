"""What a point keeps of a registry behind a server and no restore makes again."""

from __future__ import annotations

import json
from typing import Any

from muster.domain.holdings import KEPT
from muster.domain.recovery_point import RecoveryPoint
from muster.errors import NotFound
from muster.vault.vault import Vault


def kept_documents(vault: Vault, point: RecoveryPoint) -> dict[str, Any]:
    """
    By kind (``webhooks``, ``gateway``, ``mcp_servers``), what the API gave.

    :raises NotFound: if the point has none of it
    """
    found = {}
    for component in point.of_kind("registry"):
        tree = vault.tree(component.tree)
        for entry in tree.entries():
            if entry.path.startswith(f"{KEPT}/"):
                found[entry.path.removeprefix(f"{KEPT}/").removesuffix(".json")] = json.loads(tree.read(entry))
    if not found:
        raise NotFound(
            f"point {point.point} of {point.workload} keeps nothing of the kind",
            "only a registry behind a server does; one that was captured from its store comes back with all of it",
        )
    return found
