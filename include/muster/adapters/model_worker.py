"""
Runs one model, in the environment that it was captured with.

A script of its own: it imports nothing of ours, since the environment has nothing of ours. It imports MLflow at once, then reads one JSON
request from standard input, ``{"registry": URI, "model": …, "inputs": … or null, "proxied": bucket or null, "scratch": folder, "answer":
file}``, and writes its answer to that file, whole or not at all. Standard output and error belong to the libraries, which are talkative.
With ``--loopback-only`` it reaches no other machine.

The answer is ``{"version", "model_id", "inputs", "outputs", "seconds"}``, or ``{"error": kind, "message": …}`` with kind
``no_example`` or ``model``. The form of outputs is that of muster.domain.predictions.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

SCALARS: tuple[
    tuple[type, Callable[[Any], Any]], ...
] = (  # a bool is an int too, and a datetime a date: the first that fits is meant
    (bool, bool),
    (int, int),
    (float, lambda value: repr(float(value))),
    (str, str),
    (bytes, lambda value: base64.b64encode(value).decode()),
    (dt.datetime, lambda value: value.isoformat()),
    (dt.date, lambda value: value.isoformat()),
)
FORMATS = ("dataframe_split", "dataframe_records", "inputs", "instances")


class NoExample(Exception):
    """The model was stored without an input example."""


def main() -> None:
    if "--loopback-only" in sys.argv:
        sys.addaudithook(stay_on_loopback)
    took = imported()
    request = json.load(sys.stdin)
    os.environ["MLFLOW_TRACKING_URI"] = os.environ["MLFLOW_REGISTRY_URI"] = request["registry"]
    try:
        answer = answered(request["model"], request["inputs"], request["scratch"], request.get("proxied"))
        answer["seconds"]["import"] += took
    except NoExample as error:
        answer = {"error": "no_example", "message": str(error)}
    except BaseException as error:  # noqa: BLE001 - whatever a model raises is an answer: even SystemExit
        traceback.print_exc()
        answer = {"error": "model", "message": f"{type(error).__name__}: {error}"}
    partial = Path(request["answer"] + ".partial")
    partial.write_text(json.dumps(answer), encoding="utf-8")
    partial.replace(request["answer"])


def imported() -> float:
    """Import what every model needs, while nobody has asked yet; seconds that it took. What cannot be imported is told to who asks."""
    started = time.perf_counter()
    with suppress(Exception):
        import mlflow.pyfunc
        import mlflow.pyfunc.scoring_server  # noqa: F401
    return time.perf_counter() - started


def stay_on_loopback(event: str, given: tuple[Any, ...]) -> None:
    """A guard in Python: of a model that is rehearsed, nothing is sent to any other machine. Native code does not ask it."""
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = given[1]
        host = address[0] if isinstance(address, tuple) else "127.0.0.1"
    elif event == "socket.getaddrinfo":
        host = given[0]
    else:
        return
    if host and str(host) not in ("localhost", "::1") and not str(host).startswith("127."):
        raise PermissionError(f"a rehearsal reaches nothing but its own machine: no connection to {host}")


def answered(uri: str, inputs: Any, scratch: str, proxied: str | None) -> dict[str, Any]:
    started = time.perf_counter()
    import mlflow
    import mlflow.pyfunc

    imported = time.perf_counter()
    version, name = resolved(mlflow.MlflowClient(), uri)
    # load_model on the registered URI writes a file into a local artifact root; a copy keeps the original as it was
    source = source_of(mlflow.MlflowClient(), name, version.version, proxied)
    folder = mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=scratch)
    model = mlflow.pyfunc.load_model(folder)
    loaded = time.perf_counter()
    if inputs is None:
        inputs = stored_example(model.metadata, folder, uri)
    data, params = parsed(model, inputs)
    outputs = model.predict(data, params=params) if params else model.predict(data)
    done = time.perf_counter()
    return {
        "version": str(version.version),
        "model_id": getattr(version, "model_id", None) or getattr(model.metadata, "model_id", None),
        "inputs": inputs,
        "outputs": encoded(outputs),
        "seconds": {"import": imported - started, "load": loaded - imported, "predict": done - loaded},
    }


def resolved(client: Any, uri: str) -> tuple[Any, str]:
    """The registered version that ``models:/name@alias`` or ``models:/name/version`` means now, and the name."""
    from urllib.parse import unquote

    path = unquote(uri.removeprefix("models:/").strip("/"))
    name, separator, alias = path.rpartition("@")
    if separator:
        return client.get_model_version_by_alias(name, alias), name
    name, _, version = path.rpartition("/")
    return client.get_model_version(name, version), name


def source_of(client: Any, name: str, version: str, proxied: str | None) -> str:
    """Where a version is loaded from: the server, if it passes on the bucket in which its files lie."""
    place = str(client.get_model_version_download_uri(name, version)) if proxied else ""
    if proxied and place.startswith(proxied + "/"):
        return "mlflow-artifacts:" + place.removeprefix(proxied)
    return f"models:/{name}/{version}"


def stored_example(metadata: Any, folder: str, uri: str) -> Any:
    """The request that was stored with the model, ready to be sent: MLflow's serving example, or what older versions stored."""
    info = metadata.saved_input_example_info or {}
    if "serving_input_path" in info:
        return json.loads(Path(folder, info["serving_input_path"]).read_text(encoding="utf-8"))
    if info.get("type") in ("dataframe", "ndarray"):
        example = json.loads(Path(folder, info["artifact_path"]).read_text(encoding="utf-8"))
        return (
            {"dataframe_split": example} if info["type"] == "dataframe" else {"inputs": example.get("inputs", example)}
        )
    raise NoExample(f"{uri} was stored without an input example")


def parsed(model: Any, inputs: Mapping[str, Any]) -> tuple[Any, Any]:
    """A request as the data and parameters of `predict`, with the types of the model's signature."""
    from mlflow.pyfunc.scoring_server import infer_and_parse_data

    if not any(key in inputs for key in FORMATS):
        return inputs, None  # a chat request and the like is passed as it is
    data = {key: value for key, value in inputs.items() if key != "params"}
    from_hints = getattr(model.metadata, "_is_signature_from_type_hint", lambda: False)()
    if from_hints and "inputs" in data:
        return data["inputs"], inputs.get("params")
    return infer_and_parse_data(data, model.metadata.get_input_schema()), inputs.get("params")


def encoded(value: Any) -> dict[str, Any]:
    """Any answer of a model as JSON that loses nothing."""
    import numpy as np
    import pandas as pd

    if isinstance(value, pd.DataFrame):
        columns = [encoded(value.iloc[:, n].array) for n in range(value.shape[1])]
        keys = [str(name) for name in value.columns]
        return {"dtype": "dataframe", "shape": list(value.shape), "keys": keys, "values": columns}
    if isinstance(value, (pd.Series, pd.Index)):
        return encoded(value.array)
    if isinstance(value, pd.api.extensions.ExtensionArray):
        return array(value.to_numpy())
    if hasattr(value, "toarray"):  # a sparse matrix
        value = value.toarray()
    if isinstance(value, (np.ndarray, np.generic)):
        return array(np.asarray(value))
    return plain(value)


def array(value: Any) -> dict[str, Any]:
    import numpy as np

    shape, kind = list(value.shape), value.dtype.kind
    if kind == "O":
        return nested("object", shape, [encoded(item) for item in value.ravel()])
    if kind == "c":
        parts = np.stack([value.real, value.imag], axis=-1)
        return {**array(parts), "dtype": str(value.dtype)}
    if kind == "f" and value.dtype.itemsize <= 8:
        values = [repr(item) for item in value.astype("float64").ravel().tolist()]
    elif kind in "iub":
        values = value.ravel().tolist()
    elif kind in "mM":
        values = value.ravel().astype("int64").tolist()
    elif kind in "UT":
        return {"dtype": "str", "shape": shape, "values": [str(item) for item in value.ravel()]}
    elif kind == "S":
        return {"dtype": "bytes", "shape": shape, "values": [base64.b64encode(item).decode() for item in value.ravel()]}
    else:
        raise TypeError(f"an array of {value.dtype} cannot be kept as a golden prediction")
    return {"dtype": str(value.dtype), "shape": shape, "values": values}


def plain(value: Any) -> dict[str, Any]:
    """Python's own types, and what turns into them."""
    import pandas as pd

    if value is None or value is pd.NA or value is pd.NaT:
        return {"dtype": "none", "shape": [], "values": []}
    if isinstance(value, dict):
        keys = sorted(value, key=str)
        return nested("dict", [len(keys)], [encoded(value[key]) for key in keys], keys=[str(key) for key in keys])
    if isinstance(value, (list, tuple)):
        return nested("tuple" if type(value) is tuple else "list", [len(value)], [encoded(item) for item in value])
    if hasattr(value, "model_dump"):  # pydantic, as chat models answer
        return encoded(value.model_dump(mode="json"))
    for kind, write in SCALARS:
        if isinstance(value, kind):
            return {"dtype": kind.__name__, "shape": [], "values": [write(value)]}
    raise TypeError(f"an answer of type {type(value).__name__} cannot be kept as a golden prediction")


def nested(dtype: str, shape: list[int], values: list[Any], **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "values": values, **more}


if __name__ == "__main__":
    main()
