"""How well the features of mining tell clips apart, and how near frames of one clip are.

    python -m bench.studies.alike --data path/to/fod --weights yolov5n.pt --img-size 320 640

The data set is that of `bench.pools`; of each class the first clips count. Features of the whole
network input and of the halved one, which mining takes, are compared by two figures:

same clip nearer: of two pairs of frames, one of a clip and one of two clips, how often the first
                  pair is nearer (1/2 by chance)
below THRESHOLD:  frames whose nearest frame of their own clip, and of any other clip, is nearer
                  than the distance that the report calls alike
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.pools import read_clips
from bench.training import markdown
from data.data_yaml import read_data_yaml
from data.images import read_image
from inference.network import Network
from mining.diversity import LARGEST_DISTANCE, UNIT, directions, halved, projection
from models.checkpoint import build_detector, load_checkpoint
from ops.letterbox import resize_image
from reporting.ranking_report import ALIKE
from tools import command_parser

BATCH = 16
HEAD = "network input | same clip nearer | own clip below {0} | another clip below {0}"


def features_of(network: Network, images: Sequence[Tensor]) -> NDArray[np.float32]:
    """Return the features float32 [n, 64] of network inputs [3, h, w]."""
    means = []
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            maps = network.backbone_map(torch.stack(list(images[start : start + BATCH])))
            means.append(maps.mean((2, 3)).double().numpy())
    found = np.concatenate(means)
    return directions(found, projection(found.shape[1], seed=0))


def figures(features: NDArray[np.float32], clips: NDArray[np.int64]) -> list[float]:
    """Return the three figures of a table's row."""
    points = features.astype(np.float64)
    distances = np.linalg.norm(points[:, None] - points, axis=2) / (LARGEST_DISTANCE * UNIT)
    same, pairs = clips[:, None] == clips, np.triu_indices(len(clips), 1)
    ranks, own = pd.Series(-distances[pairs]).rank().to_numpy(), same[pairs]
    count = int(own.sum())
    nearer = (ranks[own].sum() - count * (count + 1) / 2) / (count * (len(own) - count))
    alone = np.eye(len(clips), dtype=np.bool_)
    near = [
        float((np.where(kept, distances, np.inf).min(1) < ALIKE).mean())
        for kept in (same & ~alone, ~same)
    ]
    return [float(nearer), *near]


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser("bench.studies.alike", __doc__)
    parser.add_argument("--data", type=Path, required=True, help="YOLO folder with meta.json")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=2, help="of each class")
    parser.add_argument("--img-size", type=int, nargs="+", default=[320])
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    options = options_of(arguments)
    names = read_data_yaml(options.data / "data.yaml").class_names
    listed = read_clips(options.data / "meta.json", names).values()
    chosen = [clip for own in listed for clip in own[: options.clips]]
    files = {path.stem: path for path in (options.data / "images" / "train").iterdir()}
    pixels = [read_image(files[stem]) for clip in chosen for stem in clip]
    clips = np.repeat(np.arange(len(chosen)), [len(clip) for clip in chosen])
    detector = build_detector(load_checkpoint(options.weights))
    network = Network.build(detector, device=torch.device("cpu"), precision="float32")
    rows: list[list[object]] = []
    for side in options.img_size:
        resized = [resize_image(image, (side, side)) for image in pixels]
        whole = [torch.from_numpy(image[..., ::-1].transpose(2, 0, 1).copy()) for image in resized]
        half = [halved(image[None])[0] for image in whole]
        for name, images in (("whole", whole), ("halved", half)):
            found = figures(features_of(network, images), clips)
            rows.append([f"{side} px, {name}", *(f"{value:.3f}" for value in found)])
    print(markdown(HEAD.format(ALIKE), rows))


if __name__ == "__main__":
    main()
