"""Puts a restored place to use: runs a command of the catalog, and waits until a URL answers."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from muster.adapters.process_model_runner import PASSWORD, TAIL, ended, ending
from muster.adapters.restore_claim import claims_on
from muster.catalog import CutOver
from muster.domain.restore_target import Switch
from muster.errors import CutOverFailed, UsageError

if TYPE_CHECKING:
    import requests

PAUSE_S = 0.5
ANSWER_S = 10.0
OK = 200
BARE = {"LANG": "C.UTF-8", "PATH": os.defpath}
_SHORTEST_SECRET = 4


def switch_of(cut_over: CutOver | None, resolve: Callable[[str], str]) -> Switch | None:
    """
    What the catalog says of a place, with its reference resolved.

    :raises UsageError: if what must be ready is no URL that can be asked, or carries credentials; it is not shown then
    """
    if cut_over is None:
        return None
    ready = _checked(resolve(cut_over.ready)) if cut_over.ready else None
    return Switch(cut_over.command, ready, cut_over.within.total_seconds())


def _checked(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if scheme not in ("http", "https") or not separator or not rest.partition("/")[0]:
        raise UsageError("what cut_over.ready names is no URL of a web server", "write http(s)://host[:port]/path")
    if "@" in rest.partition("/")[0]:
        raise UsageError(
            "what cut_over.ready names carries credentials", "name an address that asks nobody who they are"
        )
    return url


class ProcessSwitching:
    """
    Runs the command with an environment of its own, in which nothing of ours is, in an empty folder that is gone afterwards.

    What it leaves in the background is ended with it: let a service manager start what shall stay.
    """

    def claims(self, place: PurePath) -> tuple[str, ...]:
        return tuple(map(str, claims_on(Path(place))))

    def run(self, command: Sequence[str], names: Mapping[str, str], within_s: float, secrets: Collection[str]) -> str:
        with tempfile.TemporaryDirectory(prefix="muster-cut-over-", ignore_cleanup_errors=True) as folder:
            log, own = Path(folder) / "output", {"HOME": folder, "TMPDIR": folder}
            try:
                with log.open("wb") as output:
                    process = subprocess.Popen(
                        list(command),
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        cwd=folder,
                        env={**BARE, **names, **own},
                        start_new_session=True,
                    )
            except OSError as error:
                raise CutOverFailed(f"{command[0]} does not start: {error.strerror}") from error
            code = ended(process, b"", within_s)
            said = _masked(log.read_bytes().decode(errors="replace").strip(), secrets)[-TAIL:]
        if code is None:
            raise CutOverFailed(f"{command[0]} did not end within {within_s:g} s, and was stopped", output=said)
        if code != 0:
            how = f"ended with exit code {code}" if code > 0 else ending(code)
            raise CutOverFailed(f"{command[0]} {how}", output=said)
        return said

    def wait_for(self, url: str, within_s: float) -> float:
        import requests

        began = time.monotonic()
        with requests.Session() as session:
            session.trust_env = False  # no proxy, and no ~/.netrc
            while True:
                left = within_s - (time.monotonic() - began)
                answer = _answer(session, url, min(ANSWER_S, max(left, PAUSE_S)))
                if answer == OK:
                    return time.monotonic() - began
                if left <= PAUSE_S:
                    told = f"answered with {answer}" if isinstance(answer, int) else answer
                    raise CutOverFailed(f"{url} did not answer with 200 within {within_s:g} s: at last it {told}")
                time.sleep(PAUSE_S)


def _answer(session: requests.Session, url: str, timeout: float) -> int | str:
    """The status, or what went wrong in its place."""
    import requests

    try:
        with session.get(url, timeout=timeout, allow_redirects=False, stream=True) as answer:
            return int(answer.status_code)
    except requests.RequestException as error:
        return f"did not answer ({type(error).__name__})"


def _masked(text: str, secrets: Collection[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "…") if len(secret) >= _SHORTEST_SECRET else text
    return PASSWORD.sub("…@", text)
