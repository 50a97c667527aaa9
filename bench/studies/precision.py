"""Which tensors of a network cost accuracy in bfloat16 on a CPU: part by part in float32.

    OMP_NUM_THREADS=1 python -m bench.studies.precision --data path/to/bccd --weights best.pt \\
        --img-size 320

The splits train and val are evaluated as by `val.py`. With `--own-labels` the pictures may show
anything: labels are what the weights themselves find in float32 at 640 pixels with TTA, so that
only the differences between rows tell something.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from bench.training import markdown, read_splits
from data.dataset_index import DatasetIndex
from data.instances import Instances
from data.loaders import LoaderConfig, evaluation_loader
from evaluation.evaluate import evaluate
from inference.network import Network
from inference.predictor import Predictor, PredictorConfig
from models.blocks import Conv
from models.checkpoint import build_detector, load_checkpoint
from models.detector import Detector
from models.onednn import OneDnnConv
from ops.nms import NmsConfig
from tools.make_task import write_task
from tools.sources import read_source
from utils.logs import log_to_console

CPU = torch.device("cpu")
HEAD = "in float32 | mAP50 | mAP50-95 | difference | seconds of CPU"
FIND = PredictorConfig(
    image_size=640, nms=NmsConfig(0.1, 0.6, 100), precision="float32", augment=True
)
JUDGE = NmsConfig(0.001, 0.6, 300)

Parts = Callable[[int, Sequence[int]], bool]
"""Whether the unit of a layer, given the sources of the head too, computes in float32."""
PARTS: dict[str, Parts] = {
    "nothing but head, decoding (as inference is)": lambda layer, heads: False,
    "and the first convolution": lambda layer, heads: layer == 0,
    "and the first two": lambda layer, heads: layer <= 1,
    "and the layers before the head": lambda layer, heads: layer in heads,
    "and the backbone": lambda layer, heads: layer < 10,
    "and the neck": lambda layer, heads: layer >= 10,
}


def network_of(detector: Detector, parts: Parts) -> Network:
    """Return a network in bfloat16 but for the units that `parts` names."""
    network = Network.build(detector, device=CPU, precision="bfloat16")
    for name, unit in network.compiled.named_modules():
        if isinstance(unit, OneDnnConv) and parts(
            int(name.split(".")[1]), detector.config.head_sources
        ):
            unit.dtype = torch.float32
    return network


def with_rounded_weights(detector: Detector) -> Network:
    """Return a network in float32 whose weights are those of bfloat16."""
    network = Network.build(detector, device=CPU, precision="float32")
    with torch.no_grad():
        for unit in network.detector.modules():
            if isinstance(unit, Conv):
                unit.conv.weight.copy_(unit.conv.weight.bfloat16())
    return network


def own_labels(predictor: Predictor, index: DatasetIndex) -> DatasetIndex:
    """Return the pictures of a split, labelled by what a predictor finds in them."""
    found = [np.zeros((0, 6), np.float32)] * len(index)
    for one in predictor.stream(index.paths):
        found[one.position] = one.detections
    rows = np.concatenate(found)
    instances = Instances(rows[:, :4], rows[:, 5].astype(np.int64))
    counts = [len(one) for one in found]
    names = predictor.class_names
    return DatasetIndex.build(index.paths, index.sizes, instances, counts, names)


def table(detector: Detector, base: Predictor, index: DatasetIndex) -> str:
    """Evaluate every variant, float32 first."""
    variants = {"everything": Network.build(detector, device=CPU, precision="float32")}
    variants |= {name: network_of(detector, parts) for name, parts in PARTS.items()}
    variants["everything; weights rounded to bfloat16"] = with_rounded_weights(detector)
    batching = LoaderConfig(base.image_size, base.config.batch_size, base.network.stride, 0)
    batches = list(evaluation_loader(index, batching))
    rows, reference = [], 0.0
    for name, network in variants.items():
        started = time.process_time()
        scores = evaluate(replace(base, network=network), index, batches).scores
        seconds = time.process_time() - started
        reference = reference or scores.map50_95
        figures = f"{scores.map50:.4f}", f"{scores.map50_95:.4f}"
        rows.append([name, *figures, f"{scores.map50_95 - reference:+.4f}", f"{seconds:.1f}"])
    return markdown(HEAD, rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table for each split."""
    parser = argparse.ArgumentParser(
        prog="bench.studies.precision",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="a labelled folder")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--img-size", type=int, default=640)
    parser.add_argument("--own-labels", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/precision"))
    options = parser.parse_args(arguments)
    log_to_console()
    source, checkpoint = read_source(options.data), load_checkpoint(options.weights)
    write_task(source, options.out / "task", annotation_format="ark", overwrite=True)
    detector, names = build_detector(checkpoint), checkpoint.class_names
    judged = PredictorConfig(image_size=options.img_size, batch_size=8, nms=JUDGE)
    base = Predictor.build(detector, names, device=CPU, config=judged)
    for split in read_splits(options.out / "task", source.class_names):
        index = split
        if options.own_labels:
            finder = Predictor.build(detector, names, device=CPU, config=FIND)
            index = own_labels(finder, split)
        print(f"{len(index)} images\n{table(detector, base, index)}", flush=True)


if __name__ == "__main__":
    main()
