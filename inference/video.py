"""Detections in the frames of a video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from data.images import Pixels
from data.videos import Video
from inference.predictions import Prediction
from inference.predictor import Predictor

BATCHES_AHEAD = 2
"""Batches of frames in memory at a time."""


def predict_video(
    predictor: Predictor, video: Video, *, stride: int = 1, first: int = 0
) -> Iterator[tuple[Pixels, Prediction]]:
    """Yield every `stride`-th frame with its prediction, in their order; memory is bounded.

    The n-th frame yielded, from 1, has the path `VIDEO#n`; positions begin with `first`.
    """
    frames, done = video.frames(stride), 0
    while chunk := list(islice(frames, BATCHES_AHEAD * predictor.config.batch_size)):
        paths = [f"{video.path}#{done + n}" for n in range(1, len(chunk) + 1)]
        found = predictor.stream(paths, pixels=dict(enumerate(chunk)))
        for one in sorted(found, key=lambda prediction: prediction.position):
            yield chunk[one.position], replace(one, position=first + done + one.position)
        done += len(chunk)
