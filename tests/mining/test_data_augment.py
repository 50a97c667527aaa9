"""CALD's views: images and boxes move together, by the amounts of spec/mining.md section 2.2."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mining.data_augment import (
    CUTOUT_COVER,
    PERTURBATIONS,
    cutout,
    cutout_rectangles,
    flip,
    image_generator,
    resize,
    rotate,
    rotated_boxes,
    rotation,
    view_size,
)

SIZES = [(100, 200), (200, 100), (96, 96), (37, 83)]
VIEWS = sorted(PERTURBATIONS)


def generators(count: int, seed: int = 0) -> list[np.random.Generator]:
    return [image_generator(seed, f"{index}.jpg", "cutout") for index in range(count)]


def noise(count: int, size: tuple[int, int]) -> Tensor:
    source = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8, generator=source)


def some_boxes(size: tuple[int, int]) -> Tensor:
    height, width = size
    shares = torch.tensor([[0.3, 0.2, 0.7, 0.6], [0.05, 0.5, 0.3, 0.95], [0.0, 0.0, 1.0, 1.0]])
    return shares * torch.tensor([width, height, width, height])


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("view", ["flip", "resize", "rotate"])
def test_drawn_rectangle_is_where_the_mapped_box_says(view: str, size: tuple[int, int]) -> None:
    height, width = size
    box = torch.tensor([[round(0.3 * width), round(0.2 * height),
                         round(0.6 * width), round(0.5 * height)]]).float()  # fmt: skip
    image = torch.full((1, 3, height, width), 114, dtype=torch.uint8)
    left, top, right, bottom = box[0].int().tolist()
    image[..., top:bottom, left:right] = 255
    changed, (mapped,) = PERTURBATIONS[view](image, [box], generators(1))
    assert tuple(changed.shape[2:]) == view_size(view, size)
    ys, xs = torch.where(changed[0, 0] > 184)  # half way from 114 to 255
    found = torch.stack((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)).float()
    assert (found - mapped[0]).abs().max() < 1.5  # the tip of a turned corner is thin


def test_flip_by_hand_and_back() -> None:
    # Section 2.6 of the spec, width 200: (10, 10, 50, 60) -> (150, 10, 190, 60).
    boxes = torch.tensor([[10.0, 10, 50, 60], [100, 20, 160, 80]])
    images = noise(1, (100, 200))
    flipped, (mapped,) = flip(images, [boxes], generators(1))
    assert mapped.tolist() == [[150, 10, 190, 60], [40, 20, 100, 80]]
    back, (again,) = flip(flipped, [mapped], generators(1))
    assert torch.equal(back, images)
    assert torch.equal(again, boxes)


def test_resize_keeps_fractions_and_true_ratios() -> None:
    # int(0.8 * 83) = 66 and int(0.8 * 37) = 29: boxes follow 66/83 and 29/37, not 0.8.
    boxes = torch.tensor([[8.3, 3.7, 83.0, 37.0]])
    changed, (mapped,) = resize(noise(1, (37, 83)), [boxes], generators(1))
    assert tuple(changed.shape) == (1, 3, 29, 66)
    assert mapped[0].tolist() == pytest.approx([6.6, 2.9, 66.0, 29.0], abs=1e-5)


def test_portrait_and_landscape_turn_at_the_same_scale() -> None:
    """Defect 9: the older code shrank portrait images by width / height as well."""
    landscape = rotation((100, 200), 5.0)[:, :2]
    portrait = rotation((200, 100), 5.0)[:, :2]
    # Canvas of 200 x 100: 200 cos5 + 100 sin5 = 207.954609 by 100 cos5 + 200 sin5 = 117.050618.
    long, short = 200 / 207.954609, 100 / 117.050618
    assert landscape.norm(dim=1).tolist() == pytest.approx([long, short], abs=1e-6)
    assert portrait.norm(dim=1).tolist() == pytest.approx([short, long], abs=1e-6)
    assert float(torch.det(landscape)) == pytest.approx(float(torch.det(portrait)), abs=1e-12)


def test_canvas_holds_every_corner_of_the_image() -> None:
    """Defect 10: the box of the whole 200 x 100 image came out as (-3, -8, 203, 108)."""
    whole = torch.tensor([[0.0, 0.0, 200.0, 100.0]])
    matrix = rotation((100, 200), 5.0)
    unclipped = rotated_boxes(whole, matrix, (10_000, 10_000))
    assert unclipped[0, 2:].tolist() == pytest.approx([200, 100], abs=1e-4)
    assert rotated_boxes(whole, matrix, (100, 200))[0].tolist() == pytest.approx(
        [0, 0, 200, 100], abs=1e-4
    )


def test_rotated_boxes_keep_fractions() -> None:
    """Defect 11: boxes were cut to whole pixels before and after the turn.

    The box (47.6, 21.9, 80.9, 64.3) in 200 x 100, from the centre: x -52.4..-19.1,
    y -28.1..14.3. Turned: x' = cos5 x + sin5 y, y' = -sin5 x + cos5 y, so
    x' from -52.2006 - 2.4491 = -54.6497 to -19.0273 + 1.2463 = -17.7810 and
    y' from 1.6647 - 27.9931 = -26.3284 to 4.5670 + 14.2456 = 18.8126.
    Scaled by 200/207.954609 and 100/117.050618 and moved back to (100, 50).
    """
    box = torch.tensor([[47.6, 21.9, 80.9, 64.3]])
    _, (mapped,) = rotate(noise(1, (100, 200)), [box], generators(1))
    expected = [
        100 - 54.6497 / 1.03977305,
        50 - 26.3284 / 1.17050618,
        100 - 17.7810 / 1.03977305,
        50 + 18.8126 / 1.17050618,
    ]
    assert mapped[0].tolist() == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("view", VIEWS)
def test_mapped_boxes_stay_inside(view: str, size: tuple[int, int]) -> None:
    changed, (mapped,) = PERTURBATIONS[view](noise(1, size), [some_boxes(size)], generators(1))
    height, width = changed.shape[2:]
    assert mapped.dtype == torch.float32
    assert bool((mapped >= 0).all())
    assert bool((mapped[:, 2] <= width + 1e-4).all())
    assert bool((mapped[:, 3] <= height + 1e-4).all())
    assert bool((mapped[:, 2:] > mapped[:, :2]).all())


@pytest.mark.parametrize("view", VIEWS)
def test_batch_equals_singles_and_arguments_stay(view: str) -> None:
    size = (64, 96)
    images, boxes = noise(3, size), [some_boxes(size), torch.zeros(0, 4), some_boxes(size)[:1]]
    images_before, boxes_before = images.clone(), [own.clone() for own in boxes]
    changed, mapped = PERTURBATIONS[view](images, boxes, generators(3))
    for index, own in enumerate(boxes):
        single, (alone,) = PERTURBATIONS[view](
            images[index : index + 1], [own], generators(3)[index : index + 1]
        )
        assert torch.equal(single[0], changed[index])
        assert torch.equal(alone, mapped[index])
        assert alone.shape == own.shape
    assert torch.equal(images, images_before)
    assert all(torch.equal(a, b) for a, b in zip(boxes, boxes_before, strict=True))


def test_cutout_hides_part_of_a_box_and_nothing_else() -> None:
    size = (100, 200)
    boxes = torch.tensor([[20.0, 20, 60, 60], [120, 10, 180, 90]])
    images = noise(1, size).clamp(min=1)
    accepted = 0
    for seed in range(20):
        rectangles = cutout_rectangles(boxes, size, generators(1, seed)[0])
        changed, (same,) = cutout(images, [boxes], generators(1, seed))
        hidden = torch.zeros(size, dtype=torch.bool)
        for left, top, right, bottom in rectangles:
            assert 0 <= left < right <= 200
            assert 0 <= top < bottom <= 100
            cover = [
                max(0, min(right, b[2]) - max(left, b[0]))
                * max(0, min(bottom, b[3]) - max(top, b[1]))
                / ((b[2] - b[0]) * (b[3] - b[1]))
                for b in boxes.tolist()
            ]
            assert CUTOUT_COVER[0] <= max(cover) <= CUTOUT_COVER[1]
            hidden[top:bottom, left:right] = True
        assert torch.equal(changed[0], images[0] * ~hidden)
        assert torch.equal(same, boxes)
        assert len(rectangles) <= 2
        accepted += len(rectangles)
    assert accepted >= 20


def test_cutout_draws_do_not_depend_on_what_is_accepted() -> None:
    used, unused = np.random.default_rng(3), np.random.default_rng(3)
    cutout_rectangles(some_boxes((50, 50)), (50, 50), used)
    cutout_rectangles(torch.zeros(0, 4), (50, 50), unused)
    assert used.random() == unused.random()


def test_generator_follows_seed_name_and_view() -> None:
    """Defect 13: an unseeded global generator made every run a different one."""

    def drawn(seed: int, path: str, view: str) -> list[float]:
        return image_generator(seed, path, view).random(4).tolist()

    first = drawn(0, "/in/assets/a.jpg", "cutout")
    assert first == drawn(0, "/elsewhere/a.jpg", "cutout")
    others = (drawn(1, "a.jpg", "cutout"), drawn(0, "b.jpg", "cutout"), drawn(0, "a.jpg", "flip"))
    assert first not in others
    assert drawn(0, "\udcc4\udce3.jpg", "cutout") != drawn(0, "\udcc4.jpg", "cutout")
