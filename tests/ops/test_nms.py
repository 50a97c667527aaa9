"""Non-maximum suppression against v7.0's recorded results, hand-made cases and a slow loop."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import torchvision

from ops.boxes import cxcywh_to_xyxy, pairwise_iou
from ops.nms import CLASS_OFFSET, NmsConfig, nms_operator, non_max_suppression
from settings.detect import InferSettings, MiningSettings
from tests.conftest import DEVICES, ROOT

CASES = json.loads((ROOT / "tests" / "golden" / "nms.json").read_text())


@pytest.fixture(scope="module")
def arrays(golden):
    loaded = {}
    for name in ("nms.npz", "nms_80_classes.npz"):
        with np.load(golden(name), allow_pickle=False) as file:
            loaded |= {key: torch.from_numpy(file[key]) for key in file.files}
    return loaded


def random_prediction(batch=3, rows=200, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.rand(batch, rows, 5 + classes, generator=generator)
    prediction[..., :2] *= 200
    prediction[..., 2:4] = 10 + prediction[..., 2:4] * 60
    return prediction


def sorted_rows(rows):
    """Rows in an order that does not depend on how equal scores were ordered."""
    rows = rows.cpu().double().numpy()
    return rows[np.lexsort((*rows[:, :4].T.round(2), rows[:, 5], -rows[:, 4]))]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case["labels"]])
def test_matches_v7(arrays, name, device):
    """Detections of v7.0's non_max_suppression without its time limit (nms.npz)."""
    case = CASES[name]
    prediction = arrays[case["input"]].to(device)
    config = NmsConfig(
        case["conf_thres"],
        case["iou_thres"],
        case["max_det"],
        case["classes"] and tuple(case["classes"]),
        case["agnostic"],
    )
    result = non_max_suppression(prediction, config, multi_label=case["multi_label"])
    assert [len(kept.rows) for kept in result] == case["detections_per_image"]
    for index, kept in enumerate(result):
        expected = sorted_rows(arrays[f"{name}.out{index}"])
        rows = sorted_rows(kept.rows)
        np.testing.assert_allclose(rows[:, :4], expected[:, :4], rtol=0, atol=1e-4)
        np.testing.assert_allclose(rows[:, 4], expected[:, 4], rtol=0, atol=1e-6)
        np.testing.assert_array_equal(rows[:, 5], expected[:, 5])


@pytest.mark.parametrize(
    "config",
    [NmsConfig(classes=()), NmsConfig(max_detections=0), NmsConfig(confidence=1.0)],
    ids=["no class", "no detections", "confidence 1"],
)
def test_settings_that_keep_nothing(config):
    for kept in non_max_suppression(random_prediction(), config, multi_label=True):
        assert kept.rows.shape == (0, 6)


def test_thresholds_are_strict():
    """Objectness 0.5 and score 0.5 do not exceed 0.5; an IoU of 0.5 does not exceed 0.5."""
    box = [0.5, 1.0, 1.0, 2.0]
    edge = torch.tensor([[[*box, 0.5, 1.0], [*box, 1.0, 0.5], [*box, 0.75, 0.75]]])
    (kept,) = non_max_suppression(edge, NmsConfig(confidence=0.5))
    assert kept.source.tolist() == [2]
    half = torch.tensor([[[0.5, 1.0, 1.0, 2.0, 1.0, 1.0], [0.5, 0.5, 1.0, 1.0, 1.0, 0.9]]])
    (kept,) = non_max_suppression(half, NmsConfig(iou=0.5))
    assert kept.source.tolist() == [0, 1]


@pytest.mark.parametrize("device", DEVICES)
def test_an_iou_just_above_a_threshold_that_float32_cannot_hold(device):
    """3/5 as float32 is above 0.6, so v7.0 suppresses it on the CPU, and so do all devices here."""
    pair = torch.tensor([[[2.5, 1, 5, 2, 1, 1], [1.5, 1, 3, 2, 1, 0.9]]], device=device)
    (kept,) = non_max_suppression(pair, NmsConfig(iou=0.6))
    assert kept.source.tolist() == [0]


def slow_suppression(prediction, confidence, iou, limit, multi_label):
    """One image, one candidate at a time: the definition."""
    candidates = []
    for source, row in enumerate(prediction):
        scores = row[5:] * row[4]
        labels = range(len(scores)) if multi_label else [int(scores.argmax())]
        box = cxcywh_to_xyxy(row[:4])
        for label in labels:
            if row[4] > confidence and scores[label] > confidence:
                candidates.append((-float(scores[label]), source, label, box))
    kept = []
    for _, source, label, box in sorted(candidates, key=lambda candidate: candidate[:3]):
        rivals = [other + CLASS_OFFSET * label for _, same, other in kept if same == label]
        placed = box + CLASS_OFFSET * label
        if all(pairwise_iou(placed[None], rival[None]) <= iou for rival in rivals):
            kept.append((source, label, box))
    return [(source, label) for source, label, _ in kept[:limit]]


@pytest.mark.parametrize("limit", [1, 10, 300])
@pytest.mark.parametrize("multi_label", [False, True])
def test_equals_a_slow_loop(multi_label, limit):
    prediction = random_prediction(batch=1, rows=120)
    config = NmsConfig(0.05, 0.3, max_detections=limit)
    (kept,) = non_max_suppression(prediction, config, multi_label=multi_label)
    expected = slow_suppression(prediction[0], 0.05, 0.3, limit, multi_label)
    assert list(zip(kept.source.tolist(), kept.rows[:, 5].tolist(), strict=True)) == expected


def test_a_short_list_is_the_head_of_the_long_one():
    """Looking at the best candidates first changes nothing, however deep the limit lies."""
    prediction = random_prediction(batch=1, rows=2000, seed=5)
    (long,) = non_max_suppression(prediction, NmsConfig(0.001, 0.2, 8000), multi_label=True)
    for limit in (1, 3, 20):
        config = NmsConfig(0.001, 0.2, limit)
        (short,) = non_max_suppression(prediction, config, multi_label=True)
        assert torch.equal(short.source, long.source[:limit])


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_batch_equals_its_images(multi_label):
    prediction = random_prediction()
    prediction[1, :, 4] = 0
    before = prediction.clone()
    together = non_max_suppression(prediction, multi_label=multi_label)
    assert torch.equal(prediction, before)
    for index, kept in enumerate(together):
        (alone,) = non_max_suppression(prediction[index : index + 1], multi_label=multi_label)
        assert torch.equal(kept.rows, alone.rows)
        assert torch.equal(kept.source, alone.source)
    assert together[1].rows.shape == (0, 6)


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_source_leads_back_to_box_and_scores(multi_label):
    prediction = random_prediction().requires_grad_()
    for image, kept in enumerate(non_max_suppression(prediction, multi_label=multi_label)):
        assert not kept.rows.requires_grad
        rows = prediction[image, kept.source]
        assert kept.source.dtype == torch.int64
        assert torch.equal(kept.rows[:, :4], cxcywh_to_xyxy(rows[:, :4]))
        scores = rows[:, 5:] * rows[:, 4:5]
        assert torch.equal(kept.rows[:, 4], scores.gather(1, kept.rows[:, 5:].long())[:, 0])


def test_only_the_best_candidates_enter(monkeypatch):
    """With ties across the limit, the earlier rows enter."""
    monkeypatch.setattr("ops.nms.MAX_CANDIDATES", 3)
    prediction = torch.zeros(1, 6, 6)
    prediction[0, :, 0] = torch.arange(6) * 100
    prediction[0, :, 2:4] = 10
    prediction[0, :, 4] = 1
    prediction[0, :, 5] = torch.tensor([0.5, 0.7, 0.7, 0.9, 0.7, 0.6])
    (kept,) = non_max_suppression(prediction)
    assert kept.source.tolist() == [3, 1, 2]


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("shape", [(0, 7, 8), (2, 0, 8)], ids=["no-images", "no-rows"])
def test_nothing_in_nothing_out(shape, multi_label):
    result = non_max_suppression(torch.zeros(shape), multi_label=multi_label)
    assert len(result) == shape[0]
    for kept in result:
        assert kept.rows.shape == (0, 6)
        assert kept.rows.dtype == torch.float32
        assert kept.source.shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_rows_are_float32_whatever_comes_in(dtype):
    prediction = random_prediction().to(dtype)
    for got, expected in zip(
        non_max_suppression(prediction), non_max_suppression(prediction.float()), strict=True
    ):
        assert got.rows.dtype == torch.float32
        assert torch.equal(got.rows, expected.rows)


@pytest.mark.parametrize("name", ["confidence", "iou"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_impossible_thresholds_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is .*between 0 and 1"):
        NmsConfig(**{name: value})


@pytest.mark.parametrize("count", [0, 1, 500])
def test_the_operator_is_torchvisions(count):
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(count, 2, generator=generator) * 100
    boxes = torch.cat((corners, corners + 1 + torch.rand(count, 2, generator=generator) * 40), 1)
    scores = torch.rand(count, generator=generator)
    for threshold in (0.0, 0.45, 1.0):
        kept = nms_operator()(boxes, scores, threshold)
        assert kept.tolist() == torchvision.ops.nms(boxes, scores, threshold).tolist()


def test_nms_does_not_import_torchvision():
    code = (
        "import sys, torch\nfrom ops.nms import non_max_suppression\n"
        "non_max_suppression(torch.ones(1, 2, 6))\n"
        "assert 'torchvision' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("error", [OSError("no such library"), RuntimeError("other version")])
def test_torchvision_is_imported_where_its_library_does_not_load(monkeypatch, error):
    def refuse(path):
        raise error

    monkeypatch.setattr(torch.ops, "load_library", refuse)
    assert nms_operator.__wrapped__() is torchvision.ops.nms


@pytest.mark.parametrize("settings", [InferSettings(), MiningSettings()])
def test_more_than_a_hundred_objects(settings):
    """250 objects that stand apart are all found with the settings as they are."""
    centres = torch.cartesian_prod(torch.arange(25), torch.arange(10)) * 20.0 + 10
    rows = torch.cat((centres, torch.full((250, 2), 10.0), torch.full((250, 2), 0.9)), 1)
    config = NmsConfig(settings.conf_thres, settings.iou_thres, settings.max_det)
    (kept,) = non_max_suppression(rows[None], config)
    assert len(kept.rows) == 250
