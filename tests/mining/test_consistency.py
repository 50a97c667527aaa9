"""CALD's score against the recorded numbers of spec/mining.md 2.6 and cases worked by hand.

The 2.6 numbers come from the official CALD functions, run on flip only with a 200 x 100 image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.sequential_mining import perturb
from mining.consistency import (
    Comparison,
    Objects,
    class_distributions,
    class_vectors,
    compare,
    jensen_shannon,
    match,
    reference_sample,
)


def objects(*rows: tuple[tuple[float, ...], float, tuple[float, ...]]) -> Objects:
    """One image's objects from (box, confidence, class probabilities) each."""
    return Objects(
        torch.tensor([[*row[0], row[1], 0] for row in rows]).reshape(-1, 6),
        torch.tensor([row[2] for row in rows]).reshape(len(rows), -1),
    )


def compared(
    reference: Sequence[Objects], view: Sequence[Objects], least: int = 1
) -> tuple[Tensor, Tensor, Comparison]:
    """IoU [b, k], partners [b, k] and the comparison of images with one view each, padded."""
    own, others = padded(reference, least), padded(view, least)
    overlap, partner = match(own.rows[..., :4], others.rows)
    images = torch.arange(len(reference))[:, None]
    found = Objects(others.rows[images, partner][None], others.probabilities[images, partner][None])
    empty = torch.tensor([[len(one.rows) == 0 for one in view]])
    return overlap, partner, compare(overlap[None], own, found, empty)


def padded(found: Sequence[Objects], least: int = 1) -> Objects:
    most = max(least, *(len(one.rows) for one in found))
    rows = torch.zeros(len(found), most, 6)
    classes = torch.zeros(len(found), most, found[0].probabilities.shape[-1])
    for n, one in enumerate(found):
        rows[n, : len(one.rows)], classes[n, : len(one.rows)] = one.rows, one.probabilities
    return Objects(rows, classes)


def m_of(reference: Objects, view: Objects) -> float:
    return float(compared([reference], [view])[2].inconsistency)


OFFICIAL_REFERENCE = objects(
    ((10, 10, 50, 60), 0.8, (0.1, 0.8, 0.05, 0.05)),
    ((100, 20, 160, 80), 0.5, (0.3, 0.1, 0.5, 0.1)),
)
OFFICIAL_VIEW = objects(
    ((150, 10, 190, 60), 0.8, (0.1, 0.8, 0.05, 0.05)),
    ((42, 22, 100, 82), 0.5, (0.3, 0.1, 0.1, 0.5)),
)
NOTHING = Objects(torch.zeros(0, 6), torch.zeros(0, 4))


def official_flipped() -> Objects:
    rows, blank = OFFICIAL_REFERENCE.rows, torch.zeros(3, 100, 200, dtype=torch.uint8)
    _, mapped = perturb("flip", blank, rows[:, :4], np.random.default_rng(0))
    return Objects(torch.cat((mapped, rows[:, 4:]), 1), OFFICIAL_REFERENCE.probabilities)


def test_official_numbers_of_one_image() -> None:
    # Object 1: IoU 1, JS 0: m = 1 + (.8 + .8)/2 = 1.8.
    # Object 2: mapped (40, 20, 100, 80), overlap 58 * 58 = 3364, union 3600 + 3480 - 3364 = 3716:
    # IoU .905274; JS .145552; m = .905274 + .5 * (1 - .145552) = 1.332499; |m - 1.3| = .032499.
    reference = official_flipped()
    overlap, partner, found = compared([reference], [OFFICIAL_VIEW])
    assert overlap[0].tolist() == pytest.approx([1, 0.905274], abs=1e-5)
    assert partner[0].tolist() == [0, 1]
    assert found.divergence[0, 0].tolist() == pytest.approx([0, 0.145552], abs=1e-5)
    assert found.consistency[0, 0].tolist() == pytest.approx([1.8, 1.332499], abs=1e-5)
    assert float(found.inconsistency) == pytest.approx(0.032499, abs=1e-5)
    assert found.deciding.tolist() == [[1]]
    assert found.decided.all()
    assert m_of(reference, NOTHING) == 0


def test_official_class_vectors() -> None:
    """Averaged over the original and the flipped view; label = best foreground class."""
    original = class_vectors(torch.tensor([[0.0, 0, 9, 9, 0.8, 0], [0, 0, 9, 9, 0.5, 1]]), 3)
    flipped = class_vectors(torch.tensor([[0.0, 0, 9, 9, 0.8, 0], [0, 0, 9, 9, 0.5, 2]]), 3)
    nothing = class_vectors(torch.zeros(0, 6), 3)
    assert ((original + flipped) / 2).tolist() == pytest.approx([0.8, 0.25, 0.25], abs=1e-5)
    assert ((original + nothing) / 2).tolist() == pytest.approx([0.4, 0.25, 0], abs=1e-5)


@pytest.mark.parametrize(
    ("p", "q", "expected"),
    [
        pytest.param((0.7, 0.2, 0.1), (0.6, 0.3, 0.1), 0.006959, id="official"),
        pytest.param((0.5, 0.5), (0.5, 0.5), 0.0, id="equal"),
        pytest.param((1.0, 0.0), (0.0, 1.0), math.log(2), id="disjoint, with zeros"),
        # m = (.5, .5): .9 ln 1.8 + .1 ln .2 = .529006 - .160944 (defects 1 and 2: scalars gave 0)
        pytest.param((0.1, 0.9), (0.9, 0.1), 0.368064, id="pair"),
    ],
)
def test_divergence(p: tuple[float, ...], q: tuple[float, ...], expected: float) -> None:
    both = torch.tensor([p, q], dtype=torch.float64)
    assert float(jensen_shannon(both[:1], both[1:])) == pytest.approx(expected, abs=1e-5)
    assert float(jensen_shannon(both[1:], both[:1])) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("probabilities", "confidence", "expected"),
    [
        pytest.param((0.9, 0.05, 0.05), 0.8, (0.9, 0.05, 0.05), id="sums to one"),
        # Sigmoids: each class on its own, .6 + .3 + .3 = 1.2.
        pytest.param((0.6, 0.3, 0.3), 0.5, (0.5, 0.25, 0.25), id="divided by the sum"),
        pytest.param((0.0, 0.0), 0.0, (0.5, 0.5), id="no mass: uniform"),
        pytest.param((0.9,), 0.3, (0.3, 0.7), id="one class: confidence and the rest"),
    ],
)
def test_class_distributions(
    probabilities: tuple[float, ...], confidence: float, expected: tuple[float, ...]
) -> None:
    found = class_distributions(torch.tensor([probabilities]), torch.tensor([confidence]))
    assert found.dtype == torch.float64
    assert found[0].tolist() == pytest.approx(expected, abs=1e-6)


BOX = (10.0, 10.0, 50.0, 60.0)
CAT, DOG = (0.9, 0.1), (0.1, 0.9)


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        # m = 1 + .8 = 1.8
        pytest.param((BOX, 0.8, CAT), 0.5, id="consistent"),
        # m = 1 + .8 * (1 - .368064) = 1.505549: only the class changed (defects 1 and 2)
        pytest.param((BOX, 0.8, DOG), 0.205549, id="class changed"),
        # m = 1 + (.8 + .4) / 2 = 1.6
        pytest.param((BOX, 0.4, CAT), 0.3, id="confidence changed"),
        # right half only: IoU .5, m = .5 + .8 = 1.3
        pytest.param(((30, 10, 50, 60), 0.8, CAT), 0.0, id="half the box"),
        # no overlap: m = 0, |0 - 1.3| = 1.3, at most 1 (defects 6 and 7)
        pytest.param(((60, 10, 90, 60), 0.9, CAT), 1.0, id="no partner"),
        # touching edges do not overlap either
        pytest.param(((50, 10, 90, 60), 0.9, CAT), 1.0, id="touching"),
    ],
)
def test_one_object_by_hand(
    view: tuple[tuple[float, ...], float, tuple[float, ...]], expected: float
) -> None:
    assert m_of(objects((BOX, 0.8, CAT)), objects(view)) == pytest.approx(expected, abs=2e-6)


def test_partner_is_the_largest_overlap_whatever_its_class() -> None:
    reference = objects((BOX, 0.8, CAT))
    view = objects(((30, 10, 50, 60), 0.9, CAT), ((12, 10, 50, 60), 0.6, DOG))
    overlap, partner = match(reference.rows[:, :4], view.rows)
    assert partner.tolist() == [1]
    assert overlap.tolist() == pytest.approx([38 / 40], abs=1e-6)


@pytest.mark.parametrize("copies", [1, 2, 5, 20])
def test_doubled_boxes_do_not_count(copies: int) -> None:
    """Defect 3: the older loop returned .5, 1, 2.5 and 10 for 1, 2, 5 and 20 equal boxes."""
    single, several = objects((BOX, 0.8, CAT)), objects(*[(BOX, 0.8, CAT)] * copies)
    for pair in ((several, single), (single, several)):
        assert m_of(*pair) == pytest.approx(0.5)


@pytest.mark.parametrize(("count", "kept"), [(0, 0), (1, 1), (50, 50), (51, 50), (300, 50)])
def test_reference_sample(count: int, kept: int) -> None:
    indices = reference_sample(count)
    assert len(indices) == len(set(indices.tolist())) == kept
    if count:
        assert (indices[0], indices[-1]) == (0, count - 1)
        assert np.ptp(np.diff(indices)) <= 1 if kept > 1 else True


def slow_inconsistency(reference: Objects, view: Objects) -> float:
    """The definition, one number at a time."""
    if not len(view.rows):
        return 0.0
    smallest = 1.0
    own, others = reference.rows, view.rows
    for k in range(len(own)):
        best, best_overlap = 0, 0.0
        for j in range(len(others)):
            overlap = slow_iou(own[k], others[j])
            if overlap > best_overlap:
                best, best_overlap = j, overlap
        m = 0.0
        if best_overlap > 0:
            p, q = (
                (one / one.sum()).tolist()
                for one in (reference.probabilities[k], view.probabilities[best])
            )
            divergence = 0.0
            for a, b in zip(p, q, strict=True):
                divergence += 0.5 * a * math.log(2 * a / (a + b)) if a else 0
                divergence += 0.5 * b * math.log(2 * b / (a + b)) if b else 0
            confidence = float(own[k, 4] + others[best, 4]) / 2
            m = best_overlap + confidence * (1 - divergence)
        smallest = min(smallest, abs(m - 1.3))
    return smallest


def slow_iou(a: Tensor, b: Tensor) -> float:
    width = max(0.0, float(torch.minimum(a[2], b[2]) - torch.maximum(a[0], b[0])))
    height = max(0.0, float(torch.minimum(a[3], b[3]) - torch.maximum(a[1], b[1])))
    areas = [float((box[2] - box[0]) * (box[3] - box[1])) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def random_found(count: int, source: np.random.Generator) -> Objects:
    corner, side = source.uniform(0, 80, (count, 2)), source.uniform(5, 40, (count, 2))
    confidence, classes = source.uniform(0.25, 1, (count, 1)), source.uniform(0, 1, (count, 3))
    rows = np.concatenate((corner, corner + side, confidence, classes.argmax(1)[:, None]), 1)
    return Objects(torch.from_numpy(rows).float(), torch.from_numpy(classes).float())


@pytest.mark.parametrize(
    ("known", "seen"),
    [
        ((3, 1, 12, 1, 7), (4, 0, 9, 1, 60)),
        ((2, 2), (1, 0)),
        ((2, 2, 2, 2), (0, 0, 0, 0)),
        ((50, 1), (300, 2)),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_batch_equals_the_slow_loop_image_by_image(
    known: tuple[int, ...], seen: tuple[int, ...], seed: int
) -> None:
    source = np.random.default_rng(seed)
    reference, view = ([random_found(n, source) for n in counts] for counts in (known, seen))
    batch = compared(reference, view, least=70)[2].inconsistency[0]
    for index, alone in enumerate(zip(reference, view, strict=True)):
        assert m_of(*alone) == float(batch[index])
        assert float(batch[index]) == pytest.approx(slow_inconsistency(*alone), abs=1e-5)
