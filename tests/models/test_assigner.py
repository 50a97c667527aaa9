"""Target assignment against recorded cases of v7.0, and its rules by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.assigner import assign_targets
from tests.models.conftest import levels_of

CASES = [
    *("nc80", "nc3", "nc3_empty", "nc3_border", "nc3_big_only"),
    *("nc3_dup", "nc3_pw", "nc3_rect", "nc3_p6", "nc1"),
]
STRIDES = (8, 16, 32, 64)
SIZES = {"p80": (128, 128), "p3": (128, 128), "p1": (128, 128), "p3rect": (96, 160)}
GOLDEN = Path(__file__).parent.parent / "golden"


def check(folder: Path, case: str) -> None:
    about = json.loads((folder / "loss.json").read_text())[case]
    with np.load(folder / "loss.npz", allow_pickle=False) as arrays:
        targets = torch.from_numpy(arrays[f"{about['targets']}.targets"])
    with np.load(folder / "assign.npz", allow_pickle=False) as arrays:
        wanted = {k: arrays[k] for k in arrays.files if k.startswith(f"{case}.")}
    height, width = SIZES.get(about["pred"], (256, 256))
    grids = [(height // s, width // s) for s in STRIDES[: about["nl"]]]
    anchors = torch.tensor(about["anchors_grid"])
    matches = assign_targets(targets, grids, anchors, about["hyp"]["anchor_t"])
    for level, match in enumerate(levels_of(matches)):
        name = f"{case}.l{level}"
        # `upstream_pos` undoes the sorting of the file: our order must be the recorded one.
        position = wanted[f"{name}.upstream_pos"]
        order = np.argsort(position)
        assert sorted(position) == list(range(len(match.image)))
        indices = torch.stack([match.image, match.anchor, match.row, match.column], 1)
        np.testing.assert_array_equal(indices.numpy(), wanted[f"{name}.indices"][order])
        np.testing.assert_array_equal(match.classes.numpy(), wanted[f"{name}.tcls"][order])
        np.testing.assert_array_equal(match.anchors.numpy(), wanted[f"{name}.anch"][order])
        np.testing.assert_allclose(match.boxes.numpy(), wanted[f"{name}.tbox"][order], atol=1e-5)
        assert match.valid.all()


@pytest.mark.parametrize("case", CASES)
def test_recorded_cases(case: str) -> None:
    """Numbers: recorded from the official v7.0 assignment on random targets (CPU, float32)."""
    check(GOLDEN, case)


def test_all_recorded_cases(shared: Path) -> None:
    """Numbers: as above, the complete file."""
    folder = shared / "golden"
    for case in json.loads((folder / "loss.json").read_text()):
        check(folder, case)


ONE_ANCHOR = torch.tensor([[[1.0, 1.0]]])


@pytest.mark.parametrize(
    ("centre", "cells"),
    [
        pytest.param((2.3, 2.7), [(2, 2), (1, 2), (2, 3)], id="left-and-lower"),
        pytest.param((2.5, 2.5), [(2, 2)], id="middle-of-a-cell"),
        pytest.param((0.4, 0.4), [(0, 0)], id="corner-has-no-neighbours"),
        pytest.param((1.0, 2.5), [(1, 2), (1, 2)], id="edge-needs-more-than-one-cell"),
        pytest.param((3.9999, 3.9999), [(3, 3)], id="far-corner"),
        pytest.param((4.0, 2.5), [(3, 2), (3, 2)], id="on-the-far-border-stays-inside"),
        pytest.param(
            (2.0, 2.0), [(2, 2), (1, 2), (2, 1), (2, 2), (2, 2)], id="grid-crossing-own-cell-thrice"
        ),
    ],
)
def test_predicting_cells(centre: tuple[float, float], cells: list[tuple[int, int]]) -> None:
    """(x, y) cells on a 4 x 4 map, by hand from the neighbour rule."""
    target = torch.tensor([[0, 0, centre[0] / 4, centre[1] / 4, 0.25, 0.25]])
    match = assign_targets(target, [(4, 4)], ONE_ANCHOR, 4.0)
    assert list(zip(match.column.tolist(), match.row.tolist(), strict=True)) == cells
    corner = torch.stack([match.column, match.row], 1)
    back = match.boxes[:, :2] + corner
    torch.testing.assert_close(back, torch.tensor([centre]).expand_as(back))


@pytest.mark.parametrize(
    ("size", "count"),
    [
        pytest.param((0.25, 0.25), 1, id="same"),
        pytest.param((0.999, 0.25), 1, id="just-below-the-threshold"),
        pytest.param((1.0, 0.25), 0, id="four-times-is-too-much"),
        pytest.param((0.25, 0.0625), 0, id="a-quarter-is-too-little"),
        pytest.param((0.0, 0.0), 0, id="no-size"),
        pytest.param((float("nan"), 0.25), 0, id="not-a-number"),
    ],
)
def test_similar_sides(size: tuple[float, float], count: int) -> None:
    target = torch.tensor([[0, 0, 0.625, 0.625, *size]])
    match = assign_targets(target, [(4, 4)], ONE_ANCHOR, 4.0)
    assert len(match.image) == count


def test_padded_candidates_hold_the_same_matches_and_finite_boxes() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.rand(20, 6, generator=generator)
    targets[:, 0], targets[3, 4:] = 1, 0.0
    anchors = torch.tensor([[[1.0, 2.0], [3.0, 3.0]], [[1.0, 1.0], [2.0, 4.0]]])
    grids = [(8, 12), (4, 6)]
    padded = assign_targets(targets, grids, anchors, 4.0, padded=True)
    wanted = assign_targets(targets, grids, anchors, 4.0)
    assert padded.sizes == [5 * 2 * 20] * 2
    assert (padded.boxes[:, 2:] > 0).all()
    assert all(0 < size < 200 for size in wanted.sizes)
    for level, size in zip(levels_of(padded), wanted.sizes, strict=True):
        assert int(level.valid.sum()) == size
    for name, values in vars(padded.compact()).items():
        expected = getattr(wanted, name)
        assert torch.equal(torch.as_tensor(values), torch.as_tensor(expected)), name


def test_places_count_the_cells_of_a_levels_map() -> None:
    """By hand: the place of (image, anchor, row, column) in [images, 2, 4, 6]."""
    targets = torch.tensor([[1, 0, 0.42, 0.62, 0.2, 0.3], [2, 0, 0.9, 0.1, 0.2, 0.3]])
    anchors = torch.tensor([[[1.0, 2.0], [3.0, 3.0]]])
    match = assign_targets(targets, [(4, 6)], anchors, 4.0)
    index = match.image, match.anchor, match.row, match.column
    assert match.place.tolist() == torch.arange(3 * 2 * 4 * 6).view(3, 2, 4, 6)[index].tolist()
    assert len(set(match.place.tolist())) > 3
