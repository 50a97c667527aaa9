"""Balanced mining: every term worked by hand, then the engine with a detector that sees colours."""

from __future__ import annotations

import csv
import logging
from dataclasses import replace
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import start
from api.detector import Detector
from mining import mining_balanced
from mining.class_balance import ClassValues
from mining.diversity import SIZE, STEP, UNIT
from mining.mining_balanced import (
    balanced_scores,
    binary_entropy,
    class_uncertainty,
    rank_balanced,
)
from mining.registry import ALGORITHMS
from mining.scores import Scored, ScoringContext
from ops.nms import NmsConfig
from ops.tiling import Tiling
from settings.detect import MiningSettings
from tests.mining.colour_example import (
    BLUE,
    FAINT_RED,
    GREEN,
    RED,
    ColourPredictor,
    draw,
    mine,
    scores_of,
    untrained,
)
from tools.make_task import write_task
from tools.sources import SourceDataset

SETTINGS = MiningSettings(
    mining_algorithm="balanced", batch_size=4, workers=1, diverse_window=9, seed=0
)
HALF_SURE = 0.811278
"""H(1/4): .25 * 2 + .75 * log2(4 / 3) = .5 + .75 * .415037"""


def test_entropy_of_a_confidence() -> None:
    found = binary_entropy(np.array([0, 0.02, 0.25, 0.5, 0.75, 1], np.float64))
    # .02 * log2 50 + .98 * log2(1 / .98) = .02 * 5.643856 + .98 * .029146
    expected = [0, 0.141441, HALF_SURE, 1, HALF_SURE, 0]
    assert found.tolist() == pytest.approx(expected, abs=1e-6)
    assert not np.signbit(found).any()


def test_the_most_uncertain_detection_of_each_class_counts() -> None:
    """Class 0: .9 and .6, of which .6; class 2: .01 does not count, .02 does; class 1 has none."""
    rows = [(0.9, 0), (0.6, 0), (0.02, 2), (0.0199, 2), (0.01, 3)]
    detections = np.array([(0, 0, 9, 9, *row) for row in rows], np.float32)
    seen = class_uncertainty(detections, 4)
    # .6 * log2(1 / .6) + .4 * log2(1 / .4) = .442179 + .528771
    assert seen.values.tolist() == pytest.approx([0.970951, 0, 0.141441, 0], abs=1e-6)
    assert seen.rows.tolist() == [1, -1, 2, -1]


def test_value_falls_with_labels_and_with_each_choice() -> None:
    """n = 3, 0: v = .8 / 2 + .6 = 1 and .5 / 2 = .25. After the first n is 3.8, .6: for the
    second .5 / sqrt(4.8) = .228218, for an image without detections nothing changes.
    """
    shown = np.array([[0.8, 0.6], [0.5, 0], [0, 0]])
    values = ClassValues(shown, np.array([3.0, 0]))
    assert values.values.tolist() == pytest.approx([1, 0.25, 0], abs=1e-12)
    values.choose(0)
    expected = [0.8 / sqrt(4.8) + 0.6 / sqrt(1.6), 0.228218, 0]
    assert values.values.tolist() == pytest.approx(expected, abs=1e-6)
    values.choose(2)
    assert values.values.tolist() == pytest.approx(expected, abs=1e-6)


def vector(*first: float) -> np.ndarray:
    """A feature of direction `first`, which has length 1."""
    own = np.zeros(SIZE, np.float32)
    own[: len(first)] = np.rint(np.array(first) * UNIT)
    return own


def ranked_by_hand(
    window: int, *, labelled: tuple[float, ...] | None = None, least: float = 0.0
) -> dict[int, Scored]:
    """Rank images of u = (1, 0), (.9, 0), (0, .5), (0, 0) and features east, north, east, west."""
    shown = np.array([[1, 0, 0], [0.9, 0, 0], [0, 0.5, 0], [0, 0, 0]], np.float32)
    features = [vector(1, 0), vector(0, 1), vector(1, 0), vector(-1, 0)]
    predictor = ColourPredictor(labelled_objects=labelled, labelled_images=2)
    settings = replace(SETTINGS, diverse_window=window, least_distance=least)
    context = ScoringContext(predictor, settings, 4)
    counts = np.rint(2 * np.array(labelled or (0.0, 0, 0)))
    values = ClassValues(shown, counts).values.tolist()
    images = [
        Scored(n, f"{n}.jpg", values[n], class_vector=shown[n], feature=features[n])
        for n in range(4)
    ]
    return {one.position: one for one in rank_balanced(iter(images), context)}


def test_order_by_hand() -> None:
    """v = 1, .9, .5, 0, and 1 for exploration. 0 goes first, 2 of 2; then n = 1 and 1 is worth
    .9 / sqrt(2) + 1 = 1.636396 times a distance of .707107: .578553 of 2, 3 is 1 as far away as can
    be: .5, 2 a distance of 0. After 1, 3 is .707107 away: .353553 of 2. 2 repeats 0 and comes last.
    Above 4, in steps.
    """
    found = ranked_by_hand(4)
    expected = {0: 5 + 3 * STEP, 1: 4.578553 + 2 * STEP, 3: 4.353553 + STEP, 2: 4}
    assert {n: one.score for n, one in found.items()} == pytest.approx(expected, abs=1e-6)
    told = {n: one.breakdown for n, one in found.items()}
    assert told == {
        0: {"value": 2.0, "distance": 1.0},
        1: {"value": 1.636396, "distance": 0.707107, "nearest": 0},
        2: {"value": 1.5, "distance": 0.0, "nearest": 0},
        3: {"value": 1.0, "distance": 0.707107, "nearest": 1},
    }


def test_images_that_are_too_near_come_last() -> None:
    """0 and 3 are as far apart as can be, 1 is .707107 from both, 2 repeats 0: at .8 neither is far
    enough, and 1 comes first by its value. 3 has a distance of 1: 1 of 2.
    """
    found = ranked_by_hand(4, least=0.8)
    expected = {0: 5 + 3 * STEP, 3: 4.5 + 2 * STEP, 1: 4 + STEP, 2: 4}
    assert {n: one.score for n, one in found.items()} == pytest.approx(expected, abs=1e-6)
    assert found[1].breakdown == {"value": 1.636396, "distance": 0.707107, "nearest": 0}


def test_only_the_window_is_ranked_anew() -> None:
    """The three of the largest values; the last keeps its own."""
    found = ranked_by_hand(3)
    expected = {0: 5 + 2 * STEP, 1: 4.578553 + STEP, 2: 4, 3: 0}
    assert {n: one.score for n, one in found.items()} == pytest.approx(expected, abs=1e-6)


def test_labelled_objects_count_from_the_start() -> None:
    """1 object in each of 2 images: n = 2, v = 1 / sqrt(3) = .577350, and as much explores:
    1.154701. Then .9 / sqrt(4) + .577350 = 1.027350.
    """
    found = ranked_by_hand(4, labelled=(1.0, 0, 0))
    assert found[0].breakdown == {"value": 1.154701, "distance": 1.0}
    assert found[1].breakdown == {"value": 1.02735, "distance": 0.707107, "nearest": 0}


def scored(paths: list[str], predictor: ColourPredictor) -> list[Scored]:
    stream = predictor.stream_tiles(paths, keep_inputs=True, keep_confidence=0.02)
    found = balanced_scores(stream, ScoringContext(predictor, SETTINGS, len(paths)))
    return sorted(found, key=lambda one: one.position)


def test_scores_of_images(paths: list[str]) -> None:
    """Bright 200/255 = .784314: H = .274900 + .477312 = .752212; faint 77/255 = .301961: .521657 +
    .362017 = .883674. 3 red ones are labelled, so red counts half.
    """
    found = scored(paths[:5], ColourPredictor(labelled_objects=(1.5, 0, 0), labelled_images=2))
    expected = [0.376106, 2 * 0.752212, 0, 0.441837]
    values = [one.score for one in found]
    assert values[:4] == pytest.approx(expected, abs=1e-5)
    assert values[4] is None
    assert not any(one.empty for one in found)
    assert found[3].breakdown == {
        "class": 0, "confidence": 0.302, "box": [20.0, 10.0, 60.0, 40.0], "uncertainty": 0.8837,
    }  # fmt: skip
    assert found[2].breakdown is None


def test_what_inference_leaves_out_counts(tmp_path: Path) -> None:
    """Confidence .1 is no detection at conf_thres .25, and H(.1) = .468996 in the score."""
    path = draw(tmp_path / "a.png", (64, 96), ((20, 10, 60, 40), RED))

    def unsure(image: Tensor) -> tuple[Tensor, Tensor]:
        return torch.tensor([[9.0, 9, 20, 20, 0.1, 0]]), torch.eye(3)[:1]

    predictor = ColourPredictor(unsure)
    (tile,) = predictor.stream_tiles([path], keep_inputs=True, keep_confidence=0.02)
    assert len(tile.detections) == 0
    assert tile.network_input is not None
    assert len(tile.network_input.rows) == 1
    assert scored([path], predictor)[0].score == pytest.approx(0.468996, abs=1e-6)
    # Alone it has the first place, 4 + 1; without a window its value.
    assert scores_of(ColourPredictor(unsure), [path], SETTINGS) == [5]
    plain = replace(SETTINGS, diverse_window=0)
    assert scores_of(ColourPredictor(unsure), [path], plain) == pytest.approx([0.468996], abs=1e-6)
    # One look: the detections of both thresholds are of one forward pass.
    predictor = ColourPredictor(unsure)
    scores_of(predictor, [path], SETTINGS)
    assert len(predictor.shapes) == 1


@pytest.mark.parametrize("most", [3, 300])
def test_inference_does_not_see_the_lower_threshold(paths: list[str], most: int) -> None:
    """With a real network the detections are bit for bit those of a task without mining."""
    network = untrained(3)
    everything = [one.detections[:, 4] for one in network.stream(paths)]
    nms = NmsConfig(float(np.median(np.concatenate(everything))), 0.45, most)
    network = replace(network, config=replace(network.config, nms=nms))
    expected = {one.position: one.detections.tolist() for one in network.stream(paths)}
    low = list(network.stream_tiles(paths, keep_inputs=True, keep_confidence=0.0))
    assert {one.position: one.detections.tolist() for one in low} == expected
    kept = [len(one.network_input.rows) for one in low if one.network_input is not None]
    assert 0 < sum(map(len, expected.values())) <= sum(kept)
    assert most == 3 or sum(map(len, expected.values())) < sum(kept)


def test_classes_take_turns(tmp_path: Path) -> None:
    """Four faint red, one green and one blue, all elsewhere: two red ones do not both lead."""
    boxes = [(8 * n, 4 * n, 8 * n + 30, 4 * n + 20) for n in range(6)]
    colours = [FAINT_RED] * 4 + [GREEN, BLUE]
    images = [
        draw(tmp_path / f"{n}.png", (64, 96), own)
        for n, own in enumerate(zip(boxes, colours, strict=True))
    ]
    rows = mine(ColourPredictor(), images, SETTINGS)
    first = [Path(path).stem for path, _ in sorted(rows, key=lambda row: -row[1])[:3]]
    assert {"4", "5"} < set(first)
    assert first[0] in "0123"
    # The labelled images are full of red: the others lead.
    known = ColourPredictor(labelled_objects=(900, 0, 0), labelled_images=10)
    rows = mine(known, images, SETTINGS)
    first = [Path(path).stem for path, _ in sorted(rows, key=lambda row: -row[1])[:2]]
    assert {"4", "5"} == set(first)


def test_counts_that_the_weights_do_not_tell(
    paths: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        rows = mine(ColourPredictor(), paths, SETTINGS)
    assert caplog.text.count("the counts of labelled objects start at 0") == 1
    assert rows == mine(ColourPredictor(labelled_objects=(0, 0, 0)), paths, SETTINGS)
    given = replace(SETTINGS, labelled_objects=(1.5, 0.0, 0.0))
    known = ColourPredictor(labelled_objects=(1.5, 0, 0), labelled_images=2)
    assert mine(ColourPredictor(labelled_images=2), paths, given) == mine(known, paths, SETTINGS)


def test_an_object_in_several_tiles_counts_once(tmp_path: Path) -> None:
    path = draw(tmp_path / "large.png", (96, 240), ((110, 30, 140, 60), RED))
    (only,) = scored([path], ColourPredictor(tiling=Tiling(96, 0.25)))
    assert only.score == pytest.approx(0.752212, abs=0.02)
    assert only.feature is not None


def test_the_window_is_every_image(paths: list[str]) -> None:
    """By default; or two of eight: the portrait with two colours, and the faint red one."""
    for window, inside in ((-1, [0, 1, 2, 3, 5, 6, 7]), (2, [1, 3])):
        scores = scores_of(ColourPredictor(), paths, replace(SETTINGS, diverse_window=window))
        assert [n for n, score in enumerate(scores) if score >= 4] == inside
        assert scores[4] == -1


@pytest.mark.parametrize("classes", [1, 3])
def test_a_real_network_repeats_itself(copies: list[str], classes: int) -> None:
    scores = scores_of(untrained(classes), copies, SETTINGS)
    assert scores == scores_of(untrained(classes), copies, SETTINGS)
    assert scores[5] == -1
    # Whichever copy stands first, the two others gain next to nothing.
    assert sum(score < classes + 1.01 for score in scores[:3]) == 2


@pytest.mark.parametrize("changes", [{"batch_size": 3}, {"workers": 3}])
def test_batches_and_workers_change_nothing(copies: list[str], changes: dict[str, int]) -> None:
    usual = scores_of(untrained(3), copies, SETTINGS)
    changed = scores_of(untrained(3), copies, replace(SETTINGS, **changes))
    assert changed == pytest.approx(usual, abs=1e-6)


def test_a_task_sees_what_its_conf_thres_leaves_out(
    drawn: SourceDataset,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No object at conf_thres 1 in any image, and values above the floor all the same.

    The weights are hardly trained: their detections lie below 0.02, so that limit is lowered.
    """
    monkeypatch.setattr(mining_balanced, "LEAST_CONFIDENCE", 0.001)
    low = replace(mining_balanced.ALGORITHM, confidence=0.001)
    monkeypatch.setitem(ALGORITHMS, "balanced", low)
    images = [str(image.path) for image in drawn.splits["val"]]
    Detector(weights, img_size=64).mine(images, "balanced", conf_thres=1)
    assert "nothing was found" not in caplog.text
    assert "have the same score" in caplog.text
    settings = {"mining_algorithm": "balanced", "img_size": "64", "conf_thres": "1", "plots": "no"}
    env_file = write_task(
        drawn, tmp_path / "task", kinds=("mining", "infer"), settings=settings, weights=[weights]
    )
    assert start.main(["--env", str(env_file)]) == 0
    with open(tmp_path / "task/out/mining/explanations.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["objects"] for row in rows} == {"0"}
    assert max(float(row["own_score"]) for row in rows) > 0.01
