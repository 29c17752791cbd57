"""How faithfully a registry came back: what was captured beside what is there, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass, field

from muster.errors import Unfaithful

MOST_DIFFERENCES = 100
"""Differences that a report names; all of them are counted."""


@dataclass(frozen=True, slots=True)
class Counted:
    """A number of things, and the hex SHA-256 of all of them."""

    count: int
    sha256: str


@dataclass(frozen=True, slots=True)
class TableLine:
    """
    A table, row by row.

    :param captured: its rows as they were read from the source
    :param due: the same, as they must be here: locations mapped, adapted to the engine, brought to a newer schema
    :param restored: its rows as they were read from the restored database when all of it was written
    :param mapped: values of `captured` that name a place and were mapped
    :param adapted: values that this engine holds otherwise; the facts of the restore name the columns
    """

    table: str
    captured: Counted
    due: Counted
    restored: Counted
    mapped: int = 0
    adapted: int = 0

    @property
    def same(self) -> bool:
        return self.due == self.restored


@dataclass(frozen=True, slots=True)
class EntityLine:
    """
    A kind of thing, as people name it.

    :param tables: the tables that it was counted in
    :param captured: what there must be of it
    :param restored: what there is of it
    """

    kind: str
    tables: tuple[str, ...]
    captured: Counted
    restored: Counted

    @property
    def same(self) -> bool:
        return self.captured == self.restored


@dataclass(frozen=True, slots=True)
class FilesLine:
    """
    Artifacts below a root.

    :param sha256: hex SHA-256 over the sorted list of their paths, sizes and digests
    """

    files: int
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ClientLine:
    """
    A kind of thing, as MLflow's own client shows it.

    :param rows: what the rows say that a client must see
    :param client: what it saw on the restored store; None if it could not show them
    :param unseen: why it could not: something in the rows, which are the captured ones, is not to its liking
    """

    kind: str
    rows: Counted
    client: Counted | None
    unseen: str = ""

    @property
    def same(self) -> bool:
        return self.client is None or self.client == self.rows


@dataclass(frozen=True, slots=True)
class Difference:
    """
    One thing that is not as it was captured. It names places and ids, never values.

    :param where: a table, ``artifacts``, or ``MLflow's client``
    :param entity: its kind, as people name it
    :param what: ``is lost``, ``was not captured``, ``differs in value``
    """

    where: str
    entity: str
    id: str
    what: str

    def __str__(self) -> str:
        return f"{self.entity} {self.id} {self.what} ({self.where})"


@dataclass(frozen=True, slots=True)
class FidelityReport:
    """
    A captured registry beside the restored one.

    :param component: label of the component, ``registry/flight_delays``
    :param engines: of the source and of the target
    :param upgraded: ``["0584bdc529eb", "dc11669786a5"]`` if the schema was brought up to date after the rows were back; else empty
    :param differences: the first `MOST_DIFFERENCES`; `differing` is their number
    :param left_out: tables that are never carried, each with the reason
    :param changed: what a server's API does not let one set, and what became of it; such a registry has no tables and no client's view:
        what was captured is what an API shows, and so is what is compared
    :param missing: artifacts that were named and missing when the point was taken, the first of them: they are not here either
    """

    engines: tuple[str, str]
    tables: tuple[TableLine, ...]
    entities: tuple[EntityLine, ...]
    artifacts_captured: FilesLine
    artifacts_restored: FilesLine
    client: tuple[ClientLine, ...]
    differences: tuple[Difference, ...] = ()
    differing: int = 0
    upgraded: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    component: str = ""
    missing: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    @property
    def identical(self) -> bool:
        """Whether nothing differs: no line of any kind, no file, and nothing that was found besides."""
        lines: list[TableLine | EntityLine | ClientLine] = [*self.tables, *self.entities, *self.client]
        same_files = self.artifacts_captured == self.artifacts_restored
        return self.differing == 0 and same_files and all(line.same for line in lines)

    @property
    def verdict(self) -> str:
        """``identical``, or what differs, in a sentence."""
        if self.identical:
            return "identical"
        shown = "; ".join(map(str, self.differences[:3]))
        more = f"; and {self.differing - 3} more" if self.differing > 3 else ""
        return f"{self.differing} {'difference' if self.differing == 1 else 'differences'}: {shown}{more}"

    @property
    def line(self) -> str:
        """The report in a line for people."""
        rows, files = sum(t.restored.count for t in self.tables), self.artifacts_restored.files
        unseen = [c.kind for c in self.client if c.client is None]
        shown = f"; MLflow's client could not show: {', '.join(unseen)}" if unseen else ""
        seen = len(self.client) - len(unseen)
        lost = f"; INCOMPLETE since the point was taken: {'; '.join(self.missing)}" if self.missing else ""
        if self.changed:
            things = sum(e.restored.count for e in self.entities)
            but = f"{self.verdict} but for {len(self.changed)} kinds of facts that an API does not let one set"
            return f"{but}; {things:,} things and {files:,} artifacts as the API shows them{lost}"
        return (
            f"{self.verdict}; {rows:,} rows of {len(self.tables)} tables, {files:,} artifacts, "
            f"{seen} kinds as MLflow's client sees them{shown}{lost}"
        )

    def require_identical(self) -> None:
        """
        :raises Unfaithful: if anything differs; the error carries this report
        """
        if not self.identical:
            raise Unfaithful(
                f"the restored registry is not what was captured: {self.verdict}",
                "it was removed again; the fidelity report names every difference (muster show POINT --report FOLDER)",
                self,
            )
