"""What the doctor found: one line each, with what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from muster.errors import MusterError

Verdict = Literal["ok", "fail", "none", "untold"]

_SIGNS: dict[Verdict, str] = {"ok": "ok  ", "fail": "FAIL", "none": "none", "untold": "?   "}


@dataclass(frozen=True, slots=True)
class Finding:
    """
    One thing that was tried.

    * ok        it is well
    * fail      something is amiss
    * none      nobody promised it, and it is good to know that one does without
    * untold    nobody gave an answer from which it could be told

    :param found: what is there, or what is wrong
    :param mend: what to do; empty if it is well
    """

    check: str
    verdict: Verdict
    found: str
    mend: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing is amiss."""
        return self.verdict != "fail"

    def line(self) -> str:
        """For people."""
        return f"{_SIGNS[self.verdict]}  {self.check}: {self.found}" + (f"\n      {self.mend}" if self.mend else "")

    def document(self) -> dict[str, Any]:
        """For machines."""
        return {
            "check": self.check,
            "ok": self.ok,
            "verdict": self.verdict,
            "found": self.found,
            "mend": self.mend,
        }


def tried(check: str, look: Callable[[], str]) -> Finding:
    """What a look finds; an error of it is what is amiss."""
    try:
        return Finding(check, "ok", look())
    except MusterError as error:
        return Finding(check, "fail", error.message, error.hint)


def verdict_on(findings: list[Finding]) -> str:
    """All of them in a sentence."""
    failed = sum(not finding.ok for finding in findings)
    without = sum(finding.verdict in ("none", "untold") for finding in findings)
    if failed:
        return f"{failed} of {len(findings)} checks failed"
    if without:
        return f"no check failed; {without} of {len(findings)} are not promised or cannot be told"
    return f"all {len(findings)} checks passed"
