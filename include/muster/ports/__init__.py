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
from typing import Any, BinaryIO, Protocol

from muster.domain.content import EntryKind, TreeEntry
from muster.domain.evidence import ExpectationResult
from muster.domain.recovery_point import ComponentKind
from muster.ports.aside import Aside, Kept
from muster.ports.stores import (
    PROBES,
    BlobInfo,
    BlobStore,
    Guarantees,
    Hidden,
    KeyService,
    Lock,
    LockMode,
    Locks,
    Proof,
    Versions,
)

__all__ = [
    "PROBES",
    "Aside",
    "Ask",
    "BlobInfo",
    "BlobStore",
    "Capture",
    "Clock",
    "ComponentSource",
    "ComponentTarget",
    "EnvironmentBuilder",
    "Guarantees",
    "Hidden",
    "Json",
    "Kept",
    "KeyService",
    "KnownContent",
    "LocalFile",
    "Lock",
    "LockMode",
    "Locks",
    "ModelRunner",
    "Prediction",
    "Progress",
    "Proof",
    "RegistryServer",
    "SourceFile",
    "StrPath",
    "TreeReader",
    "Validation",
    "Validator",
    "Versions",
]

Json = Any
Progress = Callable[[str, int, int | None], None]
"""Called as ``progress(what, bytes_done, bytes_total or None)``, often, from any thread."""
StrPath = str | Path  # of a hundred thousand, strings take a tenth of the time


class Clock(Protocol):
    """The time, injected so that tests can set it."""

    def now(self) -> datetime:
        """The present moment, aware, in UTC."""


class LocalFile:
    """A file on a disk of this machine: gives a stream of it, and says where it is to whoever can read it faster by that."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self) -> BinaryIO:
        return open(self.path, "rb")  # noqa: PTH123  the caller closes it


class KnownContent(Protocol):
    """A content that is in the vault already: a `ContentRef`, or what the vault's own list of entries has for one."""

    @property
    def size(self) -> int: ...
    @property
    def sha256(self) -> str: ...
    @property
    def chunks(self) -> tuple[str, ...]: ...


@dataclass(slots=True, eq=False)
class SourceFile:
    """
    One thing to store. Made by the million, so not frozen, which would take four times as long; nobody changes one.

    :param path: relative POSIX path in the component's tree
    :param open: gives a fresh binary stream of the content; None unless `kind` is ``file``. Several are open at a time if that takes time;
        a `LocalFile` is read without a stream, if it is small
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
    known: KnownContent | None = None


class TreeReader(Protocol):
    """A stored tree, opened for reading. Everything it gives was checked: each chunk by its seal and its id, each file by its digest."""

    def entries(self) -> Sequence[TreeEntry]:
        """All entries, sorted by path; those of a large tree take much memory."""

    def stream(self) -> Iterator[TreeEntry]:
        """
        The same, one after the other, in little memory.

        :raises IntegrityError: at the end, too: whoever stops before it knows nothing of the list as a whole
        """

    def entry(self, path: str) -> TreeEntry:
        """
        The entry at a path.

        :raises NotFound: if there is none
        """

    def read(self, entry: TreeEntry) -> bytes:
        """The bytes of a small file."""

    def extract(self, wanted: Iterable[tuple[TreeEntry, StrPath]]) -> int:
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

    def holds(self, details: Mapping[str, Json], tree: TreeReader) -> dict[str, Json] | None:
        """
        What `restore` would have returned, if exactly what it would put there is there already; None if not.

        Everything is read and compared by its digest; nothing is changed.
        """

    def can_tell(self, details: Mapping[str, Json]) -> bool:
        """Whether `holds` looks at such a place at all; if not, its None says nothing."""

    def aside(self) -> Aside:
        """
        How what lies at this place is moved out of the way.

        :raises Refused: if it cannot be
        """

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

        A registry adds its `FidelityReport`, as JSON, under ``fidelity``. If it fails, the target is left as empty as it was.
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
    :param results: one for each expectation, those that were not met first; the first few hundred
    """

    success: bool
    suite: str
    failures: tuple[str, ...]
    statistics: dict[str, Json] = field(default_factory=dict)
    results: tuple[ExpectationResult, ...] = ()


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


class Ask(Protocol):
    """Asks one model, in a process of its own."""

    def __call__(
        self,
        tracking_uri: str,
        model: str,
        inputs: Mapping[str, Json] | None,
        artifact_root: str | None = None,
    ) -> Prediction:
        """
        Load a model by its URI and ask it.

        :param inputs: a stored request; None takes the model's own stored input example
        :param artifact_root: what the server passes on; what lies there in a bucket is then loaded through it, without credentials
        :raises SmokeFailed: if the model cannot be loaded or does not answer; the message carries the end of its output
        :raises SourceInvalid: if `inputs` is None and the model was stored without an input example
        """


class ModelRunner(Protocol):
    """Runs models in processes and an environment of their own."""

    def asking(self, python: Path, questions: int) -> AbstractContextManager[Ask]:
        """
        What asks models, each in a fresh process of the given interpreter. The first begins at once: enter this before whatever else takes
        its time, such as the start of a server. Nothing of them is left when the context is left.

        :param questions: how many will be asked
        """


class RegistryServer(Protocol):
    """Starts a model registry server of our own, on a free loopback port, over a given store."""

    def serve(self, store_url: str, artifact_root: str) -> AbstractContextManager[str]:
        """
        The tracking URI of a server that answers; it is gone when the context is left, whatever happened.

        :raises StoreUnavailable: if it does not come up; the message carries the end of its log
        """
