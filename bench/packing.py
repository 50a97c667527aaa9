"""What packed convolutions and small passes gain: files to detections beside the plain network.

    python -m bench.packing --data path/to/bccd --model yolov5s --img-size 640 --passes 1 2 4

In one process, in turns, on the same files: the network as it is with whole batches, and packed
(`models/onednn.py`) with so many images a pass. Fresh weights, so that nothing is found.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from bench.material import find_data, image_files
from bench.tables import spread
from data.images import image_size
from inference import network as looks
from inference.predictor import Predictor
from models.detector import Detector
from models.model_config import read_model_config

PLAIN = "plain, whole batches"


def rounds(
    predictor: Predictor, files: Sequence[str], passes: Mapping[str, int], options: tuple[int, int]
) -> Iterator[tuple[str, float]]:
    """Name and seconds of every contestant, in turns; `options` are batch size and rounds.

    `passes` holds the pixels a pass of each packed contestant. One more round comes first.
    """
    batch_size, count = options
    packed = predictor.looks.compiled
    for number in range(count + 1):
        for name, pixels in ((PLAIN, 1 << 60), *passes.items()):
            predictor.looks.compiled = predictor.looks.network if name == PLAIN else packed
            looks.PIXELS_A_PASS = pixels
            began = time.perf_counter()
            for _ in predictor.stream(files, batch_size=batch_size, workers=2):
                pass
            if number:
                yield name, time.perf_counter() - began


def main(arguments: Sequence[str] | None = None) -> None:
    """Print how many times as fast each is, a line each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="a VOC, COCO or YOLO folder; default: drawn")
    parser.add_argument("--model", default="yolov5s")
    parser.add_argument("--img-size", type=int, default=640)
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--passes", type=int, nargs="+", default=[1, 2, 4], help="images a pass")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    if min(options.batch_size, options.images, options.rounds, *options.passes) < 1:
        parser.error("every number must be at least 1")
    source = find_data(options.data)
    files = image_files(source, options.images)
    torch.manual_seed(0)
    predictor = Predictor(
        Detector(read_model_config(options.model, len(source.class_names))),
        source.class_names,
        device=torch.device("cpu"),
        image_size=options.img_size,
        precision=options.precision,
    )
    if predictor.looks.compiled is predictor.looks.network:
        raise SystemExit("this torch or processor cannot pack convolutions: nothing to compare")
    height, width = predictor.plan(image_size(files[0])).shape
    passes = {f"packed, {count} a pass": count * height * width for count in options.passes}
    seconds: dict[str, list[float]] = {}
    for name, took in rounds(predictor, files, passes, (options.batch_size, options.rounds)):
        seconds.setdefault(name, []).append(took)
    for name, own in seconds.items():
        ratios = [one / other for one, other in zip(seconds[PLAIN], own, strict=True)]
        found = spread(ratios)
        print(
            f"{name}: {options.images / min(own):.1f} images/s, {found.least:.2f} / "
            f"{found.median:.2f} / {found.greatest:.2f} times as fast"
        )


if __name__ == "__main__":
    main()
