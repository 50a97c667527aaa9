"""Detections of batches as tensors with a place for each, zeros where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ops.nms import NmsConfig
from ops.suppression import Suppressed, suppress_batch


@dataclass(frozen=True)
class BatchDetections:
    """Detections of batches on their device: found in `decoded` rows, in one part or several."""

    found: Sequence[Suppressed]
    decoded: Sequence[Tensor]

    @classmethod
    def suppress(cls, outputs: Sequence[Tensor], config: NmsConfig) -> BatchDetections:
        """Suppress the decoded rows [b, rows, 5 + nc] of batches; on a GPU the host waits once."""
        if outputs[0].device.type != "cpu" and len(outputs) > 1:
            most = max(one.shape[1] for one in outputs)
            padded = [functional.pad(one, (0, 0, 0, most - one.shape[1])) for one in outputs]
            outputs = [torch.cat(padded)]
        found = []
        for decoded in outputs:
            own = suppress_batch(decoded, config)
            if not own.sure.all():
                exact = own.to_host().corrected(decoded, config)
                own = Suppressed(exact.packed.to(decoded.device))
            found.append(own)
        # The fullest image of a part decides how many slots it has: all get as many.
        most = max(one.packed.shape[1] for one in found)
        found = [one.widened(most - one.packed.shape[1]) for one in found]
        return cls(found, outputs)

    def rows(self) -> Tensor:
        """Return float32 [b, d, 6]: xyxy in network pixels, confidence, class; zeros behind the
        detections of an image. d is at least 1; on a CPU as many as some image has.
        """
        rows = [one.rows for one in self.found]
        if rows[0].device.type == "cpu":
            most = max(int(one.present.sum(1).max()) for one in self.found)
            rows = [one[:, : max(most, 1)] for one in rows]
        return torch.cat(rows) if len(rows) > 1 else rows[0]

    def probabilities(self, slots: Tensor) -> Tensor:
        """Return sigmoid class probabilities [b, k, nc] of the detections at `slots` [b, k]."""
        parts = []
        for one, decoded, own in zip(
            self.found, self.decoded, slots.split([len(d) for d in self.decoded]), strict=True
        ):
            source = one.source.gather(1, own)[..., None].expand(-1, -1, decoded.shape[-1] - 5)
            parts.append(decoded[..., 5:].gather(1, source))
        return torch.cat(parts) if len(parts) > 1 else parts[0]
