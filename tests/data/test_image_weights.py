"""Weights of images, worked out by hand."""

from __future__ import annotations

import numpy as np
from data.image_weights import class_average_precision

from data.dataset_index import DatasetIndex
from data.samplers import class_weights, image_weights
from evaluation.metrics import ap_per_class

INDEX = DatasetIndex.build(
    ["a", "b", "c"],
    [(9, 9)] * 3,
    [[0, 0, 2, 2]] * 5,
    [0, 0, 1, 0, 0],
    [3, 0, 2],
    ("dog", "cat", "owl"),
)
"""a: dog, dog, cat; b: nothing; c: dog, dog. No owl anywhere."""


def test_class_weights_by_hand() -> None:
    """Counts 4, 1, 0: inverses 1/4, 1, 1 of sum 9/4; times 3: 1/3, 4/3, 4/3."""
    np.testing.assert_allclose(class_weights(INDEX.counts()), [1 / 3, 4 / 3, 4 / 3])


def test_image_weights_by_hand() -> None:
    """A dog is worth (1/3)(1 - 1/2)^2 / 3 = 1/36, a cat (4/3)(1 - 0)^2 / 3 = 4/9."""
    weights = image_weights(INDEX, np.array([0.5, 0.0, 0.9]))
    np.testing.assert_allclose(weights, [2 / 36 + 4 / 9, 0, 2 / 36])


def test_weights_equal_a_slow_loop() -> None:
    generator = np.random.default_rng(0)
    counts = generator.integers(0, 6, 40)
    classes = generator.integers(0, 5, counts.sum())
    index = DatasetIndex.build(
        [str(number) for number in range(40)],
        [(9, 9)] * 40,
        [[0, 0, 2, 2]] * counts.sum(),
        classes,
        counts,
        "abcde",
    )
    found = generator.random(5)
    worth = class_weights(index.counts())
    slow = [
        sum(worth[c] * (1 - found[c]) ** 2 / 5 for c in index.classes_of(image))
        for image in range(40)
    ]
    np.testing.assert_allclose(image_weights(index, found), slow)


def test_average_precision_of_classes_without_labels_is_the_mean() -> None:
    """Class 0 is found at every threshold (0.995), class 2 never (0); class 1 has no labels."""
    metrics = ap_per_class(np.ones((1, 10), bool), np.array([0.9]), np.array([0]), np.array([0, 2]))
    np.testing.assert_allclose(class_average_precision(metrics, 3), [0.995, 0.4975, 0], atol=1e-9)


def test_average_precision_without_any_label_is_zero() -> None:
    nothing = ap_per_class(np.zeros((0, 10), bool), np.zeros(0), np.zeros(0), np.zeros(0))
    assert class_average_precision(nothing, 2).tolist() == [0, 0]
