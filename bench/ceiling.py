"""How fast this machine multiplies matrices, and what share of that a network reaches.

    python -m bench.ceiling --threads 2

The rate is that of one large product, the best of several: what no network can exceed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import torch

from models.summary import REFERENCE_SIDE

PRECISIONS = ("float32", "bfloat16")
TRAINING_FACTOR = 3
"""A training step computes the network forwards, and its gradients by inputs and by weights."""


def matmul_rate(
    precision: str, *, device: torch.device, side: int = 2048, seconds: float = 2.0
) -> float:
    """1e9 operations a second (two per multiply-add) of a product of [side, side] matrices."""
    kind = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(side, side, generator=generator).to(device, kind) for _ in range(2))
    torch.mm(left, right)
    best, deadline = float("inf"), time.perf_counter() + seconds
    while best == float("inf") or time.perf_counter() < deadline:
        _wait(device)
        started = time.perf_counter()
        torch.mm(left, right)
        _wait(device)
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best / 1e9


def network_rate(gflops: float, images_per_second: float, pixels: int, *, training: bool) -> float:
    """1e9 operations a second of a network with `gflops` on a square of 640 pixels.

    `pixels` is the area of the images that it sees; only convolutions are counted.
    """
    each = gflops * pixels / REFERENCE_SIDE**2 * (TRAINING_FACTOR if training else 1)
    return each * images_per_second


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both rates."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="", help="the number of a GPU; default: the CPU")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    device = torch.device(f"cuda:{options.device}" if options.device else "cpu")
    for precision in PRECISIONS:
        print(f"{precision}: {matmul_rate(precision, device=device):.0f} GFLOP/s", flush=True)


if __name__ == "__main__":
    main()
