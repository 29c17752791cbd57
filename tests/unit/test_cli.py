"""The command line's frame: options, errors, exit codes, and what goes to which stream."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from muster import errors
from muster.cli import main as cli
from muster.cli.key_file import new_private_file
from muster.cli.screen import Screen
from muster.cli.session import Options, Session
from muster.cli.typed_keys import read_secret

INCLUDE = Path(__file__).parents[2] / "include"
VAULTS = "vaults:\n  primary: {url: conn:vault, passphrase: conn:passphrase}\n"
WORKLOAD = (
    "workload: small\nowner: ops\nobjectives: {rpo: 1d, rto: 1h}\ndatasets: [{name: d, repo: data}]\nvault: primary\n"
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a catalog of one workload, and the present folder in it."""
    workloads = tmp_path / "include" / "catalog" / "workloads"
    workloads.mkdir(parents=True)
    (workloads.parent / "vaults.yaml").write_text(VAULTS)
    (workloads / "small.yaml").write_text(WORKLOAD)
    for name in [name for name in os.environ if name.startswith("MUSTER_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def muster(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own, with no terminal."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")}
    return subprocess.run(
        [sys.executable, "-m", "muster", *arguments],
        env=clean | {"PYTHONPATH": str(INCLUDE)} | environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


def test_a_catalog_is_checked_in_a_process_of_its_own(project: Path) -> None:
    """Results go to standard output, nothing to standard error, and the exit code is 0."""
    done = muster("catalog", "check")
    assert done.returncode == 0, done.stderr
    assert f"{project}/include/catalog: 1 workload, 1 vault, no contradiction" in done.stdout
    assert "small" in done.stdout
    assert done.stderr == ""


def test_a_wrong_catalog_ends_with_2_and_names_the_line(project: Path) -> None:
    """The message goes to standard error, and nothing to standard output."""
    (project / "include/catalog/workloads/small.yaml").write_text(WORKLOAD.replace("owner", "ownr"))
    done = muster("catalog", "check")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "small.yaml:2: ownr: is not known here; did you mean owner?" in done.stderr
    assert "hint: mend the lines named" in done.stderr


@pytest.mark.parametrize("arguments", [("--json", "catalog", "check"), ("catalog", "check", "--json")])
def test_json_is_one_document_wherever_the_flag_stands(project: Path, arguments: tuple[str, ...]) -> None:
    """Machines read one document from standard output."""
    done = muster(*arguments)
    assert json.loads(done.stdout) == {
        "catalog": f"{project}/include/catalog",
        "workloads": ["small"],
        "vaults": ["primary"],
    }


@pytest.mark.parametrize("words", [(), ("keys",), ("catalog",)])
def test_whoever_asks_for_nothing_is_told_what_there_is(words: tuple[str, ...]) -> None:
    """The help, as help looks, and the exit code of a wrong use."""
    done = muster(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(" ".join(("Usage: muster", *words)))
    assert "hint:" not in done.stderr


def test_an_error_is_a_json_document_too(project: Path) -> None:
    """Kind, message, hint and exit code, and an empty standard error."""
    done = muster("--json", "snapshot", "smal")
    told = json.loads(done.stdout)["error"]
    assert done.returncode == told["exit_code"] == 4
    assert told["kind"] == "NotFound"
    assert told["message"] == f"the catalog {project}/include/catalog has no workload smal"
    assert told["hint"] == "it has: small"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nonsense",), "No such command"),
        (("snapshot",), "Missing argument 'WORKLOAD'"),
        (("restore", "latest"), "Missing option '--to'"),
        (("points", "--nonsense"), "No such option"),
        (("audit", "verify", "--last", "-1"), "-1 is not in the range"),
    ],
)
def test_a_wrong_command_line_ends_with_2(project: Path, arguments: tuple[str, ...], told: str) -> None:
    """What click refuses is told as everything else is."""
    done = muster(*arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert json.loads(muster("--json", *arguments).stdout)["error"]["kind"] == "UsageError"


def test_without_a_catalog_the_ways_to_name_one_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder without a catalog, the hint has both ways on."""
    monkeypatch.chdir(tmp_path)
    done = muster("points")
    assert done.returncode == 2
    assert "--catalog DIR or MUSTER_CATALOG" in done.stderr
    assert "--vault URL" in done.stderr


def test_help_names_the_exit_codes_and_every_command(project: Path) -> None:
    """The commands of the plan of record are all there."""
    text = muster("--help").stdout
    for name in (
        "init",
        "snapshot",
        "points",
        "show",
        "plan",
        "restore",
        "verify",
        "drill",
        "gameday",
        "audit",
        "keys",
        "catalog",
        "doctor",
        "demo",
    ):
        assert f"\n  {name} " in text
    assert "6 refused by policy" in text
    assert muster("--version").stdout.startswith("muster, version ")


def _all_errors(kind: type[errors.MusterError]) -> list[type[errors.MusterError]]:
    return [kind, *(deeper for below in kind.__subclasses__() for deeper in _all_errors(below))]


@pytest.mark.parametrize("kind", _all_errors(errors.MusterError))
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_every_error_leaves_with_its_own_exit_code(
    kind: type[errors.MusterError],
    flags: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The exit code comes from the error tree and from nothing else."""

    @click.command("fail")
    def fail() -> None:
        raise kind("the thing broke", "mend it")

    monkeypatch.setitem(cli.command.commands, "fail", fail)
    assert cli.run([*flags, "fail"]) == kind.exit_code
    out, err = capsys.readouterr()
    if flags:
        expected = {"kind": kind.__name__, "message": "the thing broke", "hint": "mend it", "exit_code": kind.exit_code}
        assert json.loads(out) == {"error": expected}
    else:
        assert out == ""
        assert err == "muster: the thing broke\n  hint: mend it\n"


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [(KeyboardInterrupt(), 130, "Interrupted"), (ZeroDivisionError("x"), 1, "ZeroDivisionError")],
)
def test_what_nobody_meant_to_raise_is_told_shortly(
    error: BaseException, code: int, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unexpected error gives no trace unless asked for, and an interrupt ends with 130."""

    @click.command("fail")
    def fail() -> None:
        raise error

    monkeypatch.setitem(cli.command.commands, "fail", fail)
    assert cli.run(["--json", "fail"]) == code
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == kind
    assert cli.run(["fail"]) == code
    assert "Traceback" not in capsys.readouterr().err
    assert cli.run(["fail", "--debug"]) == code
    assert "Traceback" in capsys.readouterr().err


SLOW = """
import sys, time
from pathlib import Path
import click
from muster.cli import main as cli

@click.command("slow")
@click.argument("folder", type=click.Path(path_type=Path))
def slow(folder):
    (folder / "sandbox").mkdir()
    try:
        (folder / "ready").touch()
        time.sleep(60)
    finally:
        (folder / "ending").touch()
        time.sleep(0.5)
        (folder / "sandbox").rmdir()

cli.command.add_command(slow)
cli.main()
"""


def test_a_terminated_command_cleans_up_behind_itself(tmp_path: Path) -> None:
    """SIGTERM unwinds a command as Ctrl-C does, and a second one does not cut that short."""
    command = [sys.executable, "-c", SLOW, "slow", str(tmp_path)]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(INCLUDE)}, stderr=subprocess.PIPE)
    try:
        for name in ("ready", "ending"):
            deadline = time.monotonic() + 60
            while not (tmp_path / name).exists():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            process.terminate()
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert b"interrupted" in said
    assert not (tmp_path / "sandbox").exists()


def test_what_a_tool_prints_does_not_spoil_the_document(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --json, only the document is on standard output."""

    @click.command("noisy")
    @click.pass_obj
    def noisy(session: Session) -> None:
        sys.stdout.write("a library says hello\n")
        session.screen.result({"done": True})

    monkeypatch.setitem(cli.command.commands, "noisy", noisy)
    assert cli.run(["--json", "noisy"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"done": True}
    assert "hello" in err


def test_progress_is_json_lines_for_machines_and_nothing_in_a_pipe() -> None:
    """Standard output stays free of it."""
    out, err = io.StringIO(), io.StringIO()
    with Screen(as_json=True, out=out, err=err).progress() as show:
        assert show is not None
        for done in range(1000):
            show("dataset/flights", done, 1000)
    lines = [json.loads(line)["progress"] for line in err.getvalue().splitlines()]
    assert lines[0] == {"what": "dataset/flights", "done": 0, "total": 1000}
    assert len(lines) < 5
    with Screen(as_json=False, out=out, err=err).progress() as show:
        assert show is None
    assert out.getvalue() == ""


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_is_bars_on_a_terminal() -> None:
    """More things than fit on the screen are shown in turn."""
    out, err = Terminal(), Terminal()
    with Screen(as_json=False, out=out, err=err).progress() as show:
        assert show is not None
        for number in range(20):
            show(f"file [bold]{number}", 500, None if number % 2 else 1000)
            show(f"file [bold]{number}", 1000, 1000)
    assert "file [bold]19" in err.getvalue()
    assert out.getvalue() == ""


def test_no_catalog_is_looked_for_where_a_vault_is_named_by_its_url(project: Path) -> None:
    """Break glass: the catalog in the present folder may be what is broken."""
    (project / "include/catalog/vaults.yaml").write_text("broken: [")
    screen = Screen(as_json=False)
    assert not Session(Options(vault="file:///srv/vault"), screen).catalog.vaults
    assert not Session(Options(vault="/srv/vault"), screen).catalog.vaults
    with pytest.raises(errors.CatalogError):
        _ = Session(Options(vault="primary"), screen).catalog
    with pytest.raises(errors.CatalogError):
        _ = Session(Options(vault="/srv/vault", catalog=project / "include/catalog"), screen).catalog


def test_folders_follow_options_then_environment_then_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearer word wins."""
    screen = Screen(as_json=False)
    assert Session(Options(), screen).state == project / ".state" / "muster"
    assert Session(Options(), screen).secrets.path == project / ".muster" / "secrets.yaml"
    monkeypatch.setenv("XDG_STATE_HOME", "/home/me/state")
    assert Session(Options(vault="/srv/vault"), screen).state == Path("/home/me/state/muster")
    monkeypatch.setenv("MUSTER_STATE", "/var/lib/muster")
    assert Session(Options(), screen).state == Path("/var/lib/muster")
    assert Session(Options(state=Path("/x")), screen).state == Path("/x")
    monkeypatch.setenv("MUSTER_CATALOG", "/etc/muster/catalog")
    assert Session(Options(), screen).catalog_directory == Path("/etc/muster/catalog")
    assert Session(Options(catalog=Path("/c")), screen).catalog_directory == Path("/c")


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        ("correct horse\n", "correct horse"),
        (" spaces stay \nsecond\n", " spaces stay "),
        ("  MUSTER-RECOVERY-1-AAAA \n", "MUSTER-RECOVERY-1-AAAA"),
    ],
)
def test_a_key_file_gives_its_first_line(tmp_path: Path, content: str, secret: str) -> None:
    """A passphrase is taken as it stands; a recovery key is trimmed."""
    (tmp_path / "key").write_text(content)
    assert read_secret(tmp_path / "key") == secret


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe"])
def test_a_key_file_without_a_key_is_told(tmp_path: Path, content: bytes | None) -> None:
    """No key comes out of a missing, empty or binary file."""
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    with pytest.raises(errors.UsageError, match="the key file"):
        read_secret(tmp_path / "key")


def test_a_new_key_file_is_private_and_never_written_over(tmp_path: Path) -> None:
    """The file has mode 600 and holds exactly the text; an existing one is left as it is."""
    path = tmp_path / "key"
    with new_private_file(path) as write:
        write("the key\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == "the key\n"
    with pytest.raises(errors.AlreadyExists), new_private_file(path):
        pass
    assert path.read_text() == "the key\n"
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(errors.Refused), new_private_file(tmp_path / "link"):
        pass
    with pytest.raises(errors.Refused, match="cannot be made"), new_private_file(tmp_path / "no" / "key"):
        pass


def test_a_new_key_file_is_gone_if_no_key_came(tmp_path: Path) -> None:
    """A failed creation leaves no file that looks as if it held a key."""
    path = tmp_path / "key"
    with pytest.raises(errors.StoreUnavailable), new_private_file(path):
        raise errors.StoreUnavailable("the store does not answer")
    assert not path.exists()


def test_init_without_anybody_there_needs_a_file_for_the_key(project: Path) -> None:
    """A recovery key that nobody reads would be lost, so no vault is made."""
    secrets = project / ".muster" / "secrets.yaml"
    secrets.parent.mkdir()
    secrets.write_text(f"vault: {project}/vault\npassphrase: correct horse\n")
    secrets.chmod(0o600)
    done = muster("init")
    assert done.returncode == 2
    assert "--recovery-key-file" in done.stderr
    assert not (project / "vault").exists()
