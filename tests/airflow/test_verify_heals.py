"""The nightly verification heals a vault from the replicas that the catalog names."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from anchored_catalog import write_anchored_catalog
from muster.bootstrap import Platform
from muster.catalog import load_catalog
from muster.errors import IntegrityError, StoreUnavailable
from vaults import ACTOR, CHEAP, extract, flip, noise, read_folder, seal, store_tree

pytestmark = pytest.mark.airflow

FILES = {"a": noise(5000), "b": noise(200_000, 2)}


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    """One point in the primary vault; what is in Frankfurt is up to the test."""
    folder = write_anchored_catalog(tmp_path)
    names = {f"conn:{name}": f"{tmp_path}/{name}" for name in ("primary", "frankfurt", "witness")} | {
        "conn:words": "w" * 20
    }
    platform = Platform(load_catalog(folder), lambda name: names.get(name, name), state=tmp_path / "state", actor=ACTOR)
    vault, _ = platform.create_vault("primary", cost=CHEAP)
    platform.create_vault("witness", cost=CHEAP)
    seal(vault, store_tree(vault, FILES))
    return platform


def verify(platform: Platform, share: float = 1.0) -> Any:
    from muster_airflow.operators.recovery import Site
    from muster_airflow.operators.verify import VerifyVaultOperator

    return VerifyVaultOperator(task_id="verify", vault="primary", share=share).perform(Site(platform, {}, ""))  # type: ignore[arg-type]


def damage(folder: Path) -> None:
    for pack in (folder / "packs").glob("*/*"):
        data = pack.read_bytes()
        pack.unlink()
        pack.write_bytes(flip(data, 100))


def test_what_a_replica_has_comes_back_in_the_same_night(platform: Platform, tmp_path: Path) -> None:
    """The task succeeds, and the point is as good as before."""
    shutil.copytree(tmp_path / "primary", tmp_path / "frankfurt")
    damage(tmp_path / "primary")
    assert verify(platform)["points"] == 1
    (status,) = platform.vault("primary").points()
    assert not status.suspect
    tree = status.point.components[0].tree
    assert extract(platform.vault("primary"), tree, tmp_path / "back") == FILES == read_folder(tmp_path / "back")


@pytest.mark.parametrize("there", ["nothing", "another vault", "as damaged"])
def test_what_no_replica_has_fails_the_task(platform: Platform, tmp_path: Path, there: str) -> None:
    """A place that holds no copy of this vault is not asked, and no error for that hides the damage."""
    if there == "another vault":
        platform.create_vault("frankfurt", cost=CHEAP)
    damage(tmp_path / "primary")
    if there == "as damaged":
        shutil.copytree(tmp_path / "primary", tmp_path / "frankfurt")
    with pytest.raises(IntegrityError, match="files: dataset/d0: "):
        verify(platform)
    assert platform.vault("primary").points()[0].suspect


def test_a_replica_that_is_away_hides_no_damage(
    platform: Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The night is tried again for it; what was found is told, and its point is suspect, all the same."""
    shutil.copytree(tmp_path / "primary", tmp_path / "frankfurt")
    header = tmp_path / "frankfurt" / "vault.json"
    header.unlink()
    header.symlink_to(header)  # what lies on a disk that has gone
    damage(tmp_path / "primary")
    with pytest.raises(StoreUnavailable, match="frankfurt"):
        verify(platform)
    assert "files: dataset/d0: " in capsys.readouterr().out
    assert platform.vault("primary").points()[0].suspect
    header.unlink()
    shutil.copy(tmp_path / "primary" / "vault.json", header)
    assert verify(platform)["points"] == 1


def test_a_vault_that_was_put_back_is_noticed_the_next_night(platform: Platform, tmp_path: Path) -> None:
    """The state folder remembers the newest record that was seen."""
    shutil.copytree(tmp_path / "primary", tmp_path / "older")
    verify(platform)
    verify(platform, 0.1)
    shutil.rmtree(tmp_path / "primary")
    (tmp_path / "older").rename(tmp_path / "primary")
    with pytest.raises(IntegrityError, match="put back to an older state"):
        verify(platform)


def cut_off(folder: Path, after: int) -> None:
    """Remove all records but the oldest, as who wants something forgotten would."""
    for record in sorted((folder / "audit").glob("*"))[after:]:
        record.unlink()


def test_every_night_another_vault_is_told_of_the_trail(platform: Platform, tmp_path: Path) -> None:
    """What is cut off after that is found by the next verification, even on a machine that has seen nothing before."""
    verify(platform)
    assert [r.action for r in platform.vault("witness").audit() if r.action == "audit.anchor"] == ["audit.anchor"]
    shutil.rmtree(platform.state)
    cut_off(tmp_path / "primary", 1)
    for mark in (tmp_path / "primary").glob("marks/*/*"):
        mark.unlink()  # they name the trail as well
    with pytest.raises(IntegrityError, match=f"{(tmp_path / 'witness').as_uri()} audit/.* is gone"):
        verify(platform)
    assert len([r for r in platform.vault("witness").audit() if r.action == "audit.anchor"]) == 1


def test_what_a_copy_knows_of_the_trail_is_asked_every_night(platform: Platform, tmp_path: Path) -> None:
    """A record that is in the copy and no longer in the vault is told of."""
    platform.vault("primary").record("restore", "flights/p", "passed", {})
    shutil.copytree(tmp_path / "primary", tmp_path / "frankfurt")
    newest = [r for r in platform.vault("primary").audit() if r.action == "restore"][-1]
    cut_off(tmp_path / "primary", newest.seq)
    with pytest.raises(IntegrityError, match=r"the copy .* has it and the vault has not .restore flights/p"):
        verify(platform)


@pytest.mark.parametrize("there", ["nothing", "another vault", "garbage"])
def test_a_replica_that_is_none_is_told_of(platform: Platform, tmp_path: Path, there: str) -> None:
    """A place to which nothing was copied yet fails no night in which all is well; a damaged copy does."""
    if there == "another vault":
        platform.create_vault("frankfurt", cost=CHEAP)
    elif there == "garbage":
        shutil.copytree(tmp_path / "primary", tmp_path / "frankfurt")
        header = tmp_path / "frankfurt" / "vault.json"
        header.unlink()
        header.write_text("garbage")
        with pytest.raises(IntegrityError, match=r"in the replica .*frankfurt"):
            verify(platform)
        return
    assert verify(platform)["points"] == 1


def test_lost_keys_come_back_first(platform: Platform, tmp_path: Path) -> None:
    """Without the object that tells of the newest keys nothing could be marked, and nothing be told of the vault."""
    vault = platform.vault("primary")
    vault.rotate(vault.rotation.plan((), ()))
    shutil.copytree(tmp_path / "primary", tmp_path / "frankfurt")
    shutil.rmtree(tmp_path / "primary" / "generations")
    shutil.rmtree(tmp_path / "primary" / "rolls")
    names = {f"conn:{name}": f"{tmp_path}/{name}" for name in ("primary", "frankfurt", "witness")} | {
        "conn:words": "w" * 20
    }
    anew = Platform(platform.catalog, lambda name: names.get(name, name), state=tmp_path / "state", actor=ACTOR)
    assert anew.vault("primary").outdated
    assert verify(anew)["points"] == 1
    assert not anew.vault("primary").outdated
