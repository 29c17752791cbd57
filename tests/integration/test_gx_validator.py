"""What Great Expectations says of real files."""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd  # noqa: TID253 - tests may
import pytest

from muster.adapters.gx_validator import GxValidator
from muster.codec import canonical, to_json
from muster.errors import CatalogError
from muster.ports import Validation

NOT_NULL = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "delay"}}
IN_RANGE = {
    "type": "expect_column_values_to_be_between",
    "kwargs": {"column": "delay", "min_value": -60, "max_value": 600},
}
CARRIERS = {
    "type": "expect_column_distinct_values_to_be_in_set",
    "kwargs": {"column": "carrier", "value_set": ["AA", "UA"]},
}
COLUMNS = {
    "type": "expect_table_columns_to_match_ordered_list",
    "kwargs": {"column_list": ["carrier", "delay"]},
}


def rows(count: int) -> dict[str, Any]:
    return {"type": "expect_table_row_count_to_equal", "kwargs": {"value": count}}


def suite(*expectations: dict[str, Any], **muster: Any) -> dict[str, Any]:
    return {
        "name": "flights",
        "id": None,
        "expectations": [{"meta": {}, "severity": "critical", **e} for e in expectations],
        "meta": {"great_expectations_version": "1.24.1", "muster": muster},
        "suite_parameters": {},
    }


@pytest.fixture
def flights(tmp_path: Path) -> Path:
    """Three months of flights as CSV, the same in one Parquet file, and DVC's own folder beside them."""
    data = tmp_path / "data"
    (data / "csv").mkdir(parents=True)
    (data / ".dvc").mkdir()
    (data / ".dvc" / "hidden.csv").write_text("nonsense\n1\n")
    months = [pd.DataFrame({"carrier": ["AA", "UA"], "delay": [float(month), 20.5]}) for month in (1, 2, 3)]
    for number, month in enumerate(months, start=1):
        month.to_csv(data / "csv" / f"2013-0{number}.csv", index=False)
    pd.concat(months).to_parquet(data / "all.parquet", index=False)
    return data


@pytest.fixture
def validate(flights: Path, tmp_path: Path) -> Callable[..., Validation]:
    def run(*expectations: dict[str, Any], **muster: Any) -> Validation:
        return GxValidator().validate(suite(*expectations, **muster), flights, tmp_path / "docs")

    return run


def test_good_data_passes(validate: Callable[..., Validation], tmp_path: Path) -> None:
    """Files that are joined meet their suite, and data docs tell it."""
    result = validate(NOT_NULL, IN_RANGE, CARRIERS, COLUMNS, rows(6), files="csv/*.csv")
    assert (result.success, result.failures, result.suite) == (True, (), "flights")
    assert {k: v for k, v in result.statistics.items() if k != "seconds"} == {
        "files": 3,
        "rows": 6,
        "evaluated": 5,
        "successful": 5,
    }
    assert "flights" in (tmp_path / "docs" / "index.html").read_text()
    assert len(list((tmp_path / "docs" / "validations").rglob("*.html"))) == 1


def test_one_bad_value_fails(validate: Callable[..., Validation], flights: Path) -> None:
    """Each unmet expectation is one line with column, expectation and figures, and no row of data."""
    (flights / "csv" / "2013-02.csv").write_text("carrier,delay\nsecret-name,9999\nUA,\n")
    result = validate(NOT_NULL, IN_RANGE, CARRIERS, COLUMNS, rows(7), files="csv/*.csv")
    assert not result.success
    nulls, outliers, carriers, count = result.failures
    assert nulls == "column delay: expect_column_values_to_not_be_null: 1 of 6 values are unexpected (16.67 %)"
    assert outliers.startswith("column delay: expect_column_values_to_be_between min_value=-60.0 max_value=600.0: ")
    assert outliers.endswith("1 of 6 values are unexpected (20 %)")
    assert carriers.startswith("column carrier: expect_column_distinct_values_to_be_in_set value_set=['AA', 'UA']: 1 ")
    assert count == "expect_table_row_count_to_equal value=7: found 6"
    assert result.statistics["successful"] == 1
    assert b"secret-name" not in canonical(to_json(result))


def test_each_file_is_judged_by_itself(validate: Callable[..., Validation], flights: Path, tmp_path: Path) -> None:
    """Judged file by file, the failure names the file, and every file has its page."""
    (flights / "csv" / "2013-02.csv").write_text("carrier,delay\nUA,1\n")
    result = validate(rows(2), COLUMNS, files="csv/*.csv", batch="each")
    assert result.failures == ("csv/2013-02.csv: expect_table_row_count_to_equal value=2: found 1",)
    assert (result.statistics["evaluated"], result.statistics["successful"]) == (6, 5)
    assert len(list((tmp_path / "docs" / "validations").rglob("*.html"))) == 3


def test_reads_parquet_and_arguments(validate: Callable[..., Validation], flights: Path) -> None:
    """Parquet is known by its suffix, and arguments reach the reader."""
    (flights / "odd.txt").write_text("carrier;delay\nAA;1,5\n")
    assert validate(rows(6), COLUMNS, files="*.parquet").success
    read = {"sep": ";", "decimal": ","}
    assert validate(rows(1), COLUMNS, IN_RANGE, files="odd.txt", format="csv", read=read).success


def test_without_a_word_all_tables_are_joined(validate: Callable[..., Validation], flights: Path) -> None:
    """By default every CSV and Parquet file counts, and hidden folders and other files do not."""
    (flights / "README.md").write_text("no table")
    result = validate(rows(12))
    assert (result.success, result.statistics["files"]) == (True, 4)


@pytest.mark.parametrize("batch", ["whole", "each"])
@pytest.mark.parametrize(
    "content", [b"", b'carrier,delay\n"AA', b"\xff\xfe\x00\x01,\n", b"a,b\n1,2,3,4\n1\n1,2,3,4,5,6\n"]
)
def test_unreadable_file_is_a_failure(
    validate: Callable[..., Validation], flights: Path, batch: str, content: bytes
) -> None:
    """A file that is no table fails by name, whatever the others are like."""
    (flights / "csv" / "2013-02.csv").write_bytes(content)
    result = validate(NOT_NULL, files="csv/*.csv", batch=batch)
    assert not result.success
    assert any("csv/2013-02.csv: the file cannot be read" in line for line in result.failures)
    assert (flights.parent / "docs" / "index.html").exists()


def test_expectation_that_raises_is_a_failure(validate: Callable[..., Validation]) -> None:
    """A column that is not there, and values that cannot be compared, are failures with the reason."""
    numbers = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "carrier", "min_value": 1}}
    absent = {"type": "expect_column_max_to_be_between", "kwargs": {"column": "absent", "max_value": 1}}
    result = validate(numbers, absent, rows(6), files="csv/*.csv")
    assert not result.success
    assert [line.split(": raised ")[0] for line in result.failures] == [
        "column carrier: expect_column_values_to_be_between min_value=1.0",
        "column absent: expect_column_max_to_be_between max_value=1.0",
    ]
    assert 'The column "absent"' in result.failures[1]
    assert result.statistics["successful"] == 1


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ({"expectations": []}, "expects nothing"),
        ({"expectations": None}, "expects nothing"),
        ({"name": ""}, "no name"),
        (
            {"expectations": [{"type": "expect_nonsense", "kwargs": {}}]},
            "expectation 1 of the suite flights, expect_nons",
        ),
        ({"expectations": [rows(6), {"kwargs": {}}]}, "expectation 2 of the suite flights, None"),
        ({"expectations": ["text"]}, "expectation 1 of the suite flights, text"),
        (
            {"expectations": [{"type": "expect_column_values_to_be_between", "kwargs": {"column": "delay"}}]},
            "min_value and max_value cannot both be None",
        ),
        ({"meta": {"muster": {"files": "*.xls"}}}, "no file of the dataset matches '*.xls'"),
        ({"meta": {"muster": {"files": "../*.csv"}}}, "below the dataset's folder"),
        ({"meta": {"muster": {"files": "/etc/*"}}}, "below the dataset's folder"),
        ({"meta": {"muster": {"file": "*.csv"}}}, "file is unknown"),
        ({"meta": {"muster": {"batch": "some"}}}, "batch is 'some'"),
        ({"meta": {"muster": {"format": "xls"}}}, "format is 'xls'"),
        ({"meta": {"muster": {"read": ["sep"]}}}, "read must hold arguments"),
        ({"meta": {"muster": {"files": "csv/*.csv", "read": {"separator": ";"}}}}, "does not fit pandas"),
        ({"meta": {"muster": {"files": "README"}}}, "does not say how README is read"),
    ],
)
def test_wrong_suite_is_refused(flights: Path, tmp_path: Path, broken: dict[str, Any], says: str) -> None:
    """A suite that is wrong, or that cannot fail, is an error of the catalog that says what is wrong."""
    (flights / "README").write_text("no table")
    with pytest.raises(CatalogError) as caught:
        GxValidator().validate({**suite(rows(12)), **broken}, flights, tmp_path / "docs")
    assert says in caught.value.message


def test_takes_what_the_library_writes(flights: Path, tmp_path: Path) -> None:
    """A suite as ExpectationSuite.to_json_dict() gives it is understood."""
    import great_expectations as gx

    written = gx.ExpectationSuite(
        name="by hand/with a slash", expectations=[gx.expectations.ExpectColumnValuesToNotBeNull(column="delay")]
    ).to_json_dict()
    result = GxValidator().validate(written, flights, tmp_path / "docs")
    assert (result.success, result.suite) == (True, "by hand/with a slash")


def test_two_validations_at_once(flights: Path, tmp_path: Path) -> None:
    """Validations in threads do not take each other's context: each says its own and writes its own docs."""
    found: dict[int, Validation] = {}

    def run(count: int) -> None:
        found[count] = GxValidator().validate(suite(rows(count)), flights, tmp_path / f"docs-{count}")

    threads = [threading.Thread(target=run, args=(count,)) for count in (12, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (found[12].success, found[13].success) == (True, False)
    assert all((tmp_path / f"docs-{count}" / "index.html").exists() for count in (12, 13))


CONNECTIONS: list[Any] = []
LISTENING = threading.Event()


def _note_connection(event: str, arguments: tuple[Any, ...]) -> None:
    if LISTENING.is_set() and event in ("socket.connect", "socket.getaddrinfo"):
        CONNECTIONS.append((event, arguments))


def test_nothing_leaves_the_machine(
    validate: Callable[..., Validation],
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Validating opens no connection, draws no progress bars and leaves no temporary files."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    sys.addaudithook(_note_connection)
    LISTENING.set()
    try:
        assert validate(NOT_NULL, IN_RANGE, files="csv/*.csv").success
    finally:
        LISTENING.clear()
    assert CONNECTIONS == []
    assert "Calculating Metrics" not in capfd.readouterr().err
    assert list((tmp_path / "tmp").iterdir()) == []
