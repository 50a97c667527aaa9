"""Everything that was measured against others as one table: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.tables import spread


@dataclass(frozen=True)
class Line:
    """One quantity of ours and of another program, pair by pair."""

    task: str
    against: str
    unit: str
    ours: tuple[float, ...]
    others: tuple[float, ...]
    more_is_better: bool = True
    remark: str = ""

    def ratios(self) -> tuple[float, ...]:
        """How many times as good ours was in each pair: above 1 is better."""
        pairs = zip(self.ours, self.others, strict=True)
        return tuple(a / b if self.more_is_better else b / a for a, b in pairs)


HEAD = (
    "| task | unit | ours | against | theirs | times as good (least / median / greatest) "
    "| remark |\n|---|---|---|---|---|---|---|"
)


def table(lines: Sequence[Line]) -> str:
    """The lines in Markdown: medians, and the ratios over the pairs."""
    return "\n".join([HEAD, *map(row, lines)])


def row(line: Line) -> str:
    """One line in Markdown."""
    ours, others, ratio = (spread(v) for v in (line.ours, line.others, line.ratios()))
    times = f"{ratio.least:.2f} / **{ratio.median:.2f}** / {ratio.greatest:.2f}"
    return (
        f"| {line.task} | {line.unit} | {ours.median:.4g} | {line.against} | {others.median:.4g} "
        f"| {times} | {line.remark} |"
    )
