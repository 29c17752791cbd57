"""
A canary in a registry: the time at which it was written, as a tag of an experiment that has nothing else.

One experiment for the whole registry, with one tag for each workload, which is set anew each time: so it does not grow, and of the
tables of a store only the small one of experiments' tags changes. A server gets it by its API; a store gets the rows that its server
would have made.
"""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from muster.adapters.mlflow_live import working
from muster.adapters.mlflow_rest_api import MlflowApi, RestServer
from muster.adapters.mlflow_revisions import revisions_of
from muster.adapters.mlflow_store import StoreUrl
from muster.domain.freshness import Newest
from muster.domain.selection import DEFAULT_WORKSPACE
from muster.errors import NotFound, Refused, SourceChanged, SourceInvalid

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

EXPERIMENT = "muster-canary"
NOTE_KEY = "mlflow.note.content"
NOTE = (
    "Muster writes the time into the tags of this experiment, and looks for it in whatever comes back of this registry. "
    "Leave it; the catalog's `canary` says whether it is wanted."
)
NOWHERE = "mlflow-artifacts:/muster-canary"
"""Its artifact location: below the server's artifact root. Nothing is ever put there."""
Place = StoreUrl | RestServer


def write_canary(place: Place, workload: str, at: datetime) -> Newest:
    """
    Leave a canary for a workload.

    :raises Refused: if somebody has deleted the experiment, or the user may not write
    :raises SourceInvalid: if there is no MLflow
    :raises StoreUnavailable: if the place does not answer, or stays locked
    """
    at = at.astimezone(UTC)
    canary = Newest("canary", at, secrets.token_hex(16))
    value = f"{at.isoformat()} {canary.id}"
    if isinstance(place, RestServer):
        _tell_server(MlflowApi(place), _key(workload), value)
        return canary
    try:
        _tell_store(place, _key(workload), value)
    except SourceChanged:  # another workload's canary made the experiment just now
        _tell_store(place, _key(workload), value)
    return canary


def read_canary(place: Place, workload: str) -> Newest:
    """
    The canary of a workload, or why there is none.

    :raises SourceInvalid: if there is no MLflow
    :raises StoreUnavailable: if the place does not answer
    """
    value = _of_server(place, workload) if isinstance(place, RestServer) else _of_store(place, workload)
    if value is None:
        return Newest("canary", None, failure=f"the experiment {EXPERIMENT} has no tag {_key(workload)}")
    at, _, name = value.partition(" ")
    try:
        written = datetime.fromisoformat(at)
    except ValueError:
        written = None
    if written is None or written.tzinfo is None:
        return Newest("canary", None, failure=f"the tag {_key(workload)} is none that Muster has written")
    return Newest("canary", written.astimezone(UTC), name)


def _key(workload: str) -> str:
    return f"muster.canary.{workload}"


def _deleted() -> Refused:
    return Refused(
        f"the experiment {EXPERIMENT} was deleted, so no canary can be written",
        "restore it in MLflow, or take `canary` out of the catalog",
    )


# --- by its server ------------------------------------------------------------------------------------------------------


def _tell_server(api: MlflowApi, key: str, value: str) -> None:
    found = _experiment(api)
    if found is None:
        body = {"name": EXPERIMENT, "tags": [{"key": NOTE_KEY, "value": NOTE}, {"key": key, "value": value}]}
        api.post("2.0/mlflow/experiments/create", body, once=True)
        return
    if found.get("lifecycle_stage") == "deleted":
        raise _deleted()
    body = {"experiment_id": found["experiment_id"], "key": key, "value": value}
    api.post("2.0/mlflow/experiments/set-experiment-tag", body)


def _of_server(server: RestServer, workload: str) -> str | None:
    tags = (_experiment(MlflowApi(server)) or {}).get("tags") or ()
    return next((str(tag["value"]) for tag in tags if tag["key"] == _key(workload)), None)


def _experiment(api: MlflowApi) -> dict[str, Any] | None:
    api.require_workspace()
    try:
        found: dict[str, Any] = api.get("2.0/mlflow/experiments/get-by-name", experiment_name=EXPERIMENT)["experiment"]
    except NotFound:
        return None
    return found


# --- in its store -------------------------------------------------------------------------------------------------------


def _tell_store(store: StoreUrl, key: str, value: str) -> None:
    import sqlalchemy as sa

    with working(store, write=True) as connection:
        experiments, tags = _tables(connection, store)
        found = connection.execute(
            sa.select(experiments.c.experiment_id, experiments.c.lifecycle_stage).where(*_ours(experiments))
        ).first()
        if found is None:
            experiment = _made(connection, experiments)
            connection.execute(tags.insert().values(experiment_id=experiment, key=NOTE_KEY, value=NOTE))
        elif found.lifecycle_stage == "deleted":
            raise _deleted()
        else:
            experiment = found.experiment_id
        ours = (tags.c.experiment_id == experiment, tags.c.key == key)
        if not connection.execute(tags.update().where(*ours).values(value=value)).rowcount:
            connection.execute(tags.insert().values(experiment_id=experiment, key=key, value=value))
        connection.commit()


def _made(connection: Connection, experiments: Table) -> Any:
    now = int(time.time() * 1000)
    row: dict[str, Any] = {"name": EXPERIMENT, "artifact_location": NOWHERE, "lifecycle_stage": "active"}
    row |= {"creation_time": now, "last_update_time": now}
    statement = experiments.insert().values({name: told for name, told in row.items() if name in experiments.c})
    (made,) = connection.execute(statement).inserted_primary_key or (None,)
    return made


def _of_store(store: StoreUrl, workload: str) -> str | None:
    import sqlalchemy as sa

    with working(store, write=False) as connection:
        experiments, tags = _tables(connection, store)
        joined = tags.join(experiments, tags.c.experiment_id == experiments.c.experiment_id)
        asked = sa.select(tags.c.value).select_from(joined)
        asked = asked.where(*_ours(experiments), tags.c.key == _key(workload))
        value = connection.execute(asked).scalar()
    return None if value is None else str(value)


def _ours(experiments: Table) -> list[Any]:
    """What is true of the experiment: in other workspaces, workloads that are captured through a server have one of the name."""
    ours = [experiments.c.name == EXPERIMENT]
    return [*ours, experiments.c.workspace == DEFAULT_WORKSPACE] if "workspace" in experiments.c else ours


def _tables(connection: Connection, store: StoreUrl) -> tuple[Table, Table]:
    import sqlalchemy as sa

    if "alembic_version" not in revisions_of(connection):
        raise SourceInvalid(f"{store.shown} is no MLflow store", "see what `mlflow server` was given")
    found = sa.MetaData()
    found.reflect(connection, only=["experiments", "experiment_tags"])
    return found.tables["experiments"], found.tables["experiment_tags"]
