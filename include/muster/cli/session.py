"""From the options of a command line to a platform and its vaults: the command line's half of the composition root."""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from muster.cli.screen import Screen
from muster.cli.typed_keys import asked_secret, read_lines, read_secret, secret_in, typed
from muster.errors import IntegrityError, NotFound, UsageError
from muster.secrets_file import SecretsFile, default_secrets_file

if TYPE_CHECKING:
    from datetime import datetime

    from muster.bootstrap import Platform
    from muster.catalog import Catalog
    from muster.domain.recovery_point import PointStatus
    from muster.ports import BlobStore
    from muster.vault.holders import Secret
    from muster.vault.vault import Actor, Vault

PLACES = ("include/catalog", "catalog")
SHORTEST_FINGERPRINT = 32
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Options:
    """
    What stands before the command.

    :param vault: name of a catalogued vault, or the URL of any vault; with a URL, no catalog is looked for
    :param fingerprint: that the vault must have, or its first 32 digits and more
    :param insecure: consent to plain HTTP to another machine
    """

    catalog: Path | None = None
    secrets: Path | None = None
    state: Path | None = None
    vault: str | None = None
    passphrase_file: Path | None = None
    recovery_key_file: Path | None = None
    share_files: tuple[Path, ...] = ()
    kms_key: str | None = None
    fingerprint: str | None = None
    insecure: bool = False


class Session:
    """Opens what a command needs, when it needs it, and once."""

    def __init__(self, options: Options, screen: Screen) -> None:
        self.options = options
        self.screen = screen
        self._opened: dict[str, Vault] = {}

    # --- catalog, secrets, state --------------------------------------------------------------------------------------

    @cached_property
    def catalog_directory(self) -> Path | None:
        """``--catalog``, ``MUSTER_CATALOG``, ``include/catalog`` or ``catalog``; None where a vault's URL makes it needless."""
        named = self.options.catalog or _path_of("MUSTER_CATALOG")
        if named or self.vault_url:
            return named
        return next((Path(place) for place in PLACES if (Path(place) / "vaults.yaml").is_file()), None)

    @cached_property
    def catalog(self) -> Catalog:
        """
        The catalog; an empty one where a vault is named by its URL and no catalog is.

        :raises UsageError: if there is neither
        """
        from muster.catalog import Catalog, load_catalog

        if self.catalog_directory:
            return load_catalog(self.catalog_directory)
        if self.vault_url:
            return Catalog({}, {})
        raise UsageError(
            f"there is no catalog here: neither {' nor '.join(PLACES)} holds a vaults.yaml",
            "name its folder with --catalog DIR or MUSTER_CATALOG, or name a vault itself with --vault URL",
        )

    @cached_property
    def project(self) -> Path | None:
        """The project that the catalog belongs to."""
        from muster.catalog import project_of

        return project_of(self.catalog_directory) if self.catalog_directory else None

    @cached_property
    def secrets(self) -> SecretsFile:
        """Resolves ``conn:`` and ``env:``."""
        return SecretsFile(self.options.secrets or default_secrets_file(self.project or Path()))

    @cached_property
    def state(self) -> Path:
        """``--state``, ``MUSTER_STATE``, ``.state/muster`` in the project, or the user's own state folder."""
        named = self.options.state or _path_of("MUSTER_STATE")
        if named:
            return named.absolute()
        if self.project:
            return self.project / ".state" / "muster"
        return (_path_of("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "muster"

    @cached_property
    def platform(self) -> Platform:
        """Everything that the catalog names, wired up."""
        from muster.bootstrap import Platform

        return Platform(self.catalog, self.secrets, state=self.state, actor=self.actor, insecure=self.options.insecure)

    @cached_property
    def actor(self) -> Actor:
        """Who types, for the audit trail."""
        from muster.vault.vault import Actor

        try:
            name = getpass.getuser()
        except (KeyError, OSError):
            name = f"uid {os.getuid()}"
        return Actor(name, socket.gethostname(), "cli")

    # --- vaults -------------------------------------------------------------------------------------------------------

    @property
    def vault_url(self) -> str | None:
        """What ``--vault`` says, if that is a place and no name."""
        named = self.options.vault
        return named if named and any(sign in named for sign in ":/") else None

    def store(self, name: str) -> BlobStore:
        """Where a vault's objects lie."""
        from muster.adapters.stores import open_store

        url = self.vault_url or self._config_url(name)
        return open_store(self.secrets(url), insecure=self.options.insecure)

    def store_at(self, place: str) -> BlobStore:
        """A store by its URL or path, or by the name of a catalogued vault."""
        from muster.adapters.stores import open_store

        url = place if any(sign in place for sign in ":/") else self._config_url(place)
        return open_store(self.secrets(url), insecure=self.options.insecure)

    def vault(self, name: str) -> Vault:
        """
        Open a vault: with the key that the command line names, or else with the passphrase that the catalog refers to.

        :param name: as in the catalog; the URL where ``--vault`` gives one
        :raises IntegrityError: if it is not the vault of ``--fingerprint``
        """
        if name not in self._opened:
            vault = self._opened[name] = self._recognised(self._open(name))
            if vault.outdated:
                self.screen.note(
                    f"the keys of {vault.url} were rotated, and what writing takes since then is not at hand: "
                    "it reads what was stored before, and writes nothing"
                )
        return self._opened[name]

    def replicas(self, name: str) -> list[BlobStore]:
        """Where the catalog says that copies of a vault lie; nowhere for a vault that was named by its URL."""
        return [] if self.vault_url else self.platform.replicas(name)

    def witnesses(self, name: str) -> list[Vault]:
        """The other vaults of the catalog in whose trails this one's is anchored; none for a vault that was named by its URL."""
        return [] if self.vault_url else self.platform.anchored_in(name)

    def vault_names(self, workload: str | None = None) -> list[str]:
        """The vaults that a command is about: the one of ``--vault``, the workload's, or those of all workloads."""
        if self.options.vault:
            return [self.options.vault]
        if workload and workload in self.catalog.workloads:
            return [self.catalog.workload(workload).vault]
        used = {w.vault for w in self.catalog.workloads.values()} or set(self.catalog.vaults)
        return sorted(used)

    def require_known(self, workload: str) -> None:
        """
        :raises NotFound: if a catalog is read, and has no such workload
        """
        if self.catalog.workloads:
            self.catalog.workload(workload)

    def one_vault(self) -> str:
        """The name of the only vault that a command can be about."""
        names = [self.options.vault] if self.options.vault else sorted(self.catalog.vaults)
        if len(names) != 1:
            raise UsageError("the catalog has several vaults", f"name one with --vault: {', '.join(names)}")
        return names[0]

    def find(self, point: str, workload: str | None) -> tuple[Vault, PointStatus]:
        """
        A point, wherever it is.

        :raises NotFound: if no vault has it; the hint lists what there is
        :raises UsageError: if several have one of that name
        """
        return self._search(point, workload, lambda vault: vault.point(point, workload))

    def choose(
        self, point: str, workload: str | None, before: datetime | None, lost_at: datetime
    ) -> tuple[Vault, PointStatus]:
        """The same for a restore, where ``verified`` and a time are understood, too."""
        from muster.operations.choose import choose_point

        return self._search(point, workload, lambda vault: choose_point(vault, workload, point, before, lost_at))

    def find_readable(self, point: str, workload: str | None) -> tuple[Vault, list[PointStatus]]:
        """The same for verification, as far as it can be read: nothing if its manifest is damaged."""
        return self._search(point, workload, lambda vault: vault.readable_points(workload, point))

    def _search(self, point: str, workload: str | None, look: Callable[[Vault], Found]) -> tuple[Vault, Found]:
        found, missing = [], []
        for name in self.vault_names(workload):
            vault = self.vault(name)
            try:
                found.append((vault, look(vault)))
            except NotFound as error:
                missing.append(error)
        if not found:
            raise missing[0]
        if len(found) > 1:
            places = ", ".join(vault.url for vault, _ in found)
            raise UsageError(f"several vaults have a point {point}: {places}", "name one with --vault, or a workload")
        return found[0]

    def _open(self, name: str) -> Vault:
        from muster.adapters.system_clock import SystemClock
        from muster.vault.vault import Vault

        secret = self.given_secret() or (asked_secret(self.screen) if self.vault_url else None)
        if secret is None:
            return self.platform.vault(name)
        return Vault.open(self.store(name), secret, clock=SystemClock(), actor=self.actor)

    def _recognised(self, vault: Vault) -> Vault:
        """The vault, if it has the fingerprint that was asked for; without one, nobody knows better than the key that opened it."""
        if self.options.fingerprint is None:
            return vault
        wanted = re.sub("[ :]", "", self.options.fingerprint).lower()
        if not re.fullmatch(f"[0-9a-f]{{{SHORTEST_FINGERPRINT},64}}", wanted):
            raise UsageError(
                f"{self.options.fingerprint!r} is not the fingerprint of a vault",
                f"give the hexadecimal digits that `muster init` or `muster keys list` showed, {SHORTEST_FINGERPRINT} of them at least",
            )
        if not vault.holders.fingerprint.startswith(wanted):
            raise IntegrityError(
                f"{vault.url} holds the vault with the fingerprint {vault.holders.fingerprint}, not {wanted}",
                "somebody put another vault in its place: trust nothing in it, use a replica, and find out who writes to the store",
            )
        return vault

    def _config_url(self, name: str) -> str:
        try:
            return self.catalog.vaults[name].url
        except KeyError:
            known = ", ".join(sorted(self.catalog.vaults)) or "none"
            raise NotFound(f"the catalog has no vault {name}", f"it has: {known}") from None

    # --- keys ---------------------------------------------------------------------------------------------------------

    def given_secret(self) -> Secret | None:
        """The key that the command line names, if it does."""
        from muster.adapters.kms_keys import AwsKeys
        from muster.vault.holders import KmsKey, RecoveryKey, Shares, kms_key_name

        if self.options.recovery_key_file:
            return RecoveryKey(read_secret(self.options.recovery_key_file))
        if self.options.share_files:
            return Shares(tuple(line for path in self.options.share_files for line in read_lines(path)))
        if self.options.kms_key:
            return KmsKey(kms_key_name(self.options.kms_key), AwsKeys())
        if self.options.passphrase_file:
            return secret_in(self.options.passphrase_file)
        words = os.environ.get("MUSTER_PASSPHRASE")
        return typed(words) if words and self.vault_url else None


def _path_of(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value) if value else None
