"""The catalog: what is read, and what each mistake is told."""

from __future__ import annotations

import textwrap
import time
from datetime import timedelta
from pathlib import Path

import pytest

from muster.catalog import Workload, load_catalog
from muster.errors import CatalogError, NotFound

VAULTS = """\
vaults:
  primary: {url: conn:vault, passphrase: conn:passphrase, jurisdiction: EU}
  frankfurt: {url: "s3://bucket/muster?endpoint=http://127.0.0.1:9000", passphrase: env:PASSPHRASE, jurisdiction: EU}
  ohio: {url: conn:ohio, passphrase: conn:passphrase, jurisdiction: US}
  somewhere: {url: conn:somewhere, passphrase: conn:passphrase}
"""
FULL = """\
workload: flight_delays
owner: data-platform
objectives: {rpo: 24h, rto: 15m}
strategy: warm
schedule: "0 2 * * *"
datasets:
  - {name: flights, repo: conn:flights_repo, targets: [data/flights], expectations: flights.json}
registry: {store: conn:mlflow_store, artifacts: conn:mlflow_artifacts, models: ["flight-*"], auth_store: conn:mlflow_auth}
environment: {lock: requirements.lock, python: "3.11"}
configuration: {files: ["conf/*.yaml"], env: [MODEL_THRESHOLD], secrets: [conn:mlflow_store, env:KEK]}
smoke: [{model: "models:/flight-delay@champion", rtol: 1e-9}]
residency: {allow: [EU], classification: personal}
vault: primary
replicas: [frankfurt]
retention: {daily: 7, weekly: 5, monthly: 12, lock: 30d}
approvers: [recovery-lead]
targets:
  standby: {directory: /srv/standby}
  bench:
    datasets: {flights: /srv/bench/flights}
    registry: {store: conn:bench_store, artifacts: /srv/bench/artifacts}
"""
SMALL = """\
workload: small
owner: data-platform
objectives: {rpo: 1d, rto: 1h}
datasets:
  - name: flights
    repo: data
vault: primary
"""


def write(project: Path, *workloads: str, vaults: str = VAULTS) -> Path:
    """A project with a catalog; the first workload is in a.yaml, the next in b.yaml."""
    catalog = project / "include" / "catalog"
    (catalog / "workloads").mkdir(parents=True, exist_ok=True)
    (catalog / "vaults.yaml").write_text(vaults)
    suites = project / "include" / "expectations" / "flight_delays"
    suites.mkdir(parents=True, exist_ok=True)
    (suites / "flights.json").write_text("{}")
    for letter, text in zip("abc", workloads, strict=False):
        (catalog / "workloads" / f"{letter}.yaml").write_text(text)
    return catalog


def problems(project: Path, *workloads: str, vaults: str = VAULTS) -> list[str]:
    """The lines of the error, with the folder left out."""
    catalog = write(project, *workloads, vaults=vaults)
    with pytest.raises(CatalogError) as caught:
        load_catalog(catalog)
    assert caught.value.exit_code == 2
    assert "muster catalog check" in caught.value.hint
    first, *lines = caught.value.message.split("\n")
    assert first == f"the catalog {catalog} has {len(lines)} problem{'s' if len(lines) != 1 else ''}:"
    return [line.removeprefix(f"{catalog}/") for line in lines]


def test_every_field_of_the_plan_of_record_is_read(tmp_path: Path) -> None:
    """The catalog of the design document gives the values that it says."""
    catalog = load_catalog(write(tmp_path, FULL))
    workload = catalog.workload("flight_delays")
    assert workload.objectives.rpo == timedelta(hours=24)
    assert workload.objectives.rto == timedelta(minutes=15)
    assert workload.dataset("flights").targets == ("data/flights",)
    assert workload.dataset("flights").source == "workspace"
    assert workload.dataset("flights").expectations == str(tmp_path / "include/expectations/flight_delays/flights.json")
    assert workload.registry is not None
    assert workload.registry.models == ("flight-*",)
    assert workload.smoke[0].rtol == 1e-9
    assert workload.retention is not None
    assert workload.retention.lock == timedelta(days=30)
    assert workload.targets["standby"].directory == "/srv/standby"
    assert workload.root == tmp_path
    assert workload.source == tmp_path / "include/catalog/workloads/a.yaml"
    assert catalog.vaults["frankfurt"].jurisdiction == "EU"


def test_a_root_of_its_own_is_relative_to_the_project(tmp_path: Path) -> None:
    """`root` moves the folder that relative paths begin at."""
    workload = load_catalog(write(tmp_path, SMALL + "root: models/small\n")).workload("small")
    assert workload.root == tmp_path / "models/small"


def test_a_catalog_outside_of_include_belongs_to_the_folder_above(tmp_path: Path) -> None:
    """Without an include folder, the project is where the catalog folder lies."""
    catalog = write(tmp_path, SMALL)
    moved = catalog.rename(tmp_path / "catalog")
    assert load_catalog(moved).workload("small").root == tmp_path


def test_a_workload_survives_the_manifest(tmp_path: Path) -> None:
    """What a manifest carries of the catalog can be read again as the same workload."""
    workload = load_catalog(write(tmp_path, FULL)).workload("flight_delays")
    entry = workload.model_dump(mode="json", exclude={"root", "source"})
    again = Workload.model_validate(entry)
    assert again.model_dump(exclude={"root"}) == workload.model_dump(exclude={"root"})


def test_unknown_names_list_what_there_is(tmp_path: Path) -> None:
    """A wrong workload or dataset is answered with the right ones."""
    catalog = load_catalog(write(tmp_path, FULL, SMALL))
    with pytest.raises(NotFound, match="no workload flights") as caught:
        catalog.workload("flights")
    assert caught.value.hint == "it has: flight_delays, small"
    with pytest.raises(NotFound, match="no dataset weather") as caught:
        catalog.workload("small").dataset("weather")
    assert caught.value.hint == "it has: flights"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("owner:", "ownr:"), "a.yaml:2: ownr: is not known here; did you mean owner? known are: approvers, "),
        (
            ("repo: data", "repos: data"),
            "a.yaml:6: datasets[0].repos: is not known here; did you mean repo? known are: ",
        ),
        (
            ("rto: 1h", "rto: 1 hour"),
            "a.yaml:3: objectives.rto: '1 hour' is not a duration; write a whole number and a unit",
        ),
        (("rpo: 1d", "rpo: 0d"), "a.yaml:3: objectives.rpo: '0d' is out of range"),
        (("owner: data-platform", "owner: 7"), "a.yaml:2: owner: must be text; put it in quotes"),
        (("owner: data-platform", 'owner: ""'), "a.yaml:2: owner: must not be empty"),
        (("workload: small", "workload: s m"), "a.yaml:1: workload: 's m' is not a name; allowed are letters, digits"),
        (("repo: data", "repo: 'conn:'"), "a.yaml:6: datasets[0].repo: "),
        (
            ("repo: data", "source: cache"),
            "datasets[0].source: 'cache' is not allowed; it must be one of 'workspace' or 'remote'",
        ),
        (("    repo: data\n", ""), "a.yaml:5: datasets[0].repo: is missing"),
        (("repo: data", "targets: [../x]"), "datasets[0].targets[0]: '../x' must be a relative path below its folder"),
        (
            ("vault: primary", "vault: primry"),
            "a.yaml:7: vault: there is no vault primry in vaults.yaml; did you mean primary?",
        ),
        (("objectives: {rpo: 1d, rto: 1h}", "objectives: 1d"), "a.yaml:3: objectives: must be a mapping (key: value)"),
        (("vault: primary", "vault: primary\nowner: x"), "a.yaml:8: owner: is given twice, first on line 2"),
        (("vault: primary", "vault: ["), "a.yaml:8: is not YAML: "),
        (("vault: primary", "vault: &v [*v]"), "is not YAML: it is nested too deeply, or an alias contains itself"),
        (
            ("vault: primary", "vault: !!python/name:os.system"),
            "a.yaml:7: is not YAML: could not determine a constructor",
        ),
    ],
)
def test_a_mistake_is_told_with_file_line_field_and_mend(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    """Every kind of mistake names where it is and what is allowed."""
    lines = problems(tmp_path, SMALL.replace(*change))
    assert any(told in line for line in lines), lines


@pytest.mark.parametrize(
    ("added", "told"),
    [
        ('schedule: "0 2 * *"', "a.yaml:8: schedule: '0 2 * *' is not a cron expression; write five fields"),
        ('schedule: "61 2 * * *"', "a.yaml:8: schedule: '61' is no minute; allowed are 0 to 59"),
        ('schedule: "0 0 30 2 *"', "schedule: '0 0 30 2 *' names a day that never comes"),
        (
            'schedule: "0 2 * * 1-5"',
            "a.yaml:3: objectives.rpo: 1d is shorter than the schedule allows: '0 2 * * 1-5' leaves up to 3d",
        ),
        (
            "replicas: [frankfurt, dublin]",
            "a.yaml:8: replicas[1]: there is no vault dublin in vaults.yaml; known are: ",
        ),
        ("replicas: [primary]", "a.yaml:8: replicas[0]: the vault primary holds the points already"),
        (
            "residency: {allow: [EU]}\nreplicas: [ohio]",
            "a.yaml:9: replicas[0]: the vault ohio lies in US, but residency allows only EU",
        ),
        ("residency: {allow: [US]}", "a.yaml:7: vault: the vault primary lies in EU, but residency allows only US"),
        ("residency: {allow: [EU]}\nreplicas: [somewhere]", "replicas[0]: the vault somewhere has no jurisdiction"),
        ("residency: {allow: []}", "a.yaml:8: residency.allow: must not be empty"),
        ("residency: {allow: [Europe]}", "a.yaml:8: residency.allow[0]: must be a code in capitals"),
        ("retention: {daily: 7, lock: 30d}", "a.yaml:8: retention.lock: 30d is longer than anything is kept (7d)"),
        ("retention: {lock: 30d}", "a.yaml:8: retention: keeps no point at all"),
        ("retention: {daily: yes}", "a.yaml:8: retention.daily: must be a whole number"),
        ("retention: {daily: -1}", "a.yaml:8: retention.daily: must be at least 0"),
        (
            "smoke: [{model: 'models:/a@b'}]",
            "a.yaml:8: smoke: a model can be asked only where registry and environment are protected",
        ),
        (
            "smoke: [{model: 'flight-delay'}]",
            "smoke[0].model: 'flight-delay' is not a registered model; write models:/NAME@ALIAS",
        ),
        ("environment: {lock: l, python: 3.10}", "a.yaml:8: environment.python: must be text; put it in quotes"),
        ("configuration: {}", "a.yaml:8: configuration: holds nothing"),
        ("configuration: {files: [/etc/passwd]}", "configuration.files[0]: '/etc/passwd' must be a relative path"),
        (
            "configuration: {secrets: [hunter2]}",
            "configuration.secrets[0]: a secret never stands in the catalog; write conn:NAME",
        ),
        ("targets: {x: {}}", "a.yaml:8: targets.x: needs either directory, or places for single components"),
        (
            "targets: {x: {datasets: {flight: /x}}}",
            "targets.x.datasets.flight: the workload has no dataset flight; did you mean flights?",
        ),
        ("targets: {origin: {directory: /x}}", "targets.origin: the name origin has a meaning of its own"),
        ("targets: {x: {direktory: /x}}", "targets.x.direktory: is not known here; did you mean directory?"),
    ],
)
def test_a_contradiction_is_told_at_the_field_that_would_have_to_change(tmp_path: Path, added: str, told: str) -> None:
    """Fields that are right by themselves but not together are refused."""
    lines = problems(tmp_path, f"{SMALL}{added}\n")
    assert any(told in line for line in lines), lines


@pytest.mark.parametrize(
    ("suite", "told"),
    [
        ("flight.json", "flight.json; did you mean flights.json?"),
        ("/etc/passwd", "'/etc/passwd' must be a file below"),
        ("../../catalog/vaults.yaml", "must be a file below"),
    ],
)
def test_expectations_lie_below_their_folder_and_are_there(tmp_path: Path, suite: str, told: str) -> None:
    """A suite that is elsewhere or nowhere is refused on its line."""
    (line,) = problems(tmp_path, FULL.replace("flights.json", suite))
    assert line.startswith("workloads/a.yaml:7: datasets[0].expectations: ")
    assert told in line


def test_a_smoke_test_of_a_model_that_is_not_covered_is_refused(tmp_path: Path) -> None:
    """A model that is asked must be among the registry's models."""
    (line,) = problems(tmp_path, FULL.replace("models:/flight-delay@", "models:/train-delay@"))
    assert (
        line
        == "workloads/a.yaml:11: smoke[0].model: registry.models (flight-*) does not cover train-delay; add it there"
    )


def test_two_workloads_of_one_name_are_refused_with_both_files(tmp_path: Path) -> None:
    """The second file is told where the first one is."""
    (line,) = problems(tmp_path, SMALL, SMALL)
    assert line.startswith("workloads/b.yaml:1: workload: small is in ")
    assert "workloads/a.yaml already" in line


def test_two_datasets_of_one_name_are_refused(tmp_path: Path) -> None:
    """Component labels are unique within a point."""
    (line,) = problems(tmp_path, SMALL.replace("vault:", "  - {name: flights, repo: other}\nvault:"))
    assert line == "workloads/a.yaml:7: datasets[1].name: there are two datasets flights; give each its own name"


def test_a_workload_without_components_is_refused(tmp_path: Path) -> None:
    """Whoever protects nothing is told so."""
    (line,) = problems(tmp_path, "workload: w\nowner: o\nobjectives: {rpo: 1d, rto: 1d}\nvault: primary\n")
    assert line.startswith("workloads/a.yaml:1: protects nothing; give it datasets")


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
    began = time.perf_counter()
    load_catalog(catalog)
    assert time.perf_counter() - began < 0.1


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
