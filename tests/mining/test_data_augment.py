"""CALD's views: images and boxes move together, by the amounts of spec/mining.md section 2.2."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.sequential_mining import perturb
from mining.cald_views import make_views
from mining.data_augment import (
    CUTOUT_COVER,
    accepted_tries,
    box_map,
    cutout_tries,
    hide_,
    image_generator,
    map_boxes,
    rotation,
    view_size,
)
from mining.data_augment import (
    VIEWS as MAKERS,
)
from ops.letterbox import Letterbox

SIZES = [(100, 200), (200, 100), (96, 96), (37, 83)]
VIEWS = sorted(MAKERS)


def generator(index: int = 0, seed: int = 0) -> np.random.Generator:
    return image_generator(seed, f"{index}.jpg", "cutout")


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
    changed, mapped = perturb(view, image[0], box, generator())
    assert tuple(changed.shape[1:]) == view_size(view, size)
    ys, xs = torch.where(changed[0] > 184)  # half way from 114 to 255
    found = torch.stack((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)).float()
    assert (found - mapped[0]).abs().max() < 1.5  # the tip of a turned corner is thin


def test_flip_by_hand_and_back() -> None:
    # Section 2.6 of the spec, width 200: (10, 10, 50, 60) -> (150, 10, 190, 60).
    boxes = torch.tensor([[10.0, 10, 50, 60], [100, 20, 160, 80]])
    (image,) = noise(1, (100, 200))
    flipped, mapped = perturb("flip", image, boxes, generator())
    assert mapped.tolist() == [[150, 10, 190, 60], [40, 20, 100, 80]]
    back, again = perturb("flip", flipped, mapped, generator())
    assert torch.equal(back, image)
    assert torch.equal(again, boxes)


def test_resize_keeps_fractions_and_true_ratios() -> None:
    # int(0.8 * 83) = 66 and int(0.8 * 37) = 29: boxes follow 66/83 and 29/37, not 0.8.
    boxes = torch.tensor([[8.3, 3.7, 83.0, 37.0]])
    changed, mapped = perturb("resize", noise(1, (37, 83))[0], boxes, generator())
    assert tuple(changed.shape) == (3, 29, 66)
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
    whole = torch.tensor([[[0.0, 0.0, 200.0, 100.0]]])
    maps = torch.from_numpy(box_map("rotate", (100, 200)))[None]
    unclipped = map_boxes(whole, maps, torch.full((1, 4), 1e4, dtype=torch.float64))
    assert unclipped[0, 0, 2:].tolist() == pytest.approx([200, 100], abs=1e-4)
    sizes = torch.tensor([[200, 100, 200, 100]], dtype=torch.float64)
    clipped = map_boxes(whole, maps, sizes)
    assert clipped[0, 0].tolist() == pytest.approx([0, 0, 200, 100], abs=1e-4)


def test_rotated_boxes_keep_fractions() -> None:
    """Defect 11: boxes were cut to whole pixels before and after the turn.

    The box (47.6, 21.9, 80.9, 64.3) in 200 x 100, from the centre: x -52.4..-19.1,
    y -28.1..14.3. Turned: x' = cos5 x + sin5 y, y' = -sin5 x + cos5 y, so
    x' from -52.2006 - 2.4491 = -54.6497 to -19.0273 + 1.2463 = -17.7810 and
    y' from 1.6647 - 27.9931 = -26.3284 to 4.5670 + 14.2456 = 18.8126.
    Scaled by 200/207.954609 and 100/117.050618 and moved back to (100, 50).
    """
    box = torch.tensor([[47.6, 21.9, 80.9, 64.3]])
    _, mapped = perturb("rotate", noise(1, (100, 200))[0], box, generator())
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
    changed, mapped = perturb(view, noise(1, size)[0], some_boxes(size), generator())
    height, width = changed.shape[1:]
    assert mapped.dtype == torch.float32
    assert bool((mapped >= 0).all())
    assert bool((mapped[:, 2] <= width + 1e-4).all())
    assert bool((mapped[:, 3] <= height + 1e-4).all())
    assert bool((mapped[:, 2:] > mapped[:, :2]).all())


@pytest.mark.parametrize(
    ("names", "stride", "passes"),
    # 0.8 of 64 x 96 is 51 x 76: within 56 x 80, or in the old size.
    [(VIEWS, 8, 2), (VIEWS, 32, 1), (["resize", "flip"], 8, 2), (["cutout"], 8, 1)],
    ids=str,
)
def test_views_of_a_batch_are_those_of_its_images_one_by_one(
    names: list[str], stride: int, passes: int
) -> None:
    """Contents of two sizes at four places; several objects, one, none."""
    shape = (64, 96)
    places = [((64, 96), (0, 0)), ((50, 96), (7, 0)), ((50, 96), (7, 0)), ((64, 81), (0, 7))]
    images = torch.full((4, 3, *shape), 114, dtype=torch.uint8)
    boxes, letterboxes = torch.zeros(4, 3, 4), []
    for n, ((h, w), (top, left)) in enumerate(places):
        images[n, :, top : top + h, left : left + w] = noise(n + 1, (h, w))[n]
        borders = (top, shape[0] - h - top, left, shape[1] - w - left)
        letterboxes.append(Letterbox((h, w), (h, w), shape, borders))
        own = some_boxes((h, w))[: (3, 1, 0, 2)[n]]
        boxes[n, : len(own)] = own + torch.tensor([left, top, left, top])
    before = images.clone(), boxes.clone()
    draws = [generator(n) for n in range(4)]
    views = make_views(names, images, letterboxes, boxes, generators=draws, stride=stride)
    assert sorted(views.names) == sorted(names)
    assert len(views.canvases) == passes
    canvases = [one for canvas in views.canvases for one in canvas]
    seen = views.boxes + views.corners[:, :, None]
    assert torch.allclose(views.inside(seen), views.boxes, atol=1e-5)
    for v, name in enumerate(views.names):
        for n, ((h, w), (top, left)) in enumerate(places):
            canvas = canvases[4 * v + n]
            content = images[n, :, top : top + h, left : left + w]
            count = (3, 1, 0, 2)[n]
            own = some_boxes((h, w))[:count] if count else torch.zeros(1, 4)
            view, mapped = perturb(name, content, own, generator(n))
            x, y = views.corners[v, n, :2].int().tolist()
            expected = torch.full_like(canvas, 114)
            expected[:, y : y + view.shape[1], x : x + view.shape[2]] = view
            assert torch.equal(canvas, expected)
            assert torch.allclose(views.boxes[v, n, :count], mapped[:count], atol=1e-4)
            padding = views.boxes[v, n, count:]
            assert torch.equal(padding[:, :2], padding[:, 2:])
    assert torch.equal(images, before[0])
    assert torch.equal(boxes, before[1])


def test_cutout_hides_part_of_a_box_and_nothing_else() -> None:
    size = (100, 200)
    boxes = torch.tensor([[20.0, 20, 60, 60], [120, 10, 180, 90]])
    images = noise(1, size).clamp(min=1)
    accepted = 0
    for seed in range(20):
        tries = torch.from_numpy(cutout_tries(size, generator(seed=seed)))[None]
        rectangles = accepted_tries(boxes[None], tries)
        changed = hide_(images.clone(), rectangles)
        hidden = torch.zeros(size, dtype=torch.bool)
        found = [one for one in rectangles[0].int().tolist() if any(one)]
        for left, top, right, bottom in found:
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
        accepted += len(found)
    assert accepted >= 20


def test_generator_follows_seed_name_and_view() -> None:
    """Defect 13: an unseeded global generator made every run a different one."""

    def drawn(seed: int, path: str, view: str) -> list[float]:
        return image_generator(seed, path, view).random(4).tolist()

    first = drawn(0, "/in/assets/a.jpg", "cutout")
    assert first == drawn(0, "/elsewhere/a.jpg", "cutout")
    others = (drawn(1, "a.jpg", "cutout"), drawn(0, "b.jpg", "cutout"), drawn(0, "a.jpg", "flip"))
    assert first not in others
    assert drawn(0, "\udcc4\udce3.jpg", "cutout") != drawn(0, "\udcc4.jpg", "cutout")
