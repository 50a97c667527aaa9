"""The loss against recorded cases of v7.0, and what must hold for any input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import models.loss
from models.assigner import Assignment, assign_targets
from models.loss import DetectionLoss, LossConfig, matched_boxes, objectness_target, scale_gains
from ops.boxes import aligned_iou
from tests.conftest import needs_gpu
from tests.models.conftest import levels_of

GOLDEN = Path(__file__).parent.parent / "golden"
# Cases of the extract in tests/golden: those whose maps are small.
CASES = [
    *("nc3", "nc3_img640", "nc3_smooth_focal", "nc3_empty", "nc3_empty_focal", "nc3_border"),
    *("nc3_big_only", "nc3_dup", "nc3_pw", "nc3_rect"),
    *("nc1", "nc1_smooth", "nc1_focal", "nc1_empty"),
]


class Recorded:
    """One recorded case: inputs, our loss for it, and what was recorded."""

    def __init__(self, folder: Path, case: str) -> None:
        self.about = about = json.loads((folder / "loss.json").read_text())[case]
        self.threshold = about["hyp"]["anchor_t"]
        self.anchors = torch.tensor(about["anchors_grid"])
        with np.load(folder / "loss.npz", allow_pickle=False) as arrays:
            self.raw = [
                torch.from_numpy(arrays[f"{about['pred']}.pred{i}"].astype(np.float32))
                for i in range(about["nl"])
            ]
            self.targets = torch.from_numpy(arrays[f"{about['targets']}.targets"])
            prefix = f"{case}."
            self.wanted = {
                k.removeprefix(prefix): arrays[k] for k in arrays.files if k.startswith(prefix)
            }

    def criterion(self) -> DetectionLoss:
        hyp = self.about["hyp"]
        names = ("box", "obj", "cls", "anchor_t", "cls_pw", "obj_pw", "fl_gamma")
        hyp = {name: hyp[name] for name in names}
        config = LossConfig(**hyp, label_smoothing=self.about["label_smoothing"])
        return DetectionLoss(self.anchors, self.about["nc"], config)

    def overlaps(self, *, padded: bool = False) -> list[tuple[Tensor, Assignment, Tensor]]:
        """Per level: logits, matches, and CIoU of the matches."""
        sizes = [(level.shape[2], level.shape[3]) for level in self.raw]
        levels = []
        matches = assign_targets(self.targets, sizes, self.anchors, self.threshold, padded=padded)
        for raw, match in zip(self.raw, levels_of(matches), strict=True):
            rows = raw[match.image, match.anchor, match.row, match.column]
            overlap = aligned_iou(matched_boxes(rows, match), match.boxes, complete=True)
            levels.append((raw, match, overlap))
        return levels


def check_loss(folder: Path, case: str) -> None:
    recorded = Recorded(folder, case)
    raw = [level.clone().requires_grad_() for level in recorded.raw]
    parts = recorded.criterion()(raw, recorded.targets)
    parts.total.backward()
    wanted = recorded.wanted
    np.testing.assert_allclose(parts.total.item(), wanted["loss"][0], rtol=1e-5)
    items = [parts.box.item(), parts.obj.item(), parts.cls.item()]
    np.testing.assert_allclose(items, wanted["items"], rtol=1e-5, atol=1e-7)
    for level, logits in enumerate(raw):
        if f"grad{level}" in wanted:
            np.testing.assert_allclose(logits.grad, wanted[f"grad{level}"], rtol=1e-4, atol=1e-6)
    for padded in (False, True):
        for level, (maps, match, overlap) in enumerate(recorded.overlaps(padded=padded)):
            if f"tobj{level}" in wanted:
                target = objectness_target(overlap, match, [maps.shape[:4]])
                wanted_map = wanted[f"tobj{level}"]
                np.testing.assert_allclose(target.view(wanted_map.shape), wanted_map, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_recorded_losses(case: str) -> None:
    """Recorded from v7.0's loss on random maps (CPU, float32); nc3_dup has shared places."""
    check_loss(GOLDEN, case)


def test_all_recorded_cases(shared: Path) -> None:
    """As above, the complete file: 20 cases, gradients and objectness maps."""
    folder = shared / "golden"
    cases = list(json.loads((folder / "loss.json").read_text()))
    assert len(cases) == 20
    for case in cases:
        check_loss(folder, case)


def test_recorded_overlaps(shared: Path) -> None:
    """CIoU per match as recorded from v7.0, rows brought back into its order."""
    folder = shared / "golden"
    with np.load(folder / "assign.npz", allow_pickle=False) as arrays:
        for case in ("nc3_dup", "nc3_p6", "nc80"):
            for level, (_, _, overlap) in enumerate(Recorded(folder, case).overlaps()):
                order = np.argsort(arrays[f"{case}.l{level}.upstream_pos"])
                wanted = arrays[f"{case}.l{level}.ciou"][order]
                np.testing.assert_allclose(overlap.numpy(), wanted, atol=1e-5)


P5_ANCHORS = [
    [[10, 13], [16, 30], [33, 23]],
    [[30, 61], [62, 45], [59, 119]],
    [[116, 90], [156, 198], [373, 326]],
]
P6_LEVEL = [[436, 615], [739, 380], [925, 792]]
FOUR_TARGETS = [
    [0, 1, 0.5, 0.5, 0.4, 0.3],
    [0, 0, 0.03, 0.97, 0.05, 0.06],
    [1, 2, 0.26, 0.74, 0.5, 0.9],
    [1, 0, 0.9999, 0.0001, 0.2, 0.2],
]


def sawtooth_maps(levels: int = 3, classes: int = 3) -> list[Tensor]:
    """Logits that need no file: 0.01 ((k mod 97) - 48) for element k, on a 64 pixel input."""
    maps = []
    for level in range(levels):
        side = 64 // (8 * 2**level)
        shape = (2, 3, side, side, 5 + classes)
        maps.append((0.01 * (torch.arange(int(np.prod(shape))) % 97 - 48)).view(shape))
    return maps


def small_criterion(*, levels: int = 3, classes: int = 3, **settings: float) -> DetectionLoss:
    pixels = torch.tensor([*P5_ANCHORS, P6_LEVEL][:levels], dtype=torch.float32)
    strides = torch.tensor([8.0, 16.0, 32.0, 64.0])[:levels]
    config = LossConfig(box=0.05, obj=1.0, cls=0.5, **settings)
    return DetectionLoss(pixels / strides[:, None, None], classes, config)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        pytest.param({}, (9.856874, 0.111990, 3.785149, 1.031298), id="plain"),
        pytest.param({"classes": 1}, (7.769715, 0.118650, 3.766208, 0), id="one class"),
        pytest.param({"label_smoothing": 0.1}, (9.861849, 0.111990, 3.785149, 1.033785), id="soft"),
        pytest.param({"fl_gamma": 1.5}, (2.703610, 0.111990, 1.032825, 0.206990), id="focal"),
        pytest.param(
            {"cls_pw": 0.5, "obj_pw": 0.7}, (9.432070, 0.111990, 3.761336, 0.842709), id="weights"
        ),
        pytest.param({"anchor_t": 2.0}, (9.092042, 0.059326, 3.785116, 0.701579), id="threshold"),
        pytest.param({"levels": 4}, (9.714989, 0.111990, 3.714207, 1.031298), id="four levels"),
        pytest.param({"targets": 0}, (7.569852, 0.0, 3.784926, 0.0), id="no targets"),
    ],
)
def test_reference_vectors(settings: dict, wanted: tuple[float, ...]) -> None:
    """Total, box, obj, cls printed by v7.0 for logits and targets given in closed form."""
    settings = dict(settings)
    targets = torch.tensor(FOUR_TARGETS)[: settings.pop("targets", None)]
    if settings.get("classes") == 1:
        targets[:, 1] = 0
    maps = sawtooth_maps(settings.get("levels", 3), settings.get("classes", 3))
    maps = [level.requires_grad_() for level in maps]
    parts = small_criterion(**settings)(maps, targets)
    got = torch.stack([parts.total.detach(), parts.box, parts.obj, parts.cls])
    torch.testing.assert_close(got, torch.tensor(wanted), rtol=0, atol=2e-6)
    assert parts.total.requires_grad
    assert not any(part.requires_grad for part in (parts.box, parts.obj, parts.cls))
    torch.testing.assert_close(got[0], 2 * got[1:].sum())


def gradients_of(maps: list[Tensor], targets: Tensor, **settings: float) -> list[Tensor]:
    maps = [level.detach().requires_grad_() for level in maps]
    parts = small_criterion(**settings)(maps, targets)
    parts.total.backward()
    return [parts.total.detach(), parts.box, parts.obj, parts.cls, *(m.grad for m in maps)]


@pytest.mark.parametrize(("gamma", "count"), [(0.0, 5), (0.5, 5), (1.5, 5), (1.5, 0)])
def test_padded_matches_and_strided_maps_give_the_same_numbers(gamma, count, monkeypatch):
    """The form for GPUs, run on the CPU, with a target that would be NaN if it were counted."""
    targets = torch.tensor([*FOUR_TARGETS, [1, 1, 0.5, 0.5, 0.0, 0.0]])[:count]
    # One layout as a convolution gives it, one strided as by channels last.
    maps = sawtooth_maps()
    strided = [m.permute(0, 1, 4, 2, 3).contiguous().permute(0, 1, 3, 4, 2) for m in maps]
    results = []
    for padded, levels in ((False, maps), (True, strided)):
        monkeypatch.setattr(
            models.loss,
            "assign_targets",
            lambda *given, padded, _padded=padded: assign_targets(*given, padded=_padded),
        )
        results.append(gradients_of(levels, targets, fl_gamma=gamma))
    for one, other in zip(*results, strict=True):
        assert torch.isfinite(other).all()
        torch.testing.assert_close(one, other)


def test_half_precision_logits_are_summed_in_float32() -> None:
    maps = [level.bfloat16() for level in sawtooth_maps()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = small_criterion()(maps, torch.tensor(FOUR_TARGETS))
    exact = small_criterion()([level.float() for level in maps], torch.tensor(FOUR_TARGETS))
    assert low.total.dtype == torch.float32
    assert torch.equal(low.total, exact.total)


def test_the_last_of_several_matches_counts() -> None:
    """Two targets in one place, by hand: the score of the second is written, whatever it is."""
    targets = torch.tensor([[0, 0, 0.5625, 0.5625, 0.25, 0.25]]).repeat(2, 1)
    match = assign_targets(targets, [(4, 4)], torch.tensor([[[1.0, 1.0]]]), 4.0)
    scores = torch.linspace(0.9, 0.1, len(match.image))
    slow = torch.zeros(1, 1, 4, 4)
    for k, score in enumerate(scores):
        slow[match.image[k], match.anchor[k], match.row[k], match.column[k]] = score
    assert torch.equal(objectness_target(scores, match, [slow.shape]).view_as(slow), slow)


@needs_gpu
@pytest.mark.parametrize("count", [0, 1, 4])
def test_on_a_gpu_the_host_never_waits_and_the_numbers_agree(count: int) -> None:
    criterion, targets = small_criterion().cuda(), torch.tensor(FOUR_TARGETS)[:count]
    maps = [level.cuda().requires_grad_() for level in sawtooth_maps()]
    on_device = targets.cuda()
    criterion(maps, on_device).total.backward()  # let every kernel be loaded first
    torch.cuda.set_sync_debug_mode("error")
    try:
        total = criterion(maps, on_device).total
        total.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    wanted = gradients_of(sawtooth_maps(), targets)
    torch.testing.assert_close(total.detach().cpu(), wanted[0], rtol=1e-5, atol=1e-6)
    for level, gradient in zip(maps, wanted[4:], strict=True):  # of two passes
        torch.testing.assert_close(level.grad.cpu(), 2 * gradient, rtol=1e-4, atol=1e-6)


@needs_gpu
@pytest.mark.parametrize(("count", "rows"), [(0, 128), (128, 128), (129, 192), (300, 384)])
def test_on_a_gpu_numbers_of_targets_make_few_shapes(
    count: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def watched(targets: Tensor, *given: object, **options: bool) -> Assignment:
        seen.append(len(targets))
        return assign_targets(targets, *given, **options)

    monkeypatch.setattr(models.loss, "assign_targets", watched)
    targets = torch.tensor(FOUR_TARGETS)[:1].repeat(count, 1).cuda()
    small_criterion().cuda()([level.cuda() for level in sawtooth_maps()], targets)
    assert seen == [rows]


def test_recorded_gains() -> None:
    """Settings before and after v7.0's scaling, of five cases and of a training at 320 pixels."""
    cases = json.loads((GOLDEN / "loss.json").read_text())
    keys = ("hyp_before_scaling", "hyp", "nl", "nc", "imgsz_for_hyp_scaling")
    names = ("nc80", "nc3", "nc3_img640", "nc3_p6", "nc1")
    recorded = [tuple(cases[name][key] for key in keys) for name in names]
    check = json.loads((GOLDEN / "schedule.json").read_text())["hyp_scaling_check"]
    recorded.append(tuple(check[key] for key in ("before", "after", "nl", "nc", "imgsz")))
    for before, after, levels, classes, size in recorded:
        gains = scale_gains(
            *(before[name] for name in ("box", "obj", "cls")),
            num_levels=levels,
            num_classes=classes,
            image_size=size,
        )
        assert gains == pytest.approx((after["box"], after["obj"], after["cls"]), rel=1e-12)
