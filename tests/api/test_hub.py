"""torch.hub's entry points, called as with v7.0."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from api.detector import Detector
from api.hub import HubModel

ROOT = Path(__file__).resolve().parents[2]


def load(name: str, **options: object) -> HubModel:
    model: HubModel = torch.hub.load(str(ROOT), name, source="local", **options)
    return model


def test_a_program_of_v7(untrained: Path, pictures: list[str]) -> None:
    model = load("custom", path=str(untrained), device="cpu")
    model.conf, model.iou, model.max_det, model.classes = 0.0, 0.6, 7, [1]
    results = model.to("cpu").eval()(pictures, size=96, augment=True)
    settings = {"conf_thres": 0, "iou_thres": 0.6, "max_det": 7, "classes": [1], "augment": True}
    own = Detector(untrained, device="cpu", img_size=96, precision="float32", **settings)
    assert [len(rows) for rows in results.xyxy] == [7, 7, 7]
    assert all(map(torch.equal, results.xyxy, own(pictures).xyxy))
    assert model.names == {0: "red cell", 1: "white"}
    assert set(results.pandas().xyxy[0]["name"]) == {"white"}


def test_official_names_take_the_file_of_the_folder(
    untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match=r"yolov5s.pt is not in .*nothing is downloaded"):
        load("yolov5s")
    Path("yolov5s.pt").write_bytes(untrained.read_bytes())
    assert load("yolov5s", device="cpu").weights == Path("yolov5s.pt")
    for refused in ({"pretrained": False}, {"classes": 3}):
        with pytest.raises(Exception, match=r"train\.py --cfg yolov5s"):
            load("yolov5s", **refused)
    with pytest.raises(Exception, match="autoshape=False, the bare network, is not offered"):
        load("custom", path="yolov5s.pt", autoshape=False)
    for name in [f"yolov5{letter}{level}" for letter in "nmlx" for level in ("", "6")]:
        with pytest.raises(Exception, match=f"{name}.pt is not in"):
            load(name)


@pytest.mark.slow
def test_a_program_keeps_its_own_modules(untrained: Path, tmp_path: Path) -> None:
    """v7.0 cannot be loaded into a program that has imported its own `utils` or `models`."""
    for name in ("utils", "models", "data"):
        (tmp_path / f"{name}.py").write_text("OWN = True\n")
    program = (
        "import utils, models\n"
        "from torch import hub, uint8, zeros\n"
        f"model = hub.load({str(ROOT)!r}, 'custom', path={str(untrained)!r}, source='local')\n"
        "import data\n"
        "assert utils.OWN and models.OWN and data.OWN\n"
        "print(len(model(zeros(64, 64, 3, dtype=uint8).numpy(), size=64).xyxy))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
