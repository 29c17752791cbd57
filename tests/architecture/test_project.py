"""The project's own promises: everything is pinned, every command exists, the production shape is whole."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

PROJECT = Path(__file__).resolve().parents[2]
PAIRS = {
    "requirements.in": "requirements.txt",
    "requirements-rescue.in": "requirements-rescue.txt",
    "requirements-dev.in": "requirements-dev.txt",
    "include/muster/demo/model-environment.in": "include/muster/demo/model-environment.lock",
}
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(\[[^\]]*\])?==(?P<version>[^ ;\\]+)", re.MULTILINE)
SERVICES = {"postgres", "airflow-init", "api-server", "scheduler", "dag-processor", "triggerer", "mlflow"}


def lines(file: str) -> list[str]:
    """Lines of a requirements file that ask for something."""
    return [line for line in (PROJECT / file).read_text().splitlines() if line and not line.startswith("#")]


def wanted(file: str) -> dict[str, Requirement]:
    """What a ``.in`` file itself asks for, by normal name."""
    asked = [Requirement(line.partition("#")[0].strip()) for line in lines(file) if not line.startswith("-")]
    return {normal(requirement.name): requirement for requirement in asked}


def pinned(file: str) -> dict[str, str]:
    """What a lock file pins, by normal name."""
    return {normal(m["name"]): m["version"] for m in PIN.finditer((PROJECT / file).read_text())}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("lock", PAIRS.values())
def test_every_locked_package_is_pinned_and_hashed(lock: str) -> None:
    """A lock holds exact versions only, each with at least one SHA-256."""
    blocks = re.split(r"\n(?=\S)", "\n".join(lines(lock)))
    assert len(blocks) == len(pinned(lock)) > 30
    for block in blocks:
        assert PIN.match(block), block.splitlines()[0]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block.splitlines()[0]


@pytest.mark.parametrize("file", PAIRS)
def test_every_requirement_gives_its_reason(file: str) -> None:
    """Nothing is required without a reason on its line."""
    silent = [line for line in lines(file) if not line.startswith("-") and not re.search(r"\s#\s\w", line)]
    assert silent == []


@pytest.mark.parametrize(("file", "lock"), PAIRS.items())
def test_every_lock_is_as_fresh_as_what_it_locks(file: str, lock: str) -> None:
    """A lock pins what is asked for, in a version that is asked for, and nothing by a request that is gone."""
    asked, have = wanted(file), pinned(lock)
    for name, requirement in asked.items():
        assert name in have, f"{lock} lacks {name}: run `make lock`"
        assert requirement.specifier.contains(have[name], prereleases=True), f"{name}: run `make lock`"
    text = (PROJECT / lock).read_text()
    by_request = {
        normal(m["name"])
        for block in re.split(r"\n(?=\S)", text)
        if (m := PIN.match(block)) and re.search(rf"(via|#)\s+-r {re.escape(file)}$", block, re.MULTILINE)
    }
    assert by_request == set(asked), "run `make lock`"


@pytest.mark.parametrize("lock", [lock for lock in PAIRS.values() if lock != "requirements.txt"])
def test_all_locks_agree(lock: str) -> None:
    """A package has one version in the whole project."""
    base = pinned("requirements.txt")
    assert {n: v for n, v in pinned(lock).items() if n in base and base[n] != v} == {}


def test_the_lint_and_the_tests_are_built_upon_the_product() -> None:
    """What is developed with holds all that is delivered."""
    assert pinned("requirements.txt").items() <= pinned("requirements-dev.txt").items()
    assert not any(name.startswith("apache-airflow") for name in pinned("requirements-rescue.txt"))


def test_the_production_shape_is_whole() -> None:
    """The compose file has every service, each image with a tag, every service watched, and no secret in it."""
    compose = yaml.safe_load((PROJECT / "docker-compose.yaml").read_text())
    assert set(compose["services"]) == SERVICES
    for name, service in compose["services"].items():
        assert re.search(r":[0-9][\w.-]*$", service["image"]), f"{name} has no pinned image"
        assert name == "airflow-init" or service["healthcheck"]["test"][0] == "CMD", name
        assert set(service["secrets"]) <= set(compose["secrets"]), name
        assert all(after in SERVICES for after in service.get("depends_on", {})), name
        spelled = {k for k, v in service["environment"].items() if re.search(r"PASSWORD|SECRET_KEY|FERNET", k) and v}
        assert all(k.endswith(("_CMD", "_FILE")) for k in spelled), name
    for mounted in compose["secrets"].values():
        assert mounted["file"].startswith("include/deploy/secrets/")


def test_the_production_secrets_are_made_once(tmp_path: Path) -> None:
    """Every secret that the compose file mounts is made, and a second run changes none."""
    script = tmp_path / "make_secrets.py"
    script.write_text((PROJECT / "include" / "deploy" / "make_secrets.py").read_text())
    subprocess.run([sys.executable, str(script)], check=True)
    made = {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()}
    compose = yaml.safe_load((PROJECT / "docker-compose.yaml").read_text())
    assert set(made) == set(compose["secrets"])
    named = set(
        re.findall(r"conn:(\w+)", "".join(f.read_text() for f in (PROJECT / "include/catalog").rglob("*.yaml")))
    )
    assert named <= set(json.loads(made["connections.json"]))
    subprocess.run([sys.executable, str(script)], check=True)
    assert made == {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()}
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0


def test_the_dockerfile_copies_what_there_is() -> None:
    """Nothing is copied into the image that is not in the project."""
    dockerfile = (PROJECT / "include" / "deploy" / "Dockerfile").read_text()
    sources = [word for line in re.findall(r"^COPY (.*) \S+$", dockerfile, re.MULTILINE) for word in line.split()]
    assert sources
    assert [source for source in sources if not (PROJECT / source).exists()] == []


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_documents_name_commands_that_exist(document: str) -> None:
    """Every ``make`` target, file and link that a document names is there."""
    text = (PROJECT / document).read_text()
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^ *|`)make ([a-z-]+)", text, re.MULTILINE))
    assert named
    assert named <= targets
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert link.startswith("https://") or (PROJECT / link).exists(), link


def test_the_readme_names_commands_that_the_program_has() -> None:
    """Every ``muster`` command in the README is one of the program's, with options that it knows."""
    from click import Context, Group

    from muster.cli.main import command as program

    for line in re.findall(
        r"^\s*(?:\.venv/bin/)?muster ((?!demo).*)$", (PROJECT / "README.md").read_text(), re.MULTILINE
    ):
        words = line.split("#")[0].split()
        command, context = program, Context(program)
        while words:
            word = words.pop(0)
            if word.startswith("--"):
                option = next((p for p in command.params if word in p.opts), None)
                assert option is not None, f"{word} in: {line}"
                if not getattr(option, "is_flag", False):
                    words.pop(0)
            elif isinstance(command, Group):
                found = command.get_command(context, word)
                assert found is not None, f"{word} in: {line}"
                command = found
