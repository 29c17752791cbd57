"""What was said of a trace: which of it comes with the trace, what must be made after it, and how two servers' words are compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from muster.adapters.mlflow_rest_ids import IdMap

Json = Any
SAID_BY = "mlflow.assessment.sourceRunId"
"""Of the metadata of an assessment: the run that made it, by which clients find what an evaluation said."""
TOLD = ("create_time", "last_update_time", "assessment_id")
"""What a server says of an assessment by itself."""


def assessments_of(info: Mapping[str, Json], ids: IdMap) -> list[Json]:
    """What was said of a trace, with the new ids of the runs that said it; one that shows an issue has the issue's id for its name."""
    issues = ids.further.get("issues", {})
    said = [_of_run(one, ids) for one in info.get("assessments") or ()]
    return [
        {**one, "assessment_name": issues.get(one["assessment_name"], one["assessment_name"])}
        if "issue" in one
        else one
        for one in said
    ]


def in_chains(said: list[Json]) -> list[Json]:
    """
    The assessments that another one has made invalid, and those that did so, each after the one that it overrides.

    They are made in this order: what comes with a trace is valid, and becomes invalid when another one that overrides it is made.
    """
    by_id = {one.get("assessment_id"): one for one in said}
    depths = {id_: _depth(one, by_id) for id_, one in by_id.items()}
    named = set()
    for id_, one in by_id.items():
        target = by_id.get(one.get("overrides"))
        if target and not _is_valid(target) and depths[id_] < len(by_id):
            named |= {id_, target.get("assessment_id")}
    return sorted((by_id[id_] for id_ in named), key=lambda one: (depths[one["assessment_id"]], one["assessment_id"]))


def revived(said: list[Json]) -> list[Json]:
    """Those that are invalid, and that nothing overrides any more: no API makes them so."""
    overridden = {one.get("overrides") for one in in_chains(said)}
    return [one for one in said if not _is_valid(one) and one.get("assessment_id") not in overridden]


def assessments_form(info: Mapping[str, Json], ids: IdMap) -> list[Json]:
    """Without ids, which may be others on each server: in the place of the id of one that is overridden stands what that one says."""
    said = assessments_of(info, ids)
    again = revived(said)
    plain = [
        {k: v for k, v in one.items() if k not in TOLD} | ({"valid": True} if one in again else {}) for one in said
    ]
    bare = {
        one.get("assessment_id"): {k: v for k, v in form.items() if k != "overrides"}
        for one, form in zip(said, plain, strict=True)
    }
    return [form | {k: bare.get(form[k], form[k]) for k in ("overrides",) if form.get(k)} for form in plain]


def _of_run(one: Json, ids: IdMap) -> Json:
    """A server that deletes a run removes what names it; what was said nevertheless names the old one."""
    run = (one.get("metadata") or {}).get(SAID_BY)
    if run not in ids.runs or run in ids.gone:
        return one
    return {**one, "metadata": {**one["metadata"], SAID_BY: ids.runs[run]}}


def _is_valid(one: Mapping[str, Json]) -> bool:
    return one.get("valid") is not False


def _depth(one: Json, by_id: Mapping[Json, Json]) -> int:
    """How many an assessment overrides, one by way of the other; as many as there are if they go in a circle."""
    depth = 0
    while depth < len(by_id) and (one := by_id.get(one.get("overrides"))):
        depth += 1
    return depth
