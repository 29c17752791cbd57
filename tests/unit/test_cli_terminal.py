"""The command line with a person in front of it: prompts, the recovery key, Ctrl-C."""

from __future__ import annotations

import os
import pty
import re
import select
import sys
from pathlib import Path

import pytest

from terminal import INCLUDE, on_a_terminal, read_terminal


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a vault will be; the present folder has no catalog."""
    for name in [name for name in os.environ if name.startswith("MUSTER_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "vault"


def test_at_a_terminal_the_recovery_key_is_shown_once_and_opens_the_vault(vault: Path) -> None:
    """A person is asked twice for a new passphrase, which is not echoed, and gets the key that opens the vault."""
    words = "correct horse battery"
    code, shown = on_a_terminal("--vault", str(vault), "init", answers=(words, words))
    assert code == 0, shown
    assert words not in shown
    assert "Two keys open this vault" in shown
    assert "lose both, and\r\neverything in it is lost for ever" in shown
    (fingerprint,) = re.findall(r"--fingerprint ([0-9a-f]{64})", shown)
    (key,) = re.findall(r"MUSTER-RECOVERY-1-[A-Z0-9-]+", shown)
    (vault.parent / "key").write_text(key)
    stored = b"".join(path.read_bytes() for path in vault.rglob("*") if path.is_file())
    assert key.encode() not in stored
    code, shown = on_a_terminal("--vault", str(vault), "--recovery-key-file", str(vault.parent / "key"), "points")
    assert (code, "there is no recovery point yet" in shown) == (0, True)
    code, shown = on_a_terminal("--vault", str(vault), "--fingerprint", fingerprint, "points", answers=(words,))
    assert (code, words in shown) == (0, False)
    assert "there is no recovery point yet" in shown


def test_an_interrupt_ends_with_130(vault: Path) -> None:
    """Ctrl-C at a prompt ends the command, shortly."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ["PYTHONPATH"] = str(INCLUDE)
        os.execv(sys.executable, [sys.executable, "-m", "muster", "--vault", str(vault), "init"])
    shown = ""
    while "passphrase" not in shown and (chunk := read_terminal(terminal)):
        shown += chunk
    heard: str | None = None
    while heard != "":
        # Once more if nothing comes of it: Python sees an interrupt that came just before it began to read only after that.
        if heard is None:
            os.write(terminal, b"\x03")
        heard = read_terminal(terminal) if select.select([terminal], [], [], 5)[0] else None
        shown += heard or ""
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130, shown
    assert "muster: interrupted" in shown
    assert "Traceback" not in shown
