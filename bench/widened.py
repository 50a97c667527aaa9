"""A trained network made twice as wide with the same outputs: detections that mean something.

A speed measurement of yolov5s wants objects to be found, but not a training. A yolov5s computes
what a yolov5n does if every channel stands there twice and each weight that looks at a doubled
channel is halved. It takes the time of a yolov5s: a convolution knows nothing of repeats.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from models.checkpoint import Checkpoint, checkpoint_of
from models.detector import Detector
from models.model_config import read_model_config
from utils.errors import Code, TaskError


def fitted(checkpoint: Checkpoint, model: str) -> Checkpoint:
    """The checkpoint itself if it is of `model`, or widened to it if it has half its channels.

    Raises TaskError(MODEL) for any other.
    """
    detector = Detector(read_model_config(model, nc=len(checkpoint.class_names)))
    target = detector.state_dict()
    shapes = {key: tuple(value.shape) for key, value in target.items()}
    if shapes == {key: tuple(value.shape) for key, value in checkpoint.state.items()}:
        return checkpoint
    detector.load_state_dict(widened(checkpoint.state, target))
    return checkpoint_of(detector, checkpoint.class_names, checkpoint.metadata)


def widened(state: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of `state` in the shapes of `target`: each doubled axis repeats its channels.

    Raises TaskError(MODEL) if the two are not networks of one depth, one of them twice as wide.
    """
    if set(state) != set(target):
        raise _refusal("has other layers")
    made = {}
    for key, value in state.items():
        wide = value
        for axis, (now, wanted) in enumerate(zip(value.shape, target[key].shape, strict=True)):
            if wanted not in (now, 2 * now):
                raise _refusal(f"has {wanted} channels instead of {now} in {key}")
            if wanted == 2 * now:
                wide = wide.repeat_interleave(2, axis)
                # The second axis of a convolution is what it looks at.
                wide = wide / 2 if axis == 1 else wide
        made[key] = wide
    return made


def _refusal(reason: str) -> TaskError:
    return TaskError(
        Code.MODEL,
        f"the weights cannot be widened: the model {reason}; give weights of the model itself or "
        "of one with half its channels, such as yolov5n for yolov5s.",
    )
