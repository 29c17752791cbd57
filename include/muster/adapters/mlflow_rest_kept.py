"""
What was fetched from a server and is not sealed yet, kept on disk so that an attempt that is broken off need not be made anew.

A file is named after everything that says what its content must be: the server, the run as it ended, the path, the size. So a run that
moved is fetched again, and a file of another registry is never taken for one of this. What is older than a day is not trusted.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from muster.codec import canonical
from muster.errors import SourceChanged, StoreUnavailable

TRUSTED_S = 86_400.0


class Kept:
    """
    :param folder: of our own; whoever else may read the disk must not read it
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def through(self, what: object, fetch: Callable[[Path], None]) -> Path:
        """
        A file that is whole: kept from an earlier attempt, or fetched now.

        :param what: plain JSON data that names the content and its state
        :param fetch: writes the content to a path
        """
        file = self._folder / hashlib.sha256(canonical(what)).hexdigest()
        if self._trusted(file):
            return file
        return self._placed(file, fetch)

    def document(self, what: object, ask: Callable[[], Any]) -> Any:
        """Plain JSON data, kept as a file is."""

        def fetch(to: Path) -> None:
            to.write_bytes(canonical(ask()))

        return json.loads(self.through(what, fetch).read_bytes())

    def fresh(self, fetch: Callable[[Path], None]) -> Path:
        """A file that is fetched now, whatever is kept, since its content may have changed."""
        return self._placed(self._folder / f"fresh-{secrets.token_hex(16)}", fetch)

    def forget(self) -> None:
        """Remove all of it: a point holds it now."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def forget_fresh(self) -> None:
        """Remove what no later attempt would take."""
        for file in self._folder.glob("fresh-*"):
            file.unlink(missing_ok=True)

    def _trusted(self, file: Path) -> bool:
        try:
            return time.time() - file.stat().st_mtime < TRUSTED_S
        except FileNotFoundError:
            return False

    def _placed(self, file: Path, fetch: Callable[[Path], None]) -> Path:
        partial = self._folder / f"fresh-{secrets.token_hex(16)}"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fetch(partial)
            partial.chmod(0o600)
            partial.replace(file)
        except OSError as error:
            raise StoreUnavailable(
                f"what the server gave cannot be kept in {self._folder}: {error.strerror}", "see space and permissions"
            ) from None
        finally:
            partial.unlink(missing_ok=True)
        return file


def opened(file: Path) -> BinaryIO:
    """
    A file that was fetched.

    :raises SourceChanged: if it is not there any more
    """
    try:
        return file.open("rb")
    except FileNotFoundError:
        raise SourceChanged(
            "what was fetched from the server was removed before it was stored", "take one snapshot at a time"
        ) from None


def never() -> BinaryIO:
    """Opens content that the vault has, and so need not be opened."""
    raise AssertionError("content that the vault has is not opened")
