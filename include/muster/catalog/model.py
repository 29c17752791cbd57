"""The catalog as values. Field by field it is checked here; what fields contradict each other is in `contradictions`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from muster.catalog.fields import (
    Count,
    Cron,
    Duration,
    ImportPath,
    Jurisdiction,
    Model,
    Name,
    Python,
    Reference,
    RelativePath,
    SecretReference,
    Share,
    Tolerance,
    Variable,
)
from muster.errors import NotFound


class Entry(BaseModel):
    """A mapping of the catalog: unknown keys are refused, values do not change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Objectives(Entry):
    """
    What was promised.

    :param rpo: the most work, as time, that may be lost
    :param rto: the longest that coming back may take
    """

    rpo: Duration
    rto: Duration


class Dataset(Entry):
    """
    A version-controlled dataset.

    :param repo: its DVC repository; a relative path is relative to `Workload.root`
    :param targets: the outputs in it that belong to the workload; all when empty
    :param expectations: absolute path of its suite once the catalog is loaded; in the file, a path below ``expectations/<workload>/``
    :param source: whether the bytes are read from the workspace's cache or from the DVC remote
    """

    name: Name
    repo: Reference
    targets: tuple[RelativePath, ...] = ()
    expectations: str | None = None
    source: Literal["workspace", "remote"] = "workspace"


class Registry(Entry):
    """
    An MLflow model registry: its store and artifact root, or else the server before them.

    :param store: database URL of the backend store
    :param artifacts: artifact root: a folder, ``s3://…``, ``gs://…``, ``azure://…`` or ``wasbs://…`` (docs/artifacts.md)
    :param server: tracking URI of a server whose store is out of reach; what its API does not give is not kept (docs/mlflow-rest.md)
    :param token: sent to that server as a bearer token
    :param models: names of the models that the workload needs, as shell patterns
    :param scope: ``store`` takes the store whole; ``models`` takes these models alone, with the runs and all else that they need
    :param auth_store: database URL of MLflow's own users and permissions, if it has any
    :param server_keys: secrets without which a server cannot read the store, such as the key of encrypted webhooks; they are kept
        with the configuration, and each is named after the server's variable, as env:NAME or conn:NAME; one that does not open what
        is encrypted there ends a snapshot, and a restore to where another is used is refused
    :param missing_artifacts: what is made of a model version whose artifacts are named and not there: ``fail`` takes no point,
        ``incomplete`` takes one that says so, and is suspect until a person accepts it
    :param webhook: secret of the MLflow webhook by which the server tells of changes, for a ``hot`` workload
    """

    store: Reference | None = None
    artifacts: Reference | None = None
    server: Reference | None = None
    token: SecretReference | None = None
    models: tuple[Annotated[str, Field(min_length=1)], ...] = ("*",)
    scope: Literal["store", "models"] = "store"
    auth_store: Reference | None = None
    server_keys: tuple[SecretReference, ...] = ()
    missing_artifacts: Literal["fail", "incomplete"] = "fail"
    webhook: SecretReference | None = None


class Environment(Entry):
    """
    The Python environment in which the models run.

    :param lock: hash-locked requirements; a relative path is relative to `Workload.root`
    :param directory: where it lives, for a restore to ``origin``; None puts it below Muster's own state
    """

    lock: Reference
    python: Python
    directory: Reference | None = None


class Configuration(Entry):
    """
    Files, environment variables and secrets.

    :param files: shell patterns, relative to `Workload.root`
    :param directory: where a restore to ``origin`` puts them; None puts them below Muster's own state
    """

    files: tuple[RelativePath, ...] = ()
    env: tuple[Variable, ...] = ()
    secrets: tuple[SecretReference, ...] = ()
    directory: Reference | None = None


class SmokeTest(Entry):
    """A model that must answer after a restore as it did before: ``|restored - golden| <= atol + rtol * |golden|``."""

    model: Model
    rtol: Tolerance = 1e-9
    atol: Tolerance = 0.0


class Residency(Entry):
    """Jurisdictions that may hold or run the workload."""

    allow: tuple[Jurisdiction, ...] = Field(min_length=1)
    classification: Name | None = None


class Retention(Entry):
    """
    How many points are kept of each kind. What that means, point by point, is in `muster.domain.retention`.

    :param minimum: good points that are kept whatever the other counts say
    :param inquiry: how long a suspect point is kept that is older than the newest good one
    :param lock: for how long the store itself must refuse to remove a point
    """

    last: Count = 0
    hourly: Count = 0
    daily: Count = 0
    weekly: Count = 0
    monthly: Count = 0
    yearly: Count = 0
    minimum: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 1
    inquiry: Duration = timedelta(days=14)
    lock: Duration | None = None


class Anomaly(Entry):
    """
    From which share of what the point before held a snapshot is suspect. What is measured is told in `muster.domain.anomaly`.

    :param judge: whether snapshots are compared at all
    """

    judge: Annotated[bool, Field(strict=True)] = True
    spoiled: Share = 0.01
    converted: Share = 0.5
    shrunk: Share = 0.5


class Canary(Entry):
    """
    A record of the time that is left in the registry, and looked for in whatever comes back of it (docs/recovery-figures.md).

    :param every: how often it is written
    :param through: tracking URI of the registry's server, or database URL of its store by a user that may write; None for the
        place that the registry itself names
    """

    every: Duration
    through: Reference | None = None


class CutOver(Entry):
    """
    What is done at a place when everything there came back and was proven, as the last step of a restore.

    :param command: a program and its arguments; run without a shell and without anything of Muster's own environment
    :param ready: URL that must answer with 200 before the restore counts; it carries no credentials
    :param within: how long each of the two may take
    """

    command: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    ready: Reference | None = None
    within: Duration = timedelta(minutes=5)


class TargetRegistry(Entry):
    """
    Where a restored registry goes: an empty store and an empty artifact root; or, if it was captured from a server, an empty server.

    :param auth_store: where a basic-auth database of its own goes; None puts it beside an SQLite store, or into the database of a server
    """

    store: Reference | None = None
    artifacts: Reference | None = None
    server: Reference | None = None
    token: SecretReference | None = None
    auth_store: Reference | None = None


class TargetConfig(Entry):
    """
    A named place to restore to: one folder for everything, or a place for each component.

    :param cut_over: how it is put to use; None if nothing is to be switched
    :param jurisdiction: whose law holds there; needed where the workload has a residency
    """

    directory: Reference | None = None
    datasets: Mapping[Name, Reference] = Field(default_factory=dict)
    registry: TargetRegistry | None = None
    environment: Reference | None = None
    configuration: Reference | None = None
    cut_over: CutOver | None = None
    jurisdiction: Jurisdiction | None = None


class VaultConfig(Entry):
    """
    A place where recovery points are kept.

    :param url: ``file:///path`` or ``s3://bucket/prefix?endpoint=…``; credentials only by reference
    :param passphrase: what opens the vault: its passphrase, or any other of its keys, such as ``kms:arn:aws:kms:…``
    :param read_url: the same place with credentials that may only read: what drills read through; `url` itself, if left out
    :param jurisdiction: whose law holds where the bytes lie: an ISO 3166 country code, or EU
    :param anchored_in: other vaults of the catalog: every night their audit trails are told the newest records of this one's
    """

    url: Reference
    passphrase: SecretReference
    read_url: Reference | None = None
    jurisdiction: Jurisdiction | None = None
    anchored_in: tuple[Name, ...] = ()


class AlertConfig(Entry):
    """
    Who is told when a task of a DAG has failed.

    :param notifier: an Airflow notifier, by its import path
    :param arguments: what it is made with; its templates find what happened under ``alert`` (docs/alerts.md)
    """

    notifier: ImportPath
    arguments: Mapping[str, Any] = Field(default_factory=dict)


class Workload(Entry):
    """
    One protected AI system.

    :param strategy: ``hot`` takes a point whenever the asset ``workload_change__<workload>`` has an event, besides the schedule
    :param schedule: cron expression in UTC; None for a workload whose points are taken on events or by hand
    :param canary: None for none: it writes into the registry
    :param cut_over: how the place where the workload lives is put to use again after a restore to ``origin``
    :param root: absolute folder that relative paths are relative to: that of the project, unless the file says otherwise
    """

    workload: Name
    owner: str = Field(min_length=1)
    objectives: Objectives
    strategy: Literal["cold", "warm", "hot"] = "warm"
    schedule: Cron | None = None
    datasets: tuple[Dataset, ...] = ()
    registry: Registry | None = None
    environment: Environment | None = None
    configuration: Configuration | None = None
    smoke: tuple[SmokeTest, ...] = ()
    residency: Residency | None = None
    vault: Name
    replicas: tuple[Name, ...] = ()
    retention: Retention | None = None
    anomaly: Anomaly = Anomaly()
    canary: Canary | None = None
    cut_over: CutOver | None = None
    approvers: tuple[str, ...] = ()
    targets: Mapping[Name, TargetConfig] = Field(default_factory=dict)
    root: Path = Path()
    _source: Path = PrivateAttr(default=Path())

    @property
    def source(self) -> Path:
        """The file that says all this."""
        return self._source

    @property
    def protected_configuration(self) -> Configuration | None:
        """What the configuration component holds: what the catalog lists as such, and the keys of the registry's server."""
        keys = self.registry.server_keys if self.registry else ()
        if not keys:
            return self.configuration
        listed = self.configuration or Configuration()
        return listed.model_copy(update={"secrets": tuple(dict.fromkeys((*listed.secrets, *keys)))})

    def dataset(self, name: str) -> Dataset:
        """
        The dataset of this name.

        :raises NotFound: if the workload has none
        """
        for dataset in self.datasets:
            if dataset.name == name:
                return dataset
        known = ", ".join(d.name for d in self.datasets) or "none"
        raise NotFound(f"the workload {self.workload} has no dataset {name}", f"it has: {known}")


@dataclass(frozen=True, slots=True)
class Catalog:
    """
    Everything that is protected.

    :param workloads: by name, sorted
    :param directory: the folder that it was read from
    :param alerts: who is told of failures
    """

    workloads: Mapping[str, Workload]
    vaults: Mapping[str, VaultConfig]
    directory: Path = Path()
    alerts: tuple[AlertConfig, ...] = ()

    def workload(self, name: str) -> Workload:
        """
        The workload of this name.

        :raises NotFound: if there is none; the hint lists what there is
        """
        try:
            return self.workloads[name]
        except KeyError:
            if not self.workloads:
                raise NotFound(
                    f"no catalog is read that has a workload {name}", "name its folder with --catalog or MUSTER_CATALOG"
                ) from None
            known = ", ".join(self.workloads)
            raise NotFound(f"the catalog {self.directory} has no workload {name}", f"it has: {known}") from None
