"""Samples and batches: collation, quad samples, evaluation batches as recorded from v7.0."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from data.dataset_index import DatasetIndex
from data.datasets import QuadDataset, Sample, collate, enlarge, join, quad_targets
from data.instances import Instances
from data.loaders import EvaluationDataset, LoaderConfig


def test_collate_numbers_the_images() -> None:
    samples = [
        (torch.zeros((3, 4, 4), dtype=torch.uint8), torch.ones((count, 6))) for count in (2, 0, 1)
    ]
    batch = collate(samples)
    assert batch.images.shape == (3, 3, 4, 4)
    assert batch.targets[:, 0].tolist() == [0, 0, 2]
    assert samples[2][1][0, 0] == 1
    assert collate(samples[1:2]).targets.shape == (0, 6)


def sample(level: int) -> Sample:
    """A 4 x 6 image of one grey, with a box in its upper left quarter, of class `level`."""
    targets = torch.tensor([[0, level, 0.25, 0.25, 0.5, 0.5]])
    return torch.full((3, 4, 6), level, dtype=torch.uint8), targets


class Greys(Dataset[Sample]):
    """A sample by its key: its image's number is its grey."""

    def __getitem__(self, key: tuple[int, ...]) -> Sample:
        return sample(key[1])


def test_join_by_hand() -> None:
    """First above second, then third above fourth to the right; boxes in that quarter, halved."""
    samples = [sample(level) for level in (1, 2, 3, 4)]
    image = join([one for one, _ in samples])
    targets = quad_targets([rows for _, rows in samples])
    assert image.shape == (3, 8, 12)
    assert image[0, [0, 7, 0, 7], [0, 0, 11, 11]].tolist() == [1, 2, 3, 4]
    assert (image[:, :4, :6] == 1).all()
    expected = [
        [0, 1, 0.125, 0.125, 0.25, 0.25],
        [0, 2, 0.125, 0.625, 0.25, 0.25],
        [0, 3, 0.625, 0.125, 0.25, 0.25],
        [0, 4, 0.625, 0.625, 0.25, 0.25],
    ]
    torch.testing.assert_close(targets, torch.tensor(expected))
    assert all(torch.equal(rows, sample(level)[1]) for level, (_, rows) in enumerate(samples, 1))


def test_enlarge_by_hand() -> None:
    """Doubling 0, 100: new middles at -0.25, 0.25, 0.75, 1.25 give 0, 25, 75, 100."""
    image = torch.tensor([0, 100], dtype=torch.uint8).expand(3, 1, 2)
    grown = enlarge(image)
    assert grown.dtype == torch.uint8
    assert grown[0].tolist() == [[0, 25, 75, 100]] * 2


def test_half_of_the_quads_are_joined_and_a_key_decides() -> None:
    quads = QuadDataset(Greys(), seed=0)
    joined = 0
    for epoch in range(60):
        keys = [(epoch, image) for image in (1, 2, 3, 4)]
        image, targets = quads[keys]
        assert image.shape == (3, 8, 12)
        assert torch.equal(image, quads[keys][0])
        joined += len(targets) == 4
    assert 18 < joined < 42


@pytest.mark.parametrize("count", [1, 2, 3])
def test_fewer_than_four_are_the_first_enlarged(count: int) -> None:
    quads = QuadDataset(Greys(), seed=0)
    for epoch in range(8):
        image, targets = quads[[(epoch, 7), (epoch, 8), (epoch, 9)][:count]]
        assert (image == 7).all()
        assert image.shape == (3, 8, 12)
        assert len(targets) == 1


@pytest.mark.parametrize("number", [0, 5, 12])
def test_recorded_evaluation_items(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Validation items recorded from v7.0 (letterbox.npz `item*`): the pixels are exact.

    v7.0 cuts sizes off where we round, so this test does too; and its labels lie half a pixel
    beside the image where the padding is odd, ours do not.
    """
    arrays = np.load(request.getfixturevalue("golden")("letterbox.npz"), allow_pickle=False)
    if f"item{number}.src" not in arrays:
        shared = request.getfixturevalue("shared")
        arrays = np.load(shared / "golden" / "letterbox.npz", allow_pickle=False)
    monkeypatch.setattr("ops.letterbox.round", int, raising=False)
    source, labels = arrays[f"item{number}.src"], arrays[f"item{number}.src_labels"]
    expected = arrays[f"item{number}.image"]
    height, width = source.shape[:2]
    path = str(tmp_path / "item.png")
    cv2.imwrite(path, source)
    centres, halves = labels[:, 1:3] * (width, height), labels[:, 3:5] * (width, height) / 2
    boxes = np.concatenate((centres - halves, centres + halves), 1)
    instances, names = Instances(boxes, labels[:, 0]), [str(one) for one in range(99)]
    index = DatasetIndex.build([path], [(height, width)], instances, [len(boxes)], names)
    dataset = EvaluationDataset(index, LoaderConfig(96, 1))
    dataset.shapes[0] = expected.shape[1:]
    batch = dataset[0]
    np.testing.assert_array_equal(batch.images[0].numpy(), expected)
    targets, recorded = batch.targets.numpy(), arrays[f"item{number}.labels"]
    np.testing.assert_array_equal(targets[:, 1], recorded[:, 1])
    half = 0.51 / np.array([expected.shape[2], expected.shape[1]] * 2)
    assert (np.abs(targets[:, 2:] - recorded[:, 2:]) <= half).all()
