"""Whole tasks through `start.py`, as the platform runs them, and what it would read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
import yaml

import start
from models.checkpoint import load_checkpoint
from tests.conftest import ROOT, TINY_TRAINING
from tests.reporting.page_reader import read_page_file
from tools.check_out import check_out
from tools.make_task import write_task
from tools.sources import SourceDataset
from utils.errors import Code

LOOKING = {"img_size": "96", "batch_size": "4", "conf_thres": "0.01"}


def run(env_file: Path) -> int:
    return start.main(["--env", str(env_file)])


def edit(path: Path, change: Mapping[str, object]) -> None:
    """Change keys of a YAML file; None removes a key."""
    content = yaml.safe_load(path.read_text("utf-8"))
    content.update(change)
    path.write_text(yaml.safe_dump({k: v for k, v in content.items() if v is not None}), "utf-8")


def findings(task: Path, *, failed: bool = False) -> list[str]:
    return [f"{f.rule}: {f.sentence}" for f in check_out(task, failed=failed)]


def monitor(task: Path) -> list[str]:
    return (task / "out" / "monitor.txt").read_text("utf-8").splitlines()[0].split("\t")


def test_training_leaves_what_the_platform_reads(trained: Path) -> None:
    assert findings(trained) == []
    models = trained / "out" / "models"
    result = yaml.safe_load((models / "result.yaml").read_text("utf-8"))
    assert result["best_stage_name"] == "best"
    assert result["model_stages"]["best"]["files"] == ["best.pt", "best.onnx"]
    assert set(result["attachments"]["report"]) == {
        "classes.csv",
        "coco.csv",
        "anchors.png",
        "confusion_matrix.png",
        "f1_curve.png",
        "labels.png",
        "pr_curve.png",
        "precision_curve.png",
        "recall_curve.png",
        "report.html",
        "results.csv",
        "results.png",
        "train_batch0.jpg",
        "train_batch1.jpg",
        "train_batch2.jpg",
        "validation.jpg",
        "worst.jpg",
    }
    assert list((trained / "out" / "tensorboard").glob("events.*"))
    page = read_page_file(models / "attachments" / "report" / "report.html")
    assert "red_cell" in page.text
    assert "best.onnx (" in page.text
    assert monitor(trained)[2:5] == ["1.000000", "2", "0"]


def test_weights_load_as_plain_tensors_and_name_their_classes(trained: Path) -> None:
    path = trained / "out" / "models" / "best" / "best.pt"
    assert isinstance(torch.load(path, weights_only=True), dict)
    assert load_checkpoint(path).class_names == ("red_cell", "white_cell", "platelet")


def test_results_csv_has_a_line_per_epoch(trained: Path) -> None:
    lines = (trained / "out/models/attachments/report/results.csv").read_text().splitlines()
    assert [line.split(",")[0].strip() for line in lines] == ["epoch", "0", "1"]


@pytest.mark.parametrize(
    ("kinds", "files"),
    [
        pytest.param(("mining",), {"result.tsv"}, id="mining"),
        pytest.param(("infer",), {"infer-result.json"}, id="inference"),
        pytest.param(("mining", "infer"), {"result.tsv", "infer-result.json"}, id="both"),
    ],
)
@pytest.mark.parametrize("protocol", ["1.1.0", None])
def test_looking_at_candidates(
    drawn: SourceDataset,
    weights: Path,
    tmp_path: Path,
    kinds: tuple[str, ...],
    files: set[str],
    protocol: str | None,
) -> None:
    env_file = write_task(
        drawn,
        tmp_path / "task",
        kinds=kinds,
        settings=LOOKING,
        weights=[weights],
        protocol=protocol,
        candidates="train",
    )
    assert run(env_file) == 0
    assert findings(tmp_path / "task") == []
    present = {p.name for p in (tmp_path / "task" / "out").iterdir() if p.is_file()}
    assert present == files | {"monitor.txt"}
    page = read_page_file(tmp_path / "task" / "out" / "tensorboard" / "report.html")
    assert ("Label these first" in page.text) == ("mining" in kinds)
    assert monitor(tmp_path / "task")[2:5] == ["1.000000", "2", "0"]


def test_training_without_a_protocol_version(drawn: SourceDataset, tmp_path: Path) -> None:
    settings = {**TINY_TRAINING, "epochs": "1", "onnx": "false", "plots": "no"}
    env_file = write_task(drawn, tmp_path / "task", settings=settings, protocol=None)
    assert run(env_file) == 0
    assert findings(tmp_path / "task") == []
    result = yaml.safe_load((tmp_path / "task/out/models/result.yaml").read_text("utf-8"))
    assert set(result) == {"model", "map"}


def test_mining_with_inference_gives_the_files_of_each_alone(
    drawn: SourceDataset, weights: Path, tmp_path: Path
) -> None:
    written: dict[str, list[bytes]] = {"result.tsv": [], "infer-result.json": []}
    for kinds in (("mining",), ("infer",), ("mining", "infer")):
        task = tmp_path / "task"
        assert (
            run(
                write_task(
                    drawn, task, kinds=kinds, settings=LOOKING, weights=[weights], overwrite=True
                )
            )
            == 0
        )
        for name, contents in written.items():
            if (task / "out" / name).is_file():
                contents.append((task / "out" / name).read_bytes())
    for alone, together in written.values():
        assert alone == together


def test_tiles_and_three_looks_in_mining_with_inference(
    drawn: SourceDataset, weights: Path, tmp_path: Path
) -> None:
    """Images of 160 x 120 pixels in tiles of 96; each option changes what is written."""
    written = []
    for options in ({}, {"tile_size": "96"}, {"augment": "true"}):
        task = tmp_path / "task"
        env_file = write_task(
            drawn,
            task,
            kinds=("mining", "infer"),
            settings={**LOOKING, "conf_thres": "0.001", "balance_window": "0", **options},
            weights=[weights],
            overwrite=True,
        )
        assert run(env_file) == 0
        assert findings(task) == []
        assert monitor(task)[2] == "1.000000"
        written.append((task / "out" / "result.tsv").read_bytes())
        written.append((task / "out" / "infer-result.json").read_bytes())
    scores, found, tiled_scores, tiled_found, augmented_scores, augmented_found = written
    # The whole of an image is among its parts, and its score that of the best of them.
    plain, tiled = (
        dict(line.split("\t") for line in text.decode().splitlines())
        for text in (scores, tiled_scores)
    )
    assert plain.keys() == tiled.keys()
    assert all(float(tiled[path]) >= float(score) for path, score in plain.items())
    assert len({found, tiled_found, augmented_found}) == 3
    assert augmented_scores == scores  # mining looks once, whatever inference does


def test_a_class_that_does_not_exist_is_refused(
    drawn: SourceDataset, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env_file = write_task(
        drawn,
        tmp_path / "task",
        kinds=("infer",),
        settings={**LOOKING, "classes": "unicorn"},
        weights=[weights],
    )
    assert run(env_file) == 1
    assert monitor(tmp_path / "task")[3:5] == ["4", str(int(Code.CONFIG))]
    assert "the setting classes names unicorn" in capsys.readouterr().out


def test_typed_settings_run_as_text_does(
    drawn: SourceDataset, weights: Path, tmp_path: Path
) -> None:
    results = []
    for convert in (str, lambda value: value):
        task = tmp_path / "task"
        settings = {"img_size": 96, "batch_size": 4, "conf_thres": 0.01}
        env_file = write_task(drawn, task, kinds=("infer",), weights=[weights], overwrite=True)
        edit(task / "in" / "config.yaml", {k: convert(v) for k, v in settings.items()})
        assert run(env_file) == 0
        results.append((task / "out" / "infer-result.json").read_bytes())
    assert results[0] == results[1]


def test_a_bad_image_among_good_ones_is_named_and_ranked_last(
    drawn: SourceDataset, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = tmp_path / "task"
    env_file = write_task(
        drawn,
        task,
        kinds=("mining", "infer"),
        settings=LOOKING,
        weights=[weights],
        candidates="train",
        copy=True,
    )
    bad = (task / "in" / "candidate-index.tsv").read_text("utf-8").splitlines()[0]
    Path(bad).write_bytes(b"not an image")
    assert run(env_file) == 0
    assert (task / "out" / "result.tsv").read_text().splitlines()[-1].startswith(bad)
    assert not json.loads((task / "out" / "infer-result.json").read_text())["detection"][
        Path(bad).name
    ]["boxes"]
    assert Path(bad).name in capsys.readouterr().out
    assert findings(task) == []


def test_a_bad_training_image_is_skipped(
    drawn: SourceDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = tmp_path / "task"
    settings = {**TINY_TRAINING, "epochs": "1", "onnx": "false", "plots": "false"}
    env_file = write_task(drawn, task, settings=settings, copy=True)
    bad = (task / "in" / "train-index.tsv").read_text("utf-8").splitlines()[0].split("\t")[0]
    Path(bad).write_bytes(Path(bad).read_bytes()[:400])
    assert run(env_file) == 0
    assert Path(bad).name in capsys.readouterr().out
    assert findings(task) == []


@pytest.mark.slow
def test_a_killed_training_keeps_its_best_model(drawn: SourceDataset, tmp_path: Path) -> None:
    """SIGKILL, as the platform terminates: result.yaml is valid and what it lists is whole.

    Meanwhile a reader that never pauses sees only complete lines and rising progress.
    """
    task = tmp_path / "task"
    env_file = write_task(drawn, task, settings={**TINY_TRAINING, "epochs": "500"})
    result = task / "out" / "models" / "result.yaml"
    command = [sys.executable, str(ROOT / "start.py"), "--env", str(env_file)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        seen = [("0", "0", "2")]
        last_csv = task / "out/models/attachments/report/results.csv"
        while process.poll() is None:
            columns = monitor(task)
            assert len(columns) >= 4
            if columns[3] == "2":
                seen.append((columns[1], columns[2], columns[3]))
            if last_csv.is_file() and len(last_csv.read_text().splitlines()) > 3:
                process.kill()
                break
        assert process.wait() < 0
    assert [float(row[1]) for row in seen] == sorted(float(row[1]) for row in seen)
    stages = yaml.safe_load(result.read_text("utf-8"))["model_stages"]
    assert set(stages) == {"best", "last"}
    for name, stage in stages.items():
        for file in stage["files"]:
            load_checkpoint(task / "out" / "models" / name / file)
    # A file that was being written may lie beside the whole one, hidden.
    wrong = [f for f in findings(task, failed=True) if not f.startswith(("monitor", "stray"))]
    assert wrong == []


Break = Callable[[Path, Path], None]


def _in(name: str, text: str | None) -> Break:
    """Replace (or, for None, remove) a file of in/."""

    def apply(task: Path, _: Path) -> None:
        path = task / "in" / name
        path.unlink() if text is None else path.write_text(text, "utf-8")

    return apply


def _config(**change: object) -> Break:
    return lambda task, _: edit(task / "in" / "config.yaml", change)


def _first_annotation(text: str | None) -> Break:
    """Give every training annotation this content."""

    def apply(task: Path, _: Path) -> None:
        for row in (task / "in" / "train-index.tsv").read_text("utf-8").splitlines():
            annotation = Path(row.split("\t")[1])
            annotation.unlink(missing_ok=True)
            if text is not None:
                annotation.write_text(text, "utf-8")

    return apply


def _every_image_broken(task: Path, _: Path) -> None:
    for path in (task / "in" / "assets").rglob("*.*"):
        path.write_bytes(b"not an image")


def _weights_file(content: bytes | None) -> Break:
    def apply(task: Path, scratch: Path) -> None:
        path = scratch / "other.pt"
        if content is not None:
            path.write_bytes(content)
        edit(task / "in" / "config.yaml", {"model_params_path": [str(path)]})

    return apply


def _foreign_network(task: Path, scratch: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, scratch / "foreign.pt")
    edit(task / "in" / "config.yaml", {"model_params_path": [str(scratch / "foreign.pt")]})


FAILURES = [
    pytest.param("training", _in("env.yaml", None), Code.CONFIG, "env.yaml", id="no env.yaml"),
    pytest.param(
        "training", _in("env.yaml", "a: [1"), Code.CONFIG, "env.yaml", id="malformed env.yaml"
    ),
    pytest.param(
        "training", _in("config.yaml", None), Code.CONFIG, "config.yaml", id="no config.yaml"
    ),
    pytest.param(
        "training", _in("config.yaml", "]"), Code.CONFIG, "config.yaml", id="malformed config.yaml"
    ),
    pytest.param("training", _config(epochs="many"), Code.CONFIG, "epochs", id="wrong type"),
    pytest.param("training", _config(epochs="0"), Code.CONFIG, "epochs", id="out of range"),
    pytest.param("training", _config(model="yolov9q"), Code.CONFIG, "yolov9q", id="no such model"),
    pytest.param(
        "training", _config(object_type=3), Code.OBJECT_TYPE, "object_type", id="segmentation"
    ),
    pytest.param(
        "training",
        _config(gpu_id="0", gpu_count=1),
        Code.NO_GPU,
        "GPU",
        id="no GPU",
        marks=pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here"),
    ),
    pytest.param(
        "training", _in("train-index.tsv", None), Code.DATASET, "train-index.tsv", id="no index"
    ),
    pytest.param(
        "training", _in("train-index.tsv", "\n"), Code.DATASET, "train-index.tsv", id="empty index"
    ),
    pytest.param(
        "training",
        _in("val-index.tsv", ""),
        Code.DATASET,
        "val-index.tsv",
        id="empty validation index",
    ),
    pytest.param(
        "training", _first_annotation(None), Code.DATASET, "annotation", id="annotations missing"
    ),
    pytest.param(
        "training", _first_annotation("0, a, b"), Code.DATASET, "line 1", id="annotations malformed"
    ),
    pytest.param(
        "training",
        _first_annotation("7, 1, 1, 9, 9, -1.0, 0.0"),
        Code.DATASET,
        "7",
        id="class out of range",
    ),
    pytest.param(
        "training", _every_image_broken, Code.IMAGE_FORMAT, "image", id="no readable training image"
    ),
    pytest.param(
        "mining", _every_image_broken, Code.IMAGE_FORMAT, "image", id="no readable candidate"
    ),
    pytest.param(
        "mining",
        _in("candidate-index.tsv", ""),
        Code.DATASET,
        "candidate-index.tsv",
        id="no candidates",
    ),
    pytest.param("mining", _weights_file(None), Code.MODEL, "other.pt", id="weights missing"),
    pytest.param(
        "mining", _weights_file(b"<html>"), Code.MODEL, "other.pt", id="weights are no weights"
    ),
    pytest.param("mining", _foreign_network, Code.MODEL, "foreign.pt", id="foreign weights"),
    pytest.param(
        "mining", _config(mining_algorithm="best"), Code.CONFIG, "cald", id="no such algorithm"
    ),
]


@pytest.mark.parametrize(("kind", "damage", "code", "mention"), FAILURES)
def test_failures_end_in_one_sentence(
    drawn: SourceDataset,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    damage: Break,
    code: Code,
    mention: str,
) -> None:
    task = tmp_path / "task"
    models = [weights] if kind == "mining" else []
    settings = TINY_TRAINING if kind == "training" else LOOKING
    env_file = write_task(drawn, task, kinds=(kind,), settings=settings, weights=models, copy=True)
    config = task / "in" / "config.yaml"
    untouched = {path: path.read_text("utf-8") for path in (env_file, config)}
    damage(task, tmp_path)
    assert run(env_file) != 0
    told = capsys.readouterr().out
    last = told.strip().splitlines()[-1]
    assert last.startswith(f"FAILED ({int(code)}): ")
    assert mention in last
    assert "Traceback" not in told, "a reason that a user can act on is told without"
    assert monitor(task)[3:5] == ["4", str(int(code))]
    for path, text in untouched.items():  # the checker needs to know the task
        path.write_text(text, "utf-8")
    unknown_task = "monitor.task_id" if mention == "env.yaml" else "nothing"
    assert [f for f in findings(task, failed=True) if not f.startswith(unknown_task)] == []


def test_without_a_task_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "none" / "in" / "env.yaml") == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("FAILED (300001): the task's environment file ")
    assert "`python -m tools.make_task` writes a task" in line
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs to drop a uid")
@pytest.mark.parametrize("kinds", [("mining", "infer"), ("training",)], ids="+".join)
def test_a_nameless_user_without_a_home(
    drawn: SourceDataset, weights: Path, kinds: tuple[str, ...]
) -> None:
    """A uid without a passwd entry, HOME unset, /in not writable, no network needed."""
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch).chmod(0o755)
        task = Path(scratch) / "task"
        settings = LOOKING if "mining" in kinds else {**TINY_TRAINING, "epochs": "1"}
        env_file = write_task(
            drawn, task, kinds=kinds, settings=settings, weights=[weights], copy=True
        )
        for folder in (task / "out", *(task / "out").rglob("*")):
            folder.chmod(0o777)
        run_as_nobody(env_file)
        assert findings(task) == []


def run_as_nobody(env_file: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    nobody = {"user": 54321, "group": 54321, "extra_groups": []}
    command = [sys.executable, str(ROOT / "start.py"), "--env", str(env_file)]
    try:
        subprocess.run(
            [sys.executable, "-c", "import torch"],
            env=environment,
            check=True,
            capture_output=True,
            **nobody,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("the interpreter lies where other users may not go")
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, **nobody
    )
    assert done.returncode == 0, done.stdout + done.stderr
