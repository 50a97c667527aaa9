"""How fast mining is beside a sequential loop, and whether both find and rank the same.

    python -m bench.mining --data path/to/bccd --weights path/to/bccd_yolov5n.pt
    python -m bench.mining --with-inference ...

Ours, in the default precision and in float32, against `bench/reference_loop.py`: the same image
files, weights, thresholds and number of threads, in turns, each in a process of its own. Weights of
a model with half the channels are widened without changing what is found (`bench/widened.py`).
`--with-inference` measures something else: a task of mining with inference beside mining alone.
"""

from __future__ import annotations

import datetime
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.agreement import agreement, spearman
from bench.look_options import look_options, look_parser
from bench.material import find_data, image_files, write_fitted
from bench.mining_run import found_file, read_found
from bench.pairs import ROOT, THREAD_VARIABLES, machine, publish
from bench.tables import parse_result, spread

SPEED = ("auto", "float32", "reference")
TASKS = ("mining+infer", "mining")

Times = Mapping[str, Sequence[float]]
"""Seconds an image of each program, round by round."""


def mining_job(
    folder: Path,
    weights: Path,
    files: Sequence[str],
    *,
    image_size: int,
    batch_size: int,
    threads: int,
) -> dict[str, object]:
    """A job of mining whose results go to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "weights": str(weights.absolute()),
        "files": list(files),
        "image_size": image_size,
        "batch_size": batch_size,
        "threads": threads,
        "warmup": 4,
        "output": str(folder.absolute()),
    }


def measure(job: Mapping[str, object], programs: Sequence[str], rounds: int) -> Times:
    """Every program in turns, the order turned round each time, in processes of their own."""
    path = Path(str(job["output"])) / "job.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    threads = dict.fromkeys(THREAD_VARIABLES, str(job["threads"]))
    times: dict[str, list[float]] = {program: [] for program in programs}
    for number in range(rounds):
        for program in programs if number % 2 == 0 else reversed(programs):
            done = subprocess.run(
                [sys.executable, "-m", "bench.mining_run", str(path), program],
                cwd=ROOT,
                env={**os.environ, **threads},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise SystemExit(f"{program} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
            result = parse_result(done.stdout)
            seconds, images = result["seconds"], result["images"]
            processor = result["processor_seconds"]
            assert isinstance(seconds, float)
            assert isinstance(processor, float)
            assert isinstance(images, int)
            times[program].append(seconds / images)
            rates = f"{images / seconds:.2f} images/s, {processor / images:.2f} s of processor time"
            print(f"round {number + 1}, {program}: {rates} an image", flush=True)
    return times


def three(values: Sequence[float], digits: int = 2) -> str:
    """Least, median and greatest, the median in bold."""
    own = spread(values)
    least, median, greatest = (f"{v:.{digits}f}" for v in (own.least, own.median, own.greatest))
    return f"{least} / **{median}** / {greatest}"


def speed_table(times: Times, folder: Path) -> str:
    """Images a second, times as fast as the loop, and the agreement with it, of each precision."""
    theirs, their_scores = read_found(found_file(folder, "reference"))
    lines = [
        "| arithmetic of ours | images/s, ours and loop (median) | times as fast "
        "| objects, ours and loop | found by both | of these IoU above 0.99 | least IoU "
        "| Spearman of the scores |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for program in SPEED[:-1]:
        found, scores = read_found(found_file(folder, program))
        both = agreement(found, theirs)
        ratios = [r / o for o, r in zip(times[program], times["reference"], strict=True)]
        rates = [1 / statistics.median(times[name]) for name in (program, "reference")]
        least = f"{both.overlaps.min():.4f}" if len(both.overlaps) else "-"
        lines.append(
            f"| {program} | {rates[0]:.2f}, {rates[1]:.2f} | {three(ratios)} "
            f"| {both.ours}, {both.theirs} | {both.matched_share:.2%} "
            f"| {both.same_of_matched:.2%} | {least} | {spearman(scores, their_scores):.4f} |"
        )
    return "\n".join(lines)


def task_table(times: Times) -> str:
    """Milliseconds an image of both tasks, and the cost of inference beside mining alone."""
    both, alone = times["mining+infer"], times["mining"]
    ratios = [one / other for one, other in zip(both, alone, strict=True)]
    return "\n".join(
        [
            "| mining + inference, ms/image | mining, ms/image | ratio of the pairs |",
            "|---|---|---|",
            f"| {three([1e3 * t for t in both], 1)} | {three([1e3 * t for t in alone], 1)} "
            f"| {three(ratios, 3)} |",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    parser = look_parser(__doc__, name="mining", images=64, turns="--pairs")
    parser.add_argument("--with-inference", action="store_true")
    options = look_options(parser, arguments, turns="--pairs")
    folder = options.out.absolute()
    weights = write_fitted(folder, options.weights, options.model)
    job = mining_job(
        folder,
        weights,
        image_files(find_data(options.data), options.images),
        image_size=options.img_size,
        batch_size=options.batch_size,
        threads=options.threads,
    )
    times = measure(job, TASKS if options.with_inference else SPEED, options.pairs)
    table = task_table(times) if options.with_inference else speed_table(times, folder)
    about = (
        f"{options.model}, {options.img_size} px, {options.images} images, batch "
        f"{options.batch_size}, {options.threads} threads, {options.pairs} pairs"
    )
    publish(f"{table}\n\n{datetime.date.today()}, {machine()}; {about}.\n", options.markdown)


if __name__ == "__main__":
    main()
