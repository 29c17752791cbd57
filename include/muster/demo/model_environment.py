"""Build the model's Python environment from its lock: ``python -m muster.demo.model_environment LOCK FOLDER``."""

from __future__ import annotations

import subprocess
import sys

import uv


def main(lock: str, folder: str) -> int:
    """A new environment of this Python with exactly the locked packages, every one checked against its hash."""
    tool = uv.find_uv_bin()
    made = subprocess.run([tool, "venv", "--quiet", "--python", sys.executable, folder])
    if made.returncode:
        return made.returncode
    return subprocess.run(
        [tool, "pip", "install", "--quiet", "--python", folder, "--require-hashes", "--requirement", lock]
    ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
