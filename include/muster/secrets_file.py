"""
The command line's connections: a local file of names and values, for when there is no Airflow to ask.

::

    # .muster/secrets.yaml, mode 600
    muster_vault: s3://KEY:SECRET@bucket/prefix?endpoint=https://s3.example.org
    muster_passphrase: …
    mlflow_store: postgresql://mlflow:…@db/mlflow

It lies at ``$MUSTER_SECRETS``, or else at ``.muster/secrets.yaml`` in the project that the catalog belongs to.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import yaml

from muster.bounded_yaml import UNREADABLE, LoaderWithoutAliases
from muster.errors import NotFound, Refused, UsageError

SHAPE = "it is YAML, a mapping of names to texts: mlflow_store: postgresql://user:password@host/database"


def default_secrets_file(project: Path) -> Path:
    """Where the secrets of a project are, unless ``MUSTER_SECRETS`` says otherwise."""
    named = os.environ.get("MUSTER_SECRETS")
    return Path(named) if named else project / ".muster" / "secrets.yaml"


class SecretsFile:
    """
    Resolves ``conn:NAME`` from a file that only its owner may read, and ``env:NAME`` from the environment.

    The file is opened when the first ``conn:`` is asked for. No value is ever part of a message or of `repr`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"SecretsFile({str(self.path)!r})"

    def __call__(self, reference: str) -> str:
        """
        The value that a reference stands for; whatever is no reference stands for itself.

        :raises NotFound: if there is no such name; the hint lists the names that there are
        :raises Refused: if the file can be read by others
        :raises UsageError: if there is no such file, or it is not what it should be
        """
        kind, colon, name = reference.partition(":")
        if colon and kind == "env":
            return self._variable(name)
        return self._connection(name) if colon and kind == "conn" else reference

    def check(self) -> tuple[str, ...]:
        """The names in the file, sorted; raises what `__call__` would."""
        return tuple(sorted(self._values))

    def _variable(self, name: str) -> str:
        try:
            return os.environ[name]
        except KeyError:
            raise NotFound(f"the environment variable {name} is not set", f"export {name} and try again") from None

    def _connection(self, name: str) -> str:
        try:
            return self._values[name]
        except KeyError:
            known = ", ".join(sorted(self._values)) or "no names"
            raise NotFound(
                f"the secrets file {self.path} has no {name}", f"add a line '{name}: …'; it has: {known}"
            ) from None

    @cached_property
    def _values(self) -> Mapping[str, str]:
        try:
            data = yaml.load(_read_private(self.path), LoaderWithoutAliases)  # noqa: S506 - it is a SafeLoader
        except UNREADABLE:
            raise UsageError(f"the secrets file {self.path} cannot be read as YAML", SHAPE) from None
        if data is None:
            return {}
        if not isinstance(data, dict):
            raise UsageError(f"the secrets file {self.path} holds no mapping", SHAPE)
        wrong = sorted(str(k) for k, v in data.items() if not (isinstance(k, str) and isinstance(v, str) and v))
        if wrong:
            raise UsageError(f"in the secrets file {self.path} these are not texts: {', '.join(wrong)}", SHAPE)
        return data


def _read_private(path: Path) -> str:
    """The text of a regular file that nobody but its owner can read; checked on the open file, so that nobody swaps it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise UsageError(
            f"there is no secrets file {path}",
            f"create it with mode 600 ({SHAPE}), or name another with --secrets or MUSTER_SECRETS",
        ) from None
    except OSError as error:
        raise UsageError(
            f"the secrets file {path} cannot be opened: {error.strerror}", "check its owner and mode"
        ) from error
    try:
        _check_private(path, os.fstat(descriptor))
    except Refused:
        os.close(descriptor)
        raise
    with os.fdopen(descriptor, encoding="utf-8") as stream:
        return stream.read()


def _check_private(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise Refused(f"the secrets file {path} is not a regular file", "put the secrets into a plain file of mode 600")
    if found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        raise Refused(f"the secrets file {path} has mode {mode:03o}: others can read it", f"run: chmod 600 {path}")
