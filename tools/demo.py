"""The main job on a laptop: draw or take a data set, train, then mine and infer, and show it.

    python -m tools.demo --out runs/demo [--data <a VOC, COCO or YOLO folder>]
    python -m tools.demo --data path/to/voc --limit 64 --set epochs=10 --set img_size=320
    python -m tools.demo --data path/to/voc --weights yolov5n.pt

Everything runs through `start.py`, as the platform would run it; each result is checked.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    if not __package__:  # python tools/demo.py
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from tools.parsers import demo_parser
    from utils.shutdown import listen_for_interrupts

    listen_for_interrupts()  # before the seconds that the imports take
    demo_parser().parse_args()  # so that help and mistyped flags do not wait either

import csv
import json
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from reporting.drawing import class_colours
from reporting.image_errors import COLOURS
from reporting.page import PAGE, chart_uri, pictures_of, write_page
from reporting.plots import learning_panels
from tools.check_out import check_out
from tools.draw_dataset import draw_dataset
from tools.make_task import write_task
from tools.parsers import demo_parser
from tools.sources import read_source
from utils.command import run_command
from utils.errors import Code, TaskError
from utils.language.catalogue import ENGLISH, catalogue
from utils.logs import counted, log_to_console
from utils.official_weights import COCO_START, missing_weights

ROOT = Path(__file__).resolve().parent.parent

# Small enough for ten minutes on two cores: many updates from few images, and a heavier class
# loss, because v7.0 scales it with the number of classes and three are few.
TRAINING = {
    **{"model": "yolov5n", "img_size": "256", "batch_size": "16", "epochs": "45"},
    **{"nominal_batch_size": "16", "cls": "2"},
}
# Weights that know objects already need a few epochs, and their own network.
FINE_TUNING = {"img_size": "256", "batch_size": "16", "hyp": "small", "epochs": "12"}
DETECTION = {"img_size": "256", "batch_size": "16", "conf_thres": "0.25"}
SHARED = ("img_size", "language")
"""Settings of the training that hold for the other tasks, too."""
DRAWN_IMAGES = 240
FROM_SCRATCH = f"scratch; make demo WEIGHTS=yolov5n.pt starts from COCO weights: {COCO_START}"
SHOWN = 4
"""First pictures of each gallery of a report that the index shows, too."""
# What a demo leaves in its folder, and the next one there replaces.
OUTPUTS = frozenset({"drawn", "training", "mining-and-inference", "index.html", "ranking.jpg"})


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
    command = [sys.executable, "start.py", "--env", str(task_dir / "in" / "env.yaml")]
    status = subprocess.run(command, cwd=ROOT, check=False).returncode
    if status != 0:
        sys.exit(f"{name} failed with status {status}: see the lines above.")
    findings = tuple(f"{finding.rule}: {finding.sentence}" for finding in check_out(task_dir))
    return Outcome(name, task_dir, time.monotonic() - started, findings)


def make_room(out: Path) -> None:
    """Empty the folder `out` of an earlier demo; TaskError(CONFIG) for anything else in it."""
    if out.is_file() or (out.is_dir() and not {path.name for path in out.iterdir()} <= OUTPUTS):
        advice = "name a new folder (--out, or OUT= of make)"
        raise TaskError(Code.CONFIG, f"{out} holds other things than a demo: {advice}.")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)


def run_demo(
    data: Path | None,
    out: Path,
    overrides: Mapping[str, str],
    *,
    weights: Path | None = None,
    limit: int | None = None,
) -> list[Outcome]:
    """Train on the training split, then mine and infer on the test split with that model.

    The training starts from `weights`, if any. `limit` takes only the first images of each split.
    Raises TaskError for a folder `data` that cannot be read, for weights that are not there, or a
    folder `out` that must not be replaced.
    """
    if weights is not None and not weights.is_file():
        raise missing_weights(weights)
    source = None if data is None else read_source(data)
    make_room(out)
    if source is None:
        draw_dataset(out / "drawn", images=DRAWN_IMAGES, seed=0, mixed=True)
        source = read_source(out / "drawn")
    training, detection = out / "training", out / "mining-and-inference"
    shared = {key: overrides[key] for key in SHARED if key in overrides}
    write_task(
        source,
        training,
        settings={**(TRAINING if weights is None else FINE_TUNING), **overrides},
        weights=[] if weights is None else [weights],
        limit=limit,
    )
    outcomes = [run_task("the training", training)]
    write_task(
        source,
        detection,
        kinds=("mining", "infer"),
        settings={**DETECTION, **shared},
        weights=[training / "out" / "models" / "best" / "best.pt"],
        limit=limit,
    )
    return [*outcomes, run_task("mining and inference", detection)]


def training_config(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Read what the training's task was."""
    path = outcomes[0].folder / "in" / "config.yaml"
    config: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    return config


def summary_rows(outcomes: Sequence[Outcome]) -> list[tuple[str, str]]:
    """Return the results as names and values, read from what the platform reads."""
    training, detection = (outcome.folder / "out" for outcome in outcomes)
    result = yaml.safe_load((training / "models" / "result.yaml").read_text("utf-8"))
    best = result["model_stages"][result["best_stage_name"]]
    confidence = result["evaluate_config"]["conf_thr"]
    ranking = (detection / "result.tsv").read_text("utf-8").splitlines()
    first, last = (float(row.split("\t")[1]) for row in (ranking[0], ranking[-1]))
    with open(detection / "mining" / "explanations.csv", newline="", encoding="utf-8") as file:
        note = next(csv.DictReader(file))["note"]
    images = json.loads((detection / "infer-result.json").read_text("utf-8"))["detection"]
    objects = sum(len(image["boxes"]) for image in images.values())
    given = training_config(outcomes).get("pretrained_model_params", ())
    start = [Path(path).name for path in given]
    rows = [
        ("training started from", start[0] if start else FROM_SCRATCH),
        ("mAP50, validation split", f"{best['mAP']:.3f}"),
        (
            f"found (TP) / missed (FN) / false positives (FP) at confidence {confidence}",
            " / ".join(f"{best[key]:,}" for key in ("tp", "fn", "fp")),
        ),
        ("images ranked for labelling", f"{len(ranking):,}"),
        ("mining score, first to last", f"{first:.3f}–{last:.3f}"),
        *([("no ranking", note)] if note else []),
        (
            "objects detected",
            f"{counted(objects, '%s object', '%s objects')}; "
            + counted(len(images), "%s image", "%s images"),
        ),
    ]
    for outcome in outcomes:
        rows.append((f"{outcome.name}: time", f"{outcome.seconds:.0f} s"))
        rows.append((f"{outcome.name}: check of out/", "; ".join(outcome.findings) or "valid"))
    return rows


def write_index(
    out: Path,
    outcomes: Sequence[Outcome],
    rows: Sequence[tuple[str, str]],
    *,
    language: str = ENGLISH,
) -> Path:
    """Write one page with the results; it opens from disk, without anything beside it."""
    training, detection = (outcome.folder / "out" for outcome in outcomes)
    report = training / "models" / "attachments" / "report"
    panels, texts = learning_panels(report / "results.csv"), catalogue(language, pages=True)
    of_training, of_mining = report / PAGE, detection / "tensorboard" / PAGE
    reports = (
        ("the report of the training", of_training),
        ("the report of mining and inference", of_mining),
    )
    galleries = (
        (
            "Validation images: each with its labels, then with the detections",
            *(of_training, "compared"),
        ),
        ("Label these first; white: the box that decided", of_mining, "first"),
        ("Images with the most missed objects (FN)", of_training, "missed"),
        ("Images with the most false positives (FP)", of_training, "invented"),
    )
    shown = [
        (caption, name, pictures)
        for caption, page, name in galleries
        if (pictures := pictures_of(page, name, SHOWN))
    ]
    return write_page(
        out / "index.html",
        "demo.html",
        language=language,
        title=texts.text("Train, mine, infer"),
        lead=texts.text("The results of the three tasks of the demo."),
        note=dict(rows).get("no ranking", ""),
        rows=rows,
        reports=[
            (name, path.relative_to(out).as_posix()) for name, path in reports if path.is_file()
        ],
        galleries=shown,
        error_colours=COLOURS,
        class_colours=class_colours(training_config(outcomes)["class_names"]),
        charts=[chart_uri(panel, language) for panel in panels],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and print the table; status 1 if a result breaks the protocol."""
    parser = demo_parser()
    options = parser.parse_args(arguments)
    if any("=" not in pair for pair in options.set):
        parser.error("--set wants KEY=VALUE")
    overrides = dict(pair.split("=", 1) for pair in options.set)
    language = overrides.get("language", ENGLISH)
    log_to_console(language=language)
    outcomes = run_demo(
        options.data,
        options.out.resolve(),
        overrides,
        weights=options.weights,
        limit=options.limit,
    )
    rows = summary_rows(outcomes)
    page = write_index(options.out.resolve(), outcomes, rows, language=language)
    told = catalogue(language, pages=True).text
    lines = [(told(name), told(value)) for name, value in rows]
    width = max(len(name) for name, _ in lines)
    print("", *(f"{name:<{width}}  {value}" for name, value in lines), "", sep="\n")
    print(told(f"Look at {page}"))
    return 1 if any(outcome.findings for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
