"""What the last step of a restore needs from the world."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePath
from typing import Protocol


class Switching(Protocol):
    """Puts a place to use."""

    def claims(self, place: PurePath) -> tuple[str, ...]:
        """What restores to a path of this machine have not finished, or left behind when they were killed."""

    def run(self, command: Sequence[str], names: Mapping[str, str], within_s: float, secrets: Collection[str]) -> str:
        """
        Run a program without a shell, in a process group of its own of which nothing is left afterwards; return the end of its output.

        :param names: all that it is told by variables, besides a bare search path; nothing of our own environment
        :param secrets: values that are kept out of the output
        :raises CutOverFailed: if it does not start, ends otherwise than with 0, or takes longer; carries the output
        """

    def wait_for(self, url: str, within_s: float) -> float:
        """
        Ask until the answer is 200, and return how many seconds that took.

        :raises CutOverFailed: if it is not in that time; the message has the last answer
        """
