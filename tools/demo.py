"""The main job on a laptop: draw or take a data set, train, then mine and infer, and show it.

    python -m tools.demo --out runs/demo [--data <a VOC, COCO or YOLO folder>]

Everything runs through `start.py`, as the platform would run it; each result is checked.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import yaml

from tools.check_out import check_out
from tools.draw_dataset import draw_dataset
from tools.make_task import write_task
from tools.sources import read_source
from utils.container import log_to_console
from utils.drawing import Tile, draw_boxes, fitted, sheet
from utils.html_page import Page
from utils.images import read_image

ROOT = Path(__file__).resolve().parent.parent
log = logging.getLogger("demo")

# Small enough for ten minutes on two cores: many updates from few images, and a heavier class
# loss, because v7.0 scales it with the number of classes and three are few.
TRAINING = {
    "model": "yolov5n",
    "img_size": "256",
    "batch_size": "16",
    "epochs": "45",
    "nominal_batch_size": "16",
    "cls": "2",
}
LOOKING = {"img_size": "256", "batch_size": "16", "conf_thres": "0.25"}
DRAWN_IMAGES = 240


@dataclass(frozen=True)
class Outcome:
    """One task of the demo and what the checker says of it."""

    name: str
    folder: Path
    seconds: float
    findings: tuple[str, ...]


def run_task(name: str, task_dir: Path) -> Outcome:
    """Run `start.py` on a task directory; its output goes to this terminal."""
    started = time.monotonic()
    env_file = task_dir / "in" / "env.yaml"
    done = subprocess.run(
        [sys.executable, str(ROOT / "start.py"), "--env", str(env_file)], cwd=ROOT, check=False
    )
    if done.returncode != 0:
        sys.exit(f"{name} failed with status {done.returncode}: see the lines above.")
    findings = tuple(f"{finding.rule}: {finding.sentence}" for finding in check_out(task_dir))
    return Outcome(name, task_dir, time.monotonic() - started, findings)


def run_demo(data: Path | None, out: Path, overrides: Mapping[str, str]) -> list[Outcome]:
    """Train on the training split, then mine and infer on the test split with that model."""
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    if data is None:
        data = out / "drawn"
        draw_dataset(data, images=DRAWN_IMAGES, size_wh=(320, 240), seed=0)
    source = read_source(data)
    training = out / "training"
    write_task(
        source,
        training,
        kinds=("training",),
        annotation_format="ark",
        settings={**TRAINING, **overrides},
    )
    outcomes = [run_task("training", training)]
    looking = out / "mining-and-inference"
    size = overrides.get("img_size", LOOKING["img_size"])
    write_task(
        source,
        looking,
        kinds=("mining", "infer"),
        annotation_format="ark",
        settings={**LOOKING, "img_size": size},
        weights=[training / "out" / "models" / "best" / "best.pt"],
    )
    outcomes.append(run_task("mining and inference", looking))
    return outcomes


def stage_table(training: Path) -> dict[str, object]:
    """The best stage of a finished training, as the platform reads it."""
    result = yaml.safe_load((training / "out" / "models" / "result.yaml").read_text("utf-8"))
    best: dict[str, object] = result["model_stages"][result["best_stage_name"]]
    return best


def read_ranking(looking: Path) -> list[tuple[str, float]]:
    """Image paths and scores of result.tsv, most informative first."""
    rows = (looking / "out" / "result.tsv").read_text("utf-8").splitlines()
    return [(path, float(score)) for path, score in (row.split("\t") for row in rows if row)]


def draw_ranking(looking: Path, target: Path, *, most: int = 8) -> None:
    """The images to label first (above) and last (below), with what the model sees in them."""
    ranking = read_ranking(looking)
    found = json.loads((looking / "out" / "infer-result.json").read_text("utf-8"))["detection"]
    names = yaml.safe_load((looking / "in" / "config.yaml").read_text("utf-8"))["class_names"]
    half = min(most, len(ranking) // 2)
    tiles = []
    for path, score in ranking[:half] + ranking[-half:]:
        boxes = found[Path(path).name]["boxes"]
        corners = np.array(
            [
                [
                    b["box"]["x"],
                    b["box"]["y"],
                    b["box"]["x"] + b["box"]["w"],
                    b["box"]["y"] + b["box"]["h"],
                ]
                for b in boxes
            ]
        ).reshape(-1, 4)
        small, scale = fitted(read_image(path))
        drawn = draw_boxes(
            small,
            corners * scale,
            np.array([names.index(b["class_name"]) for b in boxes], int),
            names,
            np.array([b["score"] for b in boxes]),
        )
        tiles.append(Tile(drawn, f"score {score:.3f}"))
    cv2.imwrite(str(target), sheet(tiles))


def write_page(out: Path, outcomes: Sequence[Outcome]) -> Path:
    """One page that shows what came out; opens from disk, without anything beside it."""
    training, looking = outcomes[0].folder, outcomes[1].folder
    draw_ranking(looking, out / "ranking.jpg")
    report = training / "out" / "models" / "attachments" / "report"
    page = Page("Train, mine, infer", "What the three tasks of the demo left behind.")
    page.section("In figures")
    page.table(("", ""), summary_rows(outcomes))
    page.text(
        f"More stands in {(report / 'report.html').relative_to(out)} and in "
        f"{(looking / 'out' / 'tensorboard' / 'report.html').relative_to(out)}."
    )
    page.section("In pictures")
    for caption_text, path in (
        ("What the model sees: labels left, detections right", report / "validation.jpg"),
        ("Label these first (above), these last (below)", out / "ranking.jpg"),
        ("Images that miss most labelled objects", report / "worst.jpg"),
        ("Learning curves", report / "results.png"),
        ("Precision and recall", report / "pr_curve.png"),
        ("Confusion", report / "confusion_matrix.png"),
        ("A training batch", report / "train_batch0.jpg"),
    ):
        page.picture(path, caption_text)
    return page.write(out / "index.html")


def summary(outcomes: Sequence[Outcome]) -> str:
    """A short table of what came out, for a terminal."""
    rows = summary_rows(outcomes)
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def summary_rows(outcomes: Sequence[Outcome]) -> list[tuple[str, str]]:
    """What came out, as names and values."""
    best = stage_table(outcomes[0].folder)
    ranking = read_ranking(outcomes[1].folder)
    found = json.loads((outcomes[1].folder / "out" / "infer-result.json").read_text("utf-8"))[
        "detection"
    ]
    objects = sum(len(row["boxes"]) for row in found.values())
    rows = [
        ("mAP50, validation split", f"{best['mAP']:.3f}"),
        ("recall at the reported confidence", f"{best['mAR']:.3f}"),
        ("tp / fp / fn", f"{best['tp']} / {best['fp']} / {best['fn']}"),
        ("images ranked for labelling", f"{len(ranking)}"),
        ("score, first to last", f"{ranking[0][1]:.3f} to {ranking[-1][1]:.3f}"),
        ("objects detected", f"{objects} in {len(found)} images"),
    ]
    for outcome in outcomes:
        rows.append((f"{outcome.name}: time", f"{outcome.seconds:.0f} s"))
        rows.append(
            (
                f"{outcome.name}: check of out/",
                "valid" if not outcome.findings else "; ".join(outcome.findings),
            )
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and print the table; status 1 if a result breaks the protocol."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a VOC, COCO or YOLO folder; drawn if absent")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of the training task, may be repeated",
    )
    options = parser.parse_args(arguments)
    log_to_console()
    overrides = dict(pair.split("=", 1) for pair in options.set)
    outcomes = run_demo(options.data, options.out.resolve(), overrides)
    page = write_page(options.out.resolve(), outcomes)
    print(f"\n{summary(outcomes)}\n\nLook at {page}")
    return 1 if any(outcome.findings for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
