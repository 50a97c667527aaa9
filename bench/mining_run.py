"""One program on one job of the mining benchmark; the last line printed is the result.

    python -m bench.mining_run build/bench/mining/job.json float32

Programs: `reference` (bench/reference_loop.py), `auto` and `float32` (ours in that precision), and
`mining` and `mining+infer` (ours as a task of the platform, from reading env.yaml to the results).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from bench.reference_loop import mine_one_by_one
from inference.predictions import Prediction
from inference.predictor import load_predictor
from mining.mining_cald import ALGORITHM
from mining.scores import ScoringContext, in_order
from models.checkpoint import build_detector, load_checkpoint
from settings.detect import MiningSettings
from tasks.run import run
from tools.make_task import write_task
from tools.sources import SourceDataset, SourceImage
from utils.progress import Progress
from ymir.task import read_task

CPU = torch.device("cpu")
Found = dict[int, np.ndarray]


class Clock:
    """Seconds that a block takes, on the wall and of processor time in all threads.

    Where other programs are busy the second says more.
    """

    def __enter__(self) -> Clock:
        self._started = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *error: object) -> None:
        wall, processor = self._started
        self.times: dict[str, object] = {
            "seconds": time.perf_counter() - wall,
            "processor_seconds": time.process_time() - processor,
        }


def settings_of(job: Mapping[str, object], precision: str) -> MiningSettings:
    """Both programs' settings; without class balance, which the reference loop has not."""
    size, batch = job["image_size"], job["batch_size"]
    assert isinstance(size, int)
    assert isinstance(batch, int)
    return MiningSettings(img_size=size, batch_size=batch, precision=precision, balance_window=0)


def ours(job: Mapping[str, object], precision: str) -> dict[str, object]:
    """Seconds of mining the files, from the disk to scores; detections and scores beside it."""
    settings, found = settings_of(job, precision), Found()
    predictor = load_predictor(Path(str(job["weights"])), settings, CPU)

    def noted(predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        for prediction in predictions:
            found[prediction.position] = prediction.detections
            yield prediction

    def mine(files: Sequence[str]) -> list[float]:
        parts = predictor.stream_parts(
            files, batch_size=settings.batch_size, workers=settings.workers, keep_views=True
        )
        context = ScoringContext(predictor, settings, len(files))
        scores = ALGORITHM.rank(ALGORITHM.score(noted(parts), context), context)
        return [score for _, score in in_order(scores, files)]

    files = _files(job)
    mine(files[: _whole(job, "warmup")])
    with Clock() as clock:
        scores = mine(files)
    detections = [found[position] for position in range(len(files))]
    write_found(_output(job, precision), detections, scores)
    return {**clock.times, "images": len(files)}


def reference(job: Mapping[str, object]) -> dict[str, object]:
    """The same of the reference loop."""
    settings, files = settings_of(job, "float32"), _files(job)
    detector = build_detector(load_checkpoint(str(job["weights"]))).fused()
    list(mine_one_by_one(detector, files[: _whole(job, "warmup")], settings))
    with Clock() as clock:
        mined = list(mine_one_by_one(detector, files, settings))
    write_found(
        _output(job, "reference"), [one.detections for one in mined], [one.score for one in mined]
    )
    return {**clock.times, "images": len(files)}


def task(job: Mapping[str, object], kinds: Sequence[str]) -> dict[str, object]:
    """Seconds of a whole task of these kinds, weights read and report written."""
    files = [Path(name) for name in _files(job)]
    names = load_checkpoint(str(job["weights"])).class_names
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    candidates = tuple(SourceImage(path, *nothing) for path in files)
    env_file = write_task(
        SourceDataset("files", names, {"train": (), "val": (), "test": candidates}, ()),
        Path(str(job["output"])) / "task",
        kinds=kinds,
        settings={"img_size": job["image_size"], "batch_size": job["batch_size"]},
        weights=[Path(str(job["weights"]))],
        overwrite=True,  # what an earlier run left must not shorten this one
    )
    with Clock() as clock:
        run(read_task(env_file), Progress(lambda fraction: None))
    return {**clock.times, "images": len(files)}


def write_found(path: Path, detections: Sequence[np.ndarray], scores: Sequence[float]) -> None:
    """Keep detections [n, 6] and the score of every image in one file."""
    counts = [len(rows) for rows in detections]
    rows = np.concatenate([np.zeros((0, 6), np.float32), *detections])
    np.savez(path, rows=rows, counts=np.array(counts, np.int64), scores=np.array(scores))


def read_found(path: Path) -> tuple[list[np.ndarray], list[float]]:
    """What `write_found` kept."""
    with np.load(path) as content:
        ends = content["counts"].cumsum()[:-1]
        return np.split(content["rows"], ends), content["scores"].tolist()


def found_file(folder: Path, program: str) -> Path:
    """Where a program's detections and scores lie."""
    return folder / f"{program}.npz"


def _output(job: Mapping[str, object], program: str) -> Path:
    return found_file(Path(str(job["output"])), program)


def _files(job: Mapping[str, object]) -> list[str]:
    files = job["files"]
    assert isinstance(files, list)
    return files


def _whole(job: Mapping[str, object], key: str) -> int:
    value = job[key]
    assert isinstance(value, int), key
    return value


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a program on the job file named on the command line; print one JSON line."""
    path, program = sys.argv[1:] if arguments is None else arguments
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    torch.set_num_threads(job["threads"])
    if program == "reference":
        result = reference(job)
    elif program in ("mining", "mining+infer"):
        result = task(job, program.split("+"))
    else:
        result = ours(job, program)
    print(json.dumps({"benchmark": program, **result, "torch": torch.__version__}), flush=True)


if __name__ == "__main__":
    main()
