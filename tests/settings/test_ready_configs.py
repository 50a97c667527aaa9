"""The settings files that lie ready in configs/: each valid, and different just as it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from settings.hyp_file import read_hyp
from settings.parse import SECTIONS, parse_settings
from ymir.task import read_task

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

# What differs from the defaults, per section; the hyper-parameter set of accurate.yaml aside.
DIFFERENCES: dict[str, dict[str, dict[str, object]]] = {
    "default": {"training": {}, "infer": {}, "mining": {}},
    "fast": {
        "training": {
            "model": "yolov5n", "img_size": 320, "batch_size": 32, "epochs": 30, "patience": 10,
        },
        "infer": {"img_size": 320, "batch_size": 32},
        "mining": {"img_size": 320, "batch_size": 32, "views": ("flip", "resize")},
    },
    "accurate": {
        "training": {
            "model": "yolov5m", "img_size": 960, "batch_size": -1, "epochs": 300, "patience": 50,
            "hyp": "scratch-med",
        },
        "infer": {"img_size": 960, "augment": True},
        "mining": {"img_size": 960},
    },
    "cpu": {
        "training": {
            "model": "yolov5n", "img_size": 416, "batch_size": 8, "epochs": 50, "patience": 15,
            "workers": 0,
        },
        "infer": {"img_size": 416, "batch_size": 8, "workers": 0},
        "mining": {"img_size": 416, "batch_size": 8, "workers": 0},
    },
}  # fmt: skip


def test_every_ready_file_has_its_row() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == set(DIFFERENCES)


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("name", DIFFERENCES)
def test_a_file_differs_from_the_defaults_as_it_says(name: str, section: str) -> None:
    content = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text("utf-8"))
    assert set(content) <= set(SECTIONS)
    kind = SECTIONS[section]
    settings, warnings = parse_settings(kind, content[section])
    assert warnings == []
    defaults = asdict(kind())
    expected = dict(DIFFERENCES[name][section])
    if "hyp" in expected:
        stock, _ = parse_settings(kind, read_hyp(str(expected["hyp"])))
        expected |= {key: value for key, value in asdict(stock).items() if value != defaults[key]}
    found = {key: value for key, value in asdict(settings).items() if value != defaults[key]}
    assert found == expected


@pytest.mark.parametrize("kind", ["training", "mining infer"])
@pytest.mark.parametrize("name", DIFFERENCES)
def test_a_task_takes_the_file_and_overrides_it(
    make_task: Callable[..., Path], name: str, kind: str
) -> None:
    config = {"code_config": f"configs/{name}.yaml", "batch_size": "3"}
    task = read_task(make_task(kind, config=config))
    settings = task.train or task.infer
    assert settings is not None
    assert settings.batch_size == 3
    section = "training" if task.run_training else "infer"
    assert settings.img_size == DIFFERENCES[name][section].get("img_size", 640)
    assert task.warnings == ()
