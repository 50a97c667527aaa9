"""Batch normalisation over the batches of all processes, also where there is no GPU."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class BatchNormOfAll(nn.BatchNorm2d):
    """`BatchNorm2d` with the statistics of what all processes see together.

    torch's own SyncBatchNorm refuses tensors on the CPU. State-dict keys are those of BatchNorm2d.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Maps [b, c, h, w], normalised per channel; b, h and w may differ between processes."""
        if not self.training:
            return super().forward(images)
        wide = images if images.dtype == torch.float64 else images.float()
        count = wide.new_tensor([wide.numel() // wide.shape[1]])
        sums = _Sum.apply(torch.cat([wide.sum((0, 2, 3)), count]))
        total = sums[-1].detach()
        mean = sums[:-1] / total
        centred = wide - mean[:, None, None]
        # From centred values: a difference of large sums would lose the small ones.
        variance = _Sum.apply(centred.square().sum((0, 2, 3))) / total
        self._follow(mean.detach(), variance.detach() * total / (total - 1).clamp(min=1))
        scale = (variance + self.eps).rsqrt() * self.weight
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(images.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


class _Sum(torch.autograd.Function):
    """The sum over all processes; its gradient is that of the sum of their losses."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        """A new tensor, equal in all processes."""
        return _summed(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """What all losses together ask of the values."""
        return _summed(gradients[0])


def _summed(values: Tensor) -> Tensor:
    total = values.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def normalise_over_all(network: nn.Module, device: torch.device) -> None:
    """Replace every BatchNorm2d below `network`: by torch's SyncBatchNorm where it will be on a
    GPU, else by `BatchNormOfAll`. Parameters and buffers stay the same objects.
    """
    kind = nn.SyncBatchNorm if device.type == "cuda" else BatchNormOfAll
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if type(child) is not nn.BatchNorm2d:
                continue
            fresh = kind(child.num_features, eps=child.eps, momentum=child.momentum)
            fresh.weight, fresh.bias = child.weight, child.bias
            for key, buffer in child.named_buffers():
                setattr(fresh, key, buffer)
            setattr(parent, name, fresh.train(child.training))
