"""A model registry that is in use, into which single models are brought back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from muster.domain.merge_plan import MergePlan, OnConflict
from muster.domain.selection import Wanted
from muster.ports import TreeReader


class RegistryMerge(Protocol):
    """Brings models back next to what is there."""

    @property
    def shown(self) -> str:
        """Where it is, without secrets."""

    def plan(self, details: Mapping[str, Any], tree: TreeReader, wanted: Sequence[Wanted]) -> MergePlan:
        """
        What `merge` would do now; changes nothing.

        :param details: of the registry component, as it was captured
        :raises NotFound: if the point has no such model or alias
        :raises Refused: if the registry is at another schema revision than the point
        :raises IntegrityError: if what is stored is not what was captured
        :raises StoreUnavailable: if the registry or its artifacts cannot be reached
        """

    def merge(
        self,
        details: Mapping[str, Any],
        tree: TreeReader,
        wanted: Sequence[Wanted],
        rule: OnConflict,
        agreed: MergePlan | None = None,
    ) -> MergePlan:
        """
        Bring the models back: artifacts first, then all rows in one transaction, read anew before it is committed.

        If it fails, everything is as it was. Done twice, the second time finds everything there and changes nothing.

        :param rule: what is done about conflicts
        :param agreed: the plan that somebody has agreed to
        :return: what was done
        :raises Refused: if there are conflicts that the rule does not let pass, or the plan is another one by now
        :raises SourceChanged: if somebody changed what was compared meanwhile
        """
