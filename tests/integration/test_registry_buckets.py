"""Artifacts in buckets: what changes under a cut, what is not there, who is refused, and that MLflow finds what we put there."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from artifact_buckets import CLOUDS, ArtifactBucket, AzureContainer, GcsBucket, make_bucket
from cloud_servers import AzureServer, GcsServer
from fakes_trees import FolderTree
from muster.adapters.mlflow_access import Access
from muster.adapters.mlflow_buckets import BucketFolder
from muster.adapters.mlflow_locations import root_place
from muster.adapters.mlflow_registry import MlflowSource, MlflowTarget
from muster.adapters.mlflow_server import LocalMlflowServer
from muster.adapters.process_model_runner import ProcessModelRunner
from muster.errors import SourceChanged, SourceInvalid, StoreUnavailable, UsageError
from muster.ports import SourceFile
from registry_seed import ROWS, Captured, SmallStore, capture, empty_store, query
from relay import Answer, Relay

PLACE = "0/r1/artifacts"
LARGE = bytes(range(256)) * 80_000  # 20 MB: more than two parts
PART = 8 << 20


@pytest.fixture
def registry(small_store: SmallStore, bucket: ArtifactBucket) -> str:
    """URL of a store with a run whose artifacts lie in the bucket."""
    small_store.add_run("r1", f"{bucket.location}/{PLACE}")
    bucket.put(f"{PLACE}/a.txt", b"a")
    bucket.put(f"{PLACE}/sub/weights é.bin", b"weights")
    return small_store.url


def listed(store: str, address: str) -> list[SourceFile]:
    """What a capture finds; nothing of it is read."""
    with MlflowSource("w", store, address).capture(None) as cut:
        return list(cut.files())


def artifacts(files: list[SourceFile]) -> dict[str, SourceFile]:
    return {file.path.removeprefix(f"artifacts/{PLACE}/"): file for file in files if file.path.startswith("artifacts/")}


def read(file: SourceFile) -> bytes:
    assert file.open is not None
    with file.open() as stream:
        return stream.read()


def test_an_object_that_changes_before_it_is_read_fails_the_cut(registry: str, bucket: ArtifactBucket) -> None:
    """What was listed is read, and nothing that came to lie in its place: not even of the same size."""
    with MlflowSource("w", registry, bucket.address).capture(None) as cut:
        found = artifacts(list(cut.files()))
        assert sorted(found) == ["a.txt", "sub/weights é.bin"]
        assert read(found["a.txt"]) == b"a"
        bucket.put(f"{PLACE}/a.txt", b"b")
        with pytest.raises(SourceChanged, match=r"a\.txt is not there any more, or was replaced"):
            read(found["a.txt"])
        bucket.delete(f"{PLACE}/sub/weights é.bin")
        with pytest.raises(SourceChanged, match=r"weights é\.bin is not there any more"):
            read(found["sub/weights é.bin"])


def test_an_object_that_changes_after_it_was_read_fails_the_cut(
    registry: str, bucket: ArtifactBucket, tmp_path: Path
) -> None:
    """At the end all are looked at again: replaced, and deleted."""
    with MlflowSource("w", registry, bucket.address).capture(None) as cut:
        FolderTree(tmp_path / "tree").store(cut.files())
        cut.confirm()
        bucket.put(f"{PLACE}/a.txt", b"b")
        with pytest.raises(SourceChanged, match=r"a\.txt changed while it was captured"):
            cut.confirm()
    with MlflowSource("w", registry, bucket.address).capture(None) as cut:
        FolderTree(tmp_path / "another tree").store(cut.files())
        bucket.delete(f"{PLACE}/sub/weights é.bin")
        with pytest.raises(SourceChanged, match=r"weights é\.bin changed while it was captured"):
            cut.confirm()


@pytest.mark.parametrize("replaced", [False, True])
def test_an_object_that_is_replaced_within_its_second_is_read_again(
    registry: str, bucket: ArtifactBucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    """The bucket's clock is behind ours, so a time of this second counts as settled; size and time are equal, the ETag is not."""
    monkeypatch.setattr("muster.adapters.mlflow_known.SETTLED", -60.0)
    monkeypatch.setattr("muster.adapters.mlflow_registry.due", lambda *_: False)
    for attempt in range(20):
        bucket.put(f"{PLACE}/a.txt", b"a")
        with MlflowSource("w", registry, bucket.address).capture(None) as cut:
            previous = FolderTree(tmp_path / f"tree{attempt}").store(cut.files())
        if replaced:
            bucket.put(f"{PLACE}/a.txt", b"b")
        with MlflowSource("w", registry, bucket.address).capture(previous) as cut:
            found = artifacts(list(cut.files()))["a.txt"]
        before = previous.entry(f"artifacts/{PLACE}/a.txt")
        if found.mtime_ns == before.mtime_ns or isinstance(bucket, GcsBucket):  # which tells microseconds
            break
    assert found.size == 1
    assert found.mtime_ns == before.mtime_ns or (replaced and isinstance(bucket, GcsBucket))
    if replaced:
        assert found.known is None
        assert read(found) == b"b"
    else:
        assert found.known
        assert found.known.sha256 == hashlib.sha256(b"a").hexdigest()


def test_a_bucket_that_is_not_there_is_named(registry: str, bucket: ArtifactBucket, tmp_path: Path) -> None:
    """As a source and as a target: somebody must mend the address, so trying again is not what is asked for."""
    with pytest.raises(SourceInvalid, match=r"muster-nowhere.*cannot be reached"):
        listed(registry, bucket.nowhere)
    details, _ = capture(registry, bucket.address, tmp_path / "tree")
    with pytest.raises(SourceInvalid, match=r"muster-nowhere.*cannot be reached"):
        MlflowTarget(f"sqlite:///{tmp_path}/there.db", bucket.nowhere).check(details)


def test_a_server_that_is_away_is_named_soon(registry: str, bucket: ArtifactBucket) -> None:
    """Nobody at the port: later it may be there."""
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"does not answer|did not answer") as caught:
        listed(registry, bucket.silent)
    assert bucket.secret not in str(caught.value)
    assert time.monotonic() - begun < 115


def test_a_large_artifact_comes_and_goes_in_parts(
    registry: str, bucket: ArtifactBucket, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """It is whole afterwards, and never as a whole in one request to a cloud whose client would hold it in memory."""
    bucket.put(f"{PLACE}/large.bin", LARGE)
    bucket.put(f"{PLACE}/empty.bin", b"")
    details, tree = capture(registry, bucket.address, tmp_path / "tree")
    assert tree.read(tree.entry(f"artifacts/{PLACE}/large.bin")) == LARGE
    other = make_bucket({"s3:": "s3", "gs:": "gs", "was": "wasbs"}[bucket.location[:3]], request)
    if not isinstance(bucket, GcsBucket | AzureContainer):
        MlflowTarget(f"sqlite:///{tmp_path}/there.db", other.address).restore(details, tree)
    else:
        bucket.server.relay.asked.clear()
        MlflowTarget(f"sqlite:///{tmp_path}/there.db", other.address).restore(details, tree)
        assert max(len(asked.body) for asked in bucket.server.relay.asked) < PART + 4096
    assert hashlib.sha256(other.get(f"{PLACE}/large.bin")).digest() == hashlib.sha256(LARGE).digest()
    assert other.get(f"{PLACE}/empty.bin") == b""


def test_a_large_object_is_never_written_over(bucket: ArtifactBucket, tmp_path: Path) -> None:
    """However many requests a cloud's client makes of it; and what is gone already may be removed."""
    folder = Access.of(bucket.address).open(root_place(bucket.address))
    assert isinstance(folder, BucketFolder)
    for name, content in (("large", LARGE), ("other", LARGE[::-1]), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
    for name in ("large", "empty"):
        folder.add(f"a/{name}.bin", tmp_path / name)
        with pytest.raises(SourceChanged, match=f"{name}.bin appeared just now"):
            folder.add(f"a/{name}.bin", tmp_path / "other")
    assert bucket.get("a/large.bin") == LARGE
    assert bucket.get("a/empty.bin") == b""
    for path in ("a/large.bin", "a/large.bin", "a/empty.bin"):
        folder.remove(path)
    assert folder.is_empty()


@pytest.mark.servers
def test_a_wrong_key_of_an_account_is_refused_and_not_shown(
    small_store: SmallStore, azure: AzureServer, captured: Captured, tmp_path: Path
) -> None:
    """Azurite checks signatures; as a source and as a target."""
    container = AzureContainer(azure, azure.make_container())
    wrong = container.wrong
    for attempt in (
        lambda: listed(small_store.url, wrong),
        lambda: MlflowTarget(f"sqlite:///{tmp_path}/there.db", wrong).check(captured[0]),
    ):
        with pytest.raises(SourceInvalid, match=r"cannot be reached: azure://devstoreaccount1/.* refuses") as caught:
            attempt()
        assert "XXXX" not in str(caught.value)
        assert caught.value.__cause__ is None


@pytest.mark.servers
def test_a_wrong_key_of_a_service_account_is_refused_and_not_shown(small_store: SmallStore, gcs: GcsServer) -> None:
    """One whose account gets no token, one whose token may not, and one that is none."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    pem = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    tokens = Relay("http://127.0.0.1:1", lambda asked, ask: Answer(400, {}, b'{"error": "invalid_grant"}'))
    about = {
        "type": "service_account",
        "client_email": "muster@p.iam.gserviceaccount.com",
        "private_key": pem.decode(),
        "token_uri": tokens.endpoint,
    }
    bucket = GcsBucket(gcs, gcs.make_bucket())
    address = bucket.address.replace("anonymous", quote(json.dumps(about), safe=""))
    with pytest.raises(SourceInvalid, match=r"cannot be reached: gs://.* refuses the listing.*invalid_grant") as caught:
        listed(small_store.url, address)
    tokens.close()
    assert "PRIVATE" not in str(caught.value)
    forbidden = Relay(
        gcs.emulator, lambda asked, ask: Answer(403, {}, b'{"error": {"message": "no storage.objects.list"}}')
    )
    barred = replace(bucket, server=replace(gcs, relay=forbidden))
    with pytest.raises(SourceInvalid, match=r"cannot be reached: gs://.*no storage\.objects\.list"):
        listed(small_store.url, barred.address)
    forbidden.close()
    with pytest.raises(UsageError, match="no service account's"):
        listed(small_store.url, bucket.address.replace("anonymous", "rubbish"))


@pytest.mark.servers
def test_blobs_that_stand_for_folders_are_no_artifacts(
    small_store: SmallStore, azure: AzureServer, tmp_path: Path
) -> None:
    """Accounts with a hierarchy of folders list these, too."""
    container = AzureContainer(azure, azure.make_container())
    small_store.add_run("r1", f"{container.location}/{PLACE}")
    container.put(f"{PLACE}/sub", b"", metadata={"hdi_isfolder": "true"})
    container.put(f"{PLACE}/sub/a.txt", b"a")
    details, tree = capture(small_store.url, container.address, tmp_path / "tree")
    assert details["artifacts"] == {"files": 1, "bytes": 1}
    assert tree.read(tree.entry(f"artifacts/{PLACE}/sub/a.txt")) == b"a"


@pytest.mark.servers
def test_roots_in_other_clouds_are_reached_as_mlflow_reaches_them(
    small_store: SmallStore,
    gcs: GcsServer,
    azure: AzureServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A folder is the artifact root, and runs lie in two clouds: what MLflow reads from the environment leads there."""
    buckets = [GcsBucket(gcs, gcs.make_bucket()), AzureContainer(azure, azure.make_container())]
    for bucket in buckets:
        small_store.add_run(bucket.name, f"{bucket.location}/run")
        bucket.put("run/a.txt", bucket.name.encode())
        for name, value in bucket.variables.items():
            monkeypatch.setenv(name, value)
    details, tree = capture(small_store.url, str(small_store.artifacts), tmp_path / "tree")
    assert details["roots"][1:] == [f"{bucket.location}/run" for bucket in buckets]
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "AccountName=a;SharedAccessSignature=sv")
    with pytest.raises(UsageError, match="no AccountName and AccountKey"):
        capture(small_store.url, str(small_store.artifacts), tmp_path / "another tree")
    restored = f"sqlite:///{tmp_path}/there.db"
    MlflowTarget(restored, str(tmp_path / "root")).restore(details, tree)
    for bucket in buckets:
        ((place,),) = query(restored, f"SELECT artifact_uri FROM runs WHERE run_uuid = '{bucket.name}'")
        assert place.startswith(f"{tmp_path}/root/outside-")
        assert Path(place, "a.txt").read_text() == bucket.name


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_server_that_passes_artifacts_on_finds_them_by_the_address_alone(
    cloud: str, small_store: SmallStore, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The destination of ``mlflow-artifacts:/`` is a bucket; the server of ours gets what it needs to reach it, and nothing shows it."""
    import mlflow

    bucket = make_bucket(cloud, request)
    small_store.add_run("r1", f"mlflow-artifacts:/{PLACE}")
    bucket.put(f"{PLACE}/a.txt", b"proxied")
    details, tree = capture(small_store.url, bucket.address, tmp_path / "tree")
    assert tree.read(tree.entry(f"artifacts/{PLACE}/a.txt")) == b"proxied"
    other, restored = make_bucket(cloud, request), f"sqlite:///{tmp_path}/there.db"
    MlflowTarget(restored, other.address).restore(details, tree)
    with LocalMlflowServer().serve(restored, other.address) as uri:
        file = mlflow.artifacts.download_artifacts(run_id="r1", artifact_path="a.txt", tracking_uri=uri)
        assert Path(file).read_text() == "proxied"


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_model_goes_to_disk_and_back_and_says_the_same(
    cloud: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Registered in a bucket by MLflow's own client, restored to a folder, then to another bucket, and loaded by MLflow from each."""
    bucket, other = make_bucket(cloud, request), make_bucket(cloud, request)
    for name, value in bucket.variables.items():
        monkeypatch.setenv(name, value)
    stores = [f"sqlite:///{tmp_path}/{name}.db" for name in ("first", "second", "third")]
    said = trained(stores[0], bucket.location)
    details, tree = capture(stores[0], bucket.address, tmp_path / "tree")
    MlflowTarget(stores[1], str(tmp_path / "artifacts")).restore(details, tree)
    assert answer(stores[1]) == said
    details, tree = capture(stores[1], str(tmp_path / "artifacts"), tmp_path / "second tree")
    MlflowTarget(stores[2], other.address).restore(details, tree)
    assert sorted(other.paths()) == sorted(path for path in bucket.paths() if "registered_model_meta" not in path)
    assert all(other.get(path) == bucket.get(path) for path in other.paths())
    ((place,),) = query(stores[2], "SELECT artifact_location FROM experiments WHERE experiment_id = 1")
    assert place == f"{other.location}/1"
    assert answer(stores[2]) == said


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_model_is_asked_without_credentials(
    cloud: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process is given none, and loads through the server even where the registry names the bucket itself."""
    bucket, store = make_bucket(cloud, request), f"sqlite:///{tmp_path}/mlflow.db"
    with monkeypatch.context() as patch:
        for name, value in bucket.variables.items():
            patch.setenv(name, value)
        said = trained(store, bucket.location)
    with LocalMlflowServer().serve(store, bucket.address) as uri:
        ask = {"inputs": ROWS}
        asked = ProcessModelRunner().predict(Path(sys.executable), uri, "models:/delay/1", ask, bucket.address)
        assert [float(value) for value in asked.outputs["values"]] == said


def trained(store: str, root: str) -> list[float]:
    """A model, registered by MLflow below a root, and what it says when it is loaded from there."""
    import mlflow
    import numpy as np
    from sklearn.linear_model import LinearRegression

    empty_store(store, Path("/nowhere"))
    query(store, "DELETE FROM experiments")
    mlflow.set_tracking_uri(store)
    mlflow.set_registry_uri(store)
    mlflow.set_experiment(experiment_id=mlflow.MlflowClient(store, store).create_experiment("e", f"{root}/1"))
    with mlflow.start_run():
        mlflow.sklearn.log_model(
            LinearRegression().fit(ROWS, [1.5 * a - b / 7 for a, b in ROWS]),
            name="model",
            registered_model_name="delay",
            input_example=np.array(ROWS[:2]),
            pip_requirements=["scikit-learn"],
        )
    return answer(store)


def answer(store: str) -> list[float]:
    import mlflow
    import numpy as np

    mlflow.set_tracking_uri(store)
    mlflow.set_registry_uri(store)
    model: Any = mlflow.pyfunc.load_model("models:/delay/1")
    return [float(y) for y in model.predict(np.array(ROWS))]
