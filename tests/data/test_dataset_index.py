"""Data sets as arrays: subsets, classes, and the instances they hold."""

from __future__ import annotations

import numpy as np
import pytest

from data.dataset_index import DatasetIndex
from data.instances import Instances

NAMES = ("helmet", "vest")


@pytest.fixture
def four_images() -> DatasetIndex:
    instances = Instances(np.arange(24).reshape(6, 4), np.array([0, 1, 0, 1, 1, 0]))
    index = DatasetIndex.build(
        ["a", "b", "c", "d"], np.ones((4, 2)), instances, [2, 0, 3, 1], NAMES
    )
    crowds = Instances(np.arange(50, 66).reshape(4, 4), np.array([1, 0, 0, 1]))
    return index.with_crowds(crowds, np.array([0, 2, 2, 3]))


@pytest.mark.parametrize("images", [[2, 0], [1], [3, 3, 2], []], ids=str)
def test_subset_equals_a_slow_loop(four_images: DatasetIndex, images: list[int]) -> None:
    part = four_images.subset(images)
    assert part.paths == tuple(four_images.paths[image] for image in images)
    assert len(part) == len(images)
    for position, image in enumerate(images):
        np.testing.assert_array_equal(part.boxes_of(position), four_images.boxes_of(image))
        np.testing.assert_array_equal(part.classes_of(position), four_images.classes_of(image))
        for field in ("boxes", "classes"):
            own, whole = part.crowds_of(position), four_images.crowds_of(image)
            np.testing.assert_array_equal(getattr(own, field), getattr(whole, field))
    assert part.subset([]).crowds.boxes.shape == (0, 4)


@pytest.mark.parametrize("classes", [[0], [1], [1, 0], []], ids=str)
def test_only_some_classes_keeps_every_image(four_images: DatasetIndex, classes: list[int]) -> None:
    part = four_images.only(classes)
    assert part.paths == four_images.paths
    for image in range(len(part)):
        wanted = np.isin(four_images.classes_of(image), classes)
        np.testing.assert_array_equal(part.boxes_of(image), four_images.boxes_of(image)[wanted])
        assert (part.classes_of(image) == four_images.classes_of(image)[wanted]).all()
        crowds = four_images.crowds_of(image)
        wanted = np.isin(crowds.classes, classes)
        np.testing.assert_array_equal(part.crowds_of(image).boxes, crowds.boxes[wanted])


def test_parts_joined_are_the_whole(four_images: DatasetIndex) -> None:
    parts = [four_images.subset(images) for images in ([0], [], [1, 2, 3])]
    whole = DatasetIndex.concatenate(parts)
    assert whole.paths == four_images.paths
    for name in ("sizes", "boxes", "classes", "offsets"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(four_images, name))
    assert whole.crowds.boxes.dtype == np.float32
    np.testing.assert_array_equal(whole.crowds.boxes, four_images.crowds.boxes)
    assert whole.crowd_images.tolist() == [0, 2, 2, 3]


def test_an_empty_data_set_has_the_right_shapes() -> None:
    index = DatasetIndex.build([], [], Instances.from_rows([]), [], NAMES)
    assert (index.boxes.shape, index.sizes.shape, index.offsets.tolist()) == ((0, 4), (0, 2), [0])
    assert index.counts().tolist() == [0, 0]
    assert DatasetIndex.concatenate([index, index]).crowds.boxes.shape == (0, 4)


def test_single_class_takes_all_as_item(four_images: DatasetIndex) -> None:
    single = four_images.single_class()
    assert single.class_names == ("item",)
    assert not single.classes.any()
    assert single.crowds.classes.tolist() == [0, 0, 0, 0]
    assert four_images.classes.any()
    assert single.single_class() is single
    other = four_images.with_classes(np.array([1, 0]), NAMES[::-1])
    assert (other.classes == 1 - four_images.classes).all()
    assert other.crowds.classes.tolist() == [0, 1, 1, 0]
