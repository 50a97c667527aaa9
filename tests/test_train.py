"""Training: it learns, repeats itself for a seed, starts from weights, and stops at nonsense."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import yaml

import train as training
from export import verify_onnx
from models.checkpoint import build_detector, load_checkpoint
from tests.conftest import TINY_TRAINING
from train import Saved, TrainingJob, train
from utils.config import TrainSettings, parse_settings
from utils.errors import Code, TaskError
from utils.labels import DatasetIndex, read_dataset
from utils.progress import Progress
from utils.recipe import starting_network

NAMES = ("red_cell", "white_cell", "platelet")


@pytest.fixture(scope="module")
def splits(trained: Path) -> list[DatasetIndex]:
    return [
        read_dataset(
            trained / "in" / f"{name}-index.tsv", NAMES, root=trained / "in", max_bad_fraction=0.0
        )[0]
        for name in ("train", "val")
    ]


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


@pytest.fixture(scope="module")
def official_run(data_yaml: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a training with v7.0's flags."""
    project = tmp_path_factory.mktemp("runs")
    words = f"--data {data_yaml} --weights {weights} --img 96 --batch-size 4 --epochs 1 --seed 1"
    words += f" --hyp scratch-low --device cpu --project {project} --name exp --noplots"
    training.main([*words.split(), "onnx=no", "nominal_batch_size=4", "workers=0"])
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
    stated = torch.tensor(read.layout["anchors"])
    detector = build_detector(read)
    assert stated.shape == (3, 4)
    pixels = (detector.anchors * detector.stride.view(-1, 1, 1)).flatten(1)
    assert torch.equal(stated, pixels)
    assert verify_onnx(tmp_path / "best" / "best.onnx", detector) < 0.05


def test_the_command_line_trains(trained: Path, tmp_path: Path) -> None:
    settings = {**TINY_TRAINING, "epochs": 1, "onnx": "no", "plots": "no"}
    training.main(
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
