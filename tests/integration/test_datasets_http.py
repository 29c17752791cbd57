"""DVC remotes behind a plain web server, which lists nothing, and such as cannot be listed: they are told from lost data."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from dvc_repositories import FILES, Repository
from fakes_dataset_tree import content_of, take
from muster.adapters.dvc_datasets import DvcSource, DvcTarget
from muster.adapters.dvc_objects_map import CloudStore
from muster.errors import SourceInvalid, StoreUnavailable

FEB = hashlib.md5(FILES["feb.csv"]).hexdigest()
NOBODY = "http://127.0.0.1:9/store"


class Files(SimpleHTTPRequestHandler):
    """A server of files that lists no folder and keeps quiet."""

    def list_directory(self, path: object) -> None:
        self.send_error(404)

    def log_message(self, *said: object) -> None:
        pass


@pytest.fixture
def served(repository: Repository) -> Iterator[Repository]:
    """A repository whose default remote is read over HTTP."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(repository.remote)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    repository.dvc("remote", "add", "--quiet", "--default", "web", f"http://127.0.0.1:{server.server_port}")
    yield repository
    server.shutdown()
    thread.join()
    server.server_close()


def test_cut_of_a_web_remote_holds_every_file(served: Repository) -> None:
    """All objects are read from a server that lists none."""
    tree, _ = take(DvcSource("flights", served.root, source="remote"))
    assert dict(content_of(tree, "data/data/flights/")) == FILES


def test_object_that_the_web_remote_lost_is_named(served: Repository) -> None:
    """What the server says is not there is lost, and named with the file that needs it."""
    served.sent(FEB).unlink()
    with pytest.raises(SourceInvalid, match=f"{FEB} of data/data/flights/feb.csv is not in the remote"):
        take(DvcSource("flights", served.root, source="remote"))


def test_web_remote_that_is_down_has_lost_nothing(plain_repository: Repository) -> None:
    """A server that does not answer is a StoreUnavailable, which is tried again, and no lost object."""
    plain_repository.dvc("remote", "add", "--quiet", "--default", "web", NOBODY)
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:9"):
        take(DvcSource("flights", plain_repository.root, source="remote"))


def test_remote_that_is_down_is_not_taken_for_empty(plain_repository: Repository, tmp_path: Path) -> None:
    """A restore asks whether the remote is empty, and takes no silence for an answer."""
    tree, details = take(DvcSource("flights", plain_repository.root))
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:9"):
        DvcTarget("flights", tmp_path / "back", remote=NOBODY).restore(details, tree)
    assert not (tmp_path / "back").exists()


class Guarded(LocalFileSystem):  # type: ignore[misc]
    """A file system, listed as fsspec does it for those that cannot list all at once, with a folder that nobody may list."""

    def ls(self, path: str, detail: bool = False, **options: Any) -> Any:
        if path.endswith("ff"):
            raise PermissionError(path)
        return super().ls(path, detail=detail, **options)


def test_folder_that_cannot_be_listed_is_not_taken_for_empty(repository: Repository) -> None:
    """A folder of objects that may not be listed is named; a remote that is not there yet is empty."""
    fs = SimpleNamespace(CAN_TRAVERSE=True, fs=Guarded())
    assert CloudStore(SimpleNamespace(path=f"{repository.remote}/none", fs=fs)).is_empty()
    assert CloudStore(SimpleNamespace(path=f"{repository.remote}", fs=fs)).etag(FEB) is None
    (repository.remote / "files/md5/ff").mkdir()
    with pytest.raises(StoreUnavailable, match="files/md5/ff"):
        CloudStore(SimpleNamespace(path=f"{repository.remote}", fs=fs)).is_empty()
