"""A finished task with sound results, for the checker's tests to break one thing at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import yaml

from tools.check_out import check_out

TASK_ID = "t0001"
NAMES = ("ab12.jpg", "cd 34.jpg", "ef56.jpg")


@dataclass
class Example:
    """A task directory with results; tests break one thing and write again."""

    root: Path

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def candidates(self) -> list[str]:
        return [str(self.root / "in" / "assets" / name) for name in NAMES]

    def monitor(self, line: str) -> None:
        (self.out / "monitor.txt").write_text(line + "\nfree text\n")

    def result(self, change: Callable[[dict], object] = lambda content: None) -> None:
        content = result_content()
        change(content)
        (self.out / "models" / "result.yaml").write_text(yaml.safe_dump(content))

    def infer(self, change: Callable[[dict], object] = lambda content: None) -> None:
        box = {"box": {"x": 3, "y": 4, "w": 20, "h": 10}, "class_name": "cat", "score": 0.5}
        images = {name: {"boxes": [], "annotations": []} for name in NAMES}
        images[NAMES[0]] = {"boxes": [box], "annotations": [dict(box)]}
        content = {"detection": images}
        change(content)
        (self.out / "infer-result.json").write_text(json.dumps(content))

    def mining(self, rows: list[tuple[str, object]] | None = None) -> None:
        rows = rows or [(c, 0.9 - n / 10) for n, c in enumerate(self.candidates)]
        (self.out / "result.tsv").write_text("".join(f"{c}\t{s}\n" for c, s in rows))


def result_content() -> dict:
    stage = {"stage_name": "best", "files": ["best.pt", "best.onnx"], "timestamp": 1700000400}
    stage |= {"mAP": 0.71, "mAR": 0.5, "tp": 3, "fp": 0, "fn": 1}
    last = {"stage_name": "last", "files": ["last.pt"], "timestamp": 1700000500, "mAP": 0}
    return {
        "best_stage_name": "best",
        "mAP": 0.71,
        "model_stages": {"best": stage, "last": last},
        "evaluate_config": {"iou_thr": 0.5, "conf_thr": 0.005},
        "attachments": {"report": ["curves.png"]},
    }


def build(root: Path, *, training: bool, protocol: str | None = "1.1.0") -> Example:
    """A task that asks for training, or for mining and inference, with sound results."""
    example = Example(root)
    for part in ("in/assets", "out/models", "out/tensorboard/run"):
        (root / part).mkdir(parents=True)
    for name in NAMES:
        cv2.imwrite(str(root / "in" / "assets" / name), np.zeros((48, 64, 3), np.uint8))
    index = root / "in" / "candidate-index.tsv"
    index.write_text("".join(f"{c}\n" for c in example.candidates))
    env = {
        "task_id": TASK_ID,
        "run_training": training,
        "run_mining": not training,
        "run_infer": not training,
        "input": {
            "root_dir": str(root / "in"),
            "candidate_index_file": "" if training else str(index),
            "config_file": str(root / "in" / "config.yaml"),
        },
        "output": {"root_dir": str(root / "out")},
    }
    if protocol:
        env["protocol_version"] = protocol
    (root / "in" / "env.yaml").write_text(yaml.safe_dump(env))
    config = {"task_id": TASK_ID, "class_names": ["cat", "dog"]}
    (root / "in" / "config.yaml").write_text(yaml.safe_dump(config))
    example.monitor(f"{TASK_ID}\t1700000123.456789\t1.00\t2\t0")
    if training:
        models = root / "out" / "models"
        for folder in ("best", "last", "attachments/report"):
            (models / folder).mkdir(parents=True)
        for name in ("best/best.onnx", "attachments/report/curves.png"):
            (models / name).write_bytes(b"content")
        for name in ("best/best.pt", "last/last.pt"):
            torch.save({"class_names": ["cat", "dog"], "w": torch.zeros(2)}, models / name)
        (root / "out" / "tensorboard" / "events.out.tfevents.1.host").write_bytes(b"events")
        example.result()
    else:
        example.mining()
        example.infer()
    return example


def only_finding(root: Path, rule: str, words: str, *, failed: bool = False) -> None:
    findings = check_out(root, failed=failed)
    assert [finding.rule for finding in findings] == [rule]
    assert words in findings[0].sentence
