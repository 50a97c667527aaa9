"""Batch-norm statistics computed anew for averaged weights: do they help after a short training?

    python -m bench.studies.batch_statistics --data runs/small/data/raccoon/data.yaml \\
        --img-size 320 --weights runs/small/*/run/weights/best.pt

Each checkpoint is evaluated on the validation split as it is, then with means and variances of
the training images without augmentation, then of augmented batches (mosaics). float32, on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.optim.swa_utils import update_bn

from bench.studies.precision import CPU, JUDGE
from bench.training import markdown
from data.augmentations import Augmentation
from data.data_yaml import read_data_yaml
from data.dataset_index import DatasetIndex
from data.loaders import LoaderConfig, evaluation_loader, training_loader
from data.read_dataset import read_yolo_split
from evaluation.evaluate import evaluate_split
from inference.predictor import Predictor, PredictorConfig
from models.checkpoint import build_detector, load_checkpoint
from tools import command_parser
from training.step import network_input

HEAD = "checkpoint | statistics of | mAP50 | mAP50-95 | difference"
EPOCHS = 4
"""Passes over the training images for the statistics of augmented batches."""
SAVED, PLAIN, AUGMENTED = "the training (average)", "plain images", "augmented batches"


def batches_of(index: DatasetIndex, config: LoaderConfig) -> dict[str, list[Tensor]]:
    """Return uint8 RGB batches [n, 3, height, width] of the training split, by kind."""
    plain = [batch.images for batch in evaluation_loader(index, config)]
    loader, augmented = training_loader(index, config, seed=0, augmentation=Augmentation()), []
    for epoch in range(EPOCHS):
        loader.set_epoch(epoch)
        augmented += [batch.images for batch in loader]
    return {SAVED: [], PLAIN: plain, AUGMENTED: augmented}


def rows_of(
    weights: Path, batches: dict[str, list[Tensor]], judged: DatasetIndex, size: int
) -> Iterator[list[object]]:
    """Yield a row of the table for each kind of statistics."""
    checkpoint, saved = load_checkpoint(weights), 0.0
    config = PredictorConfig(image_size=size, batch_size=16, nms=JUDGE, precision="float32")
    for kind, images in batches.items():
        detector = build_detector(checkpoint)
        if images:
            update_bn((network_input(one, CPU) for one in images), detector)
        predictor = Predictor.build(detector, checkpoint.class_names, device=CPU, config=config)
        scores = evaluate_split(predictor, judged).scores
        saved = scores.map50_95 if kind == SAVED else saved
        figures = f"{scores.map50:.4f}", f"{scores.map50_95:.4f}"
        yield [weights.parents[2].name, kind, *figures, f"{scores.map50_95 - saved:+.4f}"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table of all checkpoints."""
    parser = command_parser("bench.studies.batch_statistics", __doc__)
    parser.add_argument("--data", type=Path, required=True, help="a data.yaml")
    parser.add_argument("--weights", type=Path, nargs="+", required=True)
    parser.add_argument("--img-size", type=int, default=320)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    data = read_data_yaml(options.data)
    train, judged = (read_yolo_split(data, s, max_bad_fraction=0.0)[0] for s in ("train", "val"))
    batches = batches_of(train, LoaderConfig(options.img_size, 16, workers=0))
    rows: list[list[object]] = []
    for weights in options.weights:
        rows += rows_of(weights, batches, judged, options.img_size)
    print(markdown(HEAD, rows))


if __name__ == "__main__":
    main()
