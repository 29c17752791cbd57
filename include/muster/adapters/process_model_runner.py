"""Runs models in processes of their own, with the interpreter of the environment that they were captured with."""

from __future__ import annotations

import importlib.resources
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from muster.adapters.mlflow_locations import root_place
from muster.adapters.network_cell import Confined
from muster.codec import from_json
from muster.domain.predictions import count_values
from muster.errors import IntegrityError, SmokeFailed, SourceInvalid
from muster.ports import Ask, Prediction
from muster.scratch import scratch_folder

Json = Any
SCRATCH, OUTPUT = "model", "output"
"""Names in a worker's folder: where a model is copied to, and what it says."""
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


class _Worker:
    """
    A process that imports what every model needs, and waits for its question. Nothing of it is left when the context is left.

    :param folder: its own
    :param stack: removes the folder
    """

    def __init__(self, folder: Path, process: subprocess.Popen[bytes], stack: ExitStack) -> None:
        self._folder, self._process, self._stack = folder, process, stack

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.returncode is None:
            end(self._process)
        if self._process.stdin:
            self._process.stdin.close()
        self._stack.close()

    @property
    def dead(self) -> bool:
        """Whether it has ended without having been asked."""
        return self._process.poll() is not None

    def answer(self, request: dict[str, Json], timeout: float) -> _Outcome:
        """Put the one question, and wait for the end of the process; at most `timeout` seconds."""
        answer = self._folder / "answer.json"
        request = {**request, "scratch": str(self._folder / SCRATCH), "answer": str(answer)}
        code = ended(self._process, json.dumps(request).encode(), timeout)
        said = (self._folder / OUTPUT).read_bytes().decode(errors="replace")
        return _Outcome(code, answer.read_bytes() if answer.exists() else None, said)


class _Workers:
    """
    Workers one after the other, of which the next begins when one is taken, as long as questions are left.

    :param begin: begins one; raises SmokeFailed if that cannot be
    """

    def __init__(self, begin: Callable[[], _Worker], questions: int) -> None:
        self._begin, self._left = begin, questions
        self._waiting: _Worker | None = None

    def __enter__(self) -> Self:
        self._prepare()
        return self

    def __exit__(self, *_: object) -> None:
        if self._waiting:
            self._waiting.__exit__()

    def next(self) -> _Worker:
        """:raises SmokeFailed: if it cannot begin"""
        waiting, self._waiting = self._waiting, None
        if waiting and waiting.dead:  # whoever ended it, it was not the model that is asked now
            waiting.__exit__()
            waiting = None
        worker = waiting or self._begin()
        try:
            self._prepare()
        except BaseException:
            worker.__exit__()
            raise
        return worker

    def _prepare(self) -> None:
        self._left -= 1
        if self._left >= 0:
            with suppress(SmokeFailed):  # who asks is told
                self._waiting = self._begin()


class ProcessModelRunner:
    """
    Asks each model in a fresh, isolated process: of our own environment nothing is handed on, and its whole process group is
    killed when it has answered or its time is up.

    A model is resolved by its alias through the registry, then loaded from a copy: MLflow writes into a local artifact root
    when it loads a registered model from there, which would alter what was restored.

    :param timeout: seconds from the question to the answer: for what is left of starting, loading and answering together
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

    @contextmanager
    def asking(self, python: Path, questions: int) -> Iterator[Ask]:
        """
        What asks models with the given interpreter, and has the next process begin before it is needed.

        A process that waits has imported MLflow, and knows no model. It is killed when the context is left.

        :param questions: how many will be asked
        """
        with _Workers(partial(self._begin, python), questions) as workers:

            def ask(
                tracking_uri: str, model: str, inputs: Mapping[str, Json] | None, artifact_root: str | None = None
            ) -> Prediction:
                if not model.startswith("models:/"):
                    raise SourceInvalid(
                        f"{model!r} names no registered model", "write models:/name@alias or models:/name/version"
                    )
                request = {
                    "registry": tracking_uri,
                    "model": model,
                    "inputs": inputs,
                    "proxied": _bucket(artifact_root),
                }
                with workers.next() as worker:
                    outcome = worker.answer(request, self._timeout)
                return self._prediction(model, inputs, outcome)

            yield ask

    def predict(
        self,
        python: Path,
        tracking_uri: str,
        model: str,
        inputs: Mapping[str, Json] | None,
        artifact_root: str | None = None,
    ) -> Prediction:
        """Ask a single model; see `muster.ports.Ask`."""
        with self.asking(python, 1) as ask:
            return ask(tracking_uri, model, inputs, artifact_root)

    def _begin(self, python: Path) -> _Worker:
        """:raises SmokeFailed: if the interpreter does not start"""
        try:
            with ExitStack() as stack:
                folder = stack.enter_context(scratch_folder("model"))
                return _Worker(folder, self._started(python, folder), stack.pop_all())
        except OSError as error:
            raise SmokeFailed(
                f"the interpreter {python} does not start: {error.strerror}", "build the environment again"
            ) from error

    def _started(self, python: Path, folder: Path) -> subprocess.Popen[bytes]:
        """:raises OSError: if it does not start"""
        worker = folder / "worker.py"
        worker.write_bytes(importlib.resources.files("muster.adapters").joinpath("model_worker.py").read_bytes())
        (folder / SCRATCH).mkdir()
        prefix = self._confined.cell.prefix() if self._confined else []
        guard = ["--loopback-only"] if self._confined else []
        confined = self._confined.environment if self._confined else {}
        own = {"HOME": str(folder), "TMPDIR": str(folder)}
        with (folder / OUTPUT).open("wb") as output:
            return subprocess.Popen(
                [*prefix, str(python), "-I", "-X", "faulthandler", worker, *guard],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**_QUIET, **confined, **self._environment, **own},
                start_new_session=True,
            )

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
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill its whole process group."""
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
