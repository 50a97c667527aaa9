"""Objects as plain values and tensors, which the weights-only reader of torch knows, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

_CLASS, _FIELDS, _ARRAY, _TUPLE = "class", "fields", "array", "tuple"
_TAGS = frozenset({_CLASS, _FIELDS, _ARRAY, _TUPLE})


def to_plain(value: object, classes: Sequence[type] = ()) -> object:
    """`value` in dicts, lists, numbers, texts and tensors; a path becomes text.

    Objects of `classes` become their name and attributes. Any other kind of object is our own
    bug. Tensors stay what they are, so they must not change before the result is written.
    """
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, np.ndarray):
        return {_ARRAY: torch.from_numpy(np.ascontiguousarray(value)).reshape(value.shape)}
    if isinstance(value, Mapping):
        assert not _TAGS & value.keys(), f"the keys {sorted(_TAGS)} are taken"
        return {_key(key): to_plain(item, classes) for key, item in value.items()}
    if isinstance(value, tuple):
        return {_TUPLE: [to_plain(item, classes) for item in value]}
    if isinstance(value, list):
        return [to_plain(item, classes) for item in value]
    if isinstance(value, Path):
        return str(value)
    # numpy's numbers would be pickled under their own names.
    for kind, also in ((bool, np.bool_), (int, np.integer), (float, np.floating), (str, str)):
        if isinstance(value, kind | also):
            return kind(value)
    if value is None:
        return None
    assert type(value) in classes, f"{type(value).__name__} cannot be stored"
    attributes = {key: to_plain(item, classes) for key, item in vars(value).items()}
    return {_CLASS: type(value).__name__, _FIELDS: attributes}


def from_plain(value: object, classes: Sequence[type] = ()) -> object:
    """The value that `to_plain` was given (a path stays text).

    Objects are made of `classes` only, attribute by attribute, without running their code. Raises
    ValueError for a class that is not among them or has other attributes today.
    """
    if isinstance(value, list):
        return [from_plain(item, classes) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_ARRAY}:
        return value[_ARRAY].numpy()
    if value.keys() == {_TUPLE}:
        return tuple(from_plain(item, classes) for item in value[_TUPLE])
    if value.keys() == {_CLASS, _FIELDS}:
        return _object(str(value[_CLASS]), value[_FIELDS], classes)
    return {key: from_plain(item, classes) for key, item in value.items()}


def _object(name: str, attributes: Mapping[str, object], classes: Sequence[type]) -> object:
    kind = next((one for one in classes if one.__name__ == name), None)
    if kind is None:
        raise ValueError(f"an object of the class {name} was not expected")
    declared = getattr(kind, "__dataclass_fields__", None)
    if declared is not None and declared.keys() != attributes.keys():
        raise ValueError(f"the class {name} has other attributes in this version")
    made: object = object.__new__(kind)
    vars(made).update({key: from_plain(item, classes) for key, item in attributes.items()})
    return made


def _key(key: object) -> str | int:
    assert type(key) in (str, int), f"{key!r} cannot be a key"
    return key  # type: ignore[return-value]
