"""Attachments of traces: pictures, sounds, documents that spans name, and that a server keeps among the artifacts of the trace."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from muster.adapters.mlflow_rest_kept import Kept, opened
from muster.adapters.mlflow_rest_reading import Reading
from muster.codec import canonical
from muster.errors import NotFound
from muster.ports import SourceFile

Json = Any
ATTACHMENTS = "attachments"
"""Folder of the stored tree, and of the artifacts of a trace."""
_REFERENCE = re.compile(r"mlflow-attachment://([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\?([^\s\"'\\]+)")


def folder_of(trace: str) -> str:
    """Where the attachments of a trace lie in the stored tree, each under its id."""
    return f"{ATTACHMENTS}/{hashlib.sha256(trace.encode()).hexdigest()[:32]}"


def named_in(trace: str, document: Json) -> list[str]:
    """Ids of a trace's own attachments that its spans name; they may name those of other traces, too."""
    found = _REFERENCE.findall(canonical(document).decode())
    return sorted({id_ for id_, query in found if trace in parse_qs(query).get("trace_id", ())})


class Attachments:
    """Fetches them one by one, by way of files on our disk."""

    def __init__(self, reading: Reading, kept: Kept) -> None:
        self._reading, self._kept = reading, kept

    def of(self, trace: str, state: str | None, document: Json) -> list[SourceFile]:
        """
        All that the server has; one that is named and that it does not have is noted.

        :param state: of the trace; None while it may still change
        """
        return list(self._files(trace, state, named_in(trace, document)))

    def _files(self, trace: str, state: str | None, ids: list[str]) -> Iterator[SourceFile]:
        for id_ in ids:
            fetch = functools.partial(self._fetch, trace, id_)
            what = ["attachment", self._reading.api.server.place, trace, state, id_]
            try:
                file = self._kept.through(what, fetch) if state else self._kept.fresh(fetch)
            except NotFound:
                self._reading.absent.add(f"attachment {id_} of trace {trace} (its spans name it)")
                continue
            path, size = f"{folder_of(trace)}/{id_}", file.stat().st_size
            yield SourceFile(path, functools.partial(opened, file), size=size)

    def _fetch(self, trace: str, attachment: str, to: Path) -> None:
        asked = {"request_id": trace, "path": attachment}
        to.write_bytes(self._reading.api.content("/ajax-api/2.0/mlflow/get-trace-artifact", **asked))
