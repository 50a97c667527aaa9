"""Detections of batches as tensors with a place for each, zeros where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ops.nms import NmsConfig, non_max_suppression
from ops.suppression import Suppressed, pack, suppress_batch


@dataclass(frozen=True)
class BatchDetections:
    """Detections `found` in batches, on their device, and the `decoded` rows of these."""

    found: Suppressed
    decoded: Sequence[Tensor]
    is_broken: bool = False
    """Whether decoded rows are not numbers; the detections mean nothing then."""

    @classmethod
    def suppress(cls, outputs: Sequence[Tensor], config: NmsConfig) -> BatchDetections:
        """Suppress the decoded rows [b, rows, 5 + nc] of batches; on a GPU the host waits once."""
        if outputs[0].device.type == "cpu":
            # Batches may differ in their numbers of detections: packed together.
            each = [one for decoded in outputs for one in non_max_suppression(decoded, config)]
            return cls(pack(each), outputs)
        if len(outputs) > 1:
            most = max(one.shape[1] for one in outputs)
            padded = [functional.pad(one, (0, 0, 0, most - one.shape[1])) for one in outputs]
            outputs = [torch.cat(padded)]
        (decoded,) = outputs
        found = suppress_batch(decoded, config)
        # Both columns that tell it in one copy, and nothing launched.
        doubts = Suppressed(found.packed[:, -2:].cpu())
        if doubts.is_broken:
            return cls(found, outputs, is_broken=True)
        if not doubts.sure.all():
            exact = found.to_host().corrected(decoded, config)
            found = Suppressed(exact.packed.to(decoded.device))
        return cls(found, outputs)

    def rows(self) -> Tensor:
        """Return float32 [b, d, 6]: xyxy in network pixels, confidence, class; zeros behind the
        detections of an image. d is at least 1; on a CPU as many as some image has.
        """
        return self.found.rows

    def probabilities(self, slots: Tensor) -> Tensor:
        """Return sigmoid class probabilities [b, k, nc] of the detections at `slots` [b, k]."""
        sources = self.found.source.gather(1, slots).split([len(one) for one in self.decoded])
        parts = [
            decoded[..., 5:].gather(1, own[..., None].expand(-1, -1, decoded.shape[-1] - 5))
            for decoded, own in zip(self.decoded, sources, strict=True)
        ]
        return torch.cat(parts) if len(parts) > 1 else parts[0]
