"""Configuration: files, variables and secrets, captured whole and put back for their owner alone."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fakes_dataset_tree import MemoryTree, store, take
from muster.adapters.configuration import ConfigurationSource, ConfigurationTarget
from muster.domain.content import TreeEntry
from muster.errors import IntegrityError, MusterError, SourceChanged, SourceInvalid, TargetNotEmpty
from permissions import modes_bind

SECRETS = {"conn:store": "postgresql://me:hunter2@db/mlflow", "env:KEK": "πάσα\n'quoted'"}
VALUE = "0.5 'of' \"it\" $HOME\nsecond line"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with configuration, and a variable that is hard to quote."""
    root = tmp_path / "project"
    (root / "conf" / "deep").mkdir(parents=True)
    (root / "conf" / "model.yaml").write_bytes(b"threshold: 0.5\r\n")
    (root / "conf" / "deep" / "run.sh").write_bytes(b"#!/bin/sh\n")
    (root / "conf" / "deep" / "run.sh").chmod(0o755)
    (root / "main.tf").write_bytes(b"")
    monkeypatch.setenv("MODEL_THRESHOLD", VALUE)
    return root


def source(root: Path, *patterns: str, env: tuple[str, ...] = ("MODEL_THRESHOLD",)) -> ConfigurationSource:
    return ConfigurationSource("flights", root, patterns or ("conf", "*.tf"), env, SECRETS)


def back(root: Path, to: Path) -> dict[str, Any]:
    tree, details = take(source(root))
    assert ConfigurationTarget(to).restore(details, tree) == details
    return details


def test_files_come_back(root: Path, tmp_path: Path) -> None:
    """Files matched by patterns, and those below matched folders, come back with bytes and modes."""
    back(root, tmp_path / "back")
    for name in ("conf/model.yaml", "conf/deep/run.sh", "main.tf"):
        assert (tmp_path / "back" / name).read_bytes() == (root / name).read_bytes()
        assert (tmp_path / "back" / name).stat().st_mode == (root / name).stat().st_mode


def test_variables_come_back_through_a_shell(root: Path, tmp_path: Path) -> None:
    """A shell that reads environment.env has the very value, quotes, dollars and line ends included."""
    back(root, tmp_path / "back")
    command = ["sh", "-c", 'set -a; . ./environment.env; printf %s "$MODEL_THRESHOLD"']
    environment = {"PATH": os.environ["PATH"], "HOME": "/elsewhere"}
    done = subprocess.run(command, cwd=tmp_path / "back", env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == VALUE


def test_secrets_come_back_for_their_owner_alone(root: Path, tmp_path: Path) -> None:
    """Secrets are restored to a file, in a folder, that nobody else can read."""
    import json

    back(root, tmp_path / "back")
    assert json.loads((tmp_path / "back" / "secrets.json").read_bytes()) == SECRETS
    assert (tmp_path / "back" / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "back" / "environment.env").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "back").stat().st_mode & 0o777 == 0o700


def test_details_and_representations_hold_no_value(root: Path) -> None:
    """Names and counts get into the manifest; values do not, nor into any representation."""
    one = source(root)
    with one.capture(None) as cut:
        store(cut.files())
        shown = repr(cut.details()) + repr(one) + repr(cut) + repr(vars(cut).keys())
        assert cut.details()["secrets"] == ["conn:store", "env:KEK"]
    assert "hunter2" not in shown
    assert "second line" not in shown


@pytest.mark.parametrize("pattern", ["nothing/*.yaml", "/etc/passwd", "../*", ""])
def test_pattern_without_a_file_is_refused(root: Path, pattern: str) -> None:
    """A pattern that matches nothing, or climbs out of the root, is refused and named."""
    with pytest.raises(SourceInvalid, match=r"no file matches nothing|climbs out"):
        take(source(root, "conf", pattern))


def test_variable_that_is_not_set_is_refused(root: Path) -> None:
    """A point without a variable would not be whole, so it is not taken."""
    with pytest.raises(SourceInvalid, match="NO_SUCH_VARIABLE"):
        take(source(root, env=("MODEL_THRESHOLD", "NO_SUCH_VARIABLE")))


def test_reserved_name_is_refused(root: Path) -> None:
    """A file that would be restored over the secrets is refused when it is captured."""
    (root / "secrets.json").write_text("{}")
    with pytest.raises(SourceInvalid, match=r"secrets\.json"):
        take(source(root, "*.json"))


def test_folder_of_a_reserved_name_is_refused(root: Path) -> None:
    """A folder in whose place a restore puts a file of its own is refused when it is captured."""
    (root / "environment.env").mkdir()
    (root / "environment.env" / "a.txt").write_text("a")
    with pytest.raises(SourceInvalid, match=r"environment\.env/a\.txt cannot be captured"):
        take(source(root, "environment.env"))


def test_dead_link_is_refused(root: Path) -> None:
    """A link that leads nowhere is named instead of being left out."""
    (root / "conf" / "gone.yaml").symlink_to("nowhere")
    with pytest.raises(SourceInvalid, match=r"gone\.yaml"):
        take(source(root))


@pytest.mark.parametrize("pattern", ["conf", "**/*.sh", "conf/*", "conf/deep/run.sh", "conf/*/*"])
@pytest.mark.parametrize("mode", [0o000, 0o444], ids=["closed", "not entered"])
def test_unreadable_folder_is_refused(root: Path, pattern: str, mode: int) -> None:
    """A folder that we may not read is named instead of being taken for empty; where it is not asked for, it is in nobody's way."""
    (root / "conf" / "deep").chmod(mode)
    with modes_bind():
        with pytest.raises(SourceInvalid, match=r"conf/deep.* cannot be read"):
            take(source(root, pattern))
        tree, _ = take(source(root, "*.tf"))
    assert tree.paths() == ["environment.env", "files/main.tf", "secrets.json"]


def test_patterns_are_those_of_a_shell(root: Path) -> None:
    """Names are matched case for case, dots included; two stars are any number of folders, and what matches twice is taken once."""
    (root / ".env").write_text("A=1\n")
    (root / "conf" / "deep" / "Run.sh").write_text("true\n")
    tree, _ = take(source(root, "**/*.sh", "**/run.sh", ".e*", "conf/m?del.[xy]aml"))
    files = [path.removeprefix("files/") for path in tree.paths() if path.startswith("files/")]
    assert files == [".env", "conf/deep/Run.sh", "conf/deep/run.sh", "conf/model.yaml"]
    tree, _ = take(source(root, "**"))
    assert sum(path.startswith("files/") for path in tree.paths()) == 5


@pytest.mark.parametrize("change", ["write", "add", "remove"])
def test_change_under_the_snapshot_is_noticed(root: Path, change: str) -> None:
    """A file that is written, added or removed between cut and confirmation makes the cut void."""
    with source(root).capture(None) as cut:
        store(cut.files())
        file = root / "conf" / ("new.yaml" if change == "add" else "model.yaml")
        file.unlink() if change == "remove" else file.write_bytes(b"threshold: 0.7\r\n")
        with pytest.raises(SourceChanged, match=file.name):
            cut.confirm()


def test_nothing_is_overwritten(root: Path, tmp_path: Path) -> None:
    """A folder that holds anything is refused and stays as it is."""
    tree, details = take(source(root))
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "mine").write_text("mine")
    target = ConfigurationTarget(tmp_path / "back")
    for attempt in (lambda: target.check(details), lambda: target.restore(details, tree)):
        with pytest.raises(TargetNotEmpty):
            attempt()
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["mine"]


def test_empty_folder_is_taken(root: Path, tmp_path: Path) -> None:
    """An empty folder that is there is filled, and closed to others."""
    (tmp_path / "back").mkdir(mode=0o755)
    back(root, tmp_path / "back")
    assert (tmp_path / "back").stat().st_mode & 0o777 == 0o700


def damaged(tree: MemoryTree) -> MemoryTree:
    ref = tree.entry("secrets.json").content
    assert ref is not None
    return MemoryTree(tree.entries(), tree.contents | {ref.sha256: b"{}"})


def shorter(tree: MemoryTree) -> MemoryTree:
    return MemoryTree([entry for entry in tree.entries() if entry.path != "files/conf/model.yaml"], tree.contents)


def smuggled(tree: MemoryTree) -> MemoryTree:
    over = TreeEntry("files/secrets.json", content=tree.entry("files/main.tf").content)
    return MemoryTree([*tree.entries(), over], tree.contents)


@pytest.mark.parametrize("damage", [damaged, shorter, smuggled])
def test_failed_restore_leaves_nothing(root: Path, tmp_path: Path, damage: Any) -> None:
    """A damaged, short or forged tree is not restored, and no secret is left lying about."""
    tree, details = take(source(root))
    with pytest.raises(IntegrityError):
        ConfigurationTarget(tmp_path / "back").restore(details, damage(tree))
    assert [path.name for path in tmp_path.iterdir()] == ["project"]


def test_place_that_cannot_be_made_is_named(root: Path, tmp_path: Path) -> None:
    """A target below a file is refused by name."""
    tree, details = take(source(root))
    with pytest.raises(MusterError, match=r"main\.tf"):
        ConfigurationTarget(root / "main.tf" / "back").restore(details, tree)
