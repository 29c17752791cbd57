"""A small disk for one process, so that it really runs out of room: a mount that nobody else sees, without any right."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from muster.adapters.network_cell import LIBC, OWN_USER

CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x00020000
PAGE = 4096
_MOUNT = f"""
{LIBC}{OWN_USER}
own_user({CLONE_NEWUSER | CLONE_NEWNS})
call("mount", b"muster-drill", os.fsencode(sys.argv[1]), b"tmpfs", 0, b"size=" + sys.argv[2].encode())
if sys.argv[3:]:
    os.execv(sys.argv[3], sys.argv[3:])
"""


def on_small_disk(folder: Path, room: int) -> list[str]:
    """What stands before a command, so that `folder` is for it an empty disk of that many bytes, gone when the command ends."""
    return [sys.executable, "-I", "-S", "-c", _MOUNT, str(folder), str(max(room, PAGE))]


def small_disk_possible() -> bool:
    """Whether this system lets us have one; tried."""
    with tempfile.TemporaryDirectory(prefix="muster-disk-") as folder:
        return subprocess.run(on_small_disk(Path(folder), PAGE), capture_output=True).returncode == 0
