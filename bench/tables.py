"""Repeated measurements of two programs as one table: pure functions, no clock and no process.

Imported by the benchmarks that set ours beside another program.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

MARKER = "benchmark"
"""The key that tells a result from other JSON a program may print."""


@dataclass(frozen=True)
class Spread:
    """The least, the middle and the greatest of some numbers."""

    least: float
    median: float
    greatest: float


@dataclass(frozen=True)
class Row:
    """One measured task: milliseconds per image of both programs, pair by pair.

    `remark` says what both did beside taking time, such as the number of objects found.
    """

    name: str
    ours: tuple[float, ...]
    peer: tuple[float, ...]
    remark: str = ""

    def ratios(self) -> tuple[float, ...]:
        """How many times as fast as the peer ours was, in each pair."""
        return tuple(peer / ours for ours, peer in zip(self.ours, self.peer, strict=True))


def spread(values: Sequence[float]) -> Spread:
    """Least, median and greatest; raises ValueError when there are no values."""
    if not values:
        raise ValueError("no measurements")
    return Spread(min(values), statistics.median(values), max(values))


def milliseconds_per_image(seconds: Sequence[float], images: int) -> float:
    """The median of several passes over `images` images that took so many `seconds` each."""
    return spread(seconds).median / images * 1e3


def turns(pairs: int) -> list[tuple[str, str]]:
    """Who runs first in each pair: ours, peer; peer, ours; ... so that drift favours nobody."""
    return [("ours", "peer") if pair % 2 == 0 else ("peer", "ours") for pair in range(pairs)]


def parse_result(output: str) -> dict[str, object]:
    """The last line of `output` that is a JSON object with the key `benchmark`.

    Other lines are whatever a program says about itself. Raises ValueError when none is there.
    """
    for line in reversed(output.splitlines()):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and MARKER in value:
            return value
    raise ValueError("the program printed no result")


def comparison(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table: milliseconds per image, and the ratio over the pairs."""
    lines = [
        "| task | ours, ms/image (min / median) | yolov5 7.0.14, ms/image (min / median) "
        "| times as fast (min / median / max of the pairs) | both |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        ours, peer, ratio = spread(row.ours), spread(row.peer), spread(row.ratios())
        lines.append(
            f"| {row.name} | {ours.least:.2f} / {ours.median:.2f} "
            f"| {peer.least:.2f} / {peer.median:.2f} "
            f"| {ratio.least:.2f} / **{ratio.median:.2f}** / {ratio.greatest:.2f} "
            f"| {row.remark} |"
        )
    return "\n".join(lines)
