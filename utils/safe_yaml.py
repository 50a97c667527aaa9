"""YAML as plain data, within bounds: a short text cannot unfold to more than memory holds."""

from __future__ import annotations

import yaml

MOST_VALUES = 1_000_000
"""Values that a document may have when every alias is counted as often as it is used."""
LONGEST_NUMBER = 400
"""Characters of a number; the largest float has 309 digits, and longer ones cannot be shown."""


def load_yaml(text: str | bytes, *, words: bool = False) -> object:
    """The plain value of a YAML document, as `yaml.safe_load` gives it.

    With `words` every scalar stays the text it is, so that `no`, `1.0` and `null` can be names.
    Raises yaml.YAMLError for what is no YAML, and ValueError for what has no value: impossible
    dates, too many or too deep values, a value that contains itself.
    """
    try:
        loader = yaml.BaseLoader(text) if words else yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {})
        return loader.construct_document(node)
    except RecursionError:
        raise ValueError("values within values, too deep") from None
    # What the conversion of scalars with a tag of their own comes to, such as `!!int no`.
    except (TypeError, LookupError, AttributeError, OverflowError) as error:
        raise ValueError(f"a value that cannot be understood ({error})") from None


def _count(node: yaml.Node, known: dict[int, int | None]) -> int:
    """The values below a node, unfolded; merged mappings (`<<`) are copies and count as such."""
    before = known.get(id(node), 0)
    if before is None:
        raise ValueError("a value that contains itself")
    if before:
        return before
    known[id(node)] = None
    total = 1
    if isinstance(node, yaml.ScalarNode):
        if node.tag.endswith((":int", ":float")) and len(node.value) > LONGEST_NUMBER:
            raise ValueError(f"a number of {len(node.value)} characters")
    elif isinstance(node, yaml.SequenceNode):
        total += sum(_count(item, known) for item in node.value)
    elif isinstance(node, yaml.MappingNode):
        total += sum(_count(item, known) for pair in node.value for item in pair)
    if total > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES} values when its aliases are unfolded")
    known[id(node)] = total
    return total
