"""Small data sets: trainings of ours and of yolov5 7.0.14 with the same flags, paired by seed.

    python -m bench.small_sets --data path/to/raccoon --seeds 0 1 2 3 4 5 --out runs/small
    python -m bench.small_sets --data path/to/raccoon --weights yolov5n.pt --epochs 12 ...
    python -m bench.small_sets --data path/to/raccoon --programs ours --name ema --set ...

The best checkpoints of both are evaluated on the validation split by our code in float32. One
training computes with one thread; the same command started twice trains two at a time. Finished
trainings are lines of results.jsonl and are not repeated, a killed one begins anew.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure

from bench.comparison import ROOT, THREAD_VARIABLES, YOLOV5, peer_interpreter, peer_variables
from bench.learning_curves import estimate
from bench.material import write_data_yaml, write_yolo_image
from bench.training import markdown
from data.data_yaml import read_data_yaml
from data.read_dataset import read_yolo_split
from evaluation.evaluate import evaluate_split
from inference.predictor import load_predictor
from reporting.drawing import series_colour
from reporting.plots import save_figure, tidy
from settings.detect import InferSettings
from tools import command_parser
from tools.sources import SourceDataset, read_source

OURS = "ours"
CSV_MAP50, CSV_MAP = "metrics/mAP_0.5", "metrics/mAP_0.5:0.95"


@dataclass(frozen=True)
class Plan:
    """Trainings that differ in nothing but program and seed."""

    data: Path
    """The data.yaml that both read."""
    out: Path
    model: str
    weights: Path | None
    """A checkpoint to start from; None is from scratch."""
    epochs: int
    img_size: int
    overrides: tuple[str, ...]
    """`KEY=VALUE` for ours alone."""
    peer: str

    @property
    def start(self) -> str:
        """What the trainings start from, in a word."""
        return self.weights.stem if self.weights else "scratch"

    def flags(self, seed: int, folder: Path) -> list[str]:
        """Return the flags that both command lines take."""
        values = {
            "data": self.data,
            "cfg": self.model,
            "weights": self.weights.absolute() if self.weights else "",
            "imgsz": self.img_size,
            "batch-size": 16,
            "epochs": self.epochs,
            "hyp": "scratch-low",
            "seed": seed,
            "project": folder,
            "name": "run",
            "cache": "ram",
            "workers": 0,
            "device": "cpu",
        }
        pairs = [text for key, value in values.items() for text in (f"--{key}", str(value))]
        return [*pairs, "--exist-ok", "--noplots"]

    def train(self, program: str, seed: int, folder: Path) -> None:
        """Train; the run's files lie in `folder`/run."""
        flags, variables = self.flags(seed, folder), dict.fromkeys(THREAD_VARIABLES, "1")
        if program == YOLOV5:
            job = {"kind": "command", "arguments": flags, "threads": 1, "device": ""}
            (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
            variables |= peer_variables(folder / "configuration")
            script = [str(ROOT / "bench" / "run_peer.py"), str(folder / "job.json"), YOLOV5]
            command = [str(peer_interpreter(self.peer)), *script]
        else:
            command = [sys.executable, str(ROOT / "train.py"), *flags, *self.overrides]
        with (folder / "log.txt").open("wb") as log:
            subprocess.run(
                command,
                cwd=folder,
                env={**os.environ, **variables},
                stdout=log,
                stderr=subprocess.STDOUT,
                check=True,
            )

    def figures(self, folder: Path) -> dict[str, Any]:
        """Evaluate the best checkpoint of a run; return its figures and the run's curve."""
        # v7.0 pads its names, and names precision and recall otherwise.
        curve = pd.read_csv(folder / "run" / "results.csv", skipinitialspace=True)
        curve.columns = curve.columns.str.strip()
        index, _ = read_yolo_split(read_data_yaml(self.data), "val", max_bad_fraction=0.0)
        settings = InferSettings(
            img_size=self.img_size, precision="float32", conf_thres=0.001, iou_thres=0.6
        )
        best = folder / "run" / "weights" / "best.pt"
        predictor = load_predictor(best, settings, torch.device("cpu"))
        scores = evaluate_split(predictor, index).scores
        return {
            "mAP50": round(scores.map50, 5),
            "mAP50-95": round(scores.map50_95, 5),
            "curve": curve[CSV_MAP50].round(4).tolist(),
            "curve 50-95": curve[CSV_MAP].round(4).tolist(),
        }


@contextmanager
def only_one(folder: Path) -> Iterator[bool]:
    """Yield whether no other process trains in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def read_results(path: Path) -> list[dict[str, Any]]:
    """Read the finished trainings; a line that a kill cut short is left out."""
    found = []
    for line in path.read_text("utf-8").splitlines() if path.is_file() else []:
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def run(plan: Plan, program: str, name: str, seed: int) -> None:
    """Train one seed unless it is done or under way, and add its line to the results."""
    key = {"data": plan.data.parent.name, "start": plan.start, "epochs": plan.epochs}
    key |= {"name": name, "seed": seed}
    folder = plan.out.absolute() / "-".join(map(str, key.values()))
    results = plan.out / "results.jsonl"
    with only_one(folder) as free:
        if not free or any(key.items() <= one.items() for one in read_results(results)):
            return
        # What a kill left: v7.0 would add its epochs to the old results.csv.
        shutil.rmtree(folder / "run", ignore_errors=True)
        plan.train(program, seed, folder)
        line = json.dumps({**key, "overrides": plan.overrides, **plan.figures(folder)})
        with results.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Format mean and standard error of every group of seeds, and the paired difference."""
    frame = pd.DataFrame(results)
    rows: list[list[object]] = []
    for (data, start, epochs), block in frame.groupby(["data", "start", "epochs"], sort=False):
        official = block[block["name"] == YOLOV5].set_index("seed")
        for name, own in block.groupby("name", sort=False):
            own = own.set_index("seed").sort_index()
            cells: list[object] = [data, start, epochs, name, len(own)]
            for figure in ("mAP50", "mAP50-95"):
                paired = (own[figure] - official[figure]).dropna()
                known = name != YOLOV5 and len(paired)
                cells += [estimate(own[figure]), estimate(paired, "+") if known else ""]
            rows.append(cells)
    head = "data | start | epochs | program | seeds | mAP50 | minus official | mAP50-95"
    return markdown(f"{head} | minus official", rows)


def plot(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Plot mAP50 over epochs, a panel for every data set and start: means and single seeds."""
    frame = pd.DataFrame(results)
    groups = list(frame.groupby(["data", "start", "epochs"], sort=False))
    figure = Figure(figsize=(6 * len(groups), 4), layout="constrained")
    names = list(frame["name"].unique())
    panels = figure.subplots(1, len(groups), squeeze=False)[0]
    for axes, ((data, start, _), block) in zip(panels, groups, strict=True):
        for name, own in block.groupby("name", sort=False):
            curves = pd.DataFrame(own["curve"].tolist()).T
            curves.index += 1
            colour = series_colour(names.index(name))
            axes.plot(curves, color=colour, linewidth=0.6, alpha=0.35)
            axes.plot(curves.mean(axis=1), color=colour, linewidth=2, label=f"{name}, {len(own)}")
        tidy(axes, title=f"{data}, start: {start}", x="epoch", y="mAP50")
        axes.legend(fontsize=8, frameon=False)
    save_figure(figure, path)


def yolo_folder(source: SourceDataset, folder: Path, limit: int) -> Path:
    """Link a data set into a YOLO folder, with `limit` training images drawn (0: all)."""
    train = list(source.splits["train"])
    if limit:
        train = random.Random(0).sample(train, limit)
    for split, images in (("train", train), ("val", source.splits["val"])):
        for image in images:
            if not (folder / "images" / split / image.path.name).is_symlink():
                write_yolo_image(folder, split, image, image.path.stem)
    places = {"train": "train", "val": "val"}
    return Path(write_data_yaml(folder, places, source.class_names))


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser("bench.small_sets", __doc__)
    parser.add_argument("--data", type=Path, required=True, help="a VOC, COCO or YOLO folder")
    parser.add_argument("--limit", type=int, default=0, help="training images; 0 takes all")
    parser.add_argument("--out", type=Path, default=Path("runs/small"))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(6)))
    parser.add_argument("--programs", nargs="+", choices=(OURS, YOLOV5), default=[OURS, YOLOV5])
    parser.add_argument("--name", default=OURS, help="what the table calls ours with --set")
    parser.add_argument("--weights", type=Path, help="checkpoint to start from; none: scratch")
    parser.add_argument("--model", default="yolov5n")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--img-size", type=int, default=320)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="for ours alone")
    parser.add_argument("--peer", default="", help="Python of an environment that has yolov5")
    options = parser.parse_args(arguments)
    if options.set and options.name == OURS:
        parser.error("--set makes other trainings than ours: give them a --name of their own")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, then print the table of all results and plot them."""
    options = options_of(arguments)
    torch.set_num_threads(1)
    count = f"-{options.limit}" if options.limit else ""
    folder = options.out / "data" / f"{options.data.resolve().name}{count}"
    data = yolo_folder(read_source(options.data), folder, options.limit)
    plan = Plan(
        data,
        options.out,
        options.model,
        options.weights,
        options.epochs,
        options.img_size,
        tuple(options.set),
        options.peer,
    )
    for seed in options.seeds:
        for program in options.programs:
            run(plan, program, options.name if program == OURS else program, seed)
    results = read_results(options.out / "results.jsonl")
    if results:
        print(table(results))
        plot(results, options.out / "curves.png")


if __name__ == "__main__":
    main()
