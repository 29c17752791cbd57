"""The catalog: what is read, and what each mistake is told."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from catalog_files import FULL, SMALL, problems, write
from muster.catalog import Workload, load_catalog, read_catalog
from muster.errors import CatalogError, NotFound


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


def test_a_judge_of_changes_needs_something_to_judge(tmp_path: Path) -> None:
    """Limits for a workload that has neither data nor models are refused; without being asked for, they are no matter."""
    bare = SMALL.replace("datasets:\n  - name: flights\n    repo: data\n", "configuration: {env: [A]}\n")
    assert load_catalog(write(tmp_path / "without", bare)).workload("small").anomaly.judge
    (line,) = problems(tmp_path / "with", f"{bare}anomaly: {{shrunk: 0.9}}\n")
    assert "anomaly: judges datasets and registries, and there are none" in line


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
        (("owner:", "ownr:"), "a.yaml:2: ownr: is not known here; did you mean owner? known are: anomaly, "),
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
            "registry: {store: s, artifacts: a, webhook: env:SECRET}",
            "a.yaml:8: registry.webhook: starts nothing where the strategy is warm; set strategy: hot",
        ),
        (
            "strategy: hot\nregistry: {store: s, artifacts: a, webhook: env:SECRET}",
            "a.yaml:9: registry.webhook: is not told of deletions",
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
        (
            "residency: {allow: [EU]}\ntargets: {ohio: {directory: /x, jurisdiction: US}}",
            "a.yaml:9: targets.ohio: it lies in US, but residency allows only EU",
        ),
        ("residency: {allow: [US]}", "a.yaml:7: vault: the vault primary lies in EU, but residency allows only US"),
        ("residency: {allow: [EU]}\nreplicas: [somewhere]", "replicas[0]: the vault somewhere has no jurisdiction"),
        ("residency: {allow: []}", "a.yaml:8: residency.allow: must not be empty"),
        ("residency: {allow: [Europe]}", "a.yaml:8: residency.allow[0]: must be a code in capitals"),
        ("retention: {daily: 7, lock: 30d}", "a.yaml:8: retention.lock: 30d is longer than anything is kept (7d)"),
        ("retention: {lock: 30d}", "a.yaml:8: retention: keeps no point at all"),
        ("retention: {daily: yes}", "a.yaml:8: retention.daily: must be a whole number"),
        ("anomaly: {spoiled: 0}", "a.yaml:8: anomaly.spoiled: "),
        ("anomaly: {shrunk: 1.5}", "a.yaml:8: anomaly.shrunk: must be at most 1"),
        ("anomaly: {judge: 1}", "a.yaml:8: anomaly.judge: "),
        ("anomaly: off", "a.yaml:8: anomaly: must be a mapping (key: value)"),
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
        (
            "registry: {store: conn:a}",
            "a.yaml:8: registry.artifacts: is missing; it must be given, unless there is a server",
        ),
        ("registry: {server: conn:a, store: conn:b}", "registry.store: means a store, and there is a server"),
        (
            "registry: {server: conn:a, server_keys: [env:K]}",
            "registry.server_keys: means a store, and there is a server",
        ),
        (
            "registry: {store: conn:a, artifacts: /b, token: env:T}",
            "registry.token: is for a server, and there is none",
        ),
        ("registry: {server: conn:a, token: hunter2}", "registry.token: a secret never stands in the catalog"),
        ("registry: {server: 'https://ada:hunter2@mlflow'}", "registry.server: holds a password; write conn:NAME"),
        (
            "registry: {server: conn:a}\nenvironment: {lock: l, python: '3.11'}\nsmoke: [{model: 'models:/a@b'}]",
            "a.yaml:10: smoke: models are asked through a server of our own over the registry's store",
        ),
        (
            "targets: {x: {registry: {server: conn:a, artifacts: /x}}}",
            "targets.x.registry.artifacts: means a store, and there is a server",
        ),
        (
            "registry: {server: conn:a, models: [m], scope: models}",
            "a.yaml:8: registry.scope: takes models out of a store, and there is a server",
        ),
        (
            "registry: {store: s, artifacts: a, scope: models}",
            "registry.scope: takes models alone, and registry.models names all of them",
        ),
        (
            "registry: {store: s, artifacts: a, auth_store: u, models: [m], scope: models}",
            "registry.scope: takes models alone, and users belong to the store as a whole",
        ),
        ("canary: {every: 5m}", "a.yaml:8: canary: is written into the registry, and there is none; leave it out"),
        (
            "registry: {store: s, artifacts: a, models: [m], scope: models}\ncanary: {every: 5m}",
            "a.yaml:9: canary: stands in an experiment of its own, which no model needs",
        ),
        ("registry: {store: s, artifacts: a}\ncanary: {every: 30s}", "canary.every: 30s is shorter than a minute"),
        (
            "registry: {store: s, artifacts: a}\ncanary: {every: 1d}",
            "canary.every: 1d is no shorter than objectives.rpo",
        ),
        ("cut_over: {within: 5m}", "a.yaml:8: cut_over: does nothing; give it command or ready, or leave it out"),
        ("targets: {x: {directory: /x, cut_over: {}}}", "targets.x.cut_over: does nothing"),
        ("cut_over: {command: ['']}", "cut_over.command[0]: must not be empty"),
        ("cut_over: {command: systemctl restart mlflow}", "cut_over.command: must be a list"),
        ("targets: {x: {registry: {}}}", "targets.x.registry.store: is missing; it must be given, unless there is"),
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
    ("anchored_in", "says"),
    [
        (
            "[witnes]",
            r"vaults.yaml:3: vaults.other.anchored_in\[0\]: there is no vault witnes .*; did you mean witness",
        ),
        ("[other]", r"anchored_in\[0\]: other proves nothing more of other"),
        ("[witness, witness]", r"anchored_in\[1\]: witness proves nothing more of other"),
    ],
)
def test_a_vault_is_anchored_in_others(tmp_path: Path, anchored_in: str, says: str) -> None:
    """Each is named once, is in the catalog, and is another one."""
    vaults = f"vaults:\n  witness: {{url: /w, passphrase: env:W}}\n  other: {{url: /o, passphrase: env:O, anchored_in: {anchored_in}}}\n"
    with pytest.raises(CatalogError, match=says):
        load_catalog(write(tmp_path, SMALL.replace("primary", "other"), vaults=vaults))
    kept, told = read_catalog(tmp_path / "include" / "catalog")
    assert list(kept.workloads) == ["small"]  # a mistyped anchor ends nobody's protection
    assert told
    good = vaults.replace(anchored_in, "[witness]")
    assert load_catalog(write(tmp_path, SMALL.replace("primary", "other"), vaults=good)).vaults[
        "other"
    ].anchored_in == ("witness",)
