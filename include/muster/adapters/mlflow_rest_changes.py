"""What is not as it was after an import by API, for the report of a restore."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from muster.adapters.mlflow_rest_again import Again
from muster.adapters.mlflow_rest_fill import Filler
from muster.adapters.mlflow_rest_ids import IdMap

Json = Any


def changes(
    details: Mapping[str, Json],
    ids: IdMap,
    filler: Filler,
    fillers: int,
    lost_metrics: int,
    unready: int,
    again: Again,
) -> list[dict[str, Json]]:
    """
    All that an API does not let one set, and what became of it: ``{"of": …, "what": …, "count": …, "now": …}``.

    :param filler: what made experiments, runs and traces
    :param fillers: versions that were made and deleted so that numbers are kept
    :param lost_metrics: metrics of logged models whose points no run has any more
    :param unready: versions that were not ready
    :param again: what was made besides
    """
    counts = details["counts"]
    models = counts["registered_models"] + counts["prompts"]
    artifacts, versions = details["artifacts"]["files"], counts["versions"]
    listed = [
        ("experiments", "id", len(ids.experiments), "a new one; see id_map"),
        ("experiments", "creation and last update time", len(ids.experiments), "the time of the restore"),
        ("experiments", "artifact location", len(ids.experiments), "below the artifact root of this server"),
        ("runs", "id", len(ids.runs), "a new one; the old one is the tag muster.source_run_id, and see id_map"),
        ("runs", "artifact location", len(ids.runs), "below the artifact root of this server"),
        ("runs", "name, where there was none", len(ids.names), "given by this server"),
        ("runs", "latest points of metrics", len(ids.latest), "what a server over SQL takes for them"),
        ("runs", "points that are infinite or there twice", len(ids.altered), "the largest floats, and there once"),
        ("runs", "time of deletion", len(filler.deleted), "the time of the restore"),
        ("logged models", "id", len(ids.logged_models), "a new one; see id_map"),
        ("logged models", "creation and last update time", len(ids.logged_models), "the time of the restore"),
        ("logged models", "artifact location", len(ids.logged_models), "below the artifact root of this server"),
        ("logged models", "creator", len(ids.logged_models), "the user who restored"),
        ("logged models", "metrics that no run has", lost_metrics, "not there"),
        ("registered models", "creation and last update time", models, "the time of the restore"),
        ("versions", "creation and last update time", versions, "the time of the restore"),
        ("versions", "user", versions, "the user who restored, or none"),
        ("versions", "run, logged model and source", versions, "the new ones, where they name one"),
        ("versions", "status", unready, "ready"),
        ("versions", "deleted versions below the highest", fillers, "deleted fillers, so that numbers are kept"),
        ("traces", "times and ids of assessments, location", counts["traces"], "given by this server"),
        ("traces", "run and logged model that made them", counts["traces"], "the new ones, where they name one"),
        ("assessments", "invalid, and what overrode them is gone", len(filler.revived), "valid"),
        *_besides(ids, again, details.get("kept", {})),
        ("tags and artifacts", "old ids in their text", counts["run_tags"] + artifacts, "left as they are; see id_map"),
        ("artifacts", "times", artifacts, "the time of the restore"),
    ]
    return [{"of": of, "what": what, "count": count, "now": now} for of, what, count, now in listed if count]


def _besides(ids: IdMap, again: Again, kept: Mapping[str, int]) -> Iterator[tuple[str, str, int, str]]:
    for kind, made in ids.further.items():
        yield kind.replace("_", " "), "id, times and creator", len(made), "given by this server; see id_map"
    yield "scorers", "deleted versions below the highest", again.fillers, "deleted fillers, so that numbers are kept"
    yield "scorers", "that ask a gateway's endpoint", len(again.refused), "not there: this server has no such endpoint"
    for kind, count in kept.items():
        yield kind.replace("_", " "), "that no API can make again", count, "kept in the point: `muster registry kept`"
