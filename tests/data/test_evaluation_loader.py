"""Evaluation batches: each image once, its boxes where they belong, the pixels as recorded."""

from __future__ import annotations

import functools
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from data import evaluation_loader as module
from data.dataset_index import DatasetIndex
from data.datasets import EvaluationDataset
from data.loaders import evaluation_loader
from ops.letterbox import plan_evaluation
from tests.data.rectangles_example import draw_rectangles


@pytest.fixture
def index(tmp_path: Path) -> DatasetIndex:
    return draw_rectangles(tmp_path)


def loader_of(index: DatasetIndex, **changes: object):
    arguments = {"image_size": 64, "batch_size": 3, "workers": 0}
    return evaluation_loader(index, **(arguments | changes))


def test_rectangular_batches(index: DatasetIndex) -> None:
    loader = loader_of(index)
    batches = list(loader)
    assert len(loader) == len(batches) == 3
    assert sorted(image for batch in batches for image in batch.indices) == list(range(7))
    for batch in batches:
        assert batch.images.dtype == torch.uint8
        assert {plan.shape for plan in batch.plans} == {tuple(batch.images.shape[2:])}
        assert len(batch.plans) == len(batch.indices) == len(batch.images)
    shapes = [tuple(batch.images.shape[2:]) for batch in batches]
    assert shapes[0][0] < shapes[0][1]
    assert shapes[-1][0] >= shapes[-1][1]


def test_targets_sit_on_what_is_white(index: DatasetIndex) -> None:
    for batch in loader_of(index):
        height, width = batch.images.shape[2:]
        scale = np.array([width, height])
        for image, _, x, y, w, h in batch.targets.tolist():
            left, top = np.rint((np.array([x, y]) - np.array([w, h]) / 2) * scale).astype(int)
            right, bottom = np.rint((np.array([x, y]) + np.array([w, h]) / 2) * scale).astype(int)
            own = batch.images[int(image)]
            assert (own[:, top + 1 : bottom - 1, left + 1 : right - 1] == 255).all()
            assert (own[:, top + 1, left - 2] < 128).all()


def test_workers_change_nothing(index: DatasetIndex) -> None:
    for alone, helped in zip(loader_of(index), loader_of(index, workers=2), strict=True):
        assert torch.equal(alone.images, helped.images)
        assert torch.equal(alone.targets, helped.targets)
        assert alone.plans == helped.plans
        assert alone.indices == helped.indices


@pytest.mark.parametrize("cache", ["ram", "val"])
def test_kept_batches_need_no_files(index: DatasetIndex, cache: str) -> None:
    loader = loader_of(index, cache=cache)
    first = list(loader)
    for path in index.paths:
        Path(path).unlink()
    second = list(loader)
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, second, strict=True))


def test_an_unfinished_pass_is_not_kept(index: DatasetIndex) -> None:
    loader = loader_of(index, cache="ram")
    next(iter(loader))
    assert len(list(loader)) == 3


def test_unreadable_images_are_left_out(index: DatasetIndex) -> None:
    dataset = EvaluationDataset(index, image_size=64, batch_size=3)
    for position in dataset.order[:4]:
        Path(index.paths[position]).write_bytes(b"")
    batches = list(loader_of(index))
    assert [len(batch.images) for batch in batches] == [2, 1]
    assert not {image for batch in batches for image in batch.indices} & set(dataset.order[:4])


def test_empty_data_set(index: DatasetIndex) -> None:
    assert list(loader_of(index.subset([]))) == []


@pytest.mark.parametrize("number", [0, 5, 12])
def test_recorded_items(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch, number: int
) -> None:
    """Validation items recorded from v7.0 (letterbox.npz `item*`): the pixels are exact.

    v7.0 cuts sizes off where we round, so this test does too; and its labels lie half a pixel
    beside the image where the padding is odd, ours do not.
    """
    arrays = np.load(request.getfixturevalue("golden")("letterbox.npz"), allow_pickle=False)
    if f"item{number}.src" not in arrays:
        shared = request.getfixturevalue("shared")
        arrays = np.load(shared / "golden" / "letterbox.npz", allow_pickle=False)
    cut_off = functools.partial(plan_evaluation, truncate=True)
    monkeypatch.setattr(module, "plan_evaluation", cut_off)
    source, labels = arrays[f"item{number}.src"], arrays[f"item{number}.src_labels"]
    expected = arrays[f"item{number}.image"]
    height, width = source.shape[:2]
    path = str(tmp_path / "item.png")
    cv2.imwrite(path, source)
    centres, halves = labels[:, 1:3] * (width, height), labels[:, 3:5] * (width, height) / 2
    boxes = np.concatenate((centres - halves, centres + halves), 1)
    index = DatasetIndex.build(
        [path], [(height, width)], boxes, labels[:, 0], [len(boxes)], map(str, range(99))
    )
    dataset = EvaluationDataset(index, image_size=96, batch_size=1)
    dataset.shapes[0] = expected.shape[1:]
    batch = dataset[0]
    np.testing.assert_array_equal(batch.images[0].numpy(), expected)
    targets, recorded = batch.targets.numpy(), arrays[f"item{number}.labels"]
    np.testing.assert_array_equal(targets[:, 1], recorded[:, 1])
    half = 0.51 / np.array([expected.shape[2], expected.shape[1]] * 2)
    assert (np.abs(targets[:, 2:] - recorded[:, 2:]) <= half).all()
