"""Training: it learns, repeats itself for a seed, stops at nonsense, and takes every setting."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import onnxruntime
import pytest
import torch
import yaml

import train as train_program
from data.dataset_index import DatasetIndex
from exporting.export import verify
from exporting.options import ExportOptions
from models.checkpoint import build_detector, load_checkpoint
from models.model_config import read_model_config
from settings.parse import parse_settings
from settings.train import TrainSettings
from tests.conftest import NAMES, TINY_TRAINING, needs_gpu
from tests.training_example import make_job, run, tensors_of
from training import loop
from training.checkpoints import SavedCheckpoint
from training.setup import network_of, prepare
from training.step import network_input
from utils.distributed import DistContext
from utils.errors import Code, TaskError
from utils.progress import Progress


@pytest.fixture(scope="module")
def few(splits: list[DatasetIndex]) -> list[DatasetIndex]:
    """Two steps an epoch."""
    return [splits[0].subset(range(8)), splits[1].subset(range(2))]


def test_the_same_seed_gives_the_same_weights(few: list[DatasetIndex], tmp_path: Path) -> None:
    trained = []
    for name, seed, workers in (("a", 3, 0), ("b", 3, 1), ("c", 4, 0)):
        run(make_job(few, tmp_path / name, epochs=1, seed=seed, workers=workers, img_size=64))
        trained.append(tensors_of(tmp_path / name))
    first, again, other = trained
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.slow
def test_the_loss_falls(few: list[DatasetIndex], tmp_path: Path) -> None:
    """The same few pictures again and again, unchanged: the boxes must come to fit."""
    still = dict.fromkeys(("mosaic", "scale", "translate", "hsv_s", "hsv_v", "fliplr"), 0)
    run(make_job(few, tmp_path, epochs=30, lr0=0.05, noval=True, nosave=True, **still))
    lines = (tmp_path / "results.csv").read_text().splitlines()[1:]
    box = [float(line.split(",")[1]) for line in lines]
    assert len(box) == 30
    assert sum(box[-5:]) < 0.9 * sum(box[:5])


def test_progress_rises_within_epochs_and_evaluations_and_checkpoints_are_reported(
    splits: list[DatasetIndex], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an evaluation after every batch of the split, in each epoch and once more at the end."""
    fractions: list[float] = []
    spans: list[list[float]] = []
    saved: list[tuple[str, int]] = []

    def watch(name: str) -> None:
        real = getattr(loop, name)

        def watched(*words: object, **more: object) -> object:
            begin = len(fractions)
            found = real(*words, **more)
            spans.append(fractions[begin:])
            return found

        monkeypatch.setattr(loop, name, watched)

    def on_saved(one: SavedCheckpoint) -> None:
        assert all(path.is_file() for path in one.files)
        saved.append((one.stage, one.epoch))

    watch("evaluate_ema")
    watch("final_report")
    one = make_job(splits, tmp_path, img_size=64)
    one = dataclasses.replace(one, validation=splits[0], on_saved=on_saved)
    loop.train(one, Progress(fractions.append))
    assert [len(set(span)) for span in spans] == [4, 4, 4]  # batches of four among 16 images
    assert fractions == sorted(fractions)
    assert max(span[-1] for span in spans) < fractions[-1] == pytest.approx(1.0)
    assert saved[:2] == [("best", 0), ("last", 0)]
    assert ("last", 1) in saved


def test_a_loss_that_is_not_finite_ends_the_training_and_keeps_the_best(
    few: list[DatasetIndex], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = loop.train_one_epoch

    def break_later(state: loop.TrainState, epoch: int, progress: Progress) -> list[float]:
        if epoch == 1:
            with torch.no_grad():
                state.network.head.m[0].weight.fill_(float("nan"))
        return real(state, epoch, progress)

    monkeypatch.setattr(loop, "train_one_epoch", break_later)
    with pytest.raises(TaskError, match=r"not a number in 2 step\(s\) of epoch 2") as caught:
        run(make_job(few, tmp_path, epochs=3, img_size=64))
    assert caught.value.code == Code.NOT_A_NUMBER
    assert all(tensor.isfinite().all() for tensor in tensors_of(tmp_path, "best").values())


def test_single_cls_is_one_class_from_labels_to_report(
    splits: list[DatasetIndex], tmp_path: Path
) -> None:
    saved = run(make_job(splits, tmp_path, epochs=1, single_cls=True, plots=True))
    checkpoint = load_checkpoint(saved.files[0])
    assert checkpoint.class_names == ("item",)
    assert checkpoint.definition["nc"] == 1
    assert saved.evaluation.labels_per_class.tolist() == [len(splits[1].boxes)]
    assert saved.evaluation.classes.classes.tolist() == [0]
    assert saved.evaluation.confusion.matrix.shape == (2, 2)
    assert splits[0].class_names == NAMES  # what was handed in is left alone


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"mixup": 1, "mosaic9": 0.5, "image_weights": True},
        {"rect": True},
        {"multi_scale": True, "quad": True},
        {"cache": "disk", "close_mosaic": 1},
        {"multi_scale": True, "quad": True, "mixup": 1, "augment_on": "device"},
    ],
    ids=str,
)
def test_settings_change_what_is_trained(
    few: list[DatasetIndex], tmp_path: Path, change: dict[str, object]
) -> None:
    run(make_job(few, tmp_path / "default", epochs=1, img_size=64))
    run(make_job(few, tmp_path / "changed", epochs=1, img_size=64, workers=1, **change))
    default, changed = tensors_of(tmp_path / "default"), tensors_of(tmp_path / "changed")
    assert all(tensor.isfinite().all() for tensor in changed.values())
    assert not all(torch.equal(changed[key], default[key]) for key in changed)


def test_the_flags_of_v7_train_on_a_data_yaml(
    data_yaml: Path, weights: Path, tmp_path: Path
) -> None:
    words = f"--data {data_yaml} --weights {weights} --img 96 --batch-size 4 --epochs 1 --seed 1"
    words += f" --hyp scratch-low --device cpu --project {tmp_path} --name exp --noplots"
    train_program.main([*words.split(), "onnx=no", "nominal_batch_size=4", "workers=0"])
    folder = tmp_path / "exp"
    assert (folder / "weights" / "last.pt").is_file()
    assert (folder / "results.csv").is_file()
    assert not (folder / "results.png").exists()
    assert load_checkpoint(folder / "weights" / "best.pt").class_names == NAMES
    options = yaml.safe_load((folder / "opt.yaml").read_text())
    del options["data"]
    settings, warnings = parse_settings(TrainSettings, options)
    assert warnings == []
    assert (settings.epochs, settings.img_size, settings.plots) == (1, 96, False)
    named, _ = parse_settings(TrainSettings, {"hyp": str(folder / "hyp.yaml")})
    assert named.lr0 == settings.lr0


def test_the_command_line_trains_on_index_files(trained: Path, tmp_path: Path) -> None:
    settings = {**TINY_TRAINING, "epochs": 1, "onnx": "no", "plots": "no"}
    words = f"--train {trained}/in/train-index.tsv --val {trained}/in/val-index.tsv --class-names"
    words = f"{words} {' '.join(NAMES)} --output {tmp_path} --"
    train_program.main([*words.split(), *[f"{key}={value}" for key, value in settings.items()]])
    assert (tmp_path / "best" / "best.pt").is_file()


@pytest.mark.slow
def test_a_model_file_activation_and_new_anchors_reach_every_file(
    splits: list[DatasetIndex], tmp_path: Path
) -> None:
    """A narrow yolov5-p34: levels of strides 8 and 16 above a backbone of stride 32."""
    definition = read_model_config("yolov5-p34").definition
    model = tmp_path / "mine.yaml"
    model.write_text(yaml.safe_dump({**definition, "width_multiple": 0.125}))
    change = {"model": str(model), "activation": "nn.LeakyReLU(0.1)", "anchors": 2}
    formats = {"onnx": True, "model_formats": "[safetensors, state_dict]"}
    saved = run(make_job(splits, tmp_path, epochs=1, **change, **formats))
    assert [path.suffix for path in saved.files] == [".pt", ".onnx", ".safetensors", ".state_dict"]
    checkpoint = load_checkpoint(saved.files[0])
    detector = build_detector(checkpoint)
    assert str(detector.config.activation) == "nn.LeakyReLU(0.1)"
    anchors = torch.tensor(checkpoint.definition["anchors"])
    assert anchors.shape == (2, 4)
    pixels = (detector.anchors * detector.stride.view(-1, 1, 1)).flatten(1)
    assert torch.equal(anchors, pixels)
    again = load_checkpoint(saved.files[2]).state
    assert all(torch.equal(again[key], value) for key, value in checkpoint.state.items())
    options = ExportOptions(NAMES, size=(96, 96))
    assert verify(detector, "onnx", path=saved.files[1], options=options) < 0.05
    session = onnxruntime.InferenceSession(saved.files[1], providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["stride"] == "32"


def test_early_stopping_is_logged_and_progress_is_complete(
    few: list[DatasetIndex], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A learning rate of nearly nothing brings nothing better than the first epoch."""
    fractions: list[float] = []
    still = {"lr0": 1e-6, "warmup_bias_lr": 0, "warmup_epochs": 0, "img_size": 64}
    one = make_job(few, tmp_path, epochs=50, patience=2, **still)
    with caplog.at_level(logging.INFO):
        best = loop.train(one, Progress(fractions.append))
    assert best
    rows = (tmp_path / "results.csv").read_text().splitlines()[1:]
    assert len(rows) == best.epoch + 3
    assert f"early stopping after epoch {len(rows)}: no improvement for 2 epochs" in caplog.text
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1.0)


def test_noval_evaluates_once_at_the_end(
    few: list[DatasetIndex], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reported: list[SavedCheckpoint] = []
    one = make_job(few, tmp_path, epochs=3, noval=True, patience=1, img_size=64)
    with caplog.at_level("INFO"):
        best = run(dataclasses.replace(one, on_saved=reported.append))
    lines = [line for line in caplog.messages if line.startswith("epoch ")]
    assert ["not evaluated  (" in line for line in lines] == [True, True, False]
    assert "mAP50-95 0." in lines[2]
    assert [(saved.stage, saved.epoch, saved.evaluated) for saved in reported[:6]] == [
        (stage, epoch, epoch == 2) for epoch in range(3) for stage in ("best", "last")
    ]
    assert best.epoch == 2
    assert load_checkpoint(tmp_path / "best" / "best.pt").metadata.epoch == 2


def test_nosave_writes_at_the_end_and_on_a_failure(
    few: list[DatasetIndex], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    real = loop.train_one_epoch

    def fail_late(state: loop.TrainState, epoch: int, progress: Progress) -> list[float]:
        seen.append(any(tmp_path.rglob("*.pt")))
        if epoch == 2:
            raise TaskError(Code.NOT_A_NUMBER, "as if")
        return real(state, epoch, progress)

    monkeypatch.setattr(loop, "train_one_epoch", fail_late)
    with pytest.raises(TaskError, match="as if"):
        run(make_job(few, tmp_path, epochs=4, nosave=True, save_period=1, img_size=64))
    assert seen == [False, False, False]
    files = {path.name for path in tmp_path.rglob("*.*") if path.suffix in (".pt", ".state")}
    assert files == {"best.pt", "last.pt"}
    assert load_checkpoint(tmp_path / "last" / "last.pt").metadata.epoch == 1


def test_settings_reach_the_parts(
    few: list[DatasetIndex], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    change = {"optimizer": "AdamW", "freeze": "2", "sync_bn": True, "batch_size": -1}
    with caplog.at_level(logging.INFO):
        state = prepare(make_job(few, tmp_path, **change))
    assert isinstance(state.optimizer_step.optimizer, torch.optim.AdamW)
    assert not any(p.requires_grad for p in state.network.model[:2].parameters())
    assert state.job.settings.batch_size == 8  # 16 on a CPU, but there are only 8 images
    assert len(state.loader) == 1
    assert "sync_bn has no effect" in caplog.text


TWO_RANKS = DistContext(0, 2, 0, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 5}, "set it to a multiple of 2"),
        ({"batch_size": -1}, "set it to a multiple of 2"),
        ({"image_weights": True}, "image_weights is for one process"),
        ({"sync_bn": True}, "sync_bn needs GPUs"),
    ],
    ids=str,
)
def test_several_ranks_refuse(
    few: list[DatasetIndex], tmp_path: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        prepare(dataclasses.replace(make_job(few, tmp_path, **change), processes=TWO_RANKS))
    assert caught.value.code == Code.CONFIG


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"augment_on": "device", "albumentations": True},
            "albumentations, .* and augment_on: device",
        ),
        ({"cache": "gpu", "albumentations": True}, "albumentations, .* and cache: gpu"),
        ({"cache": "gpu", "augment_on": "host"}, "augment_on: host and cache: gpu"),
    ],
    ids=str,
)
def test_pixels_are_augmented_in_one_place(
    few: list[DatasetIndex], tmp_path: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        prepare(make_job(few, tmp_path, **change))
    assert caught.value.code == Code.CONFIG


@pytest.mark.parametrize(
    ("device", "change", "kept", "augmented"),
    [
        ("cpu", {}, "host", "host"),
        ("cpu", {"cache": "gpu"}, "host", "host"),
        ("cpu", {"cache": "gpu", "augment_on": "device"}, "device", "device"),
        ("cpu", {"augment_on": "device"}, "host", "device"),
        pytest.param("cuda", {}, "device", "device", marks=needs_gpu),
        pytest.param("cuda", {"albumentations": True}, "host", "host", marks=needs_gpu),
        pytest.param("cuda", {"cache_share": 0}, "host", "device", marks=needs_gpu),
        pytest.param("cuda", {"cache": "ram"}, "host", "device", marks=needs_gpu),
    ],
    ids=str,
)
def test_where_images_are_kept_and_augmented(
    few: list[DatasetIndex],
    tmp_path: Path,
    device: str,
    change: dict[str, object],
    kept: str,
    augmented: str,
) -> None:
    if "albumentations" in change:
        pytest.importorskip("albumentations", reason="the package albumentations is optional")
    job = dataclasses.replace(make_job(few, tmp_path, **change), device=torch.device(device))
    loader = prepare(job).loader
    assert loader.cached
    assert ("host" if loader.augment is None else "device") == augmented
    source = None if loader.augment is None else loader.augment.source
    assert ("host" if source is None else "device") == kept


def test_sync_bn_replaces_every_batch_norm(few: list[DatasetIndex], tmp_path: Path) -> None:
    plain = make_job(few, tmp_path, sync_bn=True)
    job = dataclasses.replace(plain, processes=TWO_RANKS, device=torch.device("cuda"))
    (network, _), (expected, _) = network_of(job), network_of(plain)
    kinds = {type(one) for one in network.modules() if isinstance(one, torch.nn.BatchNorm2d)}
    assert kinds == set()
    assert sum(isinstance(one, torch.nn.SyncBatchNorm) for one in network.modules()) == 57
    assert list(network.state_dict()) == list(expected.state_dict())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_network_input_is_a_255th_of_every_byte(dtype: torch.dtype) -> None:
    """All 256 bytes, to the last bit what dividing in float32 and rounding gives."""
    images = torch.arange(2 * 3 * 8 * 16).to(torch.uint8).view(2, 3, 8, 16)
    converted = network_input(images, torch.device("cpu"), dtype)
    assert torch.equal(converted, (images.float() / 255).to(dtype))
    assert converted.dtype == dtype
    assert converted.is_contiguous(memory_format=torch.channels_last)
