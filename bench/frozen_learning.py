"""Active learning with a frozen network: of which only the head learns, so a curve takes seconds.

    python -m bench.frozen_learning --data runs/pools/long-tail --weights yolov5n.pt

The protocol is that of `bench.active_learning`, and mining is the product's: its algorithms, their
scores and the ranking. But the maps before the head are computed once for every image and each of
`VERSIONS` augmented versions of it, and a training is `--steps` batches of the head's convolutions
on these maps (the setting `freeze: 24` of a yolov5n). CALD's view `cutout` depends on the
detections, and so is left out by default. The order of strategies is that of whole trainings;
their mAP is not.
"""

from __future__ import annotations

import copy
import hashlib
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from bench.active_learning import compare, parser_of
from bench.active_rounds import Experiment, Trained
from data.images import Pixels, read_image
from data.loaders import LoaderConfig, evaluation_loader, training_loader
from evaluation.evaluate import evaluate
from inference.backends.base import Backend
from inference.batching import Sharding, WorkerPool
from inference.network import Network
from inference.predictions import Prediction
from inference.predictor import Predictor, PredictorConfig, predictor_config
from mining.ranking import rank_images
from mining.registry import ALGORITHMS
from mining.scores import ScoringContext
from models.detector import Detector
from models.head import Detect
from ops.letterbox import plan_letterbox, resize_image
from ops.nms import NmsConfig
from settings.detect import MiningSettings
from settings.parse import parse_settings
from training.build import build_augmentation, build_criterion, build_network
from training.optimizer import build_optimizer
from utils.command import run_command
from utils.errors import Code, TaskError
from utils.seeding import numpy_generator, seed_everything

VERSIONS = 6
"""Augmented versions of each image to train on."""
FEWEST_MAPS = 32
"""Images that go through the network at once while versions are computed."""
RECIPE = ("img_size=160", "batch_size=32", "optimizer=AdamW", "lr0=0.003")
RECIPE_OF_VERSIONS = ("mosaic=0", "scale=0.3", "workers=0")
MINING = ("views=[flip,resize,rotate]", "precision=float32", "workers=1")
CPU = torch.device("cpu")
HEAD_STREAM = 3
"""Stream of random numbers: that of a training's batches."""

Maps = Callable[[Tensor], Sequence[Tensor]]
"""Images float32 [b, 3, h, w] (RGB, 0 to 1) to maps [b, c, y, x]."""


class MapCache:
    """Maps that never change, by the pixels of an image: each is computed once."""

    def __init__(self, compute: Maps) -> None:
        self._compute = compute
        self._known: dict[bytes, list[Tensor]] = {}

    def __call__(self, pixels: Tensor) -> list[Tensor]:
        """Return the maps of images float32 [b, 3, h, w]."""
        keys = [_digest(image) for image in (pixels * 255).round().byte()]
        missing = {key: n for n, key in enumerate(keys) if key not in self._known}
        if missing:
            found = [level.half() for level in self._compute(pixels[list(missing.values())])]
            for n, key in enumerate(missing):
                # A copy: a view would keep the maps of its batch.
                self._known[key] = [level[n].clone() for level in found]
        levels = zip(*(self._known[key] for key in keys), strict=True)
        return [torch.stack(level).float() for level in levels]


def _digest(image: Tensor) -> bytes:
    content = hashlib.blake2b(image.contiguous().numpy(), digest_size=16)
    content.update(str(tuple(image.shape)).encode())
    return content.digest()


@dataclass(frozen=True, eq=False)
class FrozenNetwork(Network):
    """A network whose backbone's last map is known too."""

    features: MapCache | None = None

    def backbone_map(self, images: Tensor) -> Tensor:
        """Return the backbone's last map float32 [b, c, y, x]."""
        assert self.features is not None
        return self.features(self.pixels(images))[0]


class FrozenLearner:
    """The learner whose trainings change the head alone; heads stay in memory."""

    def __init__(self, experiment: Experiment) -> None:
        settings, pool = experiment.settings, experiment.pool
        self.experiment, self.settings = experiment, settings
        self._initial: dict[int, Detector] = {}
        self._heads: dict[tuple[int, frozenset[str]], Detect] = {}
        self._fused = self._start(0).fused()
        network = Network.build(self._fused, device=CPU, precision="float32")
        inference = torch.inference_mode()
        self._maps = MapCache(inference(network.compiled.head_inputs))
        self._features = MapCache(inference(lambda images: [network.compiled.backbone(images)]))
        self._criterion = build_criterion(settings, self._fused, settings.img_size)
        self._pixels = [_small(path, settings.img_size) for path in pool.paths]
        self._position = {name: n for n, name in enumerate(experiment.images)}
        config = LoaderConfig(settings.img_size, settings.batch_size, workers=0, cache="ram")
        self._validation = list(evaluation_loader(experiment.validation, config))
        loader = training_loader(pool, config, seed=0, augmentation=build_augmentation(settings))
        samples = [loader.dataset[v, n] for v in range(VERSIONS) for n in range(len(pool))]
        self._targets = [targets for _, targets in samples]
        parts = torch.stack([image for image, _ in samples]).split(FEWEST_MAPS)
        levels = zip(*(self._compute(network, part) for part in parts), strict=True)
        self._versions = [torch.cat(level) for level in levels]

    @staticmethod
    @torch.inference_mode()
    def _compute(network: Network, images: Tensor) -> list[Tensor]:
        maps = network.compiled.head_inputs(network.pixels(images))
        return [level.half() for level in maps]

    def _start(self, seed: int) -> Detector:
        """Return the network that all trainings of a seed start from."""
        if seed not in self._initial:
            seed_everything(seed)
            names = self.experiment.pool.class_names
            network, _ = build_network(self.settings, self.experiment.weights, names)
            self._initial[seed] = network
        return self._initial[seed]

    def train(self, labelled: Sequence[str], *, seed: int, folder: Path) -> Trained:
        """Train the head on the labelled images; return its evaluation."""
        settings, steps = self.settings, self.experiment.steps
        head = copy.deepcopy(self._start(seed).head)
        rows = np.array(sorted(self._position[name] for name in labelled))
        generator = numpy_generator(seed, HEAD_STREAM)
        number = steps * settings.batch_size
        rounds = [generator.permutation(rows) for _ in range(math.ceil(number / len(rows)))]
        images = np.concatenate(rounds)[:number].reshape(steps, -1)
        versions = generator.integers(VERSIONS, size=images.shape)
        optimizer, averaged = build_optimizer(head, settings), AveragedModel(head)
        for step, chosen in enumerate(versions * len(self._pixels) + images):
            maps = [level[torch.from_numpy(chosen)].float() for level in self._versions]
            loss = self._criterion(head(maps), self._joined(chosen.tolist())).total
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step >= steps // 2:
                averaged.update_parameters(head)
        head.load_state_dict(averaged.module.state_dict())
        self._heads[seed, frozenset(labelled)] = head
        nms = NmsConfig(settings.conf_thres, settings.iou_thres, settings.max_det)
        predictor = self._predictor(head, PredictorConfig(settings.img_size, nms=nms))
        evaluation = evaluate(
            *(predictor, self.experiment.validation, self._validation), criterion=self._criterion
        )
        return Trained(math.ceil(number / len(rows)), evaluation)

    def _joined(self, chosen: Sequence[int]) -> Tensor:
        """Return the targets [t, 6] of versions as one batch."""
        rows = [self._targets[n].clone() for n in chosen]
        for place, own in enumerate(rows):
            own[:, 0] = place
        return torch.cat(rows)

    def _predictor(self, head: Detect, config: PredictorConfig) -> Predictor:
        detector = copy.deepcopy(self._fused)
        detector.head.load_state_dict(head.state_dict())
        network = FrozenNetwork(
            *(detector, detector, CPU, "float32"),
            backend=Backend("cached maps", "float32", self._maps),
            features=self._features,
        )
        return Predictor(network, self.experiment.pool.class_names, WorkerPool(CPU), config)

    def rank(
        self,
        unlabelled: Sequence[str],
        settings: Mapping[str, object],
        labelled: Sequence[str],
        folders: tuple[Path, Path],
    ) -> list[str]:
        """Rank the unlabelled images as a mining task does."""
        own, _ = parse_settings(MiningSettings, {"img_size": self.settings.img_size, **settings})
        key = own.seed, frozenset(labelled)
        if key not in self._heads:  # a run that goes on
            self.train(labelled, seed=own.seed, folder=folders[0])
        known = self.experiment.labelled(labelled)
        names, algorithm = known.class_names, ALGORITHMS[own.mining_algorithm]
        predictor = replace(
            self._predictor(self._heads[key], predictor_config(own, names, CPU)),
            labelled_objects=tuple((known.counts() / len(known)).tolist()),
            labelled_images=len(known),
        )
        pixels = {n: self._pixels[self._position[name]] for n, name in enumerate(unlabelled)}
        context, part = ScoringContext(predictor, own, len(pixels)), Sharding(len(pixels), (), 1)

        def look(positions: Iterable[int]) -> Iterator[Prediction]:
            return predictor.stream_tiles(
                unlabelled,
                keep_inputs=True,
                keep_confidence=algorithm.confidence,
                sharding=replace(part, positions=positions),
                pixels=pixels,
            )

        stream = algorithm.score(look(range(len(pixels))), context)
        ranking = rank_images(stream, algorithm, context, unlabelled, look)
        return [unlabelled[position] for position in ranking.order]


def _small(path: str, side: int) -> Pixels:
    """Read an image with its long side at `side`: no strategy needs more of it."""
    image = read_image(path)
    return resize_image(image, plan_letterbox(image.shape[:2], (side, side)).resized)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare strategies with a network of which only the head is trained."""
    parser = parser_of("bench.frozen_learning", __doc__, Path("runs/frozen-learning"))
    parser.set_defaults(start=40, per_round=40, rounds=4, steps=300, seeds=list(range(8)))
    options = parser.parse_args(arguments)
    if options.gpu_id:
        parser.error("--gpu-id: this benchmark runs on the CPU")
    if not options.weights:
        raise TaskError(Code.CONFIG, "A frozen network needs weights: give them with --weights.")
    options.set = [*RECIPE, *RECIPE_OF_VERSIONS, *options.set]
    options.mining_set = [*MINING, *options.mining_set]
    compare(options, FrozenLearner)


if __name__ == "__main__":
    sys.exit(run_command(main))
