"""Which schema revisions the installed MLflow knows, and that finding out is cheap."""

from __future__ import annotations

import subprocess
import sys

import pytest

from muster.adapters.mlflow_revisions import (
    VERSION_TABLES,
    known_revisions,
    migration_scripts,
    newest_revision,
    require_known,
)
from muster.errors import SourceInvalid

CHEAP = """
import sys
from muster.adapters.mlflow_revisions import VERSION_TABLES, known_revisions, newest_revision
assert all(newest_revision(table) in known_revisions(table) for table in VERSION_TABLES)
sys.exit("mlflow" in sys.modules)
"""


@pytest.mark.parametrize("table", VERSION_TABLES)
def test_revisions_in_the_texts_are_those_that_alembic_finds(table: str) -> None:
    """None is missed and none is made up: what MLflow's migrations say when they are imported is the measure."""
    imported = {script.revision for script in migration_scripts(table).walk_revisions()}
    assert known_revisions(table) == imported
    assert newest_revision(table) == migration_scripts(table).get_current_head()
    assert len(imported) >= 1
    require_known(dict.fromkeys([table], imported.pop()), "the store", "nothing")


def test_an_unknown_revision_is_named() -> None:
    """With its table, and with what would know it."""
    with pytest.raises(
        SourceInvalid, match=r"the store is at schema revision 0badcafe0bad \(alembic_version\)"
    ) as caught:
        require_known({"alembic_version": "0badcafe0bad"}, "the store", "MLflow 99")
    assert caught.value.hint == "install MLflow 99"


def test_mlflow_is_not_imported_for_it() -> None:
    """That takes seconds of every nightly snapshot of a registry in which nothing has changed."""
    assert subprocess.run([sys.executable, "-c", CHEAP]).returncode == 0
