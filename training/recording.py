"""A training step recorded once for each shape of a batch, and replayed as a CUDA graph."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from models.loss import padded_rows
from training.step import TrainingStep
from utils.cuda_graphs import Recorder, Work
from utils.errors import first_line

log = logging.getLogger(__name__)

MOST_SHAPES = 48
"""Recorded shapes of a training; batches of further ones are computed as they come. The sizes of
multi-scale at 640 pixels with two numbers of rows of targets are 42."""
WARM_UPS = 3
"""Batches of a shape that are trained without recording first, on the recorder's stream: libraries
choose kernels and take their memory in them (torch's notes on CUDA graphs)."""


@dataclass
class _Repeated:
    """Work on tensors that stay in their places, done three times before it is recorded."""

    work: Work
    warm_ups: int = 0
    replay: Work | None = None

    def run(self, recorder: Recorder) -> None:
        if self.replay is None and self.warm_ups < WARM_UPS:
            recorder.warm_up(self.work)
            self.warm_ups += 1
            return
        if self.replay is None:
            self.replay = recorder.record(self.work)
        self.replay()


class RecordedStep:
    """A training step that replays what `step` does.

    The gradients of a batch are recorded for each shape of images and targets, whose rows are
    padded; clipping and optimiser once, when the momentum of the warm-up has come to rest. The
    learning rates are read from tensors. The EMA's few operators are left out: its decay is a
    number of the host. What cannot be recorded is done by `step` itself, which the log says once.
    """

    def __init__(self, step: TrainingStep, recorder: Recorder) -> None:
        self.gradients, self._step = step.gradients, step
        self._recorder: Recorder | None = recorder
        self._step_of = self.gradients.optimizer_step
        self._step_of.make_recordable()
        self._losses = torch.zeros(3, device=self.gradients.device)
        self._warned = False
        self._batches: dict[object, _Repeated] = {}
        self._inputs: dict[object, Tensor] = {}
        self._constants: list[object] = []
        self._update = _Repeated(self._step_of.update)
        self._loads = self._step_of.loads

    def __call__(self, images: Tensor, targets: Tensor, size: tuple[int, int]) -> Tensor:
        """Train on a batch as `TrainingStep` does; the next call overwrites the result."""
        step_of = self._step_of
        if self._loads != step_of.loads:
            self.forget()
        self._add_gradients(images, targets, size)
        if step_of.count_batch():
            constants = step_of.constants()
            if constants != self._constants:
                self._constants, self._update = constants, _Repeated(step_of.update)
            self._run(self._update)
            self._step.finish()
        return self._losses

    def forget(self) -> None:
        """Drop all recordings and their memory; what comes is recorded anew."""
        self._batches, self._inputs, self._constants = {}, {}, []
        self._loads = self._step_of.loads

    def _add_gradients(self, images: Tensor, targets: Tensor, size: tuple[int, int]) -> None:
        rows = torch.Size((padded_rows(len(targets)), targets.shape[1]))
        key = (images.shape, images.dtype, rows, size)
        if self._recorder is None or not self._may_record(key):
            self._losses.copy_(self.gradients(images, targets, size))
            return
        pixels, boxes = self._input(images, images.shape), self._input(targets, rows)
        pixels.copy_(images, non_blocking=True)
        boxes[: len(targets)].copy_(targets, non_blocking=True)
        boxes[len(targets) :].zero_()

        def work() -> None:
            self._losses.copy_(self.gradients(pixels, boxes, size))

        self._run(self._batches.setdefault(key, _Repeated(work)))

    def _may_record(self, key: object) -> bool:
        """Return whether batches of this shape are recorded."""
        known = key in self._batches or len(self._batches) < MOST_SHAPES
        if not known and not self._warned:
            self._warned = True
            log.info("batches have more than %d shapes: further ones are not recorded", MOST_SHAPES)
        return known

    def _input(self, like: Tensor, shape: torch.Size) -> Tensor:
        """Return the tensor on the device that batches of a shape are copied to."""
        key = (shape, like.dtype)
        if key not in self._inputs:
            self._inputs[key] = torch.zeros(shape, dtype=like.dtype, device=self.gradients.device)
        return self._inputs[key]

    def _run(self, repeated: _Repeated) -> None:
        """Do work, recorded if that can be."""
        if self._recorder is None:
            repeated.work()
            return
        try:
            repeated.run(self._recorder)
        except RuntimeError as error:
            if repeated.replay is not None or repeated.warm_ups < WARM_UPS:
                raise
            log.warning(
                "the training step cannot be recorded (%s): it goes on without", first_line(error)
            )
            self._recorder = None
            self.forget()
            repeated.work()
