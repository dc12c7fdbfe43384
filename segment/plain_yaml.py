"""YAML from elsewhere, read as plain values within bounds."""

from __future__ import annotations

from collections import Counter
from typing import Any

import yaml


class PlainLoader(yaml.SafeLoader):
    """The safe loader without aliases, which could make a few lines of text expand without bound, or repeated keys."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Refuse an alias."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it uses a YAML alias; write the values out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that stands there twice."""
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((name for name, count in Counter(names).items() if count > 1), None)
        if twice is not None:
            raise yaml.YAMLError(f"the key {twice[:100]!r} stands there twice")
        return super().construct_mapping(node, deep)
