from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import torch

from models.checkpoint import Checkpoint, load_checkpoint
from utils.keeper import Keeper, Saved
from val import Evaluation


def evaluation(fitness: float) -> Evaluation:
    return cast(Evaluation, SimpleNamespace(scores=SimpleNamespace(fitness=fitness)))


def checkpoint(epoch: int) -> Checkpoint:
    return Checkpoint({"nc": 1}, ("cell",), {"w": torch.full((2,), float(epoch))}, {"epoch": epoch})


def test_best_follows_the_fitness_and_last_the_epochs(tmp_path: Path) -> None:
    told: list[Saved] = []
    keeper = Keeper(lambda stage: tmp_path / stage, told.append)
    improved = [
        keeper.keep(checkpoint(n), n, evaluation(f)) for n, f in enumerate((0.0, 0.3, 0.3, 0.2))
    ]
    assert improved == [True, True, False, False]
    assert [(one.stage, one.epoch) for one in told] == [
        ("best", 0),
        ("last", 0),
        ("best", 1),
        ("last", 1),
        ("last", 2),
        ("last", 3),
    ]
    assert load_checkpoint(tmp_path / "best" / "best.pt").metadata["epoch"] == 1
    assert load_checkpoint(tmp_path / "last" / "last.pt").metadata["epoch"] == 3


def test_an_export_joins_the_best_stage(tmp_path: Path) -> None:
    told: list[Saved] = []
    keeper = Keeper(lambda stage: tmp_path / stage, told.append)
    keeper.keep(checkpoint(0), 0, evaluation(0.1))
    keeper.add_to_best(tmp_path / "best" / "best.onnx")
    assert [path.name for path in told[-1].files] == ["best.pt", "best.onnx"]
