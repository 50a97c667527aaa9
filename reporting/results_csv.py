"""`results.csv` of a training, in v7.0's format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from reporting.callbacks import COLUMNS, Callback, EpochResult
from utils.atomic import write_text

WIDTH = 20
"""Characters of a field, padded on the left."""


class CsvLogger(Callback):
    """Rewrite `results.csv` in `folder` after every epoch.

    `rows` are those of a run that is resumed: epoch, then the values of `COLUMNS[1:]`.
    """

    def __init__(self, folder: Path, rows: Sequence[Sequence[float]] = ()) -> None:
        self.path = folder / "results.csv"
        self._rows = [tuple(row) for row in rows]
        self._write()

    def on_epoch_end(self, result: EpochResult) -> None:
        """Append one row."""
        self._rows.append((result.epoch, *result.values))
        self._write()

    def _write(self) -> None:
        table = pd.DataFrame(self._rows, columns=list(COLUMNS))
        fields = table.map(lambda value: f"{value:{WIDTH}.5g}")
        fields["epoch"] = [f"{int(epoch):{WIDTH}d}" for epoch in table["epoch"]]
        fields.columns = [f"{name:>{WIDTH}}" for name in COLUMNS]
        write_text(self.path, fields.to_csv(index=False, lineterminator="\n"))


def read_results(path: Path) -> pd.DataFrame:
    """Read `results.csv` with the names of `COLUMNS`."""
    table = pd.read_csv(path, skipinitialspace=True)
    return table.set_axis([str(name).strip() for name in table.columns], axis=1)
