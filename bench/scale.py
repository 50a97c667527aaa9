"""What a million candidates cost beside the network: index, shares, merging, sorting, writing.

    python -m bench.scale --images 1000000 --boxes 3 --out runs/scale

Scores and detections are drawn, no image is read: what is measured is everything else that grows
with the number of candidates, by the code that does it in a task. What several processes write at
the same time is written here by one after the other. Of each step its time, and the largest
resident memory of this process during the step, looked at a hundred times a second. Linux only.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from bench.memory import resident_mib
from data.index_file import Candidate, read_candidates
from inference.journal import Entry, Journal
from inference.predictions import Prediction
from inference.section_parts import ShardWriter
from tasks.going_on import Stream
from ymir.results import InferResultWriter, write_mining_result
from ymir.task_types import OutputPaths, Task

Result = TypeVar("Result")

SIZE = (480, 640)
NAMES = ("red_cell", "white_cell", "platelet")
SECTION = 128
"""Candidates of a section, as with batches of 16 on a CPU."""
IDENTITY = "scale"
VARIETY = 1000
"""So many different images' detections are drawn, and given out in turn."""


@dataclass(frozen=True)
class Step:
    """One step: seconds, MiB resident before it and at most during it, bytes it left on disk."""

    name: str
    seconds: float
    before: float
    peak: float
    size: int = 0


HEAD = "| step | seconds | MiB before | MiB at most | MB on disk |\n|---|---|---|---|---|"


def line(step: Step) -> str:
    """A step as a line of a table in Markdown."""
    figures = f"{step.seconds:.1f} | {step.before:.0f} | {step.peak:.0f} | {step.size / 1e6:.1f}"
    return f"| {step.name} | {figures} |"


def measured(
    name: str, work: Callable[[], Result], steps: list[Step], *, file: Path | None = None
) -> Result:
    """Do `work`, print and add to `steps` what it cost, and return what it returns."""
    over = threading.Event()
    looks = [resident_mib()]

    def watch() -> None:
        while not over.wait(0.01):
            looks.append(resident_mib())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    began = time.perf_counter()
    try:
        result = work()
    finally:
        seconds = time.perf_counter() - began
        over.set()
        watcher.join()
    looks.append(resident_mib())
    size = file.stat().st_size if file else 0
    steps.append(Step(name, seconds, looks[0], max(looks), size))
    print(line(steps[-1]), flush=True)
    return result


def write_index(path: Path, images: int) -> None:
    """A candidate index with names such as the platform gives: a digest in a folder of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="ascii") as file:
        file.writelines(
            f"/in/assets/{n % 256:02x}/{n * 2654435761 % 2**64:040x}.jpg\n" for n in range(images)
        )


def _is_of(rank: int, shares: int, number: int) -> bool:
    return number % shares == rank


def write_shares(
    known: Path, candidates: Sequence[Candidate], detections: Sequence[np.ndarray], shares: int
) -> None:
    """What `shares` processes leave: their sections in files, with a drawn score an image."""
    scores = np.random.default_rng(1).random(len(candidates))
    for rank in range(shares):
        with ShardWriter(
            known,
            identity=IDENTITY,
            section=SECTION,
            total=len(candidates),
            claim=partial(_is_of, rank, shares),
        ) as parts:
            for position in parts.positions():
                parts.add(
                    Entry(
                        position,
                        candidates[position].path,
                        SIZE,
                        detections[position % len(detections)],
                        None,
                        position,
                        {"score": float(scores[position])},
                    )
                )


def merge(task: Task, known: Path, candidates: Sequence[Candidate]) -> np.ndarray:
    """Take the shares over into `known` and write the detections of all; scores [images]."""
    scores = np.empty(len(candidates))
    with (
        InferResultWriter(task) as writer,
        Journal(known, identity=IDENTITY, section=SECTION, total=len(candidates)) as log,
    ):

        def write(seen: Prediction) -> None:
            writer.add(candidates[seen.position].text, seen.detections, NAMES, SIZE)

        for scored in Stream(log, [write]).scores(lambda first: iter(())):
            assert scored.score is not None
            scores[scored.position] = scored.score
        assert log.done == len(candidates), "a section is missing"
    return scores


def drawn_detections(boxes: int) -> list[np.ndarray]:
    """float32 [boxes, 6] of `VARIETY` images."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 400, (VARIETY, boxes, 2))
    rest = rng.uniform(0, 1, (VARIETY, boxes, 1))
    kinds = rng.integers(0, len(NAMES), (VARIETY, boxes, 1))
    rows = np.concatenate([corners, corners + 50, rest, kinds], axis=2)
    return list(rows.astype(np.float32))


def task_in(folder: Path) -> Task:
    """A task for mining and inference whose results go below a folder."""
    out = folder / "out"
    return Task(
        task_id="scale",
        protocol=(1, 1, 0),
        run_training=False,
        run_mining=True,
        run_infer=True,
        class_names=NAMES,
        gpu_ids=(),
        root_in=folder,
        models_in=folder,
        train_index=None,
        val_index=None,
        candidate_index=folder / "candidate-index.tsv",
        out=OutputPaths(
            root=out,
            models=out / "models",
            tensorboard=out / "tensorboard",
            training_result=out / "models/result.yaml",
            mining_result=out / "result.tsv",
            infer_result=out / "infer-result.json",
            monitor=out / "monitor.txt",
        ),
        weights=(),
        train=None,
        mining=None,
        infer=None,
        warnings=(),
    )


def measure(folder: Path, *, images: int, boxes: int, shares: int) -> list[Step]:
    """Every step once, in the order of a task."""
    task, steps = task_in(folder), list[Step]()
    index = folder / "candidate-index.tsv"
    write_index(index, images)
    candidates, _ = measured(
        "read the index", lambda: read_candidates(index, folder), steps, file=index
    )
    detections = drawn_detections(boxes)
    known = task.out.root / "mining/known.jsonl"
    known.unlink(missing_ok=True)  # what an earlier run left must not shorten this one
    measured(
        f"write the sections of {shares} processes",
        lambda: write_shares(known, candidates, detections, shares),
        steps,
    )
    scores = measured(
        "merge them, write infer-result.json",
        lambda: merge(task, known, candidates),
        steps,
        file=task.out.infer_result,
    )
    measured(
        "sort and write result.tsv",
        lambda: write_mining_result(
            task, ((one.text, float(s)) for one, s in zip(candidates, scores, strict=True))
        ),
        steps,
        file=task.out.mining_result,
    )
    return steps


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print each step when it is done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--boxes", type=int, default=3, help="detections in each image")
    parser.add_argument("--shares", type=int, default=8, help="processes that share them")
    parser.add_argument("--out", type=Path, default=Path("runs/scale"))
    options = parser.parse_args(arguments)
    print(f"{options.images} images, {options.boxes} boxes each\n\n{HEAD}", flush=True)
    measure(options.out, images=options.images, boxes=options.boxes, shares=options.shares)


if __name__ == "__main__":
    main()
