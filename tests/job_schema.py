"""A Kubernetes document held against the types that its operator's own client was made from.

The package kubeflow-training has the schema of a PyTorchJob, and kubernetes that of the pods in it,
as classes: `attribute_map` gives the names of the fields, `openapi_types` their types, and a
constructor raises ValueError where a field is missing that must be there.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

PLAIN = {"str": str, "int": int, "bool": bool, "float": float, "object": object}


class MisfitError(Exception):
    """A value that the schema does not allow."""


def built(value: Any, kind: str, place: str = "") -> Any:
    """The document as the object of a class; skips the test without the package.

    Raises MisfitError with the place of a field that is unknown, missing, or of another type.
    """
    models = pytest.importorskip("kubeflow.training.models", reason="needs kubeflow-training")
    if found := re.fullmatch(r"list\[(.+)\]", kind):
        _check(value, list, place)
        return [built(one, found[1], f"{place}[{i}]") for i, one in enumerate(value)]
    if found := re.fullmatch(r"dict\(str, (.+)\)", kind):
        _check(value, dict, place)
        # Quantities (`cpu: 32`) may be numbers, though the client calls them texts.
        numbers = place.endswith((".limits", ".requests"))
        return {
            name: built(
                one, "int" if numbers and isinstance(one, int) else found[1], f"{place}.{name}"
            )
            for name, one in value.items()
        }
    if kind in PLAIN:
        _check(value, PLAIN[kind], place)
        return value
    _check(value, dict, place)
    model = getattr(models, kind)
    attributes = {name: attribute for attribute, name in model.attribute_map.items()}
    if unknown := set(value) - set(attributes):
        raise MisfitError(f"{place} has no {', '.join(sorted(unknown))}")
    given = {
        attributes[name]: built(one, model.openapi_types[attributes[name]], f"{place}.{name}")
        for name, one in value.items()
    }
    try:
        return model(**given)
    except ValueError as error:
        raise MisfitError(f"{place}: {error}") from None


def _check(value: Any, kind: type, place: str) -> None:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise MisfitError(f"{place} is {value!r}, not {kind.__name__}")
