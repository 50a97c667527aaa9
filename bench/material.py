"""What both programs are given: the same images, labels, weights and batches, as files.

Imported by the benchmarks that set ours beside another program.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import torch

from bench.widened import fitted
from bench.yolo_folder import write_description, yolo_label
from data.images import image_size
from models.checkpoint import build_detector, checkpoint_of, load_checkpoint, save_checkpoint
from models.detector import Detector
from models.model_config import read_model_config
from tools.draw_dataset import draw_dataset
from tools.make_task import write_task
from tools.source_formats import SPLITS
from tools.sources import SourceDataset, SourceImage, read_source

BUILD = Path("build/bench")
DRAWN_IMAGES = 192
BOXES_PER_IMAGE = 20


@dataclass(frozen=True)
class Weights:
    """The same tensors twice: a checkpoint of ours, and a bare state dict for the peer."""

    ours: Path
    state: Path
    class_names: tuple[str, ...]


def find_data(folder: Path | None) -> SourceDataset:
    """The labelled folder given, or drawn pictures of 640 x 480, made on first use."""
    if folder is None:
        folder = BUILD / f"drawn-{DRAWN_IMAGES}"
        # Written last, so its absence means an unfinished set.
        if not (folder / "classes.txt").is_file():
            draw_dataset(folder, images=DRAWN_IMAGES, size_wh=(640, 480), seed=0)
    return read_source(folder)


def image_files(source: SourceDataset, count: int) -> list[str]:
    """`count` image files of the data set, repeated from the start when it has fewer."""
    files = sorted(str(image.path.absolute()) for split in SPLITS for image in source.splits[split])
    return [files[position % len(files)] for position in range(count)]


def write_weights(
    folder: Path, model: str, weights: Path | None, class_names: tuple[str, ...]
) -> Weights:
    """Weights of `model` for both: those of the file given, or a fresh network (seed 0).

    Those of a model with half the channels are widened (`bench/widened.py`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    if weights is None:
        torch.manual_seed(0)
        detector = Detector(read_model_config(model, nc=len(class_names)))
    else:
        loaded = fitted(load_checkpoint(weights), model)
        detector, class_names = build_detector(loaded), loaded.class_names
    checkpoint = checkpoint_of(detector, class_names)
    made = Weights(folder / "ours.pt", folder / "state.pt", class_names)
    save_checkpoint(made.ours, checkpoint)
    torch.save(checkpoint.state, made.state)
    return made


def write_fitted(folder: Path, weights: Path, model: str) -> Path:
    """The weight file given, widened to `model` if it has half its channels, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "weights.pt"
    save_checkpoint(path, fitted(load_checkpoint(weights), model))
    return path


def write_training_data(folder: Path, source: SourceDataset, images: int) -> tuple[Path, Path]:
    """The first `images` of the training split as a task for ours and YOLO files for the peer.

    The peer validates after every epoch, which is not timed: it gets one image for that.
    Returns the task folder and the peer's data file.
    """
    task, peer = folder / "task", folder / "peer-data"
    write_task(source, task, annotation_format="ark", limit=images, overwrite=True)
    shutil.rmtree(peer, ignore_errors=True)
    for split, limit in (("train", images), ("val", 1)):
        (peer / "images" / split).mkdir(parents=True)
        (peer / "labels" / split).mkdir(parents=True)
        for image in source.splits[split][:limit]:
            shutil.copyfile(image.path, peer / "images" / split / image.path.name)
            label = peer / "labels" / split / f"{image.path.stem}.txt"
            label.write_text(_label(image), encoding="utf-8")
    splits = {"train": "images/train", "val": "images/val"}
    return task, write_description(peer, splits, source.class_names)


def write_evaluation_data(folder: Path, source: SourceDataset, images: int) -> Path:
    """`images` labelled images as YOLO files for both, links that repeat when there are fewer.

    Returns the data file, whose splits are all the same.
    """
    shutil.rmtree(folder, ignore_errors=True)
    pictures, labels = folder / "images" / "all", folder / "labels" / "all"
    pictures.mkdir(parents=True)
    labels.mkdir(parents=True)
    labelled = [image for split in SPLITS for image in source.splits[split]]
    for number in range(images):
        image = labelled[number % len(labelled)]
        (pictures / f"{number:06d}{image.path.suffix}").symlink_to(image.path.resolve())
        (labels / f"{number:06d}.txt").write_text(_label(image), encoding="utf-8")
    splits = dict.fromkeys(SPLITS, "images/all")
    return write_description(folder, splits, source.class_names)


def _label(image: SourceImage) -> str:
    return yolo_label(image.boxes, image.classes, image_size(str(image.path)))


def write_batches(
    path: Path, *, count: int, batch_size: int, image_size: int, classes: int
) -> Path:
    """Random batches for the network alone: uint8 [b, 3, size, size] and targets [t, 6].

    A target is (image in the batch, class, cx, cy, w, h), normalised, as both programs take it.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (batch_size, 3, image_size, image_size)
    boxes = batch_size * BOXES_PER_IMAGE
    places = torch.arange(batch_size).repeat_interleave(BOXES_PER_IMAGE)[:, None].float()
    batches = []
    for _ in range(count):
        images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        labels = torch.randint(0, classes, (boxes, 1), generator=generator).float()
        centres = 0.1 + 0.8 * torch.rand((boxes, 2), generator=generator)
        sizes = 0.05 + 0.15 * torch.rand((boxes, 2), generator=generator)
        batches.append((images, torch.cat([places, labels, centres, sizes], 1)))
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(batches, path)
    return path


def write_peer_configuration(folder: Path) -> Path:
    """A settings folder for the peer with the font that it would otherwise fetch."""
    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    for place in (folder, folder / "Ultralytics"):
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(font, place / "Arial.ttf")
    return folder
