"""The catalog's files: secrets that must not be in them, files that cannot be read, and how quickly they are."""

from __future__ import annotations

import textwrap
import time
from pathlib import Path

import pytest

from catalog_files import FULL, SMALL, VAULTS, problems, write
from muster.catalog import load_catalog
from muster.errors import CatalogError


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://mlflow:hunter2@db/mlflow",
        "s3://AKIA:hunter2@bucket/prefix",
        "postgresql://mlflow:hunt@er/hunter2@db/mlflow",
        "https://host/path?password=hunter2",
        "s3://bucket?secret_key=hunter2",
    ],
)
def test_a_password_in_a_url_is_refused_and_not_repeated(tmp_path: Path, url: str) -> None:
    """A literal secret is refused on its line, and its value is not in the message."""
    (line,) = problems(tmp_path, SMALL.replace("repo: data", f'repo: "{url}"'))
    assert line.startswith(
        "workloads/a.yaml:6: datasets[0].repo: holds a password; write conn:NAME or env:NAME instead"
    )
    assert "hunt" not in line


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9000/a@b", "sqlite:////srv/mlflow.db", "s3://bucket/a?endpoint=http://h:9000"]
)
def test_a_url_without_a_password_is_left_alone(tmp_path: Path, url: str) -> None:
    """A port is not a password."""
    catalog = load_catalog(write(tmp_path, SMALL.replace("repo: data", f'repo: "{url}"')))
    assert catalog.workload("small").dataset("flights").repo == url


def test_a_passphrase_in_the_vaults_file_is_refused_and_not_repeated(tmp_path: Path) -> None:
    """The passphrase of a vault is a reference, always."""
    (line,) = problems(tmp_path, SMALL, vaults="vaults:\n  primary:\n    url: /v\n    passphrase: hunter2\n")
    assert line.startswith("vaults.yaml:4: vaults.primary.passphrase: a secret never stands in the catalog")
    assert "hunter2" not in line


def test_a_broken_line_is_not_quoted(tmp_path: Path) -> None:
    """A YAML error names the line but does not show it: it may hold a secret."""
    (line,) = problems(tmp_path, SMALL + 'approvers: "hunter2\n')
    assert "hunter2" not in line


def test_all_problems_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    """Nobody has to mend one line to see the next."""
    bad = SMALL.replace("rpo: 1d", "rpo: soon").replace("vault: primary", "valut: primary")
    lines = problems(tmp_path, bad, bad.replace("small", "other"), vaults=VAULTS + "extra: 1\n")
    told = [line[: line.index(": ", line.index(": ") + 1)] for line in lines]
    assert told == [
        "vaults.yaml:6: extra",
        *(f"workloads/{f}.yaml:{rest}" for f in "ab" for rest in ("1: vault", "3: objectives.rpo", "7: valut")),
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "a.yaml:1: is empty; it must be a mapping"),
        (b"\xff\xfe\x00", "a.yaml:1: cannot be read: it is not UTF-8 text"),
        (b"- a\n- b\n", "a.yaml:1: must be a mapping (key: value)"),
        (b"a: 1\n---\nb: 2\n", "a.yaml:2: is not YAML: expected a single document"),
        (b"{" * 50, "a.yaml:1: is not YAML"),
    ],
)
def test_a_file_that_is_no_mapping_is_told(tmp_path: Path, content: bytes, told: str) -> None:
    """Whatever stands in a file, the answer is a line and never a trace."""
    catalog = write(tmp_path)
    (catalog / "workloads" / "a.yaml").write_bytes(content)
    with pytest.raises(CatalogError) as caught:
        load_catalog(catalog)
    assert told in caught.value.message


def test_a_file_that_would_be_overlooked_is_told(tmp_path: Path) -> None:
    """A workload in a .yml file would be protected by nothing; it is refused, not skipped."""
    catalog = write(tmp_path)
    (catalog / "workloads" / "a.yml").write_text(SMALL)
    with pytest.raises(CatalogError, match=r"a\.yml:1: would not be read; rename it to a\.yaml"):
        load_catalog(catalog)


def test_a_folder_or_file_that_is_missing_is_told(tmp_path: Path) -> None:
    """No catalog, or none of vaults.yaml, is an error of the catalog."""
    with pytest.raises(CatalogError, match="there is no catalog folder"):
        load_catalog(tmp_path / "nowhere")
    with pytest.raises(CatalogError, match=r"vaults\.yaml:1: cannot be read: No such file"):
        load_catalog(tmp_path)


def test_reading_is_quick_enough_for_every_parse_of_a_dag_file(tmp_path: Path) -> None:
    """Once pydantic is imported, a catalog of a workload is read in milliseconds."""
    catalog = write(tmp_path, FULL)
    load_catalog(catalog)
    began = time.process_time()
    load_catalog(catalog)
    assert time.process_time() - began < 0.1


def test_the_catalog_knows_no_tool_and_no_airflow() -> None:
    """Reading it imports none of the heavy packages: DAG files do it at every parse."""
    import subprocess
    import sys

    code = (
        "import sys; import muster.catalog; "
        "print([m for m in ('airflow','mlflow','dvc','pandas','numpy','sqlalchemy','boto3','click') if m in sys.modules])"
    )
    include = str(Path(__file__).parents[2] / "include")
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": include}, capture_output=True, text=True)
    assert done.stdout == textwrap.dedent("[]\n"), done.stderr
