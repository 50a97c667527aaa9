"""Jobs for the programs that are compared: the same images, labels and weights, as files."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from data.images import image_size
from data.index_file import SPLITS
from models.checkpoint import (
    Checkpoint,
    build_detector,
    checkpoint_of,
    load_checkpoint,
    save_checkpoint,
)
from models.detector import Detector
from models.model_config import read_model_config
from tools.draw_dataset import draw_dataset
from tools.make_task import write_task
from tools.sources import SourceDataset, SourceImage, read_source
from utils.errors import Code, TaskError

DRAWN_IMAGES = 192
Job = Mapping[str, object]


def find_data(folder: Path | None, build: Path) -> SourceDataset:
    """Read the labelled folder given, or images of 640 x 480 drawn in `build` on first use."""
    if folder is None:
        folder = build / f"drawn-{DRAWN_IMAGES}"
        # Written last, so its absence means an unfinished set.
        if not (folder / "classes.txt").is_file():
            draw_dataset(folder, images=DRAWN_IMAGES, size_wh=(640, 480), seed=0)
    return read_source(folder)


def image_files(source: SourceDataset, count: int) -> list[str]:
    """Return `count` image files of the data set, repeated where it has fewer."""
    files = sorted(str(image.path.absolute()) for split in SPLITS for image in source.splits[split])
    return list(itertools.islice(itertools.cycle(files), count))


def write_weights(folder: Path, model: str, given: Path | None, names: Sequence[str]) -> Job:
    """Write weights of `model`: a checkpoint for ours, a state dict for the peer; what a job says.

    They are those of the file `given` (widened if it has half the channels), or a fresh network
    with seed 0 and the class names `names`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if given is None:
        torch.manual_seed(0)
        checkpoint = checkpoint_of(Detector(read_model_config(model, nc=len(names))), tuple(names))
    else:
        checkpoint = fitted(load_checkpoint(given), model)
        checkpoint = checkpoint_of(build_detector(checkpoint), checkpoint.class_names)
    weights, state = folder.absolute() / "ours.pt", folder.absolute() / "state.pt"
    save_checkpoint(weights, checkpoint)
    torch.save(checkpoint.state, state)
    about = {"model": model, "class_names": checkpoint.class_names}
    return {**about, "weights": str(weights), "state": str(state)}


def fitted(checkpoint: Checkpoint, model: str) -> Checkpoint:
    """Return a checkpoint of `model`, or one of half its channels made twice as wide.

    A yolov5s with every channel of a yolov5n twice, and weights halved that read a doubled channel,
    finds what the yolov5n finds in the time of a yolov5s: a speed measurement needs objects, but
    no training. Raises TaskError(MODEL) for other models.
    """
    detector = Detector(read_model_config(model, nc=len(checkpoint.class_names)))
    target = detector.state_dict()
    state: dict[str, Tensor] = {}
    for key, value in checkpoint.state.items():
        wide, wanted = value, tuple(target[key].shape) if key in target else ()
        if len(wanted) == value.ndim:
            for axis, (now, then) in enumerate(zip(value.shape, wanted, strict=True)):
                if then == 2 * now:
                    # The second axis of a convolution's weights is that of its inputs.
                    wide = wide.repeat_interleave(2, axis) / (2 if axis == 1 else 1)
        state[key] = wide
    shapes = [{key: tuple(value.shape) for key, value in own.items()} for own in (state, target)]
    if shapes[0] != shapes[1]:
        raise TaskError(
            Code.MODEL,
            f"the weights are not of {model} or of a model with half its channels, such as yolov5n "
            "for yolov5s; give other weights.",
        )
    detector.load_state_dict(state)
    return checkpoint_of(detector, checkpoint.class_names, checkpoint.metadata)


def training_files(folder: Path, source: SourceDataset, images: int) -> Job:
    """Write the first `images` of the training split as a task and as YOLO files.

    A smaller split is repeated. The peer validates after every epoch, which is not
    timed: it gets one image for that.
    """
    task, peer = folder / "task", folder / "peer-data"
    source = repeated(folder / "repeated", source, images)
    write_task(source, task, limit=images, overwrite=True)
    shutil.rmtree(peer, ignore_errors=True)
    for split, limit in (("train", images), ("val", 1)):
        for image in source.splits[split][:limit]:
            write_yolo_image(peer, split, image, image.path.stem)
    return {
        "task": str(task.absolute()),
        "peer_data": write_data_yaml(peer, {"train": "train", "val": "val"}, source.class_names),
        "training_images": images,
    }


def repeated(folder: Path, source: SourceDataset, images: int) -> SourceDataset:
    """Return a data set with `images` images for training at least: copies, if it has fewer."""
    own = source.splits["train"]
    if len(own) >= images:
        return source
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    copies = []
    for number, image in enumerate(itertools.islice(itertools.cycle(own), images)):
        copy = folder.absolute() / f"{number:06d}{image.path.suffix}"
        content, mark = image.path.read_bytes(), b"%06d" % number
        # A comment, for a task takes equal files once.
        if content.startswith(b"\xff\xd8"):
            content = content[:2] + b"\xff\xfe\x00\x08" + mark + content[2:]
        else:
            content += mark
        copy.write_bytes(content)
        copies.append(replace(image, path=copy))
    return replace(source, splits={**source.splits, "train": tuple(copies)})


def evaluation_files(folder: Path, source: SourceDataset, images: int) -> Job:
    """Write `images` labelled images as YOLO files for both, repeated where there are fewer."""
    shutil.rmtree(folder, ignore_errors=True)
    labelled = itertools.cycle(image for split in SPLITS for image in source.splits[split])
    for number, image in enumerate(itertools.islice(labelled, images)):
        write_yolo_image(folder, "all", image, f"{number:06d}")
    return {"data": write_data_yaml(folder, dict.fromkeys(SPLITS, "all"), source.class_names)}


def write_yolo_image(folder: Path, split: str, image: SourceImage, name: str) -> None:
    """Link an image into a YOLO folder, and write its label file, boxes clipped to the image."""
    link = folder / "images" / split / f"{name}{image.path.suffix}"
    label = folder / "labels" / split / f"{name}.txt"
    for path in (link, label):
        path.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(image.path.resolve())
    height, width = image_size(str(image.path))
    corners = image.boxes.clip(0, [width, height, width, height]) / [width, height, width, height]
    start, end = corners[:, :2], corners[:, 2:]
    rows = np.column_stack([image.classes, (start + end) / 2, end - start])
    np.savetxt(label, rows, fmt=("%d", *["%.8f"] * 4))


def write_data_yaml(folder: Path, splits: Mapping[str, str], names: Sequence[str]) -> str:
    """Write the data.yaml of a YOLO folder, with the sub-folder of each split; return its path."""
    path = folder.absolute() / "data.yaml"
    content = {split: f"images/{place}" for split, place in splits.items()}
    about = {"path": str(path.parent), "nc": len(names), "names": list(names)}
    path.write_text(yaml.safe_dump(content | about), encoding="utf-8")
    return str(path)


def index_files(folder: Path, source: SourceDataset, count: int, form: str) -> Job:
    """Write an index file of `count` labelled images: links to those of `source` and their labels.

    The links lie in 256 folders, as the platform's files do; a COCO document lists every link.
    """
    shutil.rmtree(folder, ignore_errors=True)
    write_task(source, folder / "task", annotation_format=form)
    tables = [(folder / "task" / "in" / f"{split}-index.tsv").read_text() for split in SPLITS]
    originals = [line.split("\t") for text in tables for line in text.splitlines()]
    coco: dict[str, Any] = json.loads(Path(originals[0][1]).read_text()) if form == "coco" else {}
    names = {image["id"]: image["file_name"] for image in coco.get("images", [])}
    boxes: dict[str, list[dict[str, Any]]] = {}
    for box in coco.get("annotations", []):
        boxes.setdefault(names[box["image_id"]], []).append(box)
    lines, images, annotations = list[str](), list[object](), list[object]()
    document = folder.absolute() / "coco.json"
    for number, (image, label) in enumerate(itertools.islice(itertools.cycle(originals), count)):
        place = folder.absolute() / "links" / f"{number % 256:02x}" / f"{number:040x}"
        place.parent.mkdir(parents=True, exist_ok=True)
        link, annotation = (place.with_suffix(Path(path).suffix) for path in (image, label))
        link.symlink_to(Path(image).resolve())
        if coco:
            images.append({"id": number, "file_name": link.name})
            for box in boxes.get(Path(image).name, []):
                annotations.append({**box, "id": len(annotations), "image_id": number})
        else:
            annotation.symlink_to(label)
        lines.append(f"{link}\t{document if coco else annotation}\n")
    document.write_text(json.dumps({**coco, "images": images, "annotations": annotations}))
    (folder / "index.tsv").write_text("".join(lines), encoding="utf-8")
    return {"index": str(folder.absolute() / "index.tsv"), "class_names": source.class_names}
