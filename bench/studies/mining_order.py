"""Time and memory of ranking many candidates, with a stub in the place of the network.

    python -m bench.studies.mining_order --candidates 1000000 --set diverse_window=10000

The stub gives each candidate a few detections and a feature near that of its clip at once, so what
is measured is mining itself: scores, the window and its greedy order. Times are those of the CPU.
"""

from __future__ import annotations

import itertools
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from bench.training import markdown, parse_pairs
from inference.batching import WorkerPool
from inference.network import Network
from inference.predictions import NetworkInput, Prediction
from inference.predictor import Predictor, predictor_config
from mining.ranking import rank_images
from mining.registry import ALGORITHMS
from mining.scores import Scored, ScoringContext
from models.detector import Detector
from models.model_config import read_model_config
from ops.letterbox import plan_letterbox
from settings.detect import MiningSettings
from settings.parse import parse_settings
from tools import command_parser
from utils.command import run_command
from utils.seeding import numpy_generator

CLASSES, CLIP, CHANNELS = 80, 15, 256
SIDE = 32
CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class StubNetwork(Network):
    """A network whose backbone gives the images of a clip nearly the same map, by their order."""

    generator: np.random.Generator = field(default_factory=lambda: numpy_generator(0))
    clip: list[np.ndarray] = field(default_factory=list)
    """The clip's map, and the images that had it."""

    def backbone_map(self, images: Tensor) -> Tensor:
        """Return maps float32 [b, 256, 1, 1]."""
        maps = self.generator.standard_normal((len(images), CHANNELS)) * 0.1
        for own in maps:
            if not self.clip or self.clip[1] == CLIP:
                self.clip[:] = [self.generator.standard_normal(CHANNELS), np.zeros((), np.int64)]
            self.clip[1] += 1
            own += self.clip[0]
        return torch.from_numpy(maps).float()[:, :, None, None]


def predictions(paths: Sequence[str], positions: Iterable[int]) -> Iterator[Prediction]:
    """Yield candidates with 0 to 5 detections of classes of which few are frequent."""
    plan = plan_letterbox((SIDE, SIDE), (SIDE, SIDE))
    image, generator = torch.zeros(3, SIDE, SIDE, dtype=torch.uint8), numpy_generator(1)
    for n in positions:
        rows = np.zeros((int(generator.integers(6)), 6), np.float32)
        rows[:, 2:4] = SIDE
        rows[:, 4] = np.sort(generator.random(len(rows)))[::-1]
        rows[:, 5] = (CLASSES * generator.random(len(rows)) ** 4).astype(np.int64)
        shown = NetworkInput(
            image, plan, torch.from_numpy(rows), torch.zeros(len(rows), CLASSES), rows
        )
        found = rows[rows[:, 4] > 0.25]
        yield Prediction(n, paths[n], (SIDE, SIDE), found, shown)


def measure(name: str, given: Mapping[str, str], candidates: int) -> tuple[str, ...]:
    """Rank the candidates by one algorithm; return a row of the table."""
    settings, _ = parse_settings(MiningSettings, {**given, "mining_algorithm": name})
    names = tuple(map(str, range(CLASSES)))
    detector = Detector(read_model_config("yolov5n", CLASSES))
    stub = StubNetwork(detector, detector, CPU, "float32")
    predictor = Predictor(stub, names, WorkerPool(CPU), predictor_config(settings, names, CPU))
    predictor = replace(predictor, labelled_objects=(2.0,) * CLASSES, labelled_images=100)
    paths = [f"clip-{n // CLIP}/frame-{n}.jpg" for n in range(candidates)]
    context, algorithm = ScoringContext(predictor, settings, candidates), ALGORITHMS[name]
    before, times = _peak(), [time.process_time()]

    def scored() -> Iterator[Scored]:
        yield from algorithm.score(predictions(paths, range(candidates)), context)
        times.append(time.process_time())

    ranking = rank_images(
        scored(), algorithm, context, paths, lambda positions: predictions(paths, positions)
    )
    times.append(time.process_time())
    seconds = [f"{after - ahead:.1f}" for ahead, after in itertools.pairwise(times)]
    counts = [f"{number:,}" for number in (candidates, len(ranking.breakdowns))]
    return name, *counts, *seconds, f"{before:.0f}", f"{_peak():.0f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Rank the candidates by each algorithm and print the table."""
    parser = command_parser("bench.studies.mining_order", __doc__)
    parser.add_argument("--candidates", type=int, default=1_000_000)
    parser.add_argument("--algorithms", nargs="+", default=["balanced"], choices=ALGORITHMS)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args(arguments)
    given = parse_pairs(options.set, "--set")
    rows = [measure(name, given, options.candidates) for name in options.algorithms]
    head = "algorithm | candidates | window | CPU s, scores | CPU s, order | MB before | MB at most"
    print(markdown(head, rows))


def _peak() -> float:
    """Return the most memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(run_command(main))
