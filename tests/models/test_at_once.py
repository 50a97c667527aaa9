"""What a training pass does for all units at once is what it would do one by one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from models.detector import Detector
from tests.conftest import needs_gpu
from training.build import freeze, set_train_mode


def counters(detector: Detector) -> dict[str, int]:
    state = detector.state_dict().items()
    return {key: int(value) for key, value in state if key.endswith("num_batches_tracked")}


def test_every_training_pass_is_counted_but_in_frozen_layers(
    tiny: Callable[..., Detector],
) -> None:
    detector, images = tiny(), torch.rand(2, 3, 32, 32)
    freeze(detector, (0, 1))
    set_train_mode(detector)
    for _ in range(2):
        detector(images)
    detector.eval()(images)
    found = counters(detector)
    assert len(found) == sum(isinstance(one, nn.BatchNorm2d) for one in detector.modules())
    for key, count in found.items():
        assert count == (0 if key.startswith(("model.0.", "model.1.")) else 2), key


def gradients(detector: Detector, images: Tensor) -> dict[str, Tensor | None]:
    with torch.autocast("cuda", dtype=torch.bfloat16):
        maps = detector(images)
    sum(level.float().square().mean() for level in maps).backward()
    return {
        name: None if one.grad is None else one.grad.float().cpu()
        for name, one in detector.named_parameters()
    }


@needs_gpu
def test_weights_cast_together_have_the_gradients_of_those_cast_one_by_one(
    tiny: Callable[..., Detector], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = torch.rand(2, 3, 32, 32).cuda()
    found = []
    for context in (None, lambda *_: nullcontext()):
        if context:
            monkeypatch.setattr("models.detector.cast_weights", context)
        detector = tiny().cuda().to(memory_format=torch.channels_last)
        freeze(detector, (1,))  # the first one
        set_train_mode(detector)
        found.append(gradients(detector, images))
    together, apart = found
    assert together.keys() == apart.keys()
    for name, gradient in together.items():
        if name.startswith("model.0."):
            assert gradient is apart[name] is None
        else:
            torch.testing.assert_close(gradient, apart[name], msg=name)


@needs_gpu
def test_lent_weights_are_taken_back_also_from_a_pass_that_fails(
    tiny: Callable[..., Detector],
) -> None:
    """A frozen one is not lent: its gradient would be computed for nothing."""
    detector = tiny().cuda()
    freeze(detector, (1,))  # the first one
    set_train_mode(detector)
    lent = []
    for unit in detector.units[:2]:
        unit.register_forward_pre_hook(lambda unit, _: lent.append(unit.cast_weight))
    with (
        torch.autocast("cuda", dtype=torch.bfloat16),
        pytest.raises(RuntimeError, match=r"[Ss]izes of tensors must match"),
    ):
        detector(torch.rand(1, 3, 36, 36).cuda())
    assert lent[0] is None
    assert lent[1].dtype == torch.bfloat16
    assert all(unit.cast_weight is None for unit in detector.units)
