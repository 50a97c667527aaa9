"""Back to the last good weights after a loss that is not a number."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from training.resume import load_network, restore
from training.setup import TrainState
from utils.errors import Code, TaskError

log = logging.getLogger(__name__)

SLOWED = 0.1
"""What all learning rates are multiplied by after the first such loss."""


class NotFiniteError(TaskError):
    """Losses of an epoch (from 0) that are infinite or not numbers, in some of its steps."""

    def __init__(self, steps: int, epoch: int) -> None:
        super().__init__(
            Code.NOT_A_NUMBER,
            f"the loss was not a number in {steps} step(s) of epoch {epoch + 1}: lower lr0 (or "
            "precision float32), or look for broken labels; the best weights so far are kept.",
        )
        self.steps, self.epoch = steps, epoch


def overflowed(epoch: int) -> TaskError:
    """Return the error of an epoch (from 0) whose gradients overflow even if they are scaled down.

    No lower rate would help: no step had an effect.
    """
    return TaskError(
        Code.NOT_A_NUMBER,
        f"the gradients left the range of float16 in every step of epoch {epoch + 1}, even scaled "
        "down: set precision to float32, or to bfloat16 on a GPU that has it; the best weights so "
        "far are kept.",
    )


def step_back(state: TrainState, error: NotFiniteError, good: Mapping[str, Any]) -> TrainState:
    """Go back to `good`, the snapshot before the epoch of an error, and lower all rates for good.

    Raises the error if they are lowered already, or the job does not want it.
    """
    if not state.job.recovers or state.schedule.slowed < 1:
        raise error
    log.warning(
        "the loss was not a number in %d step(s) of epoch %d: going back to the weights before it, "
        "with learning rates times %g from here on; another such loss ends the training",
        *(error.steps, error.epoch + 1, SLOWED),
    )
    load_network(state.network, good)
    restore(good, ema=state.ema, optimizer_step=state.optimizer_step)
    return replace(state, schedule=replace(state.schedule, slowed=SLOWED))


def kept(value: Any) -> Any:
    """Return a copy of what `snapshot` returned in main memory, which later steps do not change."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {name: kept(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(kept, value))
    return value
