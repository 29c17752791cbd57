"""The default remote of a restored DVC repository: how it is named in the configuration, and how a server's is filled."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from muster.adapters.dvc_objects_map import CloudStore, md5_of
from muster.adapters.dvc_place import Place, remote_for_people
from muster.adapters.dvc_repository import dvc_errors, open_repository
from muster.domain.restore_plan import without_secrets
from muster.errors import IntegrityError, SourceInvalid, StoreUnavailable, TargetNotEmpty
from muster.ports import Json

NAME = "restored"
NAMED = re.compile(r'remote "(?P<name>.*)"')


def write_local_config(staging: Path, place: Place, details: Mapping[str, Json]) -> None:
    """
    Write .dvc/config.local, which is in no version, so that the default remote is the place's and the cache the repository's own.

    A remote of .dvc/config that is at this very place keeps its name and settings. Any other is left alone, and is no longer
    the default: what is restored elsewhere does not write to where the original wrote. For the same reason the remotes that outputs
    have of their own lead to the place, too, which holds all objects; but not where their settings do not go with a folder.

    A repository without Git is told so, which the original's own .dvc/config.local may have done.
    """
    core, remote = _remote_lines(staging, place)
    if details.get("scm") != "git" and not _merged(staging)["core"].get("no_scm"):
        core.append("    no_scm = true")
    lines = [*(["[core]"] if core else []), *core, *remote, *_cache_lines(staging)]
    _write_lines(staging, lines)
    for name in details.get("named_remotes", ()) if remote and place.remote_folder else ():
        own = [f"['remote \"{name}\"']", f"    url = {place.remote_folder}"]
        _write_lines(staging, [*lines, *own])
        if _is_valid(staging):
            lines += own
        else:
            _write_lines(staging, lines)


def _write_lines(staging: Path, lines: Sequence[str]) -> None:
    if lines:
        (staging / ".dvc" / "config.local").write_text("\n".join(lines) + "\n")


def _is_valid(staging: Path) -> bool:
    try:
        _merged(staging)
    except SourceInvalid:
        return False
    return True


def cache_kinds(staging: Path) -> list[str]:
    """The repository's ``cache.type``; DVC's default is ``reflink, copy``."""
    return list(_merged(staging)["cache"].get("type") or ["reflink", "copy"])


def fill_cloud_remote(staging: Path, place: Place, oids: Collection[str]) -> Callable[[], None]:
    """
    Send all objects to a server's remote, and prove that they are there; return what takes them away again.

    :raises TargetNotEmpty: if it holds objects already
    :raises StoreUnavailable: if it does not answer or does not take them
    :raises IntegrityError: if what lies there is not what was sent
    """
    with open_repository(staging) as repo, dvc_errors(remote_for_people(place)):
        odb = repo.cloud.get_remote_odb()
        if not CloudStore(odb).is_empty():
            raise TargetNotEmpty(f"the DVC remote {remote_for_people(place)} is not empty", "name another remote")
        undo = partial(_take_away, odb, frozenset(oids))
        try:
            _send(repo, odb, oids, place)
            _prove(odb, repo.cache.repo, oids)
        except BaseException:
            undo()
            raise
        return undo


def _send(repo: Any, odb: Any, oids: Collection[str], place: Place) -> None:
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.transfer import transfer

    result = transfer(repo.cache.repo, odb, {HashInfo("md5", oid) for oid in oids}, shallow=False)
    if result.failed:
        raise StoreUnavailable(
            f"{len(result.failed)} of {len(oids)} objects did not get to {remote_for_people(place)}",
            "see its permissions and its space, and restore again",
        )


def _prove(odb: Any, cache: Any, oids: Collection[str]) -> None:
    """Size and ETag where the ETag is an MD5 (S3, in one part), else the bytes themselves."""
    remote = CloudStore(odb)
    for oid in oids:
        copy = remote.copy(oid)
        size = Path(cache.oid_to_path(oid)).stat().st_size
        if copy is None or copy.size != size:
            raise IntegrityError(f"the object {oid} did not get whole to {odb.path}", "restore again")
        if remote.etag(oid) != oid.removesuffix(".dir"):
            with copy.open() as stream:
                if md5_of(stream) != oid.removesuffix(".dir"):
                    raise IntegrityError(f"the object {oid} is damaged at {odb.path}", "restore again")


def _take_away(odb: Any, oids: Collection[str]) -> None:
    with dvc_errors(odb.path):
        for oid in oids:
            path = odb.oid_to_path(oid)
            if odb.fs.exists(path):
                odb.fs.remove(path)


def _remote_lines(staging: Path, place: Place) -> tuple[list[str], list[str]]:
    """What belongs into the section ``core``, and the remote's own section."""
    remotes, default = _remotes(staging, place)
    there = [name for name, url in remotes.items() if url == remote_for_people(place)]
    if there:
        return ([] if default in there else [f"    remote = {there[0]}"]), []
    name = next(n for n in (NAME, *(f"{NAME}-{i}" for i in range(2, 99))) if n not in remotes)
    own = [f"['remote \"{name}\"']", f"    url = {place.remote_folder or place.remote}", "    verify = true"]
    return [f"    remote = {name}"], own


def _remotes(staging: Path, place: Place) -> tuple[dict[str, str], str | None]:
    """Name to URL (without secrets; absolute for folders, as seen from the final place) of .dvc/config, and the default's name."""
    from configobj import ConfigObj, ConfigObjError  # type: ignore[import-untyped]

    try:
        config = ConfigObj(str(staging / ".dvc" / "config"), list_values=False, interpolation=False)
    except (ConfigObjError, OSError) as error:
        raise SourceInvalid(f"the captured .dvc/config cannot be read: {error}", "mend it at the source") from error
    remotes = {}
    for section, values in config.items():
        if (named := NAMED.fullmatch(section)) and "url" in values:
            remotes[named["name"]] = _resolved(str(values["url"]), place.directory / ".dvc")
    return remotes, config.get("core", {}).get("remote")


def _resolved(url: str, base: Path) -> str:
    if "://" in url and not url.startswith("file://"):
        return without_secrets(url)
    return os.path.normpath(base / url.removeprefix("file://"))


def _cache_lines(staging: Path) -> list[str]:
    """A cache elsewhere is not the restored repository's: it would fill it, and others share it."""
    return ["[cache]", "    dir = cache"] if _merged(staging)["cache"].get("dir") else []


def _merged(staging: Path) -> Any:
    with dvc_errors(staging):
        from dvc.config import Config

        return Config(dvc_dir=str(staging / ".dvc"), local_dvc_dir=str(staging / ".dvc"))
