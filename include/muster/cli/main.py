"""The command line's frame: its options, its errors, its exit codes."""

from __future__ import annotations

import contextlib
import errno
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click

from muster import __version__
from muster.cli.accept import accept
from muster.cli.audit import audit
from muster.cli.canary import canary
from muster.cli.doctor import doctor
from muster.cli.drills import drill
from muster.cli.evidence import runbook, trend
from muster.cli.expiry import expire, hold, release
from muster.cli.game_day import gameday
from muster.cli.keys import keys
from muster.cli.kit import kit
from muster.cli.points import plan, points, restore, show
from muster.cli.protect import demo, init, snapshot
from muster.cli.registry import registry
from muster.cli.screen import Screen
from muster.cli.session import Options, Session
from muster.cli.undo import discard, undo
from muster.cli.upkeep import catalog
from muster.cli.verify import heal, verify
from muster.errors import MusterError

INTERRUPTED = 130
EXIT_CODES = """\b
Exit codes:
  0 done      1 failed              2 usage or catalog   3 integrity
  4 not found 5 validation or smoke 6 refused by policy  7 store unreachable"""


@click.group(
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    no_args_is_help=True,
)
@click.version_option(__version__, prog_name="muster")
@click.option(
    "--catalog",
    type=click.Path(path_type=Path),
    help="Folder of vaults.yaml and workloads/.  [MUSTER_CATALOG, include/catalog]",
)
@click.option(
    "--secrets",
    type=click.Path(path_type=Path),
    help="File of conn: names, mode 600.  [MUSTER_SECRETS, .muster/secrets.yaml]",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    help="Folder for caches, reports and sandboxes.  [MUSTER_STATE, .state/muster]",
)
@click.option(
    "--vault", metavar="NAME|URL", help="A catalogued vault; or any vault by its URL, with no catalog at all."
)
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    help="Opens the vault with the first line of a file.  [MUSTER_PASSPHRASE with a URL]",
)
@click.option(
    "--recovery-key-file",
    type=click.Path(path_type=Path),
    help="Opens the vault with the recovery key that was kept offline.",
)
@click.option(
    "--share-file",
    "share_files",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Opens the vault with recovery shares: as often as shares are needed, unless a file has several.",
)
@click.option("--kms-key", metavar="kms:ARN", help="Opens the vault by asking AWS KMS to use this key.")
@click.option(
    "--fingerprint",
    metavar="HEX",
    help="Opens only the vault that has it: tells it from one that somebody put in its place.",
)
@click.option("--insecure", is_flag=True, help="Consent to plain http to another machine; loopback needs none.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="One JSON document on standard output, errors too; progress as JSON lines on standard error.",
)
@click.option("--debug", is_flag=True, help="Show the trace of an unexpected error.")
@click.pass_context
def command(context: click.Context, /, *, as_json: bool, debug: bool, **options: Any) -> None:
    """Take recovery points of AI platforms, restore them, and prove that they bring everything back."""
    del as_json, debug  # read by main, which needs them before click has understood anything
    screen = context.obj if isinstance(context.obj, Screen) else Screen(as_json=False)
    context.obj = Session(Options(**options), screen)


for each in (
    init,
    snapshot,
    canary,
    points,
    show,
    plan,
    restore,
    undo,
    discard,
    registry,
    verify,
    heal,
    accept,
    hold,
    release,
    expire,
    drill,
    trend,
    runbook,
    gameday,
    audit,
    keys,
    kit,
    catalog,
    doctor,
    demo,
):
    command.add_command(each)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code. Results go to standard output; whatever else is printed goes to standard error."""
    words = list(arguments)
    options = words[: words.index("--")] if "--" in words else words
    screen = Screen(as_json="--json" in options)
    try:
        with _ended_in_order(), contextlib.redirect_stdout(sys.stderr if screen.as_json else sys.stdout):
            outcome = command.main(_flags_first(words), prog_name="muster", standalone_mode=False, obj=screen)
    except click.exceptions.NoArgsIsHelpError as error:  # asked for nothing: told what there is
        if not screen.as_json:
            error.show()
            return error.exit_code
        return _failed(error, screen, debug=False)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException as error:  # noqa: BLE001 - the one place where everything ends
        return _failed(error, screen, debug="--debug" in options)
    return outcome if isinstance(outcome, int) else 0


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM is an interrupt like any other, so that servers are stopped and sandboxes removed on the way out."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, _frame: object) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # a second one must not cut short what the first one set off
    raise KeyboardInterrupt


def _flags_first(words: list[str]) -> list[str]:
    """``--json`` and ``--debug`` are understood after the command, too."""
    end = words.index("--") if "--" in words else len(words)
    flags = [word for word in words[:end] if word in ("--json", "--debug")]
    return flags + [word for word in words[:end] if word not in flags] + words[end:]


def _failed(error: BaseException, screen: Screen, *, debug: bool) -> int:
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    kind, message, hint, code = _told(error)
    screen.failure(kind=kind, message=message, hint=hint, exit_code=code)
    return code


def _told(error: BaseException) -> tuple[str, str, str, int]:
    """Kind, message, hint and exit code."""
    if isinstance(error, MusterError):
        return type(error).__name__, error.message, error.hint, error.exit_code
    if isinstance(error, click.ClickException):
        hint = f"see: {error.ctx.command_path} --help" if isinstance(error, click.UsageError) and error.ctx else ""
        return "UsageError", error.format_message(), hint, 2
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return (
            "Interrupted",
            "interrupted; what is stored stays, and no half-made point is ever listed",
            "",
            INTERRUPTED,
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EPIPE, errno.EIO):
        return (
            type(error).__name__,
            f"what came of it could not be written: {error.strerror}",
            "see where the output goes",
            1,
        )
    return (
        type(error).__name__,
        f"unexpected {type(error).__name__}: {error}",
        "run it again with --debug for the trace",
        1,
    )
