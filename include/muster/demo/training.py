"""
Train the model in two versions and register them: ``python -m muster.demo.training REPOSITORY TRACKING_URI``.

Regression of the arrival delay, in minutes, on what is known before departure. Version 1 knows the schedule; version 2 the weather too.
Both learn from January to November and are measured on December.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muster.demo.flights import WEATHER, read_months
from muster.demo.repository import DATA, dataset_md5

if TYPE_CHECKING:
    import pandas as pd

MODEL = "flight-delay"
SCHEDULE = ["month", "day", "hour", "minute", "distance"]
NAMES = ["carrier", "origin"]
TRUSTED = ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"]
"""skops refuses trees from strangers, for their node indices are not bounds-checked; these were grown here and are restored bit by bit."""
VERSIONS = (
    {"alias": "challenger", "numbers": SCHEDULE, "max_iter": 40},
    {"alias": "champion", "numbers": [*SCHEDULE, *WEATHER], "max_iter": 60},
)


def main(repository: Path, tracking_uri: str) -> None:
    """Train, measure and register every version."""
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_experiment("flight-delay")
    months = repository / DATA
    learn = read_months(months, slice(0, -1)).dropna(subset=["arr_delay"])
    measure = read_months(months, slice(-1, None)).dropna(subset=["arr_delay"])
    for version in VERSIONS:
        train_version(version, learn, measure, dataset_md5(repository))


def train_version(version: dict[str, Any], learn: pd.DataFrame, measure: pd.DataFrame, md5: str) -> None:
    """One run, one registered version, one alias."""
    import mlflow
    from sklearn.metrics import mean_absolute_error, root_mean_squared_error

    columns = [*version["numbers"], *NAMES]
    model = build(version["numbers"], version["max_iter"])
    with mlflow.start_run(run_name=version["alias"]):
        model.fit(as_floats(learn, version["numbers"])[columns], learn["arr_delay"])
        questions = as_floats(measure, version["numbers"])[columns]
        answers = model.predict(questions)
        mlflow.log_params({"columns": ",".join(columns), "max_iter": version["max_iter"], "rows": len(learn)})
        mlflow.log_metric("mae_minutes", float(mean_absolute_error(measure["arr_delay"], answers)))
        mlflow.log_metric("rmse_minutes", float(root_mean_squared_error(measure["arr_delay"], answers)))
        mlflow.set_tags({"dataset": DATA, "dataset.dvc.md5": md5})
        log_model(model, questions.head(5), version["alias"], md5)


def build(numbers: list[str], max_iter: int) -> Any:
    """Gradient boosting over numbers as they are and names as ordinals; the same forest every time."""
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    ordinals = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = make_column_transformer((ordinals, NAMES), ("passthrough", numbers))
    return make_pipeline(columns, HistGradientBoostingRegressor(max_iter=max_iter, random_state=2013))


def as_floats(flights: pd.DataFrame, numbers: list[str]) -> pd.DataFrame:
    """MLflow's schema has no missing integers, so all numbers are floats."""
    return flights.astype(dict.fromkeys(numbers, "float64"))


def log_model(model: Any, example: pd.DataFrame, alias: str, md5: str) -> None:
    """Register a version with its input example and the dataset it was trained on."""
    import mlflow
    from mlflow.models import infer_signature

    logged = mlflow.sklearn.log_model(
        model,
        name="model",
        registered_model_name=MODEL,
        input_example=example,
        signature=infer_signature(example, model.predict(example)),
        skops_trusted_types=TRUSTED,
        pip_requirements=["scikit-learn", "pandas", "skops"],
        tags={"dataset.dvc.md5": md5},
    )
    client = mlflow.MlflowClient()
    client.set_registered_model_alias(MODEL, alias, logged.registered_model_version)
    client.set_model_version_tag(MODEL, logged.registered_model_version, "dataset.dvc.md5", md5)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
