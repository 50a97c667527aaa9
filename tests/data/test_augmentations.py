"""Draws and what is done with them, against recorded runs and by hand."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from data.augmentations import (
    FILTER_PROBABILITY,
    AffineParams,
    Augmentation,
    AugmentationParams,
    MosaicParams,
    PixelFilters,
    affine_matrix,
    apply_augmentation,
    blend,
    box_candidates,
    colour_tables,
    normalised_targets,
    sample_affine,
    sample_augmentation,
    shift_colours,
    to_chw_rgb,
)
from data.instances import Instances
from data.mosaic import mosaic_tiles, transform_boxes
from utils.errors import Code, TaskError

STILL = Augmentation(**dict.fromkeys(Augmentation.__dataclass_fields__, 0.0))


@pytest.fixture(params=["extract", "full"])
def reference(request: pytest.FixtureRequest) -> tuple[dict[str, Any], Any]:
    """Recorded runs of YOLOv5 v7.0 (perspective.json and .npz of the reference vectors)."""
    if request.param == "extract":
        folder = request.getfixturevalue("golden")("perspective.npz").parent
    else:
        folder = request.getfixturevalue("shared") / "golden"
    return (
        json.loads((Path(folder) / "perspective.json").read_text()),
        np.load(Path(folder) / "perspective.npz", allow_pickle=False),
    )


def test_matrix_and_boxes_of_recorded_views(reference) -> None:
    """Recorded v7.0 draws give its matrix to 1e-9 and its surviving boxes to 1e-6."""
    meta, arrays = reference
    for name, case in meta["random_perspective"].items():
        key = f"rp.{name}"
        draw = AffineParams(*arrays[f"{key}.draws"][:, 2])
        matrix = affine_matrix(draw, tuple(case["in_hw"]), tuple(case["out_hw"]))
        np.testing.assert_allclose(matrix, arrays[f"{key}.M"], atol=1e-9, err_msg=name)
        if case["segments"] or not case["targets_in"]:
            continue
        targets = arrays[f"{key}.targets"]
        moved = transform_boxes(targets[:, 1:], matrix, tuple(case["out_hw"]))
        kept = box_candidates(targets[:, 1:] * draw.scale, moved)
        np.testing.assert_array_equal(kept, arrays[f"{key}.cand_keep"], err_msg=name)
        expected = arrays[f"{key}.out_targets"]
        np.testing.assert_allclose(moved[kept], expected[:, 1:], atol=1e-6, err_msg=name)
        np.testing.assert_array_equal(targets[kept, 0], expected[:, 0])


def test_recorded_vector_of_the_data_page() -> None:
    """Python seed 1 run of v7.0 on a 200 x 300 image, as noted in the specification of the data."""
    import random

    source = random.Random(1)
    uniform = source.uniform
    draw = AffineParams(
        uniform(-0.001, 0.001),
        uniform(-0.001, 0.001),
        uniform(-0.0, 0.0),
        uniform(0.5, 1.5),
        uniform(-0.0, 0.0),
        uniform(-0.0, 0.0),
        uniform(0.4, 0.6),
        uniform(0.4, 0.6),
    )
    boxes = np.array([[250.0, 150, 299, 199], [10, 20, 110, 90], [0, 0, 3, 3]])
    moved = transform_boxes(boxes, affine_matrix(draw, (200, 300), (200, 300)), (200, 300))
    expected = [
        [234.931249, 150.809348, 280.619924, 189.429022],
        [58.11085, 49.509381, 129.55171, 104.656029],
        [50.212748, 38.806966, 52.3792, 41.27886],
    ]
    np.testing.assert_allclose(moved, expected, atol=1e-4)
    assert box_candidates(boxes * draw.scale, moved).all()


@pytest.mark.parametrize("threshold", ["0.10", "0.01"])
def test_box_candidates_of_recorded_cases(reference, threshold: str) -> None:
    """80 recorded boxes around every limit of v7.0's survival test."""
    _, arrays = reference
    got = box_candidates(arrays["bc.box1"].T, arrays["bc.box2"].T, area_threshold=float(threshold))
    np.testing.assert_array_equal(got, arrays[f"bc.keep_area{threshold}"])


def test_colours_of_recorded_runs(reference) -> None:
    """Four recorded v7.0 colour changes: tables exact, pixels within 2 levels."""
    meta, arrays = reference
    for name, case in meta["augment_hsv"].items():
        colour = tuple(case["r"])
        tables = colour_tables(colour)
        for column, table in enumerate(("lut_hue", "lut_sat", "lut_val")):
            np.testing.assert_array_equal(tables[:, column], arrays[f"hsv.{name}.{table}"])
        got = shift_colours(arrays["hsv.image"], colour).astype(int)
        assert np.abs(got - arrays[f"hsv.{name}.out"]).max() <= 2


def test_colours_by_hand() -> None:
    """Four BGR pixels recorded from v7.0 with numpy seed 0, as noted in the data specification."""
    pixels = np.array([[[10, 20, 30], [200, 100, 50], [0, 255, 0], [128, 128, 128]]], np.uint8)
    got = shift_colours(pixels, (1.001464, 1.301265, 1.082211))
    expected = [[[4, 18, 32], [216, 76, 6], [0, 255, 0], [138, 138, 138]]]
    assert np.abs(got.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("name", ["square", "mixed"])
def test_labels_of_recorded_mosaics(reference, name: str) -> None:
    """Recorded v7.0 mosaics: the surviving labels of the output to 1e-3 pixels, pixels exact."""
    meta, arrays = reference
    if f"mosaic.{name}.loaded0" not in arrays:
        pytest.skip("not in the extract")
    for case in meta["mosaic"][name]["cases"]:
        order = tuple(case["tile_indices_tl_tr_bl_br"])
        pictures = [arrays[f"mosaic.{name}.loaded{index}"] for index in order]
        labels = [arrays[f"mosaic.{name}.labels{index}"] for index in order]
        boxes = [corners(own, picture.shape) for own, picture in zip(labels, pictures, strict=True)]
        draw = still(order, tuple(case["yc_xc"]))
        objects = [
            Instances(own, label[:, 0].astype(np.int32))
            for own, label in zip(boxes, labels, strict=True)
        ]
        image, targets = apply_augmentation(draw, pictures, objects, (64, 64))
        key = f"mosaic.{name}.{case['case']}"
        np.testing.assert_array_equal(image[::-1].transpose(1, 2, 0), arrays[f"{key}.image"])
        expected = arrays[f"{key}.labels"]
        np.testing.assert_array_equal(targets[:, 0], expected[:, 0])
        # Our targets are held 1e-3 pixels inside the border, as v7.0 does in its next step.
        np.testing.assert_allclose(corners(targets, (64, 64)), expected[:, 1:], atol=1.1e-3)


def corners(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Rows (class, cx, cy, w, h normalised) to xyxy pixels."""
    scale = np.array([shape[1], shape[0]], np.float64)
    middle, half = labels[:, 1:3] * scale, labels[:, 3:5] * scale / 2
    return np.concatenate((middle - half, middle + half), 1)


def still(pictures: tuple[int, ...], centre: tuple[int, int] | None) -> AugmentationParams:
    """A draw that changes nothing but where pictures lie."""
    return AugmentationParams(pictures, centre, AffineParams(), None, False, False)


class TestDraws:
    def test_same_generator_state_same_draw(self) -> None:
        first, second = (
            sample_augmentation(
                3, np.arange(10), 64, Augmentation(), np.random.default_rng([1, 2, 3])
            )
            for _ in range(2)
        )
        assert first == second
        assert first != sample_augmentation(
            3, np.arange(10), 64, Augmentation(), np.random.default_rng([1, 2, 4])
        )

    def test_nothing_to_change(self) -> None:
        draw = sample_augmentation(3, np.arange(10), 64, STILL, np.random.default_rng(0))
        assert draw == still((3,), None)

    def test_mosaic_holds_the_requested_picture_in_any_corner(self) -> None:
        generator = np.random.default_rng(0)
        draws = [
            sample_augmentation(7, np.arange(1000), 64, Augmentation(), generator)
            for _ in range(200)
        ]
        places = {draw.images.index(7) for draw in draws}
        assert places == {0, 1, 2, 3}
        centres = np.array([draw.centre for draw in draws])
        assert centres.min() >= 32
        assert centres.max() < 96
        assert {type(picture) for draw in draws for picture in draw.images} == {int}

    def test_ranges(self) -> None:
        wide = replace(Augmentation(), degrees=10, shear=5, perspective=0.001)
        generator = np.random.default_rng(0)
        draws = [sample_affine(wide, generator) for _ in range(300)]
        limits = {
            "perspective_x": (-0.001, 0.001),
            "degrees": (-10, 10),
            "scale": (0.5, 1.5),
            "shear_y": (-5, 5),
            "translate_x": (0.4, 0.6),
        }
        for name, (low, high) in limits.items():
            values = [getattr(draw, name) for draw in draws]
            assert low <= min(values) < low + 0.1 * (high - low)
            assert high - 0.1 * (high - low) < max(values) <= high

    def test_flip_probabilities(self) -> None:
        generator = np.random.default_rng(0)
        draws = [
            sample_augmentation(0, np.arange(1), 64, Augmentation(), generator) for _ in range(400)
        ]
        assert not any(draw.flip_vertical for draw in draws)
        assert 150 < sum(draw.flip_horizontal for draw in draws) < 250


class TestApply:
    picture = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    objects = Instances(np.array([[4.0, 6, 12, 20]]), np.array([2], np.int32))

    def test_single_picture_is_centred_on_grey(self) -> None:
        image, targets = apply_augmentation(
            still((0,), None), [self.picture], [self.objects], (32, 32)
        )
        assert image.shape == (3, 32, 32)
        assert image.flags.c_contiguous
        assert (image[:, :4] == 114).all()
        assert (image[:, 28:] == 114).all()
        np.testing.assert_array_equal(image[:, 4:28].transpose(1, 2, 0), self.picture[..., ::-1])
        np.testing.assert_allclose(targets, [[2, 8 / 32, 17 / 32, 8 / 32, 14 / 32]], atol=1e-6)

    @pytest.mark.parametrize(
        ("change", "axis", "column"),
        [
            pytest.param({"flip_horizontal": True}, 2, 1, id="left-right"),
            pytest.param({"flip_vertical": True}, 1, 2, id="up-down"),
        ],
    )
    def test_flips(self, change: dict[str, bool], axis: int, column: int) -> None:
        arguments = ([self.picture], [self.objects], (32, 32))
        plain, targets = apply_augmentation(still((0,), None), *arguments)
        flipped, moved = apply_augmentation(replace(still((0,), None), **change), *arguments)
        np.testing.assert_array_equal(flipped, np.flip(plain, axis))
        targets[:, column] = 1 - targets[:, column]
        np.testing.assert_allclose(moved, targets, atol=1e-6)

    def test_no_boxes(self) -> None:
        nothing = Instances.from_rows([])
        draw = sample_augmentation(0, np.arange(1), 32, Augmentation(), np.random.default_rng(0))
        image, targets = apply_augmentation(draw, [self.picture] * 4, [nothing] * 4, (32, 32))
        assert image.shape == (3, 32, 32)
        assert targets.shape == (0, 5)

    def test_inputs_are_untouched(self) -> None:
        picture, box = self.picture.copy(), self.objects.boxes.copy()
        draw = sample_augmentation(0, np.arange(1), 32, Augmentation(), np.random.default_rng(5))
        apply_augmentation(draw, [picture] * 4, [self.objects.with_boxes(box)] * 4, (32, 32))
        np.testing.assert_array_equal(picture, self.picture)
        np.testing.assert_array_equal(box, self.objects.boxes)

    def test_boxes_equal_the_literal_order_of_steps(self) -> None:
        """Clip to the canvas, transform, filter, clip, normalise: written out one box at a time."""
        generator = np.random.default_rng(8)
        strong = replace(Augmentation(), degrees=20, shear=5)
        sizes = [(128, 96), (70, 128), (128, 128), (50, 128)]
        pictures = [np.zeros((*size, 3), np.uint8) for size in sizes]
        boxes = []
        for height, width in sizes:
            start = generator.uniform(0, (width, height), (9, 2))
            boxes.append(np.concatenate((start, start + generator.uniform(1, 60, (9, 2))), 1))
        objects = [Instances(own, np.arange(9)) for own in boxes]
        for _ in range(20):
            draw = sample_augmentation(0, np.arange(4), 128, strong, generator)
            draw = replace(draw, flip_horizontal=False)
            assert draw.centre is not None
            _, targets = apply_augmentation(draw, pictures, objects, (128, 128))
            matrix = affine_matrix(draw.affine, (256, 256), (128, 128))
            tiles = mosaic_tiles(sizes, draw.centre, 128)
            expected = []
            for own, tile in zip(boxes, tiles, strict=True):
                for number, (x1, y1, x2, y2) in enumerate(own):
                    x, y = tile.offset
                    box = np.clip([x1 + x, y1 + y, x2 + x, y2 + y], 0, 256)
                    points = [
                        matrix @ (box[i], box[j], 1.0) for i, j in ((0, 1), (2, 1), (2, 3), (0, 3))
                    ]
                    xs, ys = (np.clip([point[k] for point in points], 0, 128) for k in (0, 1))
                    new = np.array([min(xs), min(ys), max(xs), max(ys)])
                    if box_candidates((box * draw.affine.scale)[None], new[None])[0]:
                        expected.append([number, *new])
            expected = np.array(expected).reshape(-1, 5)
            np.testing.assert_array_equal(targets[:, 0], expected[:, 0])
            np.testing.assert_allclose(corners(targets, (128, 128)), expected[:, 1:], atol=1.1e-3)


def test_normalised_targets_stay_inside() -> None:
    boxes = np.array([[-5.0, 0, 10, 20], [40, 20, 40, 20]])
    got = normalised_targets(Instances(boxes, np.array([1, 0])), (20, 40))
    np.testing.assert_allclose(got[0], [1, 5 / 40, 0.5, 10 / 40, 1], atol=1e-4)
    assert got[1, 1] < 1
    assert got[1, 2] < 1


def test_planes_are_rgb_and_contiguous() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    planes = to_chw_rgb(image)
    assert planes.flags.c_contiguous
    np.testing.assert_array_equal(planes, image[..., ::-1].transpose(2, 0, 1))


class TestMosaicOfNine:
    def test_share_of_mosaics(self) -> None:
        generator = np.random.default_rng(0)
        some = replace(Augmentation(), mosaic=0.8, mosaic9=0.25)
        draws = [sample_augmentation(7, np.arange(99), 64, some, generator) for _ in range(2000)]
        counts = [sum(len(draw.images) == size for draw in draws) for size in (1, 4, 9)]
        np.testing.assert_allclose(np.array(counts) / 2000, [0.2, 0.6, 0.2], atol=0.03)
        nines = [draw for draw in draws if len(draw.images) == 9]
        assert {draw.images.index(7) for draw in nines} == set(range(9))
        corners = np.array([draw.centre for draw in nines])
        assert corners.min() == 0
        assert corners.max() == 63

    def test_boxes_lie_where_their_pictures_do(self) -> None:
        """Nine black pictures with a white patch each: every box is on white, none is missing."""
        pictures, objects = [], []
        for number in range(9):
            picture = np.zeros((64, 40 + 3 * number, 3), np.uint8)
            picture[20:44, 10:30] = 255
            pictures.append(picture)
            objects.append(Instances(np.array([[10.0, 20, 30, 44]]), np.array([number])))
        view = AffineParams(scale=0.5)
        draw = replace(still(tuple(range(9)), (32, 32)), affine=view)
        image, targets = apply_augmentation(draw, pictures, objects, (64, 64))
        assert len(targets) >= 5
        assert 0 in targets[:, 0]
        for _, x, y, width, height in targets:
            left, right = round((x - width / 2) * 64) + 1, round((x + width / 2) * 64) - 1
            top, bottom = round((y - height / 2) * 64) + 1, round((y + height / 2) * 64) - 1
            assert (image[:, top:bottom, left:right] == 255).all()
        assert (image == 255).all(0).sum() == pytest.approx(
            (targets[:, 3] * targets[:, 4]).sum() * 64 * 64, rel=0.15
        )


class TestMixup:
    def test_only_on_mosaics_and_by_its_probability(self) -> None:
        generator = np.random.default_rng(0)
        some = replace(Augmentation(), mosaic=0.5, mixup=0.3)
        draws = [sample_augmentation(7, np.arange(99), 64, some, generator) for _ in range(2000)]
        mixed = [draw for draw in draws if draw.mixup is not None]
        assert all(draw.centre is not None for draw in mixed)
        assert 0.13 < len(mixed) / 2000 < 0.17
        assert all(len(draw.all_images) == 8 for draw in mixed)
        shares = np.array([draw.mixup_ratio for draw in mixed])
        # Beta(32, 32): mean 1/2, standard deviation 1 / (2 sqrt(65)) = 0.062.
        assert shares.mean() == pytest.approx(0.5, abs=0.02)
        assert shares.std() == pytest.approx(0.062, abs=0.012)

    def test_the_first_numbers_stay_the_same(self) -> None:
        plain, mixed = (
            sample_augmentation(3, np.arange(10), 64, augmentation, np.random.default_rng(4))
            for augmentation in (Augmentation(), Augmentation(mixup=1.0))
        )
        assert mixed.mixup is not None
        assert replace(mixed, mixup=None, mixup_ratio=1.0) == plain

    def test_blend_by_hand(self) -> None:
        """0.25 a + 0.75 b, cut off: 100 and 50 give 62.5, 1 and 0 give 0.25, 255 and 255 stay."""
        first, second = (
            np.array([[values]], np.uint8) for values in ([100, 1, 255, 7], [50, 0, 255, 7])
        )
        assert blend(first, second, 0.25).tolist() == [[[62, 0, 255, 7]]]

    def test_blend_equals_v7_arithmetic(self) -> None:
        generator = np.random.default_rng(0)
        first, second = generator.integers(0, 256, (2, 90, 90, 3), dtype=np.uint8)
        for share in generator.beta(32, 32, 20):
            literal = (first * share + second * (1 - share)).astype(np.uint8)
            difference = blend(first, second, share).astype(int) - literal
            assert np.abs(difference).max() <= 1
            assert (difference == 0).mean() > 0.98  # floats fall to either side of a level
            assert abs(difference.mean()) < 0.02  # where rounding to the nearest gives a half

    def test_pictures_are_mixed_and_labels_joined(self) -> None:
        """White over black at 0.25: 63.75 is cut off to 63; both pictures' boxes are there."""
        white, black = np.full((64, 64, 3), 255, np.uint8), np.zeros((64, 64, 3), np.uint8)
        box, shift = np.array([[10.0, 10, 50, 50]]), AffineParams(translate_x=0.6)
        draw = replace(
            still((0, 0, 0, 0), (64, 64)),
            mixup=MosaicParams((1, 1, 1, 1), (64, 64), shift),
            mixup_ratio=0.25,
        )
        image, targets = apply_augmentation(
            draw,
            [white] * 4 + [black] * 4,
            [Instances(box, np.array([number])) for number in range(8)],
            (64, 64),
        )
        assert (image == 63).all()
        assert targets[:, 0].tolist() == list(range(8))
        np.testing.assert_allclose(corners(targets[:1], (64, 64)), [[0, 0, 18, 18]], atol=2e-3)
        # Canvas 10...50 seen from 32 on, then 6.4 pixels to the right.
        np.testing.assert_allclose(corners(targets[4:5], (64, 64)), [[0, 0, 24.4, 18]], atol=2e-3)


class TestFilters:
    def test_filters_get_bgr_before_colours_and_flips(self) -> None:
        seen = []

        def note(image: np.ndarray, seed: int) -> np.ndarray:
            seen.append((image.copy(), seed))
            return 255 - image

        picture = TestApply.picture
        draw = replace(still((0,), None), filter_seed=11, flip_horizontal=True)
        arguments = ([picture], [TestApply.objects], (32, 32))
        image, targets = apply_augmentation(draw, *arguments, filters=note)
        ((given, seed),) = seen
        assert seed == 11
        np.testing.assert_array_equal(given[4:28], picture)
        np.testing.assert_array_equal(
            image[:, 4:28].transpose(1, 2, 0), 255 - picture[:, ::-1, ::-1]
        )
        plain = apply_augmentation(replace(draw, filter_seed=None), *arguments)[1]
        np.testing.assert_array_equal(targets, plain)

    def test_a_seed_is_drawn_only_for_them_and_last(self) -> None:
        plain, seeded = (
            sample_augmentation(3, np.arange(10), 64, augmentation, np.random.default_rng(4))
            for augmentation in (Augmentation(), Augmentation(albumentations=True))
        )
        assert plain.filter_seed is None
        assert seeded.filter_seed is not None
        assert replace(seeded, filter_seed=None) == plain


IMAGE = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def filters() -> PixelFilters:
    pytest.importorskip("albumentations", reason="the package albumentations is optional")
    return PixelFilters()


def changed(filters: PixelFilters, seeds: range) -> list[int]:
    return [seed for seed in seeds if (filters(IMAGE, seed) != IMAGE).any()]


def test_about_four_in_a_hundred_are_changed(filters: PixelFilters) -> None:
    """Four filters of 1% each that do not depend on one another: 1 - 0.99^4 = 3.9%."""
    share = len(changed(filters, range(3000))) / 3000
    assert 0.75 * 4 * FILTER_PROBABILITY < share < 1.25 * 4 * FILTER_PROBABILITY


def test_a_seed_decides(filters: PixelFilters) -> None:
    seeds = changed(filters, range(200))
    assert seeds
    other = PixelFilters()
    for seed in [*seeds, 0, 1]:
        first = filters(IMAGE, seed)
        assert first.dtype == np.uint8
        assert first.shape == IMAGE.shape
        np.testing.assert_array_equal(first, other(IMAGE, seed))


def test_the_image_itself_is_left_alone(filters: PixelFilters) -> None:
    before = IMAGE.copy()
    changed(filters, range(100))
    np.testing.assert_array_equal(IMAGE, before)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(TaskError, match=r"needs the package albumentations.*install") as caught:
        PixelFilters()
    assert caught.value.code == Code.CONFIG


def test_an_old_package_is_named_with_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    old = SimpleNamespace(Compose=object, __version__="1.3.1")
    monkeypatch.setattr(importlib, "import_module", lambda name: old)
    with pytest.raises(TaskError, match=r"albumentations>=2.0, found 1.3.1") as caught:
        PixelFilters()
    assert caught.value.code == Code.CONFIG
