"""The OpenVINO model: two files with their notes, and one sentence where the package is missing."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
import torch

from exporting.export import export
from exporting.openvino_file import run_openvino, write_openvino
from utils.errors import Code, TaskError


@pytest.fixture
def openvino():
    return pytest.importorskip("openvino", reason="the optional package is not installed")


@pytest.mark.parametrize("half", [False, True])
def test_model_and_weights(openvino, small, plain, tmp_path, half):
    options = dataclasses.replace(plain, half=half)
    write_openvino(small, tmp_path / "best.xml", options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.bin", "best.xml"]
    images = np.random.default_rng(0).random((2, 3, 8, 12), dtype=np.float32)
    rows = run_openvino(tmp_path / "best.xml", options)(images)
    expected = small.fused().predict(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(rows, expected, atol=0.1 if half else 1e-3)
    notes = openvino.Core().read_model(str(tmp_path / "best.xml")).get_rt_info(["model_info"])
    assert str(notes["stride"]) == "2"
    assert "owl" in str(notes["names"])


def test_half_stores_half(openvino, detector, plain, tmp_path):
    sizes = []
    for half in (False, True):
        write_openvino(detector, tmp_path / "best.xml", dataclasses.replace(plain, half=half))
        sizes.append((tmp_path / "best.bin").stat().st_size)
    assert sizes[1] < 0.55 * sizes[0]


def test_nothing_is_reported_over_the_network(openvino, small, plain, tmp_path, monkeypatch):
    """The converter that tells its maker of its use is not the one that is called."""

    def refuse(*_, **__):
        raise AssertionError("the reporting converter was called")

    monkeypatch.setattr(openvino, "convert_model", refuse)
    write_openvino(small, tmp_path / "best.xml", plain)
    assert (tmp_path / "best.xml").is_file()


def test_a_missing_package_is_one_sentence(small, plain, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(TaskError, match="needs the package openvino") as caught:
        export(small, "openvino", path=tmp_path / "best.xml", options=plain)
    assert caught.value.code is Code.CONFIG
    assert "\n" not in caught.value.sentence
    assert list(tmp_path.iterdir()) == []
