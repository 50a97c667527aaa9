"""The comparison of packed convolutions runs every contestant in every round but the first."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench import packing
from inference import network as looks
from inference.predictor import Predictor
from models.detector import Detector
from models.model_config import read_model_config
from models.onednn import onednn_supports
from tools.sources import SourceDataset

CPU = torch.device("cpu")


@pytest.fixture
def predictor() -> Predictor:
    if not onednn_supports(torch.float32):
        pytest.skip("float32 cannot be packed here")
    detector = Detector(read_model_config("yolov5n", 3))
    return Predictor(detector, list("abc"), device=CPU, image_size=64, precision="float32")


def test_who_computes_in_which_round(
    predictor: Predictor, drawn: SourceDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "PIXELS_A_PASS", looks.PIXELS_A_PASS)
    packed, asked = predictor.looks.compiled, []

    def note(images: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        asked.append((predictor.looks.compiled is packed, looks.PIXELS_A_PASS))
        return plain(images)

    plain = predictor.forward
    monkeypatch.setattr(predictor, "forward", note)
    files = [str(image.path) for image in drawn.splits["train"][:2]]
    found = list(packing.rounds(predictor, files, {"small": 4096, "large": 8192}, (2, 2)))
    assert [name for name, _ in found] == [packing.PLAIN, "small", "large"] * 2
    assert all(seconds > 0 for _, seconds in found)
    assert list(dict.fromkeys(asked)) == [(False, 1 << 60), (True, 4096), (True, 8192)]


def test_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    if not onednn_supports(torch.float32):
        pytest.skip("float32 cannot be packed here")
    monkeypatch.setattr(looks, "PIXELS_A_PASS", looks.PIXELS_A_PASS)
    monkeypatch.setattr("bench.material.BUILD", tmp_path)
    monkeypatch.setattr("bench.material.DRAWN_IMAGES", 4)
    arguments = "--model yolov5n --img-size 64 --precision float32 --images 2 --rounds 1 --passes 2"
    packing.main(arguments.split())
    plain, packed = capsys.readouterr().out.splitlines()
    assert plain.startswith(f"{packing.PLAIN}: ")
    assert plain.endswith("1.00 / 1.00 / 1.00 times as fast")
    assert packed.startswith("packed, 2 a pass: ")
    with pytest.raises(SystemExit):
        packing.main(["--images", "0"])
