"""All classes of a network as one, for the evaluation of where objects are and not what."""

from __future__ import annotations

import torch
from torch import Tensor

NAME = "item"
"""What v7.0 calls the only class."""


def as_one_class(output: Tensor) -> Tensor:
    """Decoded rows [b, rows, 5 + classes] as [b, rows, 6]: the most probable class alone counts."""
    return torch.cat([output[..., :5], output[..., 5:].amax(dim=-1, keepdim=True)], dim=-1)
