"""How fast inference is by each engine: image files on disk to detections, beside torch in float32.

    python -m bench.engines --data path/to/bccd --weights path/to/bccd_yolov5n.pt

All run in one process on the same files, in turns, the order turned round each time; the first
files are looked at before. Weights of a model with half the channels are widened without changing
what is found (`bench/widened.py`). An engine that is not installed, or disagrees with torch on the
images, is named and left out.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.look_options import look_options, look_parser
from bench.material import find_data, image_files, write_fitted
from bench.mining import three
from bench.pairs import machine, publish
from bench.tables import spread
from inference.predictor import Predictor, load_predictor
from settings.detect import InferSettings
from utils.device import describe, parse_device
from utils.errors import TaskError

CONTESTANTS = (
    ("torch", "float32"),
    ("torch", "bfloat16"),
    ("onnxruntime", "float32"),
    ("openvino", "float32"),
    ("openvino", "bfloat16"),
)
ON_A_GPU = (
    ("torch", "float32"),
    ("torch", "bfloat16"),
    ("onnxruntime", "float32"),
    ("tensorrt", "float32"),
    ("tensorrt", "bfloat16"),
)


@dataclass
class Contestant:
    """An engine at one precision, and the seconds and objects of its rounds."""

    name: str
    predictor: Predictor
    startup: float
    """Seconds for building and checking the engine."""
    seconds: list[float]
    objects: int = 0


def contestants(
    weights: Path, files: Sequence[str], options: argparse.Namespace, device: torch.device
) -> list[Contestant]:
    """Those of the engines that can be had here, ready to look at images."""
    ready = []
    for engine, precision in CONTESTANTS if device.type == "cpu" else ON_A_GPU:
        settings = InferSettings(img_size=options.img_size, precision=precision)
        predictor = load_predictor(weights, settings, device)
        began = time.perf_counter()
        try:
            predictor.use_engine(engine, files, batch_size=options.batch_size)
        except TaskError as error:
            print(f"without {engine} in {precision}: {error.sentence}", file=sys.stderr)
            continue
        taken = time.perf_counter() - began
        ready.append(Contestant(f"{engine}, {precision}", predictor, taken, []))
    return ready


def measure(
    ready: Sequence[Contestant], files: Sequence[str], *, batch_size: int, rounds: int
) -> None:
    """Every contestant once in each round; seconds and objects are noted with it."""
    for one in ready:
        _look(one, files[: 2 * batch_size], batch_size)
    for number in range(rounds):
        for one in ready if number % 2 == 0 else reversed(ready):
            began = time.perf_counter()
            one.objects = _look(one, files, batch_size)
            one.seconds.append(time.perf_counter() - began)
            rate = len(files) / one.seconds[-1]
            print(f"round {number + 1}, {one.name}: {rate:.2f} images/s", flush=True)


def _look(one: Contestant, files: Sequence[str], batch_size: int) -> int:
    """The number of objects found in the files."""
    stream = one.predictor.stream(files, batch_size=batch_size, workers=-1)
    return sum(len(found.detections) for found in stream)


def table(ready: Sequence[Contestant], images: int) -> str:
    """Images a second and times as fast as the first contestant in the same round."""
    first = ready[0]
    lines = [
        f"| engine | images/s (median) | times as fast as {first.name} (min / median / max) "
        "| objects | seconds to build and check |",
        "|---|---|---|---|---|",
    ]
    for one in ready:
        ratios = [a / b for a, b in zip(first.seconds, one.seconds, strict=True)]
        rate = images / spread(one.seconds).median
        lines.append(
            f"| {one.name} | {rate:.2f} | {three(ratios)} | {one.objects} | {one.startup:.1f} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    parser = look_parser(__doc__, name="engines", images=48, turns="--rounds")
    parser.add_argument("--device", default="cpu", help="cpu, or the number of a GPU")
    options = look_options(parser, arguments, turns="--rounds")
    torch.set_num_threads(options.threads)
    device = parse_device(options.device)
    weights = write_fitted(options.out, options.weights, options.model)
    files = image_files(find_data(options.data), options.images)
    ready = contestants(weights, files, options, device)
    measure(ready, files, batch_size=options.batch_size, rounds=options.rounds)
    about = (
        f"{options.model}, {options.img_size} px, {options.images} images, batch "
        f"{options.batch_size}, {describe(device)}, {options.rounds} rounds, torch "
        f"{torch.__version__}"
    )
    publish(
        f"{table(ready, len(files))}\n\n{datetime.date.today()}, {machine()}; {about}.\n",
        options.markdown,
    )


if __name__ == "__main__":
    main()
