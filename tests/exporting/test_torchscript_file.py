"""The TorchScript file: any size, any device, and the notes that v7.0 looks for."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from exporting.torchscript_file import CONFIG, run_torchscript, write_torchscript
from tests.exporting.conftest import NAMES

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    ),
]


@pytest.fixture
def written(small, plain, tmp_path):
    path = tmp_path / "best.torchscript"
    write_torchscript(small, path, plain)
    return path


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (3, 3, 20, 14)])
def test_any_batch_and_size_on_any_device(written, small, shape, device):
    program = torch.jit.load(str(written), map_location=device)
    images = torch.rand(*shape)
    rows = program(images.to(device)).cpu()
    torch.testing.assert_close(rows, small.fused().predict(images), atol=1e-3, rtol=1e-3)


def test_no_device_is_remembered(written):
    """A file that was traced on one device would else fail on every other."""
    graph = str(torch.jit.load(str(written)).inlined_graph)
    assert 'value="cpu"' not in graph
    assert "aten::silu" in graph


def test_notes(written):
    notes = {CONFIG: ""}
    torch.jit.load(str(written), _extra_files=notes)
    content = json.loads(notes[CONFIG])
    assert content["shape"] == [1, 3, 128, 128]
    assert content["stride"] == 2
    assert content["names"] == {str(index): name for index, name in enumerate(NAMES)}


def test_as_a_function_of_arrays(written, small, plain):
    images = torch.rand(2, 3, 8, 8)
    rows = run_torchscript(written, plain)(images.numpy())
    torch.testing.assert_close(torch.from_numpy(rows), small.fused().predict(images))


def test_half(small, plain, tmp_path):
    write_torchscript(small, tmp_path / "half.torchscript", dataclasses.replace(plain, half=True))
    program = torch.jit.load(str(tmp_path / "half.torchscript"))
    assert {p.dtype for p in program.parameters()} == {torch.float16}
    assert program(torch.rand(1, 3, 8, 8)).dtype == torch.float32
