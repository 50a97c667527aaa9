"""A training result is accepted when sound, and each fault in it is named."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from tests.tools.task_example import Example, build, only_finding
from tools.check_out import check_out


@pytest.fixture
def training(tmp_path: Path) -> Example:
    return build(tmp_path, training=True)


def stage(content: dict) -> dict:
    return content["model_stages"]["best"]


def rename_stage(content: dict) -> None:
    content["model_stages"]["epoch-4"] = content["model_stages"].pop("last")
    content["model_stages"]["epoch-4"].update(stage_name="epoch-4", files=["best/best.pt"])


def add_stages(content: dict) -> None:
    for number in range(10):
        name = f"epoch_{number}"
        content["model_stages"][name] = {**stage(content), "stage_name": name}
        content["model_stages"][name]["files"] = ["best/best.pt"]


RESULT = [
    pytest.param(lambda c: c.update(model=["best.pt"]), "result.model_hides_stages", "ignores all"),
    pytest.param(lambda c: c.pop("model_stages"), "stages.missing", "no model_stages"),
    pytest.param(lambda c: c.update(best_stage_name="x"), "best_stage_name", "'x', which is none"),
    pytest.param(lambda c: c.pop("best_stage_name"), "best_stage_name", "None, which is none"),
    pytest.param(add_stages, "stages.many", "12 stages"),
    pytest.param(rename_stage, "stage.name", "'epoch-4' is no plain identifier"),
    pytest.param(lambda c: c["model_stages"].update(last=3), "stage.shape", "no mapping"),
    pytest.param(lambda c: stage(c).update(stage_name="b"), "stage.stage_name", "'b'"),
    pytest.param(lambda c: stage(c).update(files="best.pt"), "stage.files", "a list of names"),
    pytest.param(lambda c: stage(c).update(files=[]), "stage.files", "not []"),
    pytest.param(lambda c: stage(c)["files"].append("x.pt"), "file.missing", "'x.pt'"),
    pytest.param(lambda c: stage(c)["files"].append("../a"), "file.path", "leaves its folder"),
    pytest.param(lambda c: stage(c)["files"].append("."), "file.kind", "no regular file"),
    pytest.param(lambda c: stage(c).update(files=["best.onnx"]), "stage.no_weights", "no .pt file"),
    pytest.param(lambda c: stage(c).pop("timestamp"), "stage.timestamp", "not None"),
    pytest.param(lambda c: stage(c).update(timestamp=1.5), "stage.timestamp", "not 1.5"),
    pytest.param(lambda c: stage(c).update(timestamp=True), "stage.timestamp", "not True"),
    pytest.param(lambda c: stage(c).pop("mAP"), "score", "mAP of the stage best"),
    pytest.param(lambda c: stage(c).update(mAP=float("nan")), "score", "not nan"),
    pytest.param(lambda c: stage(c).update(mAP=71.0), "score", "not 71.0"),
    pytest.param(lambda c: stage(c).update(mAP=True), "score", "not True"),
    pytest.param(lambda c: stage(c).update(mAR="0.5"), "score", "not '0.5'"),
    pytest.param(lambda c: stage(c).update(tp=1.0), "stage.count", "not 1.0"),
    pytest.param(lambda c: stage(c).update(fn=-1), "stage.count", "not -1"),
    pytest.param(lambda c: stage(c).update(fp=True), "stage.count", "not True"),
    pytest.param(lambda c: stage(c).update(TP=3), "stage.upper_case", "write tp"),
    pytest.param(lambda c: c.update(evaluate_config=[1]), "evaluate_config", "a mapping"),
    pytest.param(
        lambda c: c["evaluate_config"].update(iou_thr="0.5:0.95"), "evaluate_config", "'0.5:0.95'"
    ),
    pytest.param(lambda c: c.update(attachments=["a"]), "attachments", "a mapping"),
    pytest.param(lambda c: c["attachments"].update(report="a"), "attachments", "a list of names"),
    pytest.param(
        lambda c: c["attachments"].update(report=["no.png"]), "file.missing", "attachments.report"
    ),
]


@pytest.mark.parametrize(
    ("change", "rule", "words"), RESULT, ids=[" ".join(row.values[1:]) for row in RESULT]
)
def test_result(change: Callable[[dict], object], rule: str, words: str, training: Example) -> None:
    training.result(change)
    only_finding(training.root, rule, words)


def test_result_missing_unreadable_or_no_mapping(training: Example) -> None:
    path = training.out / "models" / "result.yaml"
    path.write_text("- 1\n")
    only_finding(training.root, "result.shape", "no mapping")
    path.write_text("mAP: !!python/object/apply:numpy.core.multiarray.scalar [1]\n")
    only_finding(training.root, "result.unreadable", "numpy or torch value")
    path.unlink()
    only_finding(training.root, "result.missing", "the model is lost")
    assert check_out(training.root, failed=True)[0].rule == "monitor.not_failed"


def test_listed_files_are_regular_whole_and_loadable(training: Example) -> None:
    best = training.out / "models" / "best"
    (best / "best.onnx").write_bytes(b"")
    only_finding(training.root, "file.empty", "best.onnx")
    (best / "best.onnx").unlink()
    os.symlink(best / "best.pt", best / "best.onnx")
    only_finding(training.root, "file.kind", "best.onnx is listed, but is no regular file")
    (best / "best.onnx").unlink()
    (best / "best.onnx").write_bytes(b"graph")
    (best / "best.pt").write_bytes(b"half a file")
    only_finding(training.root, "weights.load", "does not load as plain data")
    torch.save({"class_names": [], "path": Path("x")}, best / "best.pt")
    only_finding(training.root, "weights.load", "does not load as plain data")
    torch.save({"w": torch.zeros(1)}, best / "best.pt")
    only_finding(training.root, "weights.names", "no class names")


@pytest.mark.parametrize("protocol", [None, "0.0.1", "0.9"])
def test_legacy_result(tmp_path: Path, protocol: str | None) -> None:
    example = build(tmp_path, training=True, protocol=protocol)
    rules = {finding.rule for finding in check_out(tmp_path)}
    assert rules == {"legacy.stages", "legacy.model", "score"}
    for name in ("best.pt", "best.onnx"):
        (example.out / "models" / "best" / name).rename(example.out / "models" / name)
    legacy = {"model": ["best.pt", "best.onnx"], "map": 0.71}
    (example.out / "models" / "result.yaml").write_text(yaml.safe_dump(legacy))
    assert check_out(tmp_path) == []


def test_stages_before_folders_share_no_names(tmp_path: Path) -> None:
    example = build(tmp_path, training=True, protocol="1.0.0")
    for name in ("best.pt", "best.onnx"):
        (example.out / "models" / "best" / name).rename(example.out / "models" / name)
    example.result(lambda c: c["model_stages"]["last"].update(files=["best.pt"]))
    only_finding(tmp_path, "stage.shared_name", "both list 'best.pt'")
