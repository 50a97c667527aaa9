from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch

from evaluation.evaluator import Evaluation
from models.checkpoint import Checkpoint, CheckpointMetadata, load_checkpoint
from training.checkpoints import MAX_PERIODIC, ModelCheckpoint, SavedCheckpoint


def save(checkpoints: ModelCheckpoint, epoch: int, fitness: float = 0.1, **more: bool) -> bool:
    tensors = {"w": torch.full((2,), float(epoch))}
    checkpoint = Checkpoint({"nc": 1}, ("cell",), tensors, CheckpointMetadata(epoch))
    evaluation = cast(Evaluation, SimpleNamespace(scores=SimpleNamespace(fitness=fitness)))
    return checkpoints.save(checkpoint, epoch, evaluation, **more)


class Recorded(ModelCheckpoint):
    """Checkpoints in a folder, and what was reported of them."""

    def __init__(self, folder: Path, **how: Any) -> None:
        self.reported: list[tuple[str, int]] = []
        self.folder = folder
        super().__init__(lambda stage: folder / stage, self.record, **how)

    def record(self, saved: SavedCheckpoint) -> None:
        assert all(path.is_file() for path in saved.files)
        self.reported.append((saved.stage, saved.epoch))

    def epoch_of(self, stage: str) -> int | None:
        return load_checkpoint(self.folder / stage / f"{stage}.pt").metadata.epoch


def test_best_follows_the_fitness_and_last_the_epochs(tmp_path: Path) -> None:
    checkpoints = Recorded(tmp_path)
    improved = [save(checkpoints, n, f) for n, f in enumerate((0.0, 0.3, 0.3, 0.2))]
    assert improved == [True, True, False, False]
    firsts = [("best", 0), ("last", 0), ("best", 1), ("last", 1)]
    assert checkpoints.reported == [*firsts, ("last", 2), ("last", 3)]
    assert (checkpoints.epoch_of("best"), checkpoints.epoch_of("last")) == (1, 3)


def test_an_evaluation_beats_weights_that_were_not_evaluated(tmp_path: Path) -> None:
    """`noval`: until the end the newest are the best."""
    checkpoints = Recorded(tmp_path)
    assert all(save(checkpoints, epoch, 0.0, evaluated=epoch == 2) for epoch in range(3))
    assert checkpoints.best is not None
    assert checkpoints.best.evaluated
    assert checkpoints.epoch_of("best") == 2


def test_deferred_checkpoints_are_written_at_the_end(tmp_path: Path) -> None:
    """`nosave`: v7.0 has a best file only if the last epoch is the best; a defect, not ours."""
    checkpoints = Recorded(tmp_path, deferred=True, period=1)
    for epoch, fitness in enumerate((0.1, 0.4, 0.2)):
        save(checkpoints, epoch, fitness)
    assert checkpoints.reported == list(tmp_path.rglob("*")) == []
    checkpoints.write_deferred()
    checkpoints.write_deferred()
    assert checkpoints.reported == [("best", 1), ("last", 2)]
    assert (checkpoints.epoch_of("best"), checkpoints.epoch_of("last")) == (1, 2)


def test_periodic_stages_stay_few_and_none_is_listed_without_its_file(tmp_path: Path) -> None:
    listed: dict[str, SavedCheckpoint] = {}

    def record(saved: SavedCheckpoint) -> None:
        listed[saved.stage] = saved
        listed.pop(saved.replaces, None)
        assert all(path.is_file() for one in listed.values() for path in one.files)

    checkpoints = ModelCheckpoint(lambda stage: tmp_path / stage, record, period=2)
    for epoch in range(25):
        save(checkpoints, epoch)
    wanted = {"best", "last", *(f"epoch{epoch}" for epoch in range(8, 25, 2))}
    assert len(wanted) == 2 + MAX_PERIODIC
    assert set(listed) == set(checkpoints.stages) == wanted
    assert {path.name for path in tmp_path.iterdir()} == wanted


def test_periodic_stages_in_one_common_folder(tmp_path: Path) -> None:
    checkpoints = ModelCheckpoint(lambda stage: tmp_path, lambda saved: None, period=1)
    for epoch in range(11):
        save(checkpoints, epoch)
    names = {"best.pt", "last.pt", *(f"epoch{epoch}.pt" for epoch in range(2, 11))}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_stages_of_an_earlier_run_are_reported_and_kept(tmp_path: Path) -> None:
    first, second = Recorded(tmp_path, period=1), Recorded(tmp_path, period=1)
    for epoch, fitness in enumerate((0.1, 0.4, 0.2)):
        save(first, epoch, fitness)
    second.restore(first.stages.values())
    stages = ["best", "last", "epoch0", "epoch1", "epoch2"]
    assert [stage for stage, _ in second.reported] == stages
    assert not save(second, 3, 0.4)
    assert second.best == first.best


def test_an_export_joins_the_best_stage_once(tmp_path: Path) -> None:
    reported: list[SavedCheckpoint] = []
    checkpoints = ModelCheckpoint(lambda stage: tmp_path / stage, reported.append)
    save(checkpoints, 0)
    for _ in range(2):
        checkpoints.add_to_best(tmp_path / "best" / "best.onnx")
    assert [path.name for path in reported[-1].files] == ["best.pt", "best.onnx"]
