"""Detection, mining and evaluation by other backends than torch give what torch gives."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import detect
import start
import val
from inference.backends import choice
from inference.backends.base import Backend, BackendType
from inference.predictor import Predictor, load_predictor
from ops.nms import NmsConfig
from settings.detect import InferSettings
from tests.mixed_example import small_predictor, write_mixed
from tools.check_out import check_out
from tools.make_task import write_task
from utils.errors import Code, TaskError

CPU = torch.device("cpu")
ENGINES = ("onnxruntime", "openvino")


@pytest.fixture(scope="module")
def paths(drawn, tmp_path_factory) -> list[str]:
    return write_mixed(drawn, tmp_path_factory.mktemp("mixed"))


def predictor(weights: Path, paths: list[str], backend: str, **config: object) -> Predictor:
    nms, images = NmsConfig(confidence=0.001), paths
    return small_predictor(
        weights, nms, images=images, precision="float32", batch_size=2, backend=backend, **config
    )


def detections(one: Predictor, paths: list[str]) -> list[np.ndarray]:
    return [found.detections for found in sorted(one.stream(paths), key=lambda one: one.position)]


def found_in(some: np.ndarray, others: np.ndarray) -> float:
    """Share of rows that are among the others, in any order: equal scores have none."""
    distance = np.abs(some[:, None] - others[None]).max(-1)
    return float((distance.min(1, initial=np.inf) < 0.02).mean()) if len(some) else 1.0


@pytest.mark.parametrize("augment", [False, True], ids=["plain", "TTA"])
@pytest.mark.parametrize("name", ENGINES)
def test_the_same_detections_at_mixed_shapes(weights, paths, name, augment):
    """Head maps, which ALDD mining needs, too; the backbone is always torch."""
    pytest.importorskip(name, reason="the optional package is not installed")
    plain, own = (predictor(weights, paths, one, augment=augment) for one in ("torch", name))
    assert (plain.network.backend, own.network.backend.name) == (None, name)
    expected = detections(plain, paths)
    assert sum(map(len, expected)) > 0
    for one, other in zip(detections(own, paths), expected, strict=True):
        assert found_in(one, other) >= 0.97
        assert found_in(other, one) >= 0.97
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    for one, other in zip(plain.forward(images)[0], own.forward(images)[0], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    assert torch.equal(plain.backbone_map(images), own.backbone_map(images))


def test_auto_falls_back_where_a_backend_fails_the_parity_check(
    weights, paths, monkeypatch, caplog
):
    caplog.set_level(logging.INFO)

    def zeros(neck: object, spec: Any) -> Backend:
        return Backend("zeros", "float32", lambda images: [m * 0 for m in spec.empty_maps(images)])

    monkeypatch.setattr(choice, "BACKENDS", dict.fromkeys(ENGINES, BackendType(zeros)))
    monkeypatch.setattr(choice, "installed", list)
    monkeypatch.setattr(choice, "seconds_per_image", lambda *_: 10.0)
    own = predictor(weights, paths * 10, "auto")
    assert own.network.backend is None
    assert "without openvino: The engine openvino does not compute what torch does" in caplog.text
    assert "engine auto: torch; choosing took" in caplog.text


@pytest.mark.parametrize("program", ["infer", "val"])
def test_the_command_lines(weights, paths, data_yaml, tmp_path, program, capsys):
    pytest.importorskip("onnxruntime")
    words = ["--weights", str(weights), "--img", "96", "--engine", "onnxruntime"]
    if program == "infer":
        detect.main([*words, "--source", paths[0], "--output", str(tmp_path / "found.json")])
        assert (tmp_path / "found.json").is_file()
    else:
        val.main([*words, "--data", str(data_yaml), "--nosave"])
    assert "engine: onnxruntime in float32" in capsys.readouterr().out


def test_a_missing_package_ends_a_command_before_anything_is_written(
    weights, paths, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "openvino", None)
    words = ["--weights", str(weights), "--source", paths[0], "--img", "96", "--engine", "openvino"]
    with pytest.raises(TaskError, match="needs the package openvino") as caught:
        detect.main([*words, "--project", str(tmp_path / "runs")])
    assert caught.value.code is Code.CONFIG
    assert list(tmp_path.iterdir()) == []


def run_task(drawn, weights: Path, folder: Path, engine: str) -> tuple[dict[str, float], int]:
    """Run a task of mining with inference; return its scores and the number of images."""
    settings = {"img_size": "96", "conf_thres": "0.001", "plots": "no", "precision": "float32"}
    settings, kinds = {**settings, "engine": engine}, ("mining", "infer")
    more = {"weights": [weights], "candidates": "train"}
    env_file = write_task(drawn, folder, kinds=kinds, settings=settings, **more)
    assert start.main(["--env", str(env_file)]) == 0
    assert check_out(folder) == []
    rows = [line.split("\t") for line in (folder / "out/result.tsv").read_text().splitlines()]
    found = json.loads((folder / "out/infer-result.json").read_text())["detection"]
    return {Path(name).name: float(score) for name, score in rows}, len(found)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_whole_task(drawn, weights, tmp_path, engine):
    pytest.importorskip(engine, reason="the optional package is not installed")
    (one, plain), (two, other) = (
        run_task(drawn, weights, tmp_path / name, name) for name in ("torch", engine)
    )
    assert plain == other > 0
    assert one.keys() == two.keys()
    # A detection at the threshold may come or go in either.
    close = [abs(one[name] - two[name]) < 0.02 for name in one]
    assert np.mean(close) > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_photographs(shared, name, precision):
    """The trained reference network on photographs: agreement, and the same number of objects."""
    pytest.importorskip(name, reason="the optional package is not installed")
    settings = InferSettings(img_size=320, precision=precision)
    photographs = sorted(map(str, (shared / "data/bccd/JPEGImages").glob("*.jpg")))[:12]
    weights = shared / "reference/bccd_yolov5n.pt"
    plain, own = (
        load_predictor(weights, replace(settings, engine=one), CPU, images=photographs)
        for one in ("torch", name)
    )
    assert own.network.backend is not None
    expected, found = (sum(map(len, detections(one, photographs))) for one in (plain, own))
    assert expected > 100
    assert abs(found - expected) <= 0.03 * expected
