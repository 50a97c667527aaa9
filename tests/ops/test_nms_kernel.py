"""The operator by itself is torchvision's, and asking for it imports none of torchvision."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torchvision

from ops import nms_kernel
from tests.conftest import ROOT


@pytest.mark.parametrize("count", [0, 1, 500])
def test_it_keeps_what_torchvision_keeps(count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(count, 2, generator=generator) * 100
    boxes = torch.cat((corners, corners + 1 + torch.rand(count, 2, generator=generator) * 40), 1)
    scores = torch.rand(count, generator=generator)
    for threshold in (0.0, 0.45, 1.0):
        kept = nms_kernel.nms(boxes, scores, threshold)
        assert kept.tolist() == torchvision.ops.nms(boxes, scores, threshold).tolist()


def test_torchvision_stays_unimported() -> None:
    code = (
        "import sys, torch\nfrom ops.nms_kernel import nms\n"
        "nms(torch.tensor([[0.0, 0, 1, 1]]), torch.ones(1), 0.5)\n"
        "assert 'torchvision' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("error", [OSError("no such library"), RuntimeError("other version")])
def test_a_library_that_does_not_load_leaves_it_to_torchvision(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(path: str) -> None:
        raise error

    monkeypatch.setattr(torch.ops, "load_library", refuse)
    assert nms_kernel.operator.__wrapped__() is torchvision.ops.nms
