"""Accuracy by seed: the table by hand, and two tiny trainings of which none is run twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.accuracy import FIGURES, main, table
from tools.sources import SourceDataset


def test_the_table_has_mean_and_spread_over_seeds() -> None:
    first = {**dict.fromkeys(FIGURES, 0.5), "best epoch": 7, "minutes": 1.0}
    second = {**first, "mAP50": 0.7, "best epoch": 9}
    assert table({0: first}).splitlines()[2:] == [f"| 0 |{' 0.500 |' * 5} 7 |"]
    # 0.5 and 0.7: mean 0.6, sample standard deviation 0.1 · √2.
    assert table({0: first, 4: second}).splitlines()[-1] == (
        "| **mean ± spread** | 0.500 ± 0.000 | 0.500 ± 0.000 | 0.600 ± 0.141 | 0.500 ± 0.000 "
        "| 0.500 ± 0.000 |  |"
    )


@pytest.mark.slow
def test_a_finished_seed_is_not_trained_again(
    drawn: SourceDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = drawn.splits["train"][0].path.parents[1]
    words = ["--data", str(data), "--out", str(tmp_path), "--seeds", "3"]
    for setting in ("epochs=1", "img_size=64", "batch_size=8", "workers=0"):
        words += ["--set", setting]
    main(words)
    weights = tmp_path / "seed-3" / "best" / "best.pt"
    written, first = weights.stat().st_mtime_ns, capsys.readouterr().out
    main(words)
    assert weights.stat().st_mtime_ns == written
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith("| 3 | ")
    assert row.endswith(" | 1 |")
    assert row == first.splitlines()[-1]
