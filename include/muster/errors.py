"""
Every way this package fails on purpose.

* MusterError                   the root: a message (what happened, to what) and a hint (what to do next)
  x TransientError              trying again may help                                          exit 1
    - StoreUnavailable          a vault, registry store or server does not answer              exit 7
    - SourceChanged             something moved under the snapshot                             exit 1
    - KeysRotated               the vault's keys were rotated while it was open                exit 1
  x PermanentError              trying again cannot help                                       exit 1
    - CatalogError              the catalog is wrong or contradicts itself                     exit 2
    - UsageError                a command or parameter makes no sense here                     exit 2
    - WrongKey                  the passphrase or recovery key does not open this vault        exit 2
    - SourceInvalid             what the catalog points at is not what it should be            exit 2
    - IntegrityError            bytes do not match their digest, signature or seal             exit 3
      + IncompletePoint         a recovery point names what the vault lacks                    exit 3
      + Unfaithful              what was restored is not what was captured                     exit 3
    - NotFound                  no such point, object, workload or component                   exit 4
    - ValidationFailed          data does not meet its expectations                            exit 5
    - SmokeFailed               a restored model does not answer as it did                     exit 5
    - ObjectiveMissed           everything came back, but too late, or from too long ago          exit 5
    - CutOverFailed             everything came back, but its place does not serve             exit 1
    - Refused                   a rule forbids it                                              exit 6
      + TargetNotEmpty          a restore would write over something                           exit 6
      + AlreadyExists           an object of this name is there; nothing is ever overwritten   exit 6

Airflow's retries and the command line's exit codes both follow from this tree, and from nothing else.
"""

from __future__ import annotations

from typing import Any


class MusterError(Exception):
    """
    The root of all deliberate failures.

    :param message: what happened, and to what: one sentence, with names
    :param hint: what to do next; empty only where the message already says it
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class TransientError(MusterError):
    """Trying again may help."""


class StoreUnavailable(TransientError):
    """A vault, registry store or server does not answer."""

    exit_code = 7


class SourceChanged(TransientError):
    """Something moved under the snapshot, so the cut would not have been consistent."""


class KeysRotated(TransientError):
    """The keys of a vault were rotated while it was open: what is signed with the earlier key does not count any more."""


class PermanentError(MusterError):
    """Trying again cannot help; somebody has to change something."""


class CatalogError(PermanentError):
    """The catalog is wrong or contradicts itself."""

    exit_code = 2


class UsageError(PermanentError):
    """A command or a parameter makes no sense here."""

    exit_code = 2


class WrongKey(PermanentError):
    """The passphrase or recovery key does not open this vault."""

    exit_code = 2


class SourceInvalid(PermanentError):
    """What the catalog points at is not what it should be."""

    exit_code = 2


class IntegrityError(PermanentError):
    """Bytes do not match their digest, their signature or their seal."""

    exit_code = 3


class IncompletePoint(IntegrityError):
    """A recovery point names what the vault does not have."""


class Unfaithful(IntegrityError):
    """
    What was restored is not what was captured.

    :param report: the `muster.domain.fidelity.FidelityReport` that names every difference
    """

    def __init__(self, message: str, hint: str = "", report: Any = None) -> None:
        super().__init__(message, hint)
        self.report = report


class NotFound(PermanentError):
    """There is no such point, object, workload or component."""

    exit_code = 4


class ValidationFailed(PermanentError):
    """Data does not meet its expectations."""

    exit_code = 5


class SmokeFailed(PermanentError):
    """A restored model does not answer as it did when the point was taken."""

    exit_code = 5


class CutOverFailed(PermanentError):
    """
    Everything came back and was proven, but its place does not serve.

    :param output: the end of what a command said, without secrets
    """

    def __init__(self, message: str, hint: str = "", output: str = "") -> None:
        super().__init__(message, hint)
        self.output = output


class ObjectiveMissed(PermanentError):
    """Everything came back, but not in the time, or not from as late as was promised."""

    exit_code = 5


class Refused(PermanentError):
    """A rule forbids it."""

    exit_code = 6


class TargetNotEmpty(Refused):
    """A restore would write over something that is there."""


class AlreadyExists(Refused):
    """An object of this name is in the store, and nothing is ever overwritten."""
