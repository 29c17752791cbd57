"""One Airflow home, and one small real platform, for all tests of this folder."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_runs import Run, Runs
from airflow_site import PROJECT, AirflowSite, make_site

if TYPE_CHECKING:
    from environments import CapturedEnvironment

# Airflow reads its configuration when it is imported, so this stands before any test module of this folder.
HOME = Path(tempfile.mkdtemp(prefix="muster-airflow-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
os.environ.update(
    {
        "AIRFLOW_HOME": str(HOME),
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME / 'airflow.db'}",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }
)


@pytest.fixture(scope="package")
def airflow_home() -> Path:
    """Airflow's home, with a migrated metadata database."""
    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return HOME


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory, environment_capture: CapturedEnvironment) -> Iterator[AirflowSite]:
    """The platform that Airflow protects; its environment variables are set while tests of this folder run."""
    made = make_site(tmp_path_factory.mktemp("site"))
    shutil.copytree(environment_capture.wheels, made.state / "wheels", copy_function=os.link)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in made.environment.items():
            patch.setenv(name, value)
        yield made


@pytest.fixture(scope="package")
def runs(airflow_home: Path, site: AirflowSite) -> Runs:
    """The project's DAGs over the site's catalog, ready to be run."""
    return Runs(PROJECT / "dags")


@pytest.fixture(scope="package")
def penguin_point(runs: Runs) -> Run:
    """The snapshot of the whole workload, canary included; it takes long, so it is taken once."""
    assert runs.run("canary__penguins").state == "success"
    return runs.run("snapshot__penguins")
