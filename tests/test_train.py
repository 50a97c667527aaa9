"""Training: it learns, repeats itself for a seed, starts from weights, and stops at nonsense."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import pytest
import torch
import yaml

import train as train_program
from data.dataset_index import DatasetIndex
from exporting.export import verify
from exporting.options import ExportOptions
from models.checkpoint import build_detector, load_checkpoint
from settings.parse import parse_settings
from settings.train import TrainSettings
from tests.conftest import NAMES, TINY_TRAINING
from training import loop as training
from training.build import starting_network
from training.loop import Saved, TrainingJob, train
from training.setup import prepare
from utils.errors import Code, TaskError
from utils.progress import Progress


def job(splits: list[DatasetIndex], folder: Path, **change: object) -> TrainingJob:
    settings, _ = parse_settings(
        TrainSettings,
        {**TINY_TRAINING, "onnx": False, "plots": False, "workers": 0, **change},
    )
    return TrainingJob(
        settings=settings,
        train=splits[0],
        validation=splits[1],
        device=torch.device("cpu"),
        folder=folder,
        stage_folder=lambda stage: folder / stage,
        on_saved=lambda saved: None,
    )


def run(one: TrainingJob) -> Saved:
    return train(one, Progress(lambda fraction: None))


def weights_of(saved: Saved) -> dict[str, torch.Tensor]:
    return load_checkpoint(saved.files[0].parent.parent / "last" / "last.pt").state


def test_the_same_seed_gives_the_same_weights(splits: list[DatasetIndex], tmp_path: Path) -> None:
    first, again, other = (
        weights_of(run(job(splits, tmp_path / name, epochs=1, seed=seed, workers=workers)))
        for name, seed, workers in (("a", 3, 0), ("b", 3, 1), ("c", 4, 0))
    )
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.slow
def test_the_loss_falls(splits: list[DatasetIndex], tmp_path: Path) -> None:
    """The same few pictures again and again, unchanged: the boxes must come to fit."""
    still = dict.fromkeys(("mosaic", "scale", "translate", "hsv_s", "hsv_v", "fliplr"), 0)
    run(job(splits, tmp_path, epochs=30, lr0=0.05, **still))
    rows = [line.split(",") for line in (tmp_path / "results.csv").read_text().splitlines()[1:]]
    box = [float(row[1]) for row in rows]
    assert len(rows) == 30
    assert sum(box[-5:]) < 0.9 * sum(box[:5])


def test_progress_and_saves_come_in_order(splits: list[DatasetIndex], tmp_path: Path) -> None:
    told: list[float] = []
    saved: list[tuple[str, int]] = []

    def record(one: Saved) -> None:
        assert all(path.is_file() for path in one.files)
        saved.append((one.stage, one.epoch))

    train(dataclasses.replace(job(splits, tmp_path), on_saved=record), Progress(told.append))
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1.0)
    assert len({round(fraction, 4) for fraction in told}) > 6  # it also moves within an epoch
    assert saved[:2] == [("best", 0), ("last", 0)]
    assert ("last", 1) in saved


def test_progress_rises_while_the_network_is_evaluated(
    splits: list[DatasetIndex], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After every batch of the validation split, in each epoch and once more at the end."""
    told: list[float] = []
    spans: list[list[float]] = []

    def watched(name: str) -> None:
        real = getattr(training, name)

        def look(*words: object, **more: object) -> training.Evaluation:
            begin = len(told)
            found = real(*words, **more)
            spans.append(told[begin:])
            return found

        monkeypatch.setattr(training, name, look)

    watched("evaluate_average")
    watched("final_report")
    one = job(splits, tmp_path, img_size=64)
    train(dataclasses.replace(one, validation=splits[0]), Progress(told.append))
    assert [len(span) for span in spans] == [4, 4, 4]  # batches of four among 16 images
    for span in spans:
        assert len(set(span)) == 4
    assert told == sorted(told)
    assert max(span[-1] for span in spans) < told[-1] == pytest.approx(1.0)


def test_weights_of_the_same_classes_are_taken_whole(weights: Path) -> None:
    network = starting_network("yolov5n", weights, NAMES)
    for key, tensor in load_checkpoint(weights).state.items():
        assert torch.equal(network.state_dict()[key], tensor), key


def test_a_loss_that_is_no_number_ends_the_task_and_keeps_the_best(
    splits: list[DatasetIndex], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = job(splits, tmp_path, epochs=3)
    real = training.train_one_epoch

    def break_later(run: training.Run, epoch: int, progress: Progress) -> list[float]:
        if epoch == 1:
            with torch.no_grad():
                run.network.head.m[0].weight.fill_(float("nan"))
        return real(run, epoch, progress)

    monkeypatch.setattr(training, "train_one_epoch", break_later)
    with pytest.raises(TaskError) as caught:
        run(one)
    assert caught.value.code == Code.NOT_A_NUMBER
    kept = load_checkpoint(tmp_path / "best" / "best.pt").state
    assert all(torch.isfinite(tensor.float()).all() for tensor in kept.values())


def test_single_cls_is_one_class_from_labels_to_report(
    splits: list[DatasetIndex], tmp_path: Path
) -> None:
    saved = run(job(splits, tmp_path, epochs=1, single_cls=True, plots=True))
    checkpoint = load_checkpoint(saved.files[0])
    assert checkpoint.class_names == ("item",)
    assert checkpoint.definition["nc"] == 1
    assert saved.evaluation.labels_per_class.tolist() == [len(splits[1].boxes)]
    assert saved.evaluation.classes.classes.tolist() == [0]
    assert saved.evaluation.confusion.matrix.shape == (2, 2)
    assert splits[0].class_names == NAMES  # what was handed in is left alone


@pytest.fixture(scope="module")
def usual(splits: list[DatasetIndex], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights after two short epochs with the default settings."""
    few = [split.subset(range(4)) for split in splits]
    saved = run(job(few, tmp_path_factory.mktemp("usual")))
    return saved.files[0].parent.parent / "last" / "last.pt"


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"mixup": 1, "mosaic9": 0.5}, id="mixup and nine"),
        pytest.param({"rect": True}, id="rect"),
        pytest.param({"image_weights": True}, id="image_weights"),
        pytest.param({"multi_scale": True}, id="multi_scale"),
        pytest.param({"quad": True}, id="quad"),
        pytest.param({"cache": "disk", "close_mosaic": 1}, id="disk and close_mosaic"),
    ],
)
def test_every_way_to_train_trains_and_changes_the_weights(
    splits: list[DatasetIndex], usual: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    few = [split.subset(range(4)) for split in splits]
    trained = weights_of(run(job(few, tmp_path, workers=1, **change)))
    default = load_checkpoint(usual).state
    assert all(torch.isfinite(tensor.float()).all() for tensor in trained.values())
    assert not all(torch.equal(trained[key], default[key]) for key in trained)


@pytest.fixture(scope="module")
def official_run(data_yaml: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a training with v7.0's flags."""
    project = tmp_path_factory.mktemp("runs")
    words = f"--data {data_yaml} --weights {weights} --img 96 --batch-size 4 --epochs 1 --seed 1"
    words += f" --hyp scratch-low --device cpu --project {project} --name exp --noplots"
    train_program.main([*words.split(), "onnx=no", "nominal_batch_size=4", "workers=0"])
    return project / "exp"


def test_the_flags_of_v7_train_on_a_data_yaml(official_run: Path) -> None:
    assert (official_run / "weights" / "best.pt").is_file()
    assert (official_run / "weights" / "last.pt").is_file()
    assert (official_run / "results.csv").is_file()
    assert not (official_run / "results.png").exists()
    assert load_checkpoint(official_run / "weights" / "best.pt").class_names == NAMES


def test_a_run_leaves_what_it_was_told(official_run: Path) -> None:
    options = yaml.safe_load((official_run / "opt.yaml").read_text())
    settings, warnings = parse_settings(
        TrainSettings, {key: value for key, value in options.items() if key != "data"}
    )
    assert warnings == []
    assert (settings.epochs, settings.img_size, settings.plots) == (1, 96, False)
    named, _ = parse_settings(TrainSettings, {"hyp": str(official_run / "hyp.yaml")})
    assert named.lr0 == settings.lr0


def test_new_anchors_reach_every_file(splits: list[DatasetIndex], tmp_path: Path) -> None:
    run(job(splits, tmp_path, epochs=1, anchors=2, onnx=True))
    read = load_checkpoint(tmp_path / "best" / "best.pt")
    stated = torch.tensor(read.definition["anchors"])
    detector = build_detector(read)
    assert stated.shape == (3, 4)
    pixels = (detector.anchors * detector.stride.view(-1, 1, 1)).flatten(1)
    assert torch.equal(stated, pixels)
    path, options = tmp_path / "best" / "best.onnx", ExportOptions(NAMES, size=(96, 96))
    assert verify(detector, "onnx", path=path, options=options) < 0.05


def test_the_command_line_trains(trained: Path, tmp_path: Path) -> None:
    settings = {**TINY_TRAINING, "epochs": 1, "onnx": "no", "plots": "no"}
    train_program.main(
        [
            "--train",
            str(trained / "in/train-index.tsv"),
            "--val",
            str(trained / "in/val-index.tsv"),
            "--class-names",
            *NAMES,
            "--output",
            str(tmp_path),
            "--",
            *[f"{key}={value}" for key, value in settings.items()],
        ]
    )
    assert (tmp_path / "best" / "best.pt").is_file()


@pytest.fixture
def few(splits: list[DatasetIndex]) -> list[DatasetIndex]:
    """Two steps an epoch."""
    return [splits[0].subset(range(8)), splits[1].subset(range(2))]


def test_an_early_end_says_when_and_why_and_progress_is_complete(
    few: list[DatasetIndex], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A learning rate of nearly nothing brings nothing better than the first epoch."""
    told: list[float] = []
    still = {"lr0": 1e-6, "warmup_bias_lr": 0, "warmup_epochs": 0, "img_size": 64}
    one = job(few, tmp_path, epochs=50, patience=2, **still)
    with caplog.at_level(logging.INFO):
        best = train(one, Progress(told.append))
    rows = (tmp_path / "results.csv").read_text().splitlines()[1:]
    assert len(rows) == best.epoch + 3
    assert (
        f"ended after epoch {len(rows)} of 50: none of the last 2 epochs was better than epoch "
        f"{best.epoch + 1} (patience 2)" in caplog.text
    )
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1.0)


def test_noval_looks_once_at_the_end(
    few: list[DatasetIndex],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    looked, told = [], []
    real = training.evaluate_average

    def look(run: training.Run, progress: Progress) -> training.Evaluation:
        looked.append(run)
        return real(run, progress)

    monkeypatch.setattr(training, "evaluate_average", look)
    one = job(few, tmp_path, epochs=3, noval=True, patience=1, img_size=64)
    with caplog.at_level("INFO"):
        best = run(dataclasses.replace(one, on_saved=told.append))
    assert len(looked) == 1
    lines = [line for line in caplog.messages if line.startswith("epoch ")]
    assert ["not evaluated  (" in line for line in lines] == [True, True, False]
    assert "mAP50-95 0." in lines[2]
    assert [(saved.stage, saved.epoch, saved.evaluated) for saved in told[:6]] == [
        (stage, epoch, epoch == 2) for epoch in range(3) for stage in ("best", "last")
    ]
    assert best.epoch == 2
    assert load_checkpoint(tmp_path / "best" / "best.pt").metadata.epoch == 2


def test_nosave_writes_at_the_end_and_on_a_failure(
    few: list[DatasetIndex], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    real = training.train_one_epoch

    def fail_late(run: training.Run, epoch: int, progress: Progress) -> list[float]:
        seen.append(any(tmp_path.rglob("*.pt")))
        if epoch == 2:
            raise TaskError(Code.NOT_A_NUMBER, "as if")
        return real(run, epoch, progress)

    monkeypatch.setattr(training, "train_one_epoch", fail_late)
    with pytest.raises(TaskError, match="as if"):
        run(job(few, tmp_path, epochs=4, nosave=True, save_period=1, img_size=64))
    assert seen == [False, False, False]
    assert {path.name for path in tmp_path.rglob("*.*") if path.suffix in (".pt", ".state")} == {
        "best.pt",
        "last.pt",
    }
    assert load_checkpoint(tmp_path / "last" / "last.pt").metadata.epoch == 1


def test_settings_reach_the_parts(
    few: list[DatasetIndex], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    change = {"optimizer": "AdamW", "freeze": "2", "sync_bn": True, "batch_size": -1}
    with caplog.at_level(logging.INFO):
        one = prepare(job(few, tmp_path, **change))
    assert isinstance(one.stepper.optimizer, torch.optim.AdamW)
    assert one.frozen == (0, 1)
    assert not any(p.requires_grad for p in one.network.model[:2].parameters())
    assert one.job.settings.batch_size == 8  # 16 on a CPU, but there are only 8 images
    assert len(one.loader) == 1
    assert "sync_bn has no effect" in caplog.text


@pytest.mark.slow
def test_exports_are_reported_with_the_best_weights(
    splits: list[DatasetIndex], tmp_path: Path
) -> None:
    asked = {"onnx": True, "onnx_nms": True, "model_formats": "[safetensors, state_dict]"}
    saved = run(job(splits, tmp_path, epochs=1, **asked))
    names = ["best.pt", "best.onnx", "best.safetensors", "best.state_dict"]
    assert [path.name for path in saved.files] == names
    best = load_checkpoint(saved.files[0]).state
    again = load_checkpoint(saved.files[2]).state
    assert all(torch.equal(again[key], value) for key, value in best.items())


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_network_input_is_a_255th_of_every_byte(kind: torch.dtype) -> None:
    """All 256 bytes, to the last bit what dividing in float32 and rounding gives."""
    images = torch.arange(2 * 3 * 8 * 16).to(torch.uint8).view(2, 3, 8, 16)
    given = training.network_input(images, torch.device("cpu"), kind)
    assert torch.equal(given, (images.float() / 255).to(kind))
    assert given.dtype == kind
    assert given.is_contiguous(memory_format=torch.channels_last)
