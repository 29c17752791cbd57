"""YAML as people write it, read by a loader that nothing written makes run for long, and what it raises."""

from __future__ import annotations

import yaml

DEEPEST = 20
"""Far above any honest file. PyYAML takes time by the square of the depth, and ends in RecursionError."""
UNREADABLE = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError)
"""What PyYAML raises: its own errors, and others for values that are not of the type that their tag or their look says."""


class BoundedLoader(yaml.SafeLoader):
    """Of nodes within nodes it reads so many."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.YAMLError("it is nested too deeply")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class LoaderWithoutAliases(BoundedLoader):
    """A few aliases, merged one into another, stand for more than any memory holds."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias")
        return super().compose_node(parent, index)
