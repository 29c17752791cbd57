"""
What the operations need from the world. The docstrings are the contract; tests/contract holds every implementation to it.

Implementations raise errors of `muster.errors` only: whatever a tool throws is translated where it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

from muster.domain.content import ContentRef, EntryKind, TreeEntry
from muster.domain.recovery_point import ComponentKind

Json = Any
Progress = Callable[[str, int, int | None], None]
"""Called as ``progress(what, bytes_done, bytes_total or None)``, often, from any thread."""


class Clock(Protocol):
    """The time, injected so that tests can set it."""

    def now(self) -> datetime:
        """The present moment, aware, in UTC."""


# --- where the vault's objects lie ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """An object in a store: its key, its size in bytes, when it was written."""

    key: str
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class Guarantees:
    """
    What a store promises. Whoever needs more says so instead of hoping.

    :param immutable: objects under a lock cannot be deleted or replaced by the credentials that we hold
    :param conditional_put: two writers of one key cannot both succeed
    :param versioned: a deleted or replaced object can be had back
    """

    immutable: bool
    conditional_put: bool
    versioned: bool


LockMode = Literal["governance", "compliance"]
"""Whether a privileged person may lift a retention (governance), or nobody may before its end (compliance)."""


@dataclass(frozen=True, slots=True)
class Lock:
    """
    What keeps one object from being removed.

    :param until: end of its retention, aware, in UTC; None if it has none
    :param mode: of the retention; None if it has none
    :param held: under a legal hold, which has no end and must be lifted by hand
    """

    until: datetime | None = None
    mode: LockMode | None = None
    held: bool = False


class Locks(Protocol):
    """Lock administration of a store that can lock. Calls are idempotent and may come from several threads."""

    def of(self, key: str) -> Lock:
        """
        The lock of an object, as the store has it.

        :raises NotFound: if there is no such object
        """

    def extend(self, keys: Iterable[str], until: datetime) -> int:
        """
        Retain every object at least until a moment; in bulk, in parallel. A longer retention stays as it is.

        Every request is waited for. If any fails, the first failure is raised, with the number of those that failed.

        :return: how many objects are retained now that were not, or not so long, before
        :raises NotFound: if an object is not there
        :raises Refused: if the store, or our rights in it, do not allow it
        :raises StoreUnavailable: if the store did not answer
        """

    def hold(self, keys: Iterable[str], *, held: bool) -> None:
        """
        Put objects under a legal hold, or lift it. Errors as in `extend`.
        """


@dataclass(frozen=True, slots=True)
class Hidden:
    """
    An object that is there, and that `get` does not give, since somebody laid something over it.

    :param by: what lies over it: ``delete marker``, or another ``version`` with other bytes
    :param at: when that was laid there
    """

    key: str
    by: Literal["delete marker", "version"]
    at: datetime


class Versions(Protocol):
    """
    What a store that keeps versions has below the newest. Objects are written once: the oldest version of a key is ours, and
    whatever lies over it was put there by somebody else.
    """

    def hidden(self, prefix: str = "") -> Iterator[Hidden]:
        """Objects whose oldest version is not what `get` gives, sorted by key."""

    def uncover(self, key: str) -> None:
        """
        Let `get` give the oldest version again; that version itself, and its lock, stay as they are.

        :raises NotFound: if the key has no version
        :raises Refused: if our rights do not allow it
        """


@dataclass(frozen=True, slots=True)
class Proof:
    """
    One guarantee of a store, tried on an object of the trial's own or asked of the store.

    * kept      it was tried, and holds
    * broken    the store promises it (`Guarantees`) or every store must, and it does not hold
    * absent    this store makes no such promise: whoever relies on it must know
    * untold    the store gave no answer from which it could be told

    :param guarantee: what should hold, in a phrase: ``an object is never overwritten``
    :param found: what was tried, and what the store answered, in a sentence
    :param mend: what to do; empty if it is kept
    """

    guarantee: str
    verdict: Literal["kept", "broken", "absent", "untold"]
    found: str
    mend: str = ""


PROBES = "probe/"
"""What the keys of trial objects begin with: they are no part of a vault, may be locked for a minute, and are removed later."""


class BlobStore(Protocol):
    """
    A flat, create-only store of named bytes.

    Keys are ASCII, of ``[A-Za-z0-9._-]`` segments joined by ``/``. All calls may be made from several threads at once. When `put`
    returns, the bytes are durable and every later `get` and `list`, from anywhere, sees them; when it raises, there is
    either nothing or the whole object (a lost answer), never a part of it.
    """

    @property
    def url(self) -> str:
        """Where this is, without any secret."""

    def guarantees(self) -> Guarantees:
        """What this store promises."""

    def locks(self) -> Locks | None:
        """Its lock administration; None if nothing there can be locked, as in a local folder."""

    def versions(self) -> Versions | None:
        """What it keeps of replaced and deleted objects; None if it keeps nothing, as a local folder."""

    def prove(self) -> Iterator[Proof]:
        """
        Try every guarantee, on objects of its own below `PROBES`, and tell what came of it; nothing of a vault is touched.

        What can be deleted of the trial is deleted at its end or by a later one.

        :raises StoreUnavailable: if the store did not answer
        :raises Refused: if not even a trial object may be written
        """

    def put(self, key: str, data: bytes | memoryview) -> None:
        """
        Create an object.

        :param data: may be written over by the caller as soon as this has returned or raised
        :raises AlreadyExists: if the key is taken, whatever it holds; nothing was changed
        :raises StoreUnavailable: if the store did not answer, or is full; trying again may help
        """

    def get(self, key: str) -> bytes:
        """
        The whole object.

        :raises NotFound: if there is none
        :raises StoreUnavailable: if the store did not answer
        """

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """
        Exactly `length` bytes from `start`.

        :raises IntegrityError: if the object is shorter than that
        :raises NotFound: if there is none
        """

    def info(self, key: str) -> BlobInfo:
        """
        Size and time of an object.

        :raises NotFound: if there is none
        """

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        """All objects whose key begins with `prefix` (any string, not only whole segments), sorted by key."""

    def delete(self, key: str) -> None:
        """
        Remove an object. Only expiry calls this.

        :raises NotFound: if there is none
        :raises Refused: if a lock forbids it
        """


class KeyService(Protocol):
    """Keys that never leave their service, under which small secrets are sealed: AWS KMS."""

    def seal(self, key: str, secret: bytes, context: Mapping[str, str]) -> bytes:
        """
        Seal at most 4 KiB under a key of the service.

        :param key: how the service calls it
        :param context: facts that are not secret; opening asks for the same
        :raises Refused: if the key is not there or disabled, or we may not use it
        :raises StoreUnavailable: if the service did not answer
        """

    def open(self, key: str, sealed: bytes, context: Mapping[str, str]) -> bytes | None:
        """
        What was sealed; None if it was sealed under another key or in another context, or is damaged. Errors as in `seal`.
        """


# --- what goes into a vault, and what comes out -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SourceFile:
    """
    One thing to store.

    :param path: relative POSIX path in the component's tree
    :param open: gives a fresh binary stream of the content; None unless `kind` is ``file``
    :param size: length the content must have, where known: a different one raises SourceChanged
    :param md5: MD5 the content must have, where known: a different one raises SourceChanged
    :param known: content that is in the vault already (from an earlier point); it is then not opened at all
    """

    path: str
    open: Callable[[], BinaryIO] | None = None
    kind: EntryKind = "file"
    size: int | None = None
    md5: str | None = None
    mode: int | None = None
    mtime_ns: int | None = None
    link: str | None = None
    known: ContentRef | None = None


class TreeReader(Protocol):
    """A stored tree, opened for reading. Everything it gives was checked: each chunk by its seal and its id, each file by its digest."""

    def entries(self) -> Sequence[TreeEntry]:
        """All entries, sorted by path."""

    def entry(self, path: str) -> TreeEntry:
        """
        The entry at a path.

        :raises NotFound: if there is none
        """

    def read(self, entry: TreeEntry) -> bytes:
        """The bytes of a small file."""

    def extract(self, wanted: Iterable[tuple[TreeEntry, Path]]) -> int:
        """
        Write entries (files, folders and links) to paths, in parallel, with their modes and times; return the number of plain bytes.

        Parent folders are made. A file appears under its name only when it is whole and its digest was checked.

        :raises TargetNotEmpty: if a path exists already (folders may)
        :raises IntegrityError: if anything in the vault is damaged; the message names pack, chunk and file
        """


class Capture(Protocol):
    """One open cut of a component."""

    @property
    def cut_at(self) -> datetime:
        """The moment whose state this shows: nothing written to the source before it is missing."""

    @property
    def method(self) -> str:
        """How the cut was obtained, in a phrase for people: ``REPEATABLE READ READ ONLY transaction``."""

    def files(self) -> Iterator[SourceFile]:
        """Everything to store. Read once, to the end. Opening a file may raise SourceChanged or SourceInvalid."""

    def details(self) -> dict[str, Json]:
        """Facts to reconcile a restore with: counts, revisions, ids. Complete once `files` was read. No secrets, no row data."""

    def confirm(self) -> None:
        """
        Say that the cut was consistent; called when all files were stored.

        :raises SourceChanged: if something moved meanwhile
        """


class ComponentSource(Protocol):
    """A living component, from which cuts are taken."""

    @property
    def kind(self) -> ComponentKind: ...

    @property
    def name(self) -> str: ...

    def capture(self, previous: TreeReader | None) -> AbstractContextManager[Capture]:
        """
        Open a consistent cut; leaving the context gives up transactions, temporary copies and locks.

        :param previous: the same component in the point before, for `SourceFile.known`; None if there is none
        :raises SourceInvalid: if this is not what the catalog says (no DVC repository, a schema nobody here knows)
        :raises StoreUnavailable: if a server does not answer
        """


class ComponentTarget(Protocol):
    """A place where a component is put back."""

    def check(self, details: Mapping[str, Json]) -> None:
        """
        Refuse now what could not be restored later; change nothing.

        :param details: what `Capture.details` said when the component was captured
        :raises TargetNotEmpty: if something is there
        :raises SourceInvalid: if this machine cannot hold it (an older MLflow, another platform)
        :raises StoreUnavailable: if a server does not answer
        """

    def restore(self, details: Mapping[str, Json], tree: TreeReader) -> dict[str, Json]:
        """
        Put everything back and reconcile it with `details`; return the same kind of facts, measured anew.

        If it fails, the target is left as empty as it was.
        """


# --- environment, data and models -------------------------------------------------------------------------------------


class EnvironmentBuilder(Protocol):
    """Rebuilds a captured Python environment from its own wheels, with no package index in reach."""

    def build(self, details: Mapping[str, Json], tree: TreeReader, directory: Path) -> Path:
        """
        Build the environment in a new or empty folder and return its Python interpreter. Idempotent for the same content:
        a whole environment of the same digest in `directory` is returned as it is; a half-built one is removed first.

        :raises IntegrityError: if a wheel does not match its hash
        :raises SourceInvalid: if this platform or Python cannot run the captured wheels
        """


@dataclass(frozen=True, slots=True)
class Validation:
    """
    What a suite of expectations said of some data.

    :param success: whether every expectation was met
    :param failures: one line for each unmet expectation: what was expected of which column or file, what was found
    :param statistics: evaluated, successful, rows, files …
    """

    success: bool
    suite: str
    failures: tuple[str, ...]
    statistics: dict[str, Json] = field(default_factory=dict)


class Validator(Protocol):
    """Runs a suite of expectations, kept as JSON, over the files of a dataset."""

    def validate(self, suite: Mapping[str, Json], data: Path, docs: Path) -> Validation:
        """
        Judge the files under `data`; write HTML data docs into the empty folder `docs` (``index.html`` at its top).

        :raises CatalogError: if the suite itself is wrong (unknown expectation, no file matches)
        """


@dataclass(frozen=True, slots=True)
class Prediction:
    """
    What a model answered.

    :param model: its URI, ``models:/flight-delay@champion``
    :param version: registry version that the URI resolved to
    :param model_id: MLflow's logged-model id, or None in old stores
    :param inputs: the request as JSON, ready to be sent again; ``{"dataframe_split": …}`` or ``{"inputs": …}``
    :param outputs: the answer as JSON: ``{"dtype": …, "shape": […], "values": […]}``; floats survive exactly
    :param seconds: ``{"import": …, "load": …, "predict": …}``
    """

    model: str
    version: str
    model_id: str | None
    inputs: dict[str, Json]
    outputs: dict[str, Json]
    seconds: dict[str, float]


class ModelRunner(Protocol):
    """Runs models in a process and an environment of their own."""

    def predict(self, python: Path, tracking_uri: str, model: str, inputs: Mapping[str, Json] | None) -> Prediction:
        """
        Load a model by its URI with the given interpreter and ask it.

        :param inputs: a stored request; None takes the model's own stored input example
        :raises SmokeFailed: if the model cannot be loaded or does not answer; the message carries the end of its output
        :raises SourceInvalid: if `inputs` is None and the model was stored without an input example
        """


class RegistryServer(Protocol):
    """Starts a model registry server of our own, on a free loopback port, over a given store."""

    def serve(self, store_url: str, artifact_root: str) -> AbstractContextManager[str]:
        """
        The tracking URI of a server that answers; it is gone when the context is left, whatever happened.

        :raises StoreUnavailable: if it does not come up; the message carries the end of its log
        """
