"""`Detector`: weights and settings, called with images; `mine` ranks images for labelling."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from api.inputs import Inputs
from api.mining_report import MiningReport
from api.results import Results
from inference.exported import is_exported
from inference.predictions import Prediction
from inference.predictor import Predictor, load_predictor, predictor_config
from mining.ranking import rank_images
from mining.registry import ALGORITHMS
from mining.scores import ScoringContext, images_without_network
from reporting.candidate_report import About
from reporting.ranking_report import log_ranking
from reporting.training_page import setting_rows
from settings.detect import OF_TASKS, DetectionSettings, InferSettings, MiningSettings
from settings.parse import canonical, parse_settings
from utils.device import describe, parse_device
from utils.errors import Code, TaskError
from utils.progress import progress_bar

log = logging.getLogger(__name__)

OF_THE_NETWORK = ("precision", "half", "engine")
"""Settings that cannot change once the network is built."""

Settings = TypeVar("Settings", InferSettings, MiningSettings)


class Ranked(NamedTuple):
    """An image with its mining score; larger means «label first»."""

    path: str
    score: float
    position: int
    """Among the images given."""


class Detector:
    """A trained detector.

    `weights` is a file that docs/weights.md names. `device` is 'cpu', '0' or 'cuda:0'; None is the
    first GPU, else the CPU. `settings` are those of inference (docs/settings.md), such as
    `img_size=320` and `conf_thres=0.4`. Raises TaskError.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str],
        *,
        device: str | int | torch.device | None = None,
        **settings: object,
    ) -> None:
        self.weights = Path(weights)
        self.device = parse_device(None if device in (None, "") else str(device))
        self._given = settings
        self.settings = _parse(InferSettings, settings)
        self._predictor = load_predictor(self.weights, self.settings, self.device, upright=True)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, by number."""
        return self._predictor.class_names

    def __call__(self, images: object, *, multi_label: bool = False, **settings: object) -> Results:
        """Detect objects in images: a path, a folder, an RGB array, a PIL image, a list of these.

        `settings` hold for this call. With `multi_label` a box counts for every class above the
        threshold. A file that cannot be read is a warning and has no detections; TaskError if
        there is no other.
        """
        inputs = Inputs.read(images)
        predictor = self._configured(_parse(InferSettings, {**self._given, **settings}))
        stream = predictor.stream(inputs.paths, multi_label=multi_label, pixels=inputs.pixels)
        found = list(_readable(_shown(stream, "detection", inputs, self.settings), inputs))
        found.sort(key=lambda prediction: prediction.position)
        shown = [inputs.pixels.get(position) for position in range(len(found))]
        return Results(found, shown, self.class_names)

    def mine(
        self,
        images: object,
        algorithm: str = "balanced",
        *,
        report: str | os.PathLike[str] | None = None,
        **settings: object,
    ) -> list[Ranked]:
        """Rank images, as of a call, for labelling, the most useful first.

        `algorithm` and `settings` are those of mining (docs/settings.md). Files that cannot be
        read come last. `report` is a folder for report.html, if the algorithm needs a network.
        """
        inputs = Inputs.read(images)
        given = {key: value for key, value in self._given.items() if key != "augment"}
        own = _parse(MiningSettings, {**given, **settings}, mining_algorithm=algorithm)
        predictor, paths, pixels = self._configured(own), inputs.paths, inputs.pixels
        steps = ALGORITHMS[own.mining_algorithm]
        if own.needs_network:
            if is_exported(self.weights):
                raise TaskError(
                    Code.CONFIG,
                    f"mining by {algorithm} needs the network itself, not {self.weights}: give the "
                    ".pt file that it was exported from.",
                )
            low = steps.confidence
            stream = predictor.stream_tiles(
                paths, keep_inputs=True, keep_confidence=low, pixels=pixels
            )
        else:
            stream = images_without_network(paths, workers=own.workers, pixels=pixels)
        context = ScoringContext(predictor, own, len(paths))
        facts = [("weights", str(self.weights)), ("image size", f"{own.img_size} px")]
        about = About(
            algorithm,
            [*facts, ("device", describe(self.device))],
            setting_rows(own),
            language=own.language,
        )
        watch = MiningReport(self.class_names, predictor.config.nms, about)
        scores = steps.score(watch.predictions(_readable(stream, inputs)), context)
        shown = _shown(watch.scores(scores), "mining", inputs, own)
        again = predictor.shown_again(paths, pixels)
        ranking = rank_images(shown, steps, context, paths, again)
        if own.needs_network:
            log_ranking(ranking, paths, {})
        if report is not None and own.needs_network:
            watch.write(Path(report), ranking)
        return [Ranked(paths[n], score, n) for n, score in ranking.rows()]

    def _configured(self, settings: DetectionSettings) -> Predictor:
        """Return the predictor under other settings."""
        for name in OF_THE_NETWORK:
            if getattr(settings, name) != getattr(self.settings, name):
                raise TaskError(
                    Code.CONFIG,
                    f"{name} cannot change from call to call: give it where the detector is made, "
                    f"Detector(weights, {name}={getattr(settings, name)!r}).",
                )
        fixed = self._predictor.network.fixed_size
        if fixed and settings.img_size not in (max(fixed), self.settings.img_size):
            note = "note: %s takes images of %d x %d only: img_size %d has no effect"
            log.warning(note, self.weights, *fixed, settings.img_size)
        config = predictor_config(settings, self.class_names, self.device)
        return replace(self._predictor, config=replace(config, upright=True))


def _parse(kind: type[Settings], settings: Mapping[str, object], **fixed: object) -> Settings:
    """Parse keyword arguments; TaskError(CONFIG) for a name that is no setting."""
    known = {item.name for item in fields(kind)} - OF_TASKS
    unknown = [name for name in settings if canonical(name) not in known]
    if unknown:
        raise TaskError(
            Code.CONFIG,
            f"{', '.join(unknown)} is no setting here: there are {', '.join(sorted(known))}.",
        )
    # Later arguments win under whichever of their names.
    last = {canonical(name): name for name in settings}
    values = {name: settings[name] for name in last.values()}
    parsed, notes = parse_settings(kind, {**values, **fixed})
    for note in notes:
        log.warning("note: %s", note)
    return parsed


def _readable(stream: Iterable[Prediction], inputs: Inputs) -> Iterator[Prediction]:
    """Pass predictions on; warn of files that cannot be read, TaskError if there is no other."""
    errors = 0
    for prediction in stream:
        if prediction.error is not None:
            errors += 1
            log.warning("skipped %s: %s", prediction.path, prediction.error)
            if errors == len(inputs.paths):
                raise TaskError(
                    Code.IMAGE_FORMAT,
                    f"no image can be read ({prediction.path}: {prediction.error}): check that "
                    "the files are images.",
                )
        yield prediction


def _shown(
    stream: Iterable[Any], what: str, inputs: Inputs, settings: DetectionSettings
) -> Iterable[Any]:
    """Show a bar at a terminal if there is more than a batch."""
    total = len(inputs.paths)
    return progress_bar(stream, what, total=total) if total > settings.batch_size else stream
