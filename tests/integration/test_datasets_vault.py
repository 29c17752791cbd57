"""Datasets and configuration through a real vault: what comes back is what was there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from dvc_repositories import DVC, FILES, Repository, lay_of, run
from fakes import MemoryStore
from fakes_dataset_tree import take
from muster.adapters.configuration import ConfigurationSource, ConfigurationTarget
from muster.adapters.dvc_datasets import DvcSource, DvcTarget
from muster.domain.content import TreeRef
from muster.errors import IntegrityError
from muster.ports import ComponentSource, Json, TreeReader
from muster.vault.vault import Vault
from vaults import make_vault


@pytest.fixture
def vault() -> Vault:
    """A vault in memory."""
    return make_vault(MemoryStore())[0]


def kept(vault: Vault, source: ComponentSource, previous: TreeReader | None = None) -> tuple[TreeRef, dict[str, Json]]:
    """Capture a component into the vault, as a snapshot does."""
    with source.capture(previous) as cut, vault.writer() as writer:
        tree = writer.store_tree(cut.files())
        cut.confirm()
        return tree, cut.details()


def test_dataset_goes_through_a_vault(repository: Repository, vault: Vault, tmp_path: Path) -> None:
    """A repository captured into a vault and restored from it is the same to every byte, mode and link, and clean to DVC."""
    (repository.flights / "jan.csv").unlink()
    (repository.flights / "jan.csv").symlink_to("same.csv")
    (repository.flights / "north").chmod(0o755)
    (repository.flights / "empty").chmod(0o555)
    tree, details = kept(vault, DvcSource("flights", repository.root))
    DvcTarget("flights", tmp_path / "back").restore(details, vault.tree(tree))
    lay = lay_of(tmp_path / "back")
    assert lay.pop(".dvc/config.local")
    assert lay == lay_of(repository.root)
    assert "up to date" in run(tmp_path / "back", str(DVC), "status")


def test_unchanged_dataset_adds_nothing_to_a_vault(repository: Repository, vault: Vault) -> None:
    """A second snapshot of an unchanged dataset has the same content, chunk for chunk."""
    source = DvcSource("flights", repository.root)
    first, _ = kept(vault, source)
    second, _ = kept(vault, source, vault.tree(first))
    assert second == first


def test_lost_content_is_stored_anew(repository: Repository, vault: Vault, tmp_path: Path) -> None:
    """What the point before names and the vault has lost is read from the healthy source again, Git history included."""
    source = DvcSource("flights", repository.root)
    lost, _ = take(source)
    tree, details = kept(vault, source, lost)
    DvcTarget("flights", tmp_path / "back").restore(details, vault.tree(tree))
    assert {name: (tmp_path / "back/data/flights" / name).read_bytes() for name in FILES} == FILES


def test_damage_in_the_point_before_stops_no_snapshot(git_repository: Repository, vault: Vault, tmp_path: Path) -> None:
    """Where a file of the point before cannot be read, nothing is taken from it, and all is stored."""
    source = DvcSource("flights", git_repository.root)
    before, _ = take(source)
    refs = before.entry("git/refs").content
    assert refs is not None
    before.contents[refs.sha256] = b"rot"
    tree, details = kept(vault, source, before)
    DvcTarget("flights", tmp_path / "back").restore(details, vault.tree(tree))
    assert run(tmp_path / "back", "git", "rev-parse", "HEAD").strip() == details["revision"]


def test_rot_is_named_through_a_vault(repository: Repository, vault: Vault) -> None:
    """Damage that the vault's writer finds by the MD5 is told as damage of DVC's object, not as a change."""
    source = DvcSource("flights", repository.root, source="remote")
    oid = hashlib.md5(FILES["feb.csv"]).hexdigest()
    repository.sent(oid).chmod(0o644)
    repository.sent(oid).write_bytes(FILES["feb.csv"].replace(b"4", b"5"))
    with pytest.raises(IntegrityError, match=f"{oid} at .* is damaged"):
        kept(vault, source)


def test_configuration_goes_through_a_vault(vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configuration captured into a vault comes back from it, for its owner alone."""
    monkeypatch.setenv("MODEL_THRESHOLD", "0.5")
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "model.yaml").write_text("rows: 1\n")
    source = ConfigurationSource(
        "flights", tmp_path / "project", ["*.yaml"], ["MODEL_THRESHOLD"], {"env:KEY": "hunter2"}
    )
    tree, details = kept(vault, source)
    ConfigurationTarget(tmp_path / "back").restore(details, vault.tree(tree))
    found = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "back").iterdir()}
    assert found == {"environment.env": 0o600, "secrets.json": 0o600, "model.yaml": 0o644}
    assert (tmp_path / "back" / "model.yaml").read_text() == "rows: 1\n"
