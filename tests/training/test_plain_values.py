"""Objects there and back through a file that runs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from training.plain_values import from_plain, to_plain


@dataclass(frozen=True)
class Point:
    x: float
    tags: tuple[str, ...]


class Table:
    def __init__(self) -> None:
        self.matrix = np.zeros((2, 3), np.int64)
        self.point = Point(1.5, ("a",))


def through_a_file(value: object, folder: Path, *classes: type) -> object:
    torch.save(to_plain(value, classes), folder / "value")
    return from_plain(torch.load(folder / "value", weights_only=True), classes)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"a": [1, 2.5, "x", None, True], "b": {}, 3: ()}, id="nested"),
        pytest.param((1, (2, [3, (4,)])), id="tuples stay tuples"),
        pytest.param(0.1 + 0.2, id="a float to the last bit"),
        pytest.param({"class": "word"}["class"], id="a text"),
    ],
)
def test_plain_values_come_back_equal(value: object, tmp_path: Path) -> None:
    back = through_a_file(value, tmp_path)
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(np.arange(6, dtype=np.int64).reshape(2, 3), id="int64"),
        pytest.param(np.array([[0.1], [np.nan]]), id="float64"),
        pytest.param(np.array([True, False]), id="bool"),
        pytest.param(np.zeros((0, 4), np.float32), id="empty"),
        pytest.param(np.float32(3) * np.ones((2, 2), np.float32).T, id="transposed"),
    ],
)
def test_arrays_come_back_with_shape_and_type(array: np.ndarray, tmp_path: Path) -> None:
    back = through_a_file(array, tmp_path)
    assert isinstance(back, np.ndarray)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_numpy_numbers_and_paths_become_plain() -> None:
    plain = to_plain([np.float64(0.5), np.int64(3), np.bool_(True), Path("a/b")])
    assert plain == [0.5, 3, True, "a/b"]
    assert [type(one) for one in plain] == [float, int, bool, str]


def test_objects_of_named_classes_come_back(tmp_path: Path) -> None:
    table = Table()
    table.matrix[1, 2] = 7
    back = through_a_file({"t": table}, tmp_path, Table, Point)
    assert isinstance(back, dict)
    assert isinstance(back["t"], Table)
    assert back["t"].matrix[1, 2] == 7
    assert back["t"].point == Point(1.5, ("a",))


def test_memory_layout_of_tensors_is_kept(tmp_path: Path) -> None:
    weight = torch.rand(4, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    back = through_a_file(weight, tmp_path)
    assert isinstance(back, torch.Tensor)
    assert back.stride() == weight.stride()
    assert torch.equal(back, weight)


def test_a_class_that_was_not_named_is_refused() -> None:
    stored = to_plain(Point(1.0, ()), [Point])
    with pytest.raises(ValueError, match="class Point was not expected"):
        from_plain(stored, [Table])
    with pytest.raises(AssertionError, match="Point cannot be stored"):
        to_plain(Point(1.0, ()))


def test_a_data_class_that_has_changed_is_refused() -> None:
    stored = to_plain(Point(1.0, ()), [Point])
    assert isinstance(stored, dict)
    del stored["fields"]["x"]
    with pytest.raises(ValueError, match="other attributes"):
        from_plain(stored, [Point])
