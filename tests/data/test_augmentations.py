"""Sampling of augmentation parameters and their application, as recorded and by hand."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

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
    sample_augmentation,
    shift_colours,
)
from data.instances import Instances
from data.mosaic import transform_boxes
from utils.errors import Code, TaskError

STILL = Augmentation(**dict.fromkeys(Augmentation.__dataclass_fields__, 0.0))


def test_matrix_and_boxes_of_recorded_views(reference) -> None:
    """Recorded v7.0 samples give its matrix to 1e-9 and its surviving boxes to 1e-6."""
    meta, arrays = reference
    for name, case in meta["random_perspective"].items():
        key = f"rp.{name}"
        params = AffineParams(*arrays[f"{key}.draws"][:, 2])
        matrix = affine_matrix(params, tuple(case["in_hw"]), tuple(case["out_hw"]))
        np.testing.assert_allclose(matrix, arrays[f"{key}.M"], atol=1e-9, err_msg=name)
        if case["segments"] or not case["targets_in"]:
            continue
        targets = arrays[f"{key}.targets"]
        moved = transform_boxes(targets[:, 1:], matrix, tuple(case["out_hw"]))
        kept = box_candidates(targets[:, 1:] * params.scale, moved)
        np.testing.assert_array_equal(kept, arrays[f"{key}.cand_keep"], err_msg=name)
        expected = arrays[f"{key}.out_targets"]
        np.testing.assert_allclose(moved[kept], expected[:, 1:], atol=1e-6, err_msg=name)
        np.testing.assert_array_equal(targets[kept, 0], expected[:, 0])


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


@pytest.mark.parametrize("name", ["square", "mixed"])
def test_labels_of_recorded_mosaics(reference, name: str) -> None:
    """Recorded v7.0 mosaics: the surviving labels of the output to 1e-3 pixels, pixels exact."""
    meta, arrays = reference
    if f"mosaic.{name}.loaded0" not in arrays:
        pytest.skip("not in the extract")
    for case in meta["mosaic"][name]["cases"]:
        order = tuple(case["tile_indices_tl_tr_bl_br"])
        images = [arrays[f"mosaic.{name}.loaded{index}"] for index in order]
        labels = [arrays[f"mosaic.{name}.labels{index}"] for index in order]
        boxes = [corners(own, source.shape) for own, source in zip(labels, images, strict=True)]
        params = still(order, tuple(case["yc_xc"]))
        objects = [
            Instances(own, label[:, 0].astype(np.int32))
            for own, label in zip(boxes, labels, strict=True)
        ]
        image, targets = apply_augmentation(params, images, objects, (64, 64))
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


def still(images: tuple[int, ...], centre: tuple[int, int] | None) -> AugmentationParams:
    """Parameters that change nothing but where images lie."""
    return AugmentationParams(images, centre, AffineParams(), None, False, False)


def sampled(augmentation: Augmentation | None = None, seed: int = 4) -> AugmentationParams:
    generator = np.random.default_rng(seed)
    return sample_augmentation(3, np.arange(10), 64, augmentation or Augmentation(), generator)


class TestSampling:
    def test_same_generator_state_same_parameters(self) -> None:
        assert sampled() == sampled()
        assert sampled() != sampled(seed=5)

    def test_nothing_to_change(self) -> None:
        assert sampled(STILL) == still((3,), None)

    def test_what_is_not_v7_default_leaves_the_other_numbers(self) -> None:
        mixed, filtered = (
            sampled(Augmentation(mixup=1.0)),
            sampled(Augmentation(albumentations=True)),
        )
        assert mixed.mixup is not None
        assert replace(mixed, mixup=None, mixup_ratio=1.0) == sampled()
        assert sampled().filter_seed is None
        assert filtered.filter_seed is not None
        assert replace(filtered, filter_seed=None) == sampled()

    def test_a_mosaic_holds_its_image_in_any_corner(self) -> None:
        generator = np.random.default_rng(0)
        samples = [
            sample_augmentation(7, np.arange(1000), 64, Augmentation(), generator)
            for _ in range(200)
        ]
        places = {params.images.index(7) for params in samples}
        assert places == {0, 1, 2, 3}
        centres = np.array([params.centre for params in samples])
        assert centres.min() >= 32
        assert centres.max() < 96
        assert {type(one) for params in samples for one in params.images} == {int}


class TestApply:
    source = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    objects = Instances(np.array([[4.0, 6, 12, 20]]), np.array([2], np.int32))

    def test_a_single_image_is_centred_on_grey(self) -> None:
        image, targets = apply_augmentation(
            still((0,), None), [self.source], [self.objects], (32, 32)
        )
        assert image.shape == (3, 32, 32)
        assert image.flags.c_contiguous
        assert (image[:, :4] == 114).all()
        assert (image[:, 28:] == 114).all()
        np.testing.assert_array_equal(image[:, 4:28].transpose(1, 2, 0), self.source[..., ::-1])
        np.testing.assert_allclose(targets, [[2, 8 / 32, 17 / 32, 8 / 32, 14 / 32]], atol=1e-6)

    @pytest.mark.parametrize(
        ("change", "axis", "column"), [("flip_horizontal", 2, 1), ("flip_vertical", 1, 2)]
    )
    def test_flips(self, change: str, axis: int, column: int) -> None:
        arguments = ([self.source], [self.objects], (32, 32))
        plain, targets = apply_augmentation(still((0,), None), *arguments)
        flipped, moved = apply_augmentation(
            replace(still((0,), None), **{change: True}), *arguments
        )
        np.testing.assert_array_equal(flipped, np.flip(plain, axis))
        targets[:, column] = 1 - targets[:, column]
        np.testing.assert_allclose(moved, targets, atol=1e-6)

    def test_inputs_are_untouched(self) -> None:
        source, box = self.source.copy(), self.objects.boxes.copy()
        params = sample_augmentation(0, np.arange(1), 32, Augmentation(), np.random.default_rng(5))
        apply_augmentation(params, [source] * 4, [self.objects.with_boxes(box)] * 4, (32, 32))
        np.testing.assert_array_equal(source, self.source)
        np.testing.assert_array_equal(box, self.objects.boxes)


def test_normalised_targets_stay_inside() -> None:
    boxes = np.array([[-5.0, 0, 10, 20], [40, 20, 40, 20]])
    got = normalised_targets(Instances(boxes, np.array([1, 0])), (20, 40))
    np.testing.assert_allclose(got[0], [1, 5 / 40, 0.5, 10 / 40, 1], atol=1e-4)
    assert got[1, 1] < 1
    assert got[1, 2] < 1


class TestMosaicOfNine:
    def test_share_of_mosaics(self) -> None:
        generator = np.random.default_rng(0)
        some = replace(Augmentation(), mosaic=0.8, mosaic9=0.25)
        samples = [sample_augmentation(7, np.arange(99), 64, some, generator) for _ in range(2000)]
        counts = [sum(len(params.images) == size for params in samples) for size in (1, 4, 9)]
        np.testing.assert_allclose(np.array(counts) / 2000, [0.2, 0.6, 0.2], atol=0.03)
        nines = [params for params in samples if len(params.images) == 9]
        assert {params.images.index(7) for params in nines} == set(range(9))
        corners = np.array([params.centre for params in nines])
        assert corners.min() == 0
        assert corners.max() == 63

    def test_boxes_lie_where_their_images_do(self) -> None:
        """Nine black images with a white patch each: every box is on white, none is missing."""
        images, objects = [], []
        for number in range(9):
            source = np.zeros((64, 40 + 3 * number, 3), np.uint8)
            source[20:44, 10:30] = 255
            images.append(source)
            objects.append(Instances(np.array([[10.0, 20, 30, 44]]), np.array([number])))
        view = AffineParams(scale=0.5)
        params = replace(still(tuple(range(9)), (32, 32)), affine=view)
        image, targets = apply_augmentation(params, images, objects, (64, 64))
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
        samples = [sample_augmentation(7, np.arange(99), 64, some, generator) for _ in range(2000)]
        mixed = [params for params in samples if params.mixup is not None]
        assert all(params.centre is not None for params in mixed)
        assert 0.13 < len(mixed) / 2000 < 0.17
        assert all(len(params.all_images) == 8 for params in mixed)
        shares = np.array([params.mixup_ratio for params in mixed])
        # Beta(32, 32): mean 1/2, standard deviation 1 / (2 sqrt(65)) = 0.062.
        assert shares.mean() == pytest.approx(0.5, abs=0.02)
        assert shares.std() == pytest.approx(0.062, abs=0.012)

    def test_blend_equals_v7_arithmetic(self) -> None:
        generator = np.random.default_rng(0)
        first, second = generator.integers(0, 256, (2, 90, 90, 3), dtype=np.uint8)
        for share in generator.beta(32, 32, 20):
            literal = (first * share + second * (1 - share)).astype(np.uint8)
            difference = blend(first, second, share).astype(int) - literal
            assert np.abs(difference).max() <= 1
            assert (difference == 0).mean() > 0.98  # floats fall to either side of a level
            assert abs(difference.mean()) < 0.02  # where rounding to the nearest gives a half

    def test_mixup_blends_images_and_joins_labels(self) -> None:
        """White over black at 0.25: 63.75 is cut off to 63; both images' boxes are there."""
        white, black = np.full((64, 64, 3), 255, np.uint8), np.zeros((64, 64, 3), np.uint8)
        box, shift = np.array([[10.0, 10, 50, 50]]), AffineParams(translate_x=0.6)
        params = replace(
            still((0, 0, 0, 0), (64, 64)),
            mixup=MosaicParams((1, 1, 1, 1), (64, 64), shift),
            mixup_ratio=0.25,
        )
        image, targets = apply_augmentation(
            params,
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

        source = TestApply.source
        params = replace(still((0,), None), filter_seed=11, flip_horizontal=True)
        arguments = ([source], [TestApply.objects], (32, 32))
        image, targets = apply_augmentation(params, *arguments, filters=note)
        ((given, seed),) = seen
        assert seed == 11
        np.testing.assert_array_equal(given[4:28], source)
        np.testing.assert_array_equal(
            image[:, 4:28].transpose(1, 2, 0), 255 - source[:, ::-1, ::-1]
        )
        plain = apply_augmentation(replace(params, filter_seed=None), *arguments)[1]
        np.testing.assert_array_equal(targets, plain)


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


@pytest.mark.parametrize(
    ("package", "said"),
    [
        (None, "needs the package albumentations.*install"),
        (SimpleNamespace(Compose=object, __version__="1.3.1"), "albumentations>=2.0, found 1.3.1"),
    ],
    ids=["missing", "old"],
)
def test_a_package_that_does_not_do_is_named(
    monkeypatch: pytest.MonkeyPatch, package: object, said: str
) -> None:
    monkeypatch.setitem(sys.modules, "albumentations", package)
    with pytest.raises(TaskError, match=said) as caught:
        PixelFilters()
    assert caught.value.code == Code.CONFIG
