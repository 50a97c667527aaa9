"""The sequential loop draws the same views and finds and scores the same as the engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bench.agreement import agreement
from bench.mining_run import found_file, ours, read_found, reference
from bench.reference_loop import view_of
from mining.data_augment import PERTURBATIONS

SIZES = [(96, 128), (101, 67)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", PERTURBATIONS)
def test_views_are_those_of_the_engine(name: str, size: tuple[int, int]) -> None:
    source = np.random.default_rng(0)
    picture = source.integers(0, 256, (*size, 3)).astype(np.uint8)
    low = source.uniform(0, 40, (5, 2))
    boxes = np.concatenate((low, low + source.uniform(5, 25, (5, 2))), 1).astype(np.float32)
    view, mapped = view_of(picture, boxes.astype(np.float64), name, np.random.default_rng(3))
    images, (known,) = PERTURBATIONS[name](
        torch.from_numpy(picture).permute(2, 0, 1)[None],
        [torch.from_numpy(boxes)],
        [np.random.default_rng(3)],
    )
    expected = images[0].permute(1, 2, 0).numpy()
    assert view.shape == expected.shape
    # Half a grey level may be rounded either way, in few places.
    difference = np.abs(view.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.002
    np.testing.assert_allclose(mapped, known.numpy(), atol=1e-3)
    changed = view.shape != picture.shape or bool((view != picture).any())
    assert changed


def test_loop_finds_and_scores_what_the_engine_does(shared: Path, tmp_path: Path) -> None:
    files = sorted(str(path) for path in (shared / "data" / "bccd").rglob("*.jpg"))[:5]
    job: dict[str, object] = {
        "weights": str(shared / "reference" / "bccd_yolov5n.pt"),
        "files": files,
        "image_size": 320,
        "batch_size": 4,
        "warmup": 1,
        "output": str(tmp_path),
    }
    assert ours(job, "float32")["images"] == reference(job)["images"] == len(files)
    found, scores = read_found(found_file(tmp_path, "float32"))
    expected, known = read_found(found_file(tmp_path, "reference"))
    both = agreement(found, expected)
    assert both.ours == both.theirs > 20
    assert both.same_share == 1.0
    assert scores == pytest.approx(known, abs=0.01)
    assert len(set(known)) == len(files)
