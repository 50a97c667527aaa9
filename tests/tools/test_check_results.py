"""Results of training, mining and inference pass when sound; each fault in them is named."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from tests.tools.task_example import NAMES, Example, build, only_finding
from tools.check_out import check_out


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
    pytest.param(lambda c: c.update(model=["best.pt"]), "result.model_hides_stages", "ignore all"),
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
    flatten(example)
    assert check_out(tmp_path) == []


def flatten(example: Example, **more: object) -> None:
    """Let a result be as platforms before stages read it."""
    for name in ("best.pt", "best.onnx"):
        (example.out / "models" / "best" / name).rename(example.out / "models" / name)
    legacy = {"model": ["best.pt", "best.onnx"], "map": 0.71, **more}
    (example.out / "models" / "result.yaml").write_text(yaml.safe_dump(legacy))


def test_model_and_map_alone_are_read_by_every_platform(training: Example) -> None:
    flatten(training, class_aps={"cat": 0.7})
    assert check_out(training.root) == []


def test_stages_before_folders_share_no_names(tmp_path: Path) -> None:
    example = build(tmp_path, training=True, protocol="1.0.0")
    flatten(example)
    example.result(lambda c: c["model_stages"]["last"].update(files=["best.pt"]))
    only_finding(tmp_path, "stage.shared_name", "both list 'best.pt'")


MINING = [
    pytest.param(
        lambda c: [(c[0], 0.1), (c[1], 0.2), (c[2], 0)], "tsv.order", "row 2", id="rising"
    ),
    pytest.param(lambda c: [(x, "nan") for x in c], "tsv.finite", "3 scores", id="nan"),
    pytest.param(lambda c: [(c[0], 0.1), (c[1], 0.1)], "tsv.missing", "lacks 1 of 3", id="missing"),
    pytest.param(lambda c: [(x, 0.1) for x in [*c, c[1]]], "tsv.duplicate", "cd 34", id="twice"),
    pytest.param(lambda c: [(x, "high") for x in c], "tsv.line", "'", id="word"),
    pytest.param(lambda c: [(f"{x}\t", 1) for x in c], "tsv.line", ":1:", id="two tabs"),
    pytest.param(
        lambda c: [(Path(x).name, 0.1) for x in c], "tsv.unknown", "in these words", id="base names"
    ),
]


@pytest.mark.parametrize(("rows", "rule", "words"), MINING)
def test_mining(
    rows: Callable[[list[str]], list[tuple[str, object]]], rule: str, words: str, looking: Example
) -> None:
    looking.mining(rows(looking.candidates))
    only_finding(looking.root, rule, words)


def test_unreadable_images_come_last(looking: Example) -> None:
    Path(looking.candidates[0]).write_bytes(b"no image")
    looking.infer(lambda c: c["detection"][NAMES[0]].update(boxes=[], annotations=[]))
    only_finding(looking.root, "tsv.unreadable_first", "belongs at the end")


def entry(content: dict) -> dict:
    content["detection"][NAMES[0]].pop("annotations")
    return content["detection"][NAMES[0]]["boxes"][0]


def key_by_path(content: dict) -> None:
    images = content["detection"]
    content["detection"] = {f"/in/{name}": record for name, record in images.items()}


INFER = [
    pytest.param(lambda c: c.pop("detection"), "json.detection", "under the key detection"),
    pytest.param(lambda c: c["detection"].pop(NAMES[1]), "json.missing", "cd 34.jpg"),
    pytest.param(lambda c: c["detection"].update(x=[]), ["json.unknown", "json.record"], "'x'"),
    pytest.param(key_by_path, ["json.missing", "json.unknown"], "lacks 3 of 3"),
    pytest.param(lambda c: c["detection"][NAMES[1]].clear(), "json.list", "no list annotations"),
    pytest.param(lambda c: c["detection"][NAMES[0]]["boxes"].clear(), "json.twins", "differ"),
    pytest.param(lambda c: entry(c).pop("box"), "box.keys", "but is None"),
    pytest.param(lambda c: entry(c)["box"].pop("w"), "box.keys", "x, y, w and h"),
    pytest.param(lambda c: entry(c)["box"].update(z=1), "box.keys", "'z'"),
    pytest.param(lambda c: entry(c)["box"].update(rotate_angle="0"), "box.angle", "'0'"),
    pytest.param(lambda c: entry(c)["box"].update(x=12.0), "box.integer", "12.0"),
    pytest.param(lambda c: entry(c)["box"].update(h=True), "box.integer", "True"),
    pytest.param(lambda c: entry(c)["box"].update(w=0), "box.size", "at least 1"),
    pytest.param(lambda c: entry(c)["box"].update(x=45), "box.outside", "64 x 48"),
    pytest.param(lambda c: entry(c)["box"].update(y=-1), "box.outside", "leaves the image"),
    pytest.param(lambda c: entry(c).update(score=1.1), "box.score", "not 1.1"),
    pytest.param(lambda c: entry(c).pop("score"), "box.score", "not None"),
    pytest.param(lambda c: entry(c).update(class_name="Cat"), "box.class_name", "'Cat' is none"),
]


@pytest.mark.parametrize(
    ("change", "rule", "words"), INFER, ids=[str(row.values[1:]) for row in INFER]
)
def test_infer(
    change: Callable[[dict], object], rule: str | list[str], words: str, looking: Example
) -> None:
    looking.infer(change)
    findings = check_out(looking.root)
    assert [finding.rule for finding in findings] == ([rule] if isinstance(rule, str) else rule)
    assert words in findings[0].sentence


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param('{"detection": {"a": NaN}}', "NaN", id="nan"),
        pytest.param('{"detection": {}', "no plain JSON", id="cut off"),
        pytest.param('{"detection": {}, "detection": {}}', "stands in it twice", id="double key"),
    ],
)
def test_infer_unreadable(text: str, words: str, looking: Example) -> None:
    (looking.out / "infer-result.json").write_text(text)
    only_finding(looking.root, "json.unreadable", words)


def test_without_a_version_annotations_are_read(tmp_path: Path) -> None:
    example = build(tmp_path, training=False, protocol=None)
    assert check_out(tmp_path) == []
    example.infer(lambda c: [record.pop("annotations") for record in c["detection"].values()])
    assert {finding.rule for finding in check_out(tmp_path)} == {"json.list"}


def test_lists_of_boxes_or_annotations_alone_are_read(looking: Example) -> None:
    """The platform reads boxes from 1.1.0 on, and annotations where there are none."""
    for key in ("annotations", "boxes"):
        looking.infer(lambda c, key=key: [r.pop(key) for r in c["detection"].values()])
        assert check_out(looking.root) == []


@pytest.mark.parametrize("name", ["result.tsv", "infer-result.json"])
def test_results_in_another_encoding_or_missing(looking: Example, name: str) -> None:
    (looking.out / name).write_bytes(b"K\xf6ln")
    only_finding(looking.root, "result.encoding", f"{name} is not UTF-8")
    (looking.out / name).unlink()
    only_finding(looking.root, "result.missing", name)
