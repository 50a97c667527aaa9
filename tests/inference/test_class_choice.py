"""Class names and numbers to the indices of a network."""

from __future__ import annotations

import pytest

from inference.class_choice import class_indices
from utils.errors import Code, TaskError


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        pytest.param((), None, id="all"),
        pytest.param(("dog",), (1,), id="name"),
        pytest.param(("2", "0"), (0, 2), id="numbers"),
        pytest.param(("dog", "1"), (1,), id="the-same-twice"),
        pytest.param(("3",), (2,), id="a-name-that-is-a-number"),
    ],
)
def test_class_indices(wanted: tuple[str, ...], expected: tuple[int, ...] | None) -> None:
    assert class_indices(wanted, ["cat", "dog", "3"]) == expected


def test_unknown_classes_are_refused_with_those_there_are() -> None:
    with pytest.raises(TaskError, match=r"names cow, 7; .*: cat, dog \(0 to 1\)") as caught:
        class_indices(["cow", "cat", "7"], ["cat", "dog"])
    assert caught.value.code == Code.CONFIG
