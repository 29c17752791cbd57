"""This very Python, begun once more for a module of ours."""

from __future__ import annotations

import os
import sys
from typing import Any


def own_python(module: str) -> dict[str, Any]:
    """
    What `subprocess.Popen` is to be told: the command, the environment, and a session of its own.

    It finds what is found here, and loads nothing from the working folder (``-P``), since such processes are given keys and passwords.
    """
    return {
        "args": [sys.executable, "-P", "-m", module],
        "env": {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, map(str, sys.path)))},
        "start_new_session": True,
    }
