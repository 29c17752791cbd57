"""Models of a real registry, asked in the captured environment."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from muster.adapters.process_model_runner import ProcessModelRunner
from muster.domain.predictions import compare
from muster.errors import SmokeFailed, SourceInvalid
from muster.loopback import free_port

CHAMELEON = """
import os, signal, sys, time
import numpy as np, pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

ANSWERS = {
    "frame": lambda: pd.DataFrame({"p": np.array([0.1, np.nan], "float32"), "n": [1, 2], "s": ["a", None],
                                   "t": pd.to_datetime(["2026-11-23", "1999-01-01"])}),
    "series": lambda: pd.Series([1.5, np.inf, -0.0]),
    "dict": lambda: {"b": [1, 2.5, None, True], "a": "text", "c": {"deep": (np.float64(0.1), b"raw")}},
    "text": lambda: "an answer",
    "ints": lambda: np.array([[2**63 - 1], [-(2**63)]]),
    "objects": lambda: np.array(["x", 1, None], dtype=object),
    "complex": lambda: np.array([0.1 - 2j]),
    "everything": lambda: {k: ANSWERS[k]() for k in ("frame", "series", "dict", "text", "ints", "objects", "complex")},
    "environment": lambda: sorted(f"{k}={v}" for k, v in os.environ.items()),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda: __import__("ctypes").string_at(0),
    "exit": lambda: os._exit(0),
    "sysexit": lambda: sys.exit(3),
    "sleep": lambda: (os.system("sleep 600 & echo child $!"), time.sleep(600)),
    "raise": lambda: (print("talkative " + os.environ.get("STORE_SECRET", "")), 1 / 0),
    "generator": lambda: (n for n in range(3)),
    "chatter": lambda: (print('{"version": "99", "outputs": "forged"}'), 7)[1],
}

class Chameleon(PythonModel):
    def predict(self, context, model_input, params=None):
        return ANSWERS[str(np.asarray(model_input).ravel()[0])]()

set_model(Chameleon())
"""


@dataclass(frozen=True)
class Registry:
    """A running registry server and the folder of its artifacts."""

    uri: str
    artifacts: Path

    def digest(self) -> str:
        """Over all artifact files: their names and bytes."""
        sha = hashlib.sha256()
        for path in sorted(p for p in self.artifacts.rglob("*") if p.is_file()):
            sha.update(str(path.relative_to(self.artifacts)).encode() + b"\0" + path.read_bytes())
        return sha.hexdigest()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A real MLflow server on a loopback port, with artifacts that clients read from the folder itself."""
    folder = tmp_path_factory.mktemp("registry")
    port = free_port()
    log = (folder / "server.log").open("wb")
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
               "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--default-artifact-root", str(folder / "artifacts"),
               "--no-serve-artifacts"]  # fmt: skip
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        uri = f"http://127.0.0.1:{port}"
        wait_for(uri + "/health", server, folder / "server.log")
        seed(uri, folder)
        yield Registry(uri, folder / "artifacts")
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        log.close()


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError(log.read_text())


def seed(uri: str, folder: Path) -> None:
    """A forest in skops format in two versions, one without example, and a model that misbehaves on request."""
    import mlflow
    import numpy as np
    import pandas as pd
    from sklearn.ensemble import RandomForestRegressor

    mlflow.set_tracking_uri(uri)
    random = np.random.default_rng(7)
    data = pd.DataFrame({"a": random.random(200), "b": random.integers(0, 9, 200)})
    target = data["a"] * 3 + data["b"]
    client = mlflow.MlflowClient()
    for depth, example in ((2, data.head(5)), (5, data.head(5)), (3, None)):
        forest = RandomForestRegressor(n_estimators=10, max_depth=depth, random_state=1).fit(data, target)
        mlflow.sklearn.log_model(
            forest,
            name="forest",
            registered_model_name="forest",
            input_example=example,
            serialization_format="skops",
            skops_trusted_types=["sklearn.tree._tree.Tree"],
            pip_requirements=["scikit-learn"],
        )
    for alias, version in (("old", "1"), ("champion", "2"), ("mute", "3")):
        client.set_registered_model_alias("forest", alias, version)
    (folder / "chameleon.py").write_text(CHAMELEON)
    mlflow.pyfunc.log_model(
        python_model=str(folder / "chameleon.py"),
        name="chameleon",
        registered_model_name="chameleon",
        pip_requirements=["numpy"],
    )


def ask(word: str) -> dict[str, list[str]]:
    return {"inputs": [word]}


CHAMELEON_URI = "models:/chameleon/1"


def test_answers_as_the_library_does(registry: Registry, model_python: Path, tmp_path: Path) -> None:
    """A model found by its alias answers its own example, bit for bit as in the process that trained it."""
    import mlflow

    before = registry.digest()
    golden = ProcessModelRunner().predict(model_python, registry.uri, "models:/forest@champion", None)
    assert registry.digest() == before, "asking a model altered what the registry stores"

    mlflow.set_tracking_uri(registry.uri)
    model = mlflow.pyfunc.load_model("models:/forest/2", dst_path=str(tmp_path))
    expected = model.predict(model.input_example)
    assert golden.outputs == {"dtype": "float64", "shape": [5], "values": [repr(float(v)) for v in expected]}
    assert (golden.version, golden.model_id) == ("2", model.model_id)
    assert set(golden.inputs) == {"dataframe_split"}
    assert set(golden.seconds) == {"import", "load", "predict"}
    assert min(golden.seconds.values()) > 0


def test_stored_request_gives_the_stored_answer(registry: Registry, model_python: Path) -> None:
    """Asked again with the inputs it gave back, a model gives no difference; another version does."""
    runner = ProcessModelRunner()
    golden = runner.predict(model_python, registry.uri, "models:/forest@champion", None)
    again = runner.predict(model_python, registry.uri, "models:/forest/2", golden.inputs)
    other = runner.predict(model_python, registry.uri, "models:/forest@old", golden.inputs)
    assert compare(golden.outputs, again.outputs, rtol=0, atol=0) == []
    assert other.version == "1"
    assert len(compare(golden.outputs, other.outputs, rtol=1e-9, atol=0)) == 5


@pytest.mark.parametrize("uri", ["models:/forest@nobody", "models:/nothing/1"])
def test_names_a_model_that_is_not_there(registry: Registry, model_python: Path, uri: str) -> None:
    """A wrong name, alias or version fails and says which model was asked for."""
    with pytest.raises(SmokeFailed, match=uri):
        ProcessModelRunner().predict(model_python, registry.uri, uri, ask("x"))


def test_wants_an_example_or_inputs(registry: Registry, model_python: Path) -> None:
    """A model without input example cannot be asked by itself, but answers a request."""
    runner = ProcessModelRunner()
    with pytest.raises(SourceInvalid, match="models:/forest@mute was stored without an input example"):
        runner.predict(model_python, registry.uri, "models:/forest@mute", None)
    request = {"dataframe_split": {"columns": ["a", "b"], "data": [[0.5, 3]]}}
    answer = runner.predict(model_python, registry.uri, "models:/forest@mute", request)
    assert answer.outputs["shape"] == [1]


def test_every_kind_of_answer_survives(registry: Registry, model_python: Path) -> None:
    """Frames, series, nested Python values, big integers, missing and infinite values come back exactly."""
    runner = ProcessModelRunner()
    found = runner.predict(model_python, registry.uri, CHAMELEON_URI, ask("everything")).outputs
    again = runner.predict(model_python, registry.uri, CHAMELEON_URI, ask("everything")).outputs
    assert compare(found, again, rtol=0, atol=0) == []
    kinds = dict(zip(found["keys"], found["values"], strict=True))
    frame = kinds["frame"]
    assert (frame["dtype"], frame["shape"], frame["keys"]) == ("dataframe", [2, 4], ["p", "n", "s", "t"])
    p, n, s, t = frame["values"]
    assert p == {"dtype": "float32", "shape": [2], "values": [repr(0.10000000149011612), "nan"]}
    assert n == {"dtype": "int64", "shape": [2], "values": [1, 2]}
    assert s["values"][0] == {"dtype": "str", "shape": [], "values": ["a"]}
    assert t["dtype"].startswith("datetime64")
    assert kinds["series"] == {"dtype": "float64", "shape": [3], "values": ["1.5", "inf", "-0.0"]}
    assert kinds["ints"] == {"dtype": "int64", "shape": [2, 1], "values": [2**63 - 1, -(2**63)]}
    assert kinds["text"] == {"dtype": "str", "shape": [], "values": ["an answer"]}
    assert kinds["complex"] == {"dtype": "complex128", "shape": [1, 2], "values": ["0.1", "-2.0"]}
    assert kinds["objects"]["dtype"] == "object"
    assert kinds["dict"]["keys"] == ["a", "b", "c"]
    assert [item["dtype"] for item in kinds["dict"]["values"][1]["values"]] == ["int", "float", "none", "bool"]


def test_hands_on_nothing_of_our_environment(
    registry: Registry, model_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables of our process do not reach the model; those that were given for it do."""
    monkeypatch.setenv("VAULT_PASSPHRASE", "correct horse")
    runner = ProcessModelRunner(environment={"STORE_SECRET": "battery staple"})
    answer = runner.predict(model_python, registry.uri, CHAMELEON_URI, ask("environment"))
    seen = [item["values"][0] for item in answer.outputs["values"]]
    assert "STORE_SECRET=battery staple" in seen
    assert f"MLFLOW_TRACKING_URI={registry.uri}" in seen
    assert not [line for line in seen if "horse" in line]


def test_no_death_is_an_answer(registry: Registry, model_python: Path) -> None:
    """However a model dies, it is said of that model, with the end of its output and without secrets."""
    runner = ProcessModelRunner(environment={"STORE_SECRET": "battery staple"})
    deaths = {
        "kill": "was ended by SIGKILL",
        "segfault": "was ended by SIGSEGV",
        "exit": "ended with exit code 0 and no answer",
        "sysexit": "SystemExit: 3",
        "generator": "type generator cannot be kept",
        "raise": "ZeroDivisionError",
    }

    def die(word: str) -> SmokeFailed:
        with pytest.raises(SmokeFailed, match=CHAMELEON_URI) as caught:
            runner.predict(model_python, registry.uri, CHAMELEON_URI, ask(word))
        return caught.value

    with ThreadPoolExecutor(2) as pool:
        errors = dict(zip(deaths, pool.map(die, deaths), strict=True))
    assert {word: says for word, says in deaths.items() if says not in errors[word].message} == {}
    assert "talkative …" in errors["raise"].message
    assert not [word for word, error in errors.items() if "staple" in str(error)]


def test_output_is_not_taken_for_an_answer(registry: Registry, model_python: Path) -> None:
    """What a model prints cannot forge what it answers."""
    answer = ProcessModelRunner().predict(model_python, registry.uri, CHAMELEON_URI, ask("chatter"))
    assert (answer.version, answer.outputs) == ("1", {"dtype": "int", "shape": [], "values": [7]})


def test_stops_a_model_that_takes_too_long(registry: Registry, model_python: Path) -> None:
    """After the timeout neither the model nor a process that it started is left."""
    started = time.monotonic()
    ProcessModelRunner().predict(model_python, registry.uri, CHAMELEON_URI, ask("chatter"))
    enough = 3 * (time.monotonic() - started) + 10  # the model must have begun by then, on a busy machine too
    with pytest.raises(SmokeFailed, match=f"did not answer within {enough:.0f} s") as caught:
        ProcessModelRunner(timeout=enough).predict(model_python, registry.uri, CHAMELEON_URI, ask("sleep"))
    child = int(caught.value.message.split("child ")[1].split()[0])
    assert not alive(child)


def alive(pid: int) -> bool:
    """Whether a process runs; one that waits to be reaped does not."""
    stat = Path(f"/proc/{pid}/stat")
    for _ in range(50):
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return False
        time.sleep(0.1)
    return True


def test_says_that_the_registry_is_gone(model_python: Path) -> None:
    """A registry that does not answer fails soon, and its password is not shown."""
    with pytest.raises(SmokeFailed) as caught:
        ProcessModelRunner().predict(model_python, "http://user:secret@127.0.0.1:9", "models:/forest@champion", None)
    assert "did not answer within" not in caught.value.message
    assert "secret" not in str(caught.value)


def test_says_that_the_interpreter_is_gone(tmp_path: Path) -> None:
    """An environment that is not there is named."""
    with pytest.raises(SmokeFailed, match="nowhere/python does not start"):
        ProcessModelRunner().predict(tmp_path / "nowhere/python", "http://127.0.0.1:9", "models:/forest/1", None)


def test_two_models_at_once(registry: Registry, model_python: Path) -> None:
    """Runs do not share folders, answers or process groups."""
    found: dict[str, str] = {}

    def run(alias: str) -> None:
        found[alias] = ProcessModelRunner().predict(model_python, registry.uri, f"models:/forest@{alias}", None).version

    threads = [threading.Thread(target=run, args=(alias,)) for alias in ("old", "champion")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {"old": "1", "champion": "2"}


def waiting(parent: int) -> list[int]:
    """Processes below one that wait for a question, or answer one."""
    below = psutil.Process(parent).children(recursive=True)
    return [p.pid for p in below if any(part.endswith("/worker.py") for part in p.cmdline())]


def test_the_next_process_waits_while_a_model_is_asked(registry: Registry, model_python: Path) -> None:
    """As many begin as questions are announced; whatever was not asked is gone in the end."""
    runner = ProcessModelRunner()
    with runner.asking(model_python, 2) as ask:
        (first,) = waiting(os.getpid())
        assert ask(registry.uri, "models:/forest@old", None).version == "1"
        (second,) = waiting(os.getpid())
        assert not alive(first)
        os.kill(second, signal.SIGKILL)  # as a machine that runs out of memory does: no model is to blame
        os.waitid(os.P_PID, second, os.WEXITED | os.WNOWAIT)  # it is dead, and still the runner's to find
        assert ask(registry.uri, "models:/forest@champion", None).version == "2"
        assert waiting(os.getpid()) == []
        assert ask(registry.uri, "models:/forest@old", None).version == "1"  # one more than was announced
    with runner.asking(model_python, 1):
        (unasked,) = waiting(os.getpid())
    assert not alive(second)
    assert not alive(unasked)


WAITS = """
import os, sys
from pathlib import Path
from muster.adapters.process_model_runner import ProcessModelRunner
with ProcessModelRunner().asking(Path(sys.argv[1]), 1):
    print("waits", flush=True)
    sys.stdin.read()
"""


def test_a_process_that_waits_does_not_outlive_us(model_python: Path) -> None:
    """Whoever is killed can end nothing; who waits for a question sees that none will come."""
    with subprocess.Popen(
        [sys.executable, "-c", WAITS, model_python], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as us:
        assert us.stdout is not None
        assert us.stdout.readline() == b"waits\n"
        (worker,) = waiting(us.pid)
        us.kill()
    deadline = time.monotonic() + 60
    while alive(worker):
        assert time.monotonic() < deadline
