"""What the model-based test draws: files, programs, times, and faults of the calls that each kind of work makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, get_args

from hypothesis import strategies as st

from fakes import Fault, FaultKind, Operation
from faults.picture import CONTENTS, WORKLOADS
from faults.place import NEW

Method = TypeVar("Method", bound=Callable[..., None])
KINDS: dict[str, tuple[FaultKind, ...]] = {
    "put": ("fail", "full", "refuse", "lose_answer", "truncate", "flip"),
    "get": ("fail", "refuse", "truncate", "flip"),
    "get_range": ("fail", "refuse", "truncate", "flip"),
    "info": ("fail", "refuse"),
    "list": ("fail", "refuse", "truncate"),
    "delete": ("fail", "refuse", "lose_answer"),
    "lock_of": ("fail", "refuse"),
    "extend": ("fail", "refuse", "lose_answer"),
    "hold": ("fail", "refuse", "lose_answer"),
    "any": ("fail", "refuse", "lose_answer", "truncate", "flip"),
}
_SILENT = ("truncate", "flip")
_LISTED = ("points", "marks", "audit", "indexes", "packs", "condemned", "damaged")
_READ = tuple(f"list {folder}/" for folder in _LISTED) + tuple(
    f"{'get_range' if folder == 'packs' else 'get'} {folder}/" for folder in _LISTED
)
_OPENED = ("get vault.json", "get keys/", "list keys/", "list generations/")

WHO = st.integers(0, NEW)
FILES = st.frozensets(st.integers(0, len(CONTENTS) - 1), min_size=1, max_size=3)
WORKLOAD = st.sampled_from(WORKLOADS)
NTH = st.integers(0, 99)
"""Which of what there is, counted round: what is drawn never depends on what the vault did."""
HOURS = st.sampled_from([1, 6, 20, 30, 49, 73, 8 * 24, 15 * 24])
HARM = st.sampled_from(
    [
        *(("packs/", how) for how in ("flip", "cut", "delete")),
        *(("points/", how) for how in ("flip", "delete")),
        *(("indexes/", how) for how in ("flip", "cut")),
        ("marks/", "flip"),
        *(("audit/", how) for how in ("flip", "cut")),
    ]
)
"""The folder of an object, and what is done to it."""


def _fault(call: str) -> st.SearchStrategy[Fault]:
    """One that meets the first few calls of a kind; a store that fails may go on failing to the end."""
    operation, _, prefix = call.partition(" ")
    assert operation in get_args(Operation)
    silent = [kind for kind in KINDS[operation] if kind in _SILENT]
    loud = [kind for kind in KINDS[operation] if kind not in _SILENT]
    at = st.integers(1, 60) if operation == "any" else st.sampled_from([1, 1, 1, 2, 3])
    drawn = st.builds(
        Fault,
        st.sampled_from(loud),
        st.just(operation),
        at,
        st.sampled_from([1, 1, 2, None]),
        st.just(prefix),
    )
    if silent:
        drawn |= st.builds(Fault, st.sampled_from(silent), st.just(operation), at, st.just(1), st.just(prefix))
    return drawn


def _faults(*more: str, opens: bool = True) -> st.SearchStrategy[Fault]:
    """A third of them at the n-th call whatever it is, a third at a call that reads, a third at one of these."""
    reads = (*_READ, *(_OPENED if opens else ()))
    drawn = _fault("any") | st.sampled_from(reads).flatmap(_fault)
    return drawn | st.sampled_from(more).flatmap(_fault)


_PACKS = ("put packs/", "put indexes/")
_MARKS = ("put marks/", "put audit/")
_SEALED = ("put points/", "put audit/", "extend packs/", "extend points/", "lock_of keys/")
_REMOVED = tuple(f"delete {folder}/" for folder in ("points", "packs", "indexes", "marks", "condemned"))

STORING = _faults(*_PACKS)
SEALING = _faults(*_PACKS, *_SEALED, opens=False)
SNAPSHOT = _faults(*_PACKS, *_SEALED)
MARKING = _faults(*_MARKS, "hold packs/")
RESTORING = _faults("get_range packs/")
VERIFYING = _faults(*_MARKS, "put damaged/")
HEALING = _faults(*_MARKS, *_PACKS, *_SEALED)
EXPIRING = _faults(*["put audit/"] * 4, "put condemned/", "info audit/", "lock_of packs/", *_REMOVED)

ACTIONS: list[st.SearchStrategy[tuple[str, dict[str, Any]]]] = []


def action(**given: st.SearchStrategy[Any]) -> Callable[[Method], Method]:
    """
    What may be done in a step.

    As `rule` of Hypothesis, which leaves out some rules in each example; here all take part in all, for the sake of a short run.
    """

    def note(work: Method) -> Method:
        ACTIONS.append(st.tuples(st.just(work.__name__), st.fixed_dictionaries(given)))
        return work

    return note
