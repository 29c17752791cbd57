"""Runs models in processes of their own, with the interpreter of the environment that they were captured with."""

from __future__ import annotations

import importlib.resources
import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muster.adapters.mlflow_locations import root_place
from muster.adapters.network_cell import Confined
from muster.codec import from_json
from muster.domain.predictions import count_values
from muster.errors import IntegrityError, SmokeFailed, SourceInvalid
from muster.ports import Prediction

Json = Any
TAIL = 4000
"""Characters of a worker's output that an error carries."""

PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")
_QUIET = {
    "LANG": "C.UTF-8",
    "PATH": os.defpath,
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
}


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How a worker ended: its exit code (None if it was stopped), its answer if it left one, all that it said."""

    code: int | None
    answer: bytes | None
    output: str


class ProcessModelRunner:
    """
    Asks a model in a fresh, isolated process: of our own environment nothing is handed on, and its whole process group is
    killed when it has answered or its time is up.

    A model is resolved by its alias through the registry, then loaded from a copy: MLflow writes into a local artifact root
    when it loads a registered model from there, which would alter what was restored.

    :param timeout: seconds for starting, importing, loading and answering together
    :param environment: further variables for the process, such as credentials of an artifact store that the registry server
        does not proxy; their values are kept out of messages
    :param confined: where it is begun, for a sandbox: then it reaches nothing but loopback
    """

    def __init__(
        self,
        *,
        timeout: float = 300.0,
        environment: Mapping[str, str] | None = None,
        confined: Confined | None = None,
    ) -> None:
        self._timeout = timeout
        self._environment = dict(environment or {})
        self._confined = confined

    def predict(
        self,
        python: Path,
        tracking_uri: str,
        model: str,
        inputs: Mapping[str, Json] | None,
        artifact_root: str | None = None,
    ) -> Prediction:
        """
        Load a model by its URI with the given interpreter and ask it.

        :param inputs: a stored request; None takes the model's own stored input example
        :param artifact_root: what the server passes on: the process has no credentials for a bucket, and loads through the server
        :raises SmokeFailed: if it cannot be loaded, does not answer, dies, or takes too long; carries the end of its output
        :raises SourceInvalid: if `inputs` is None and the model was stored without an input example
        """
        if not model.startswith("models:/"):
            raise SourceInvalid(
                f"{model!r} names no registered model", "write models:/name@alias or models:/name/version"
            )
        with tempfile.TemporaryDirectory(prefix="muster-model-", ignore_cleanup_errors=True) as folder:
            request = {"model": model, "inputs": inputs, "proxied": _bucket(artifact_root)}
            outcome = self._run(python, tracking_uri, request, Path(folder))
        return self._prediction(model, inputs, outcome)

    def _run(self, python: Path, tracking_uri: str, request: dict[str, Json], folder: Path) -> _Outcome:
        worker, answer, log, scratch = (folder / name for name in ("worker.py", "answer.json", "output", "model"))
        scratch.mkdir()
        worker.write_bytes(importlib.resources.files("muster.adapters").joinpath("model_worker.py").read_bytes())
        request |= {"scratch": str(scratch), "answer": str(answer), "loopback_only": self._confined is not None}
        prefix = self._confined.cell.prefix() if self._confined else []
        try:
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [*prefix, str(python), "-I", "-X", "faulthandler", worker],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=folder,
                    env=self._variables(tracking_uri, folder),
                    start_new_session=True,
                )
        except OSError as error:
            raise SmokeFailed(
                f"the interpreter {python} does not start: {error.strerror}", "build the environment again"
            ) from error
        code = ended(process, json.dumps(request).encode(), self._timeout)
        return _Outcome(
            code, answer.read_bytes() if answer.exists() else None, log.read_bytes().decode(errors="replace")
        )

    def _variables(self, tracking_uri: str, folder: Path) -> dict[str, str]:
        own = {
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "MLFLOW_TRACKING_URI": tracking_uri,
            "MLFLOW_REGISTRY_URI": tracking_uri,
        }
        return {**_QUIET, **(self._confined.environment if self._confined else {}), **self._environment, **own}

    def _prediction(self, model: str, inputs: Mapping[str, Json] | None, outcome: _Outcome) -> Prediction:
        if outcome.code is None:
            raise self._failed(f"{model} did not answer within {self._timeout:.0f} s", outcome)
        if outcome.code != 0 or outcome.answer is None:
            raise self._failed(f"{model}: the process that ran it {ending(outcome.code)}", outcome)
        try:
            answer = json.loads(outcome.answer)
            if "error" not in answer:
                prediction = from_json(Prediction, {**answer, "model": model})
                count_values(prediction.outputs)
                return prediction
            kind, message = answer["error"], str(answer["message"])
        except (ValueError, TypeError, KeyError, IntegrityError) as error:
            raise self._failed(f"{model}: the process that ran it left no readable answer: {error}", outcome) from error
        if kind == "no_example" and inputs is None:
            raise SourceInvalid(
                message, "log the model with input_example=…, so that it can be asked without anybody's help"
            )
        raise self._failed(f"{model} does not answer: {self._scrubbed(message)}", outcome)

    def _failed(self, message: str, outcome: _Outcome) -> SmokeFailed:
        tail = self._scrubbed(outcome.output.strip())[-TAIL:]
        return SmokeFailed(f"{message}\n{tail}" if tail else message, "the model's own output is above")

    def _scrubbed(self, text: str) -> str:
        for value in self._environment.values():
            text = text.replace(value, "…") if len(value) > 3 else text
        return PASSWORD.sub("…@", text)


def _bucket(artifact_root: str | None) -> str | None:
    """An artifact root in a bucket, as the tables of the registry name it; None if it is a folder, which can be read as it is."""
    place = root_place(artifact_root) if artifact_root else None
    return place.location if place and place.base != "file" else None


def ended(process: subprocess.Popen[bytes], request: bytes, timeout: float) -> int | None:
    """The exit code, or None after a timeout. Nothing of the process group is left in either case."""
    try:
        process.communicate(request, timeout=timeout)
    except subprocess.TimeoutExpired:
        return None
    else:
        return process.returncode
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code} and no answer"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
