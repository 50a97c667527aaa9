"""The table of docs/gpu.md: what units of work ask of a GPU, as the budget tests count it.

OMP_NUM_THREADS=1 python -m pytest -k "gpu and budget" --counts docs/gpu.md
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.training import fill, markdown
from tests.pretend_gpu import COUNTED

HEAD = "unit | yolov5 7.0 | version 0.1.0 | now | budget"
STEP = "training/test_gpu_budget.py::test_a_training_step"
MINING = "mining/test_gpu_budget.py::test_a_batch"
UNITS = {
    f"{STEP}[bfloat16]": ("training step, batch 16, update and EMA", "2,608 / 24", "1,609 / 0"),
    f"{STEP}[float16, scaled]": ("the same in float16, scaled", "", ""),
    f"{STEP}[augmented on the device]": ("the same, augmented on the device", "", ""),
    f"{STEP}[recorded]": ("the same as two graphs", "", ""),
    "data/test_device_augment.py::test_budget_of_a_batch_on_a_gpu[change0-60]": (
        *("augmentation of a batch of 16 on the device", "on the host", "on the host"),
    ),
    "inference/test_gpu_budget.py::test_a_forward_pass[bfloat16]": (
        *("forward pass, fused, with decoding", "", "306 / 0"),
    ),
    "inference/test_gpu_budget.py::test_a_batch_from_files_to_rows": (
        *("inference, 32 images, files to rows, pass replayed", "1,838 / 295", "1,233 / 70"),
    ),
    "ops/test_suppression.py::test_budget_on_a_gpu[detection]": ("NMS in it", "", ""),
    "evaluation/test_gpu_budget.py::test_a_batch_of_32": (
        "evaluation, 32 images, confidence 0.001, matching, pass replayed",
        "962 / 96, matching on the host",
        "589 / 101, matching on the host",
    ),
    f"{MINING}[cald]": ("CALD, 32 images, beside at most three passes", "", "7,820 / 462"),
    f"{MINING}[misses]": ("misses, 32 images, beside the passes", "", "2,700 / 248"),
    f"{MINING}[diverse]": ("diverse (entropy), the same", "", "7,900 / 463, with CALD"),
    f"{MINING}[entropy]": ("entropy, the same", "", "1,300 / 102"),
    "mining/test_gpu_budget.py::test_aldd_of_eighty_classes": (
        *("ALDD, 80 classes, 8 images", "", "20,496, waits not counted"),
    ),
}
"""By test: the unit, and dispatches / host waits of others, counted once with the same tool."""


def write_counts(page: Path) -> None:
    """Fill the table of a page: most dispatches and most waits of each unit."""
    rows = []
    for test, (unit, *others) in UNITS.items():
        found = [one[1:] for one in COUNTED if one[0].removeprefix("tests/").startswith(test)]
        if not found:
            raise pytest.UsageError(f"--counts: {test} has not counted; run all that it takes")
        most = [
            " / ".join(f"{max(n):,}" for n in zip(*kind, strict=True))
            for kind in zip(*found, strict=True)
        ]
        rows.append([unit, *(text or "not counted" for text in others), *most])
    if not fill(page, "counted", markdown(HEAD, rows)):
        raise pytest.UsageError(f"--counts: {page} has no place <!-- counted -->")
