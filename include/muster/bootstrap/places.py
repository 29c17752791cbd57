"""What the references of a catalog stand for: folders, stores and servers, with what it takes to reach them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muster.adapters.mlflow_rest_api import RestServer
from muster.catalog import Registry, TargetRegistry
from muster.errors import MusterError

Resolver = Callable[[str], str]


def key_name(reference: str) -> str:
    """The environment variable of a server whose value a reference of ``registry.server_keys`` gives: it is named like that."""
    return reference.rpartition(":")[2].upper()


@dataclass(frozen=True, slots=True)
class Places:
    """
    Turns references into places.

    :param resolve: turns ``conn:NAME`` and ``env:NAME`` into their values and leaves everything else as it is
    :param insecure: consent to reach other machines in the clear
    """

    resolve: Resolver
    insecure: bool = False

    def folder(self, root: Path, reference: str) -> Path:
        """A folder or file; relative ones lie below the root of their workload."""
        return root / self.resolve(reference).removeprefix("file://")

    def registry(self, registry: Registry | TargetRegistry | None) -> dict[str, Any]:
        """Where a registry lives, with secrets: ``store``, ``artifacts`` and ``auth_store``, or ``server`` and ``token``."""
        found = {
            name: getattr(registry, name, None) for name in ("store", "artifacts", "auth_store", "server", "token")
        }
        return {name: self.resolve(reference) for name, reference in found.items() if reference}

    def server_keys(self, registry: Registry, *, lenient: bool = False) -> dict[str, str]:
        """
        Keys of the registry's server, by the environment variables that it has them in.

        :param lenient: leave out those that are not here
        """
        found: dict[str, str] = {}
        for reference in registry.server_keys:
            with suppress(MusterError) if lenient else nullcontext():
                found[key_name(reference)] = self.resolve(reference)
        return found

    def server(self, address: str, token: str | None) -> RestServer:
        """
        An MLflow server at an address.

        :raises UsageError: if it is reached in the clear, without consent
        """
        return RestServer.parse(address, token, insecure=self.insecure)
