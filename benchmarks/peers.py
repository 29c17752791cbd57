"""The ways to protect a folder that `vault_vs_peers.py` compares: what each side does in each step."""

from __future__ import annotations

import shutil
import sys
from abc import ABC, abstractmethod
from pathlib import Path

from measuring import Cost, folder_size, timed

STEPS = Path(__file__).with_name("vault_steps.py")


class Side(ABC):
    """One way to protect a folder, in a place of its own."""

    def __init__(self, place: Path, environment: dict[str, str], remote: str | None) -> None:
        self.place, self.environment, self.remote = place, environment, remote
        self.data = place / "data"

    @abstractmethod
    def prepare(self) -> None:
        """Everything that is not timed."""

    @abstractmethod
    def snapshot(self) -> Cost: ...

    @abstractmethod
    def restore(self, to: Path) -> Cost:
        """Bring the last snapshot back to an empty folder."""

    @abstractmethod
    def verify(self) -> Cost | None:
        """Read all that is stored and compare it with digests; None if there is no such command."""

    def stored(self) -> int | None:
        """Bytes that are stored; None if they lie on a server."""
        return None if self.remote else folder_size(self.place / "store")

    def run(self, *command: str | Path, cwd: Path | None = None) -> Cost:
        return timed([str(part) for part in command], cwd or self.place, self.environment)


class Muster(Side):
    def prepare(self) -> None:
        self.url = self.remote or str(self.place / "store")
        self._step("create")

    def snapshot(self) -> Cost:
        return self._step("snapshot", self.data)

    def restore(self, to: Path) -> Cost:
        return self._step("restore", to)

    def verify(self) -> Cost:
        return self._step("verify")

    def _step(self, step: str, *arguments: Path) -> Cost:
        return self.run(sys.executable, STEPS, step, self.url, *arguments)


class Restic(Side):
    program = "restic"

    def prepare(self) -> None:
        password = self.place / "password"
        password.write_text("of a repository that lives for a minute\n")
        self.environment |= {
            "RESTIC_PASSWORD_FILE": str(password),
            "RESTIC_CACHE_DIR": str(self.place / "cache"),
            "RESTIC_REPOSITORY": self.remote or str(self.place / "store"),
        }
        self.run(self.program, "init", "--quiet")

    def snapshot(self) -> Cost:
        return self.run(self.program, "backup", "--quiet", ".", cwd=self.data)

    def restore(self, to: Path) -> Cost:
        return self.run(self.program, "restore", "--quiet", "latest", "--target", to)

    def verify(self) -> Cost:
        return self.run(self.program, "check", "--quiet", "--read-data")


class Dvc(Side):
    def prepare(self) -> None:
        self.repository = self.place / "repository"
        self.repository.mkdir()
        self.data.rename(self.repository / "data")
        self.data = self.repository / "data"
        self._dvc("init", "--quiet", "--no-scm")
        self._dvc("remote", "add", "--quiet", "--default", "backup", self.remote or str(self.place / "store"))
        if self.remote:
            self._dvc("remote", "modify", "backup", "endpointurl", self.environment["AWS_ENDPOINT_URL"])

    def snapshot(self) -> Cost:
        return self._dvc("add", "data") + self._dvc("push")

    def restore(self, to: Path) -> Cost:
        clone = self.place / "clone"
        (clone / ".dvc").mkdir(parents=True)
        for name in (".dvc/config", ".dvcignore", "data.dvc"):
            if (self.repository / name).exists():
                shutil.copy2(self.repository / name, clone / name)
        pulled = timed([self._program, "pull"], clone, self.environment)
        (clone / "data").rename(to)
        return pulled

    def verify(self) -> None:
        return None

    @property
    def _program(self) -> str:
        return str(Path(sys.executable).with_name("dvc"))

    def _dvc(self, *arguments: str) -> Cost:
        return timed([self._program, *arguments], self.repository, self.environment)


class Floor(Side):
    """``tar | zstd -1`` to disk with fsync, and back; no encryption, no digests, no deduplication."""

    def prepare(self) -> None:
        (self.place / "store").mkdir()

    def snapshot(self) -> Cost:
        return self._shell('tar -C "$0" -cf - . | zstd -1 -q -f -o "$1" && sync "$1"', self.data)

    def restore(self, to: Path) -> Cost:
        to.mkdir()
        return self._shell('zstd -dc -q "$1" | tar -C "$0" -xf -', to)

    def verify(self) -> Cost:
        return self._shell('zstd -t -q "$1"', self.place)

    def _shell(self, script: str, folder: Path) -> Cost:
        return self.run("bash", "-c", f"set -o pipefail; {script}", folder, self.place / "store" / "data.tar.zst")


SIDES: dict[str, type[Side]] = {"muster": Muster, "restic": Restic, "dvc": Dvc, "floor": Floor}
