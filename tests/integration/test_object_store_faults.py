"""What a vault in a bucket does when lines break, servers are away and keys are wrong."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from muster.adapters.object_store import S3Store
from muster.adapters.s3_admin import S3Admin
from muster.adapters.s3_location import S3Location
from muster.adapters.s3_locks import S3Locks
from muster.adapters.s3_versions import S3Versions
from muster.adapters.stores import open_store
from muster.errors import AlreadyExists, NotFound, Refused, StoreUnavailable, UsageError
from muster.loopback import free_port
from servers import LossyLine, S3Server

PACK = bytes(range(256)) * 4096


@pytest.fixture
def bucket(moto_s3: S3Server) -> str:
    return moto_s3.make_bucket()


@pytest.fixture
def direct(moto_s3: S3Server, bucket: str) -> S3Store:
    """The bucket, past the line."""
    return S3Store(moto_s3.location(bucket))


@pytest.fixture
def store(moto_s3: S3Server, bucket: str, lossy_line: LossyLine) -> S3Store:
    """The bucket, over the line, with two retries."""
    return S3Store(replace(moto_s3.location(bucket, retries=2), endpoint=lossy_line.endpoint))


def test_a_put_whose_answer_is_lost_succeeds(store: S3Store, direct: S3Store, lossy_line: LossyLine) -> None:
    """The second attempt finds the object of the first, knows it for its own, and says so."""
    lossy_line.lose(1)
    store.put("points/w/p.json", PACK)
    assert lossy_line.lost == 1
    assert direct.get("points/w/p.json") == PACK


def test_a_lost_answer_does_not_hide_another_writer(store: S3Store, direct: S3Store, lossy_line: LossyLine) -> None:
    """When the answer "it is taken" is lost, the object of the other writer is not taken for ours."""
    direct.put("points/w/p.json", b"of another")
    lossy_line.lose(1)
    with pytest.raises(AlreadyExists):
        store.put("points/w/p.json", PACK)
    assert lossy_line.lost == 1
    assert direct.get("points/w/p.json") == b"of another"


def test_a_put_gives_up_in_the_end(store: S3Store, direct: S3Store, lossy_line: LossyLine) -> None:
    """A put that never hears an answer is StoreUnavailable; what is there is whole, and a later put sees it."""
    lossy_line.lose(3)
    with pytest.raises(StoreUnavailable):
        store.put("packs/aa/1", PACK)
    assert lossy_line.lost == 3
    assert direct.get("packs/aa/1") == PACK
    with pytest.raises(AlreadyExists):
        store.put("packs/aa/1", PACK)


@pytest.mark.parametrize(
    "read",
    [
        lambda store: store.get("packs/aa/1") == PACK,
        lambda store: store.get_range("packs/aa/1", 7, 1000) == PACK[7:1007],
        lambda store: store.info("packs/aa/1").size == len(PACK),
        lambda store: [info.key for info in store.list("packs/")] == ["packs/aa/1"],
    ],
    ids=["get", "get_range", "info", "list"],
)
def test_reads_survive_lost_answers(
    store: S3Store, direct: S3Store, lossy_line: LossyLine, read: Callable[[S3Store], bool]
) -> None:
    """A read whose answers are lost twice is asked again, and is right."""
    direct.put("packs/aa/1", PACK)
    lossy_line.lose(2)
    assert read(store)
    assert lossy_line.lost == 2


def test_half_an_answer_is_never_given_for_whole(store: S3Store, direct: S3Store, lossy_line: LossyLine) -> None:
    """An object whose connection breaks half-way, every time, is StoreUnavailable: no short bytes come out."""
    direct.put("packs/aa/1", PACK)
    lossy_line.break_off(after=len(PACK) // 8)
    with pytest.raises(StoreUnavailable):
        store.get("packs/aa/1")
    with pytest.raises(StoreUnavailable):
        store.get_range("packs/aa/1", 0, len(PACK))


def test_a_server_that_is_away_is_named_soon() -> None:
    """Nobody at the port: every call says so within seconds, with the address and what to look at."""
    store = S3Store(S3Location("bucket", "vault", f"http://127.0.0.1:{free_port()}", None, "AK", "se/cret", retries=1))
    calls: list[Callable[[], object]] = [
        lambda: store.put("a", b"x"),
        lambda: store.get("a"),
        lambda: store.get_range("a", 0, 1),
        lambda: store.info("a"),
        lambda: list(store.list()),
        lambda: store.delete("a"),
    ]
    started = time.monotonic()
    for call in calls:
        with pytest.raises(StoreUnavailable, match="s3://bucket/vault") as caught:
            call()
        assert "network" in caught.value.hint
        assert "se/cret" not in "".join(traceback.format_exception(caught.value))
    assert time.monotonic() - started < 60


def test_a_missing_bucket_is_named(moto_s3: S3Server) -> None:
    """An address whose bucket is not there is NotFound, and the message speaks of the bucket, not of an object."""
    store = S3Store(moto_s3.location("muster-nowhere"))
    for call in (lambda: store.put("a", b"x"), lambda: store.get("a"), lambda: list(store.list())):
        with pytest.raises(NotFound, match="no bucket muster-nowhere"):
            call()


def test_the_environment_does_not_move_an_address(
    moto_s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endpoint in the address wins over every variable that names another one."""
    for name in ("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_BUCKET", "another")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    store = open_store(moto_s3.address(bucket, "vault"))
    store.put("a", b"x")
    assert S3Store(moto_s3.location(bucket)).get("vault/a") == b"x"


@pytest.fixture
def busy_server() -> Iterator[tuple[str, list[str]]]:
    """A server that is always too busy, and a list of what it was asked."""
    asked: list[str] = []

    class Busy(BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked.append(self.command)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer  # noqa: N815 - names of the standard library

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Busy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.put("a", b"x"),
        lambda store: store.get("a"),
        lambda store: store.get_range("a", 0, 1),
        lambda store: store.info("a"),
        lambda store: list(store.list()),
        lambda store: S3Locks(S3Admin(store._location)).extend(["a"], datetime(2100, 1, 1, tzinfo=UTC)),
        lambda store: S3Versions(S3Admin(store._location)).uncover("a"),
    ],
    ids=["put", "get", "get_range", "info", "list", "extend", "uncover"],
)
def test_a_request_is_retried_in_one_place(
    busy_server: tuple[str, list[str]], call: Callable[[S3Store], object]
) -> None:
    """Two retries are three requests: no layer retries what another has retried already."""
    endpoint, asked = busy_server
    store = S3Store(S3Location("bucket", "vault", endpoint, "us-east-1", "AK", "se/cret", retries=2))
    with pytest.raises(StoreUnavailable):
        call(store)
    # A range that fails is followed by a look at the size of the object, which tells a short object from a busy server.
    assert len(asked) == 3 * (2 if set(asked) == {"GET", "HEAD"} else 1)


def test_without_credentials_nothing_is_sent(
    busy_server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That there are none is said at once, by data and by locks alike; an unknown profile likewise."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    endpoint, asked = busy_server
    for options in ("", "&profile=nobody"):
        store = open_store(f"s3://bucket/vault?endpoint={endpoint}{options}")
        for call in (lambda store=store: store.get("a"), lambda store=store: store.put("a", b""), store.locks):
            with pytest.raises((Refused, UsageError), match=r"no credentials|no profile nobody"):
                call()
    assert asked == []


@pytest.mark.servers
class TestCredentials:
    """Real ones, against a server that looks at them."""

    @pytest.fixture
    def bucket(self, ceph_s3: S3Server) -> str:
        return ceph_s3.make_bucket()

    def test_wrong_keys_are_refused_and_not_shown(self, ceph_s3: S3Server, bucket: str) -> None:
        """A wrong secret is Refused by every call; neither message nor traceback shows it."""
        secret = "wr0ng/secret+of+somebody"
        store = S3Store(replace(ceph_s3.location(bucket), secret_key=secret))
        for call in (lambda: store.put("a", b"x"), lambda: store.get("a"), lambda: list(store.list())):
            with pytest.raises(Refused) as caught:
                call()
            shown = "".join(traceback.format_exception(caught.value)) + repr(store)
            assert secret not in shown
            assert ceph_s3.access_key not in shown
            assert "credentials" in caught.value.hint

    def test_keys_in_the_address_are_not_mixed_with_others(
        self, ceph_s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing in the environment, also no session token, is added to the credentials of the address."""
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "else")
        monkeypatch.setenv("AWS_SESSION_TOKEN", "a-token-of-somebody-else")
        monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
        store = open_store(ceph_s3.address(bucket, "vault"))
        store.put("a", b"x")
        assert store.get("a") == b"x"

    def test_an_address_without_keys_takes_those_of_the_environment(
        self, ceph_s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Right ones let in, wrong ones do not."""
        address = f"s3://{bucket}/vault?endpoint={ceph_s3.endpoint}"
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", ceph_s3.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", ceph_s3.secret_key)
        open_store(address).put("a", b"x")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        with pytest.raises(Refused):
            open_store(address).get("a")

    def test_a_profile_is_taken_by_data_and_locks(
        self, ceph_s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Both of our clients are the same person: the one of the profile, whatever the environment says."""
        file = tmp_path / "credentials"
        file.write_text(
            f"[vault]\naws_access_key_id = {ceph_s3.access_key}\naws_secret_access_key = {ceph_s3.secret_key}\n"
            "[other]\naws_access_key_id = nobody\naws_secret_access_key = nothing\n"
        )
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "else")
        monkeypatch.setenv("AWS_SESSION_TOKEN", "a-token-of-somebody-else")
        address = f"s3://{ceph_s3.make_bucket(lock=True)}/vault?endpoint={ceph_s3.endpoint}"
        store = open_store(f"{address}&profile=vault")
        store.put("a", b"x")
        locks = store.locks()
        assert locks
        assert locks.extend(["a"], datetime.now(UTC) + timedelta(seconds=1)) == 1
        other = open_store(f"{address}&profile=other")
        for call in (lambda: other.get("a"), other.locks):
            with pytest.raises(Refused):
                call()
