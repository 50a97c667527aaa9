from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import torch

from evaluation.evaluator import Evaluation
from models.checkpoint import Checkpoint, CheckpointMetadata, load_checkpoint
from training.checkpoints import PERIODIC_KEPT, ModelCheckpoint, Saved


def evaluation(fitness: float) -> Evaluation:
    return cast(Evaluation, SimpleNamespace(scores=SimpleNamespace(fitness=fitness)))


def checkpoint(epoch: int) -> Checkpoint:
    return Checkpoint(
        {"nc": 1}, ("cell",), {"w": torch.full((2,), float(epoch))}, CheckpointMetadata(epoch)
    )


def test_best_follows_the_fitness_and_last_the_epochs(tmp_path: Path) -> None:
    told: list[Saved] = []
    keeper = ModelCheckpoint(lambda stage: tmp_path / stage, told.append)
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
    assert load_checkpoint(tmp_path / "best" / "best.pt").metadata.epoch == 1
    assert load_checkpoint(tmp_path / "last" / "last.pt").metadata.epoch == 3


def test_an_export_joins_the_best_stage(tmp_path: Path) -> None:
    told: list[Saved] = []
    keeper = ModelCheckpoint(lambda stage: tmp_path / stage, told.append)
    keeper.keep(checkpoint(0), 0, evaluation(0.1))
    keeper.add_to_best(tmp_path / "best" / "best.onnx")
    assert [path.name for path in told[-1].files] == ["best.pt", "best.onnx"]


def test_the_first_real_look_beats_weights_that_nobody_looked_at(tmp_path: Path) -> None:
    """`noval`: until the end the newest stand as best, then the ones that were evaluated."""
    keeper = ModelCheckpoint(lambda stage: tmp_path / stage, lambda saved: None)
    for epoch in range(2):
        assert keeper.keep(checkpoint(epoch), epoch, evaluation(0.0), evaluated=False)
    assert keeper.keep(checkpoint(2), 2, evaluation(0.0))
    assert keeper.best is not None
    assert (keeper.best.epoch, keeper.best.evaluated) == (2, True)
    assert load_checkpoint(tmp_path / "best" / "best.pt").metadata.epoch == 2


def test_held_weights_are_written_at_the_end_the_best_among_them(tmp_path: Path) -> None:
    """`nosave`: v7.0 has a best file only if the last epoch is the best; a defect, not ours."""
    told: list[Saved] = []
    keeper = ModelCheckpoint(lambda stage: tmp_path / stage, told.append, hold=True, period=1)
    for epoch, fitness in enumerate((0.1, 0.4, 0.2)):
        keeper.keep(checkpoint(epoch), epoch, evaluation(fitness))
    assert told == []
    assert list(tmp_path.rglob("*")) == []
    keeper.write_held()
    keeper.write_held()
    assert [(one.stage, one.epoch) for one in told] == [("best", 1), ("last", 2)]
    assert load_checkpoint(tmp_path / "best" / "best.pt").metadata.epoch == 1
    assert load_checkpoint(tmp_path / "last" / "last.pt").metadata.epoch == 2


def test_periodic_stages_stay_few_and_none_is_listed_without_its_file(tmp_path: Path) -> None:
    listed: dict[str, Saved] = {}

    def record(saved: Saved) -> None:
        listed[saved.stage] = saved
        listed.pop(saved.replaces, None)
        assert all(path.is_file() for one in listed.values() for path in one.files)

    keeper = ModelCheckpoint(lambda stage: tmp_path / stage, record, period=2)
    for epoch in range(25):
        keeper.keep(checkpoint(epoch), epoch, evaluation(0.1))
    wanted = {"best", "last", *(f"epoch{epoch}" for epoch in range(8, 25, 2))}
    assert len(wanted) == 2 + PERIODIC_KEPT
    assert set(listed) == set(keeper.stages) == wanted
    assert {path.name for path in tmp_path.iterdir()} == wanted
    assert load_checkpoint(tmp_path / "epoch8" / "epoch8.pt").metadata.epoch == 8


def test_periodic_stages_in_one_common_folder(tmp_path: Path) -> None:
    keeper = ModelCheckpoint(lambda stage: tmp_path, lambda saved: None, period=1)
    for epoch in range(11):
        keeper.keep(checkpoint(epoch), epoch, evaluation(0.1))
    names = {"best.pt", "last.pt", *(f"epoch{epoch}.pt" for epoch in range(2, 11))}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_stages_of_an_earlier_run_are_reported_and_gone_on_with(tmp_path: Path) -> None:
    first = ModelCheckpoint(lambda stage: tmp_path / stage, lambda saved: None, period=1)
    for epoch, fitness in enumerate((0.1, 0.4, 0.2)):
        first.keep(checkpoint(epoch), epoch, evaluation(fitness))
    told: list[Saved] = []
    second = ModelCheckpoint(lambda stage: tmp_path / stage, told.append, period=1)
    second.restore(first.stages.values())
    assert [one.stage for one in told] == ["best", "last", "epoch0", "epoch1", "epoch2"]
    assert not second.keep(checkpoint(3), 3, evaluation(0.4))
    assert second.best == first.best


def test_an_export_is_listed_once(tmp_path: Path) -> None:
    keeper = ModelCheckpoint(lambda stage: tmp_path / stage, lambda saved: None)
    keeper.keep(checkpoint(0), 0, evaluation(0.1))
    for _ in range(2):
        saved = keeper.add_to_best(tmp_path / "best" / "best.onnx")
    assert [path.name for path in saved.files] == ["best.pt", "best.onnx"]
