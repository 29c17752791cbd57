"""Environments are captured with all their wheels, or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tarfile
from pathlib import Path

import pytest

from environments import MODEL_LOCK, CapturedEnvironment, captured, lock, only_index, source, wheel
from muster.codec import canonical
from muster.errors import (
    IntegrityError,
    MusterError,
    SourceChanged,
    SourceInvalid,
    StoreUnavailable,
)


def test_captures_every_wheel_of_the_lock(environment_capture: CapturedEnvironment) -> None:
    """Lock, wheels, platform and bill of materials are stored, and the facts agree with them."""
    tree, details = environment_capture.tree, environment_capture.details
    files = {entry.path: entry.content for entry in tree.entries() if entry.content}
    wheels = {path: content for path, content in files.items() if path.startswith("wheels/")}
    assert set(files) - set(wheels) == {"requirements.lock", "platform.json", "sbom.cdx.json"}
    assert (tree.folder / "requirements.lock").read_bytes() == MODEL_LOCK.read_bytes()
    assert len(wheels) == details["packages"] == MODEL_LOCK.read_text().count("==")
    assert sum(content.size for content in wheels.values()) == details["wheels_size"] < 120_000_000
    assert details["distributions"]["mlflow-skinny"] == "3.17.2"
    assert (details["python"], details["machine"]) == ("3.11", os.uname().machine)
    assert str(environment_capture.wheels) not in canonical(details).decode()


def test_bill_of_materials_names_every_wheel(environment_capture: CapturedEnvironment) -> None:
    """The CycloneDX document gives name, version, purl and hash of every distribution, and no two alike."""
    tree = environment_capture.tree
    document = json.loads((tree.folder / "sbom.cdx.json").read_bytes())
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    components = document["components"]
    assert {c["name"]: c["version"] for c in components} == environment_capture.details["distributions"]
    assert {c["hashes"][0]["content"] for c in components} == {
        entry.content.sha256 for entry in tree.entries() if entry.path.startswith("wheels/") and entry.content
    }
    assert all(c["purl"] == f"pkg:pypi/{c['name']}@{c['version']}" for c in components)
    assert len({c["bom-ref"] for c in components}) == len(components)


def test_capture_is_the_same_for_the_same_environment(small: Path) -> None:
    """Two captures are the same bytes, so that the second stores nothing."""
    first, second = captured(small), captured(small, "again")
    assert first.tree.entries() == second.tree.entries()
    assert first.details == second.details


def test_wheels_of_the_point_before_are_not_fetched_again(small: Path) -> None:
    """With the index and the cache gone, wheels that the previous point holds are named as known, and not opened."""
    before = captured(small)
    shutil.rmtree(small / "cache")
    shutil.rmtree(small / "index")
    with source(small).capture(before.tree) as capture:
        files = {file.path: file for file in capture.files()}
        assert (
            files["wheels/alpha-1.0-py3-none-any.whl"].known
            == before.tree.entry("wheels/alpha-1.0-py3-none-any.whl").content
        )
        assert all(f.known is not None for f in files.values() if f.path.startswith("wheels/"))
        assert capture.details() == before.details
    assert list((small / "cache").glob("*.whl")) == []


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_wheels_that_the_vault_has_lost_are_fetched_again(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel that the point before names is opened all the same where its content is gone: the very file, by its hash."""
    before = captured(small)
    _, other = wheel(small / "index", "alpha", tag="py2.py3-none-any")  # which pip would rather take
    links = [f"<a href='{p.as_uri()}#sha256={digest(p)}'>{p.name}</a>" for p in (small / "index").glob("*.whl")]
    (small / "links.html").write_text("".join(links))
    only_index(monkeypatch, small / "links.html")
    text = (small / "small.lock").read_text()
    (small / "small.lock").write_text(text.replace("\nbeta", f" \\\n    --hash=sha256:{other}\nbeta"))
    shutil.rmtree(small / "cache")
    with source(small).capture(before.tree) as capture:
        wheels = [file for file in capture.files() if file.path.startswith("wheels/")]
        assert len(wheels) == 2
        for file in wheels:
            assert file.open is not None
            with file.open() as stream:
                assert stream.read() == before.tree.read(before.tree.entry(file.path))


def test_wheels_in_the_cache_are_not_fetched_again(small: Path) -> None:
    """With the index gone, the cache is enough; a damaged wheel in it is not used."""
    before = captured(small)
    shutil.rmtree(small / "index")
    assert captured(small, "again").details == before.details
    damaged = small / "cache" / "beta-2.0.0-py3-none-any.whl"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    with pytest.raises(MusterError, match=r"beta==2\.0"):
        captured(small, "third")


def test_unreachable_index_is_named_with_what_is_missing(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that does not answer is a passing fault, and the message says which wheels are missing."""
    captured(small)
    (small / "cache" / "beta-2.0.0-py3-none-any.whl").unlink()
    only_index(monkeypatch, small / "nothing")
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:secret@127.0.0.1:9/simple")
    with pytest.raises(StoreUnavailable, match=r"not in the cache: beta==2\.0\n") as caught:
        captured(small, "again")
    assert "secret" not in str(caught.value)


def test_package_without_a_wheel_is_refused(small: Path) -> None:
    """What the index has as source only would have to be built in an emergency, so it is refused now."""
    archive = small / "index" / "gamma-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(small / "small.lock", "gamma-1.0/PKG-INFO")
    lock(small, ("gamma", "1.0", hashlib.sha256(archive.read_bytes()).hexdigest()))
    with pytest.raises(SourceInvalid, match=r"no wheel of gamma==1\.0"):
        captured(small)


def test_other_bytes_than_the_lock_allows_are_refused(small: Path) -> None:
    """A package that was replaced in the index is damage, not a fault of the network."""
    wheel(small / "index", "beta", "2.0.0", needs="malware")
    with pytest.raises(IntegrityError, match="other bytes than the lock allows"):
        captured(small)


@pytest.mark.parametrize(
    ("needs", "told"),
    [
        ("gamma>=3", "alpha needs gamma>=3, which is not in it"),
        ("beta>=2.1", "alpha needs beta>=2.1, and it has beta==2.0"),
        ("beta[more]", "beta[more] needs gamma, which is not in it"),
        ("gamma; python_version >= '3.11'", "alpha needs gamma, which is not in it"),
    ],
)
def test_lock_that_is_not_closed_is_refused(small: Path, needs: str, told: str) -> None:
    """What a wheel needs for this Python, extras included, must be locked with it: else no environment could be built of it."""
    _, alpha = wheel(small / "index", "alpha", needs=needs)
    _, beta = wheel(small / "index", "beta", "2.0.0", needs="gamma; extra == 'more'")
    lock(small, ("alpha", "1.0", alpha), ("beta", "2.0", beta))
    with pytest.raises(SourceInvalid, match=re.escape(told)) as caught:
        captured(small)
    assert "uv pip compile" in caught.value.hint


def test_what_is_needed_elsewhere_alone_is_not_asked_for(small: Path) -> None:
    """A need of another Python or of an extra that nobody asks for, and a pre-release that is pinned, are in order."""
    _, alpha = wheel(small / "index", "alpha", needs="gamma; python_version < '3.8'")
    _, beta = wheel(small / "index", "beta", "2.0.0rc1", needs="gamma; extra == 'more'")
    _, delta = wheel(small / "index", "delta", needs="beta>=1")
    lock(small, ("alpha", "1.0", alpha), ("beta", "2.0rc1", beta), ("delta", "1.0", delta))
    assert captured(small).details["packages"] == 3


def test_wheels_of_the_point_before_are_asked_too_if_the_lock_is_new(small: Path) -> None:
    """A lock that lost a line is refused, though the wheels that are left are stored already."""
    before = captured(small)
    shutil.rmtree(small / "cache")
    (small / "small.lock").write_text((small / "small.lock").read_text().partition("beta")[0])
    with pytest.raises(SourceInvalid, match="alpha needs beta"), source(small).capture(before.tree):
        pass


def test_line_without_hash_is_refused(small: Path) -> None:
    """A lock with a line that has no hash is named with file and line."""
    path = small / "small.lock"
    path.write_text(path.read_text() + "gamma==1.0\n")
    with pytest.raises(SourceInvalid, match=r"small\.lock, line 5: gamma==1\.0 has no SHA-256"):
        captured(small)


def test_lock_that_changes_meanwhile_is_noticed(small: Path) -> None:
    """A lock that is written while its wheels are stored spoils the cut."""
    path = small / "small.lock"
    with source(small).capture(None) as capture:
        capture.confirm()
        path.write_text(path.read_text() + "\n")
        with pytest.raises(SourceChanged):
            capture.confirm()
