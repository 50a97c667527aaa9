"""Injected faults: memory that runs out in a step, and losses that are not numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from data.dataset_index import DatasetIndex
from models.loss import DetectionLoss
from reporting.callbacks import Callback
from tests.conftest import DEVICES
from tests.pretend_gpu import PretendGpu
from tests.training_example import make_job, run, tensors_of
from training import loop, recovery, step
from training.job import TrainingJob
from training.resume import read_state
from training.setup import TrainState, prepare
from utils.errors import Code, TaskError
from utils.progress import Progress

OUT = torch.cuda.OutOfMemoryError("CUDA out of memory")


@pytest.fixture
def few(splits: Sequence[DatasetIndex]) -> list[DatasetIndex]:
    """Eight images to train on."""
    return [splits[0].subset(range(8)), splits[1]]


def job_on(
    device: str, splits: Sequence[DatasetIndex], folder: Path, **change: object
) -> TrainingJob:
    """A training of four batches of four images in an epoch, an optimiser step for two of them."""
    own = {"img_size": 64, "nominal_batch_size": 8, "epochs": 1, "precision": "float32", **change}
    return replace(make_job(splits, folder, **own), device=torch.device(device))


def gradients(state: TrainState, most: int | None = None) -> list[Tensor]:
    """The gradients of one batch, and its loss terms; with fixed batch statistics."""
    state.network.model[:-1].eval()
    state.loader.set_epoch(0)
    batch = next(iter(state.loader))
    pieces = state.step.gradients.pieces
    assert pieces is not None
    if most is not None:
        pieces.most = most
    terms = state.step.gradients(batch.images, batch.targets, (64, 64))
    found = [terms, *state.optimizer_step.gradients()]
    return [one.detach().cpu().clone() for one in found]


def assert_equal(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-5 * float(other.abs().max()))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("quad", [False, True])
def test_the_pieces_of_a_batch_have_its_loss_and_gradients(
    splits: Sequence[DatasetIndex], tmp_path: Path, device: str, quad: bool
) -> None:
    job = job_on(device, splits, tmp_path, batch_size=16 if quad else 4, quad=quad)
    expected = gradients(prepare(job))
    for most in (3, 2, 1):
        assert_equal(gradients(prepare(job), most), expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("place", ["forward", "loss", "backward"])
@pytest.mark.parametrize("pending", [False, True])
def test_a_pass_that_fails_leaves_no_gradients(
    splits: Sequence[DatasetIndex],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    place: str,
    pending: bool,
) -> None:
    """Once it fails after its work is done, with gradients of a batch before or without."""
    job = job_on(device, splits, tmp_path)

    def twice(state: TrainState) -> list[Tensor]:
        if pending:
            gradients(state)
        with monkeypatch.context() as patch:
            if state is disturbed:
                owner, name = {
                    "forward": (step, "network_input"),
                    "loss": (DetectionLoss, "forward"),
                    "backward": (Tensor, "backward"),
                }[place]
                fail_once(patch, owner, name)
            return gradients(state)

    disturbed: TrainState | None = None
    expected = twice(prepare(job))
    disturbed = prepare(job)
    assert_equal(twice(disturbed), expected)
    assert disturbed.step.gradients.pieces is not None
    assert disturbed.step.gradients.pieces.most == 2


def fail_once(patch: pytest.MonkeyPatch, owner: object, name: str) -> None:
    """Let the next call of a function run out of memory at its end."""
    real, calls = getattr(owner, name), 0

    def failing(*words: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        found = real(*words, **more)
        if calls == 1:
            raise OUT
        return found

    patch.setattr(owner, name, failing)


class Seen(Callback):
    """The batches that were trained, and the rates."""

    def __init__(self) -> None:
        self.targets = list[Tensor]()

    def on_train_batch_end(self, epoch: int, step: int, images: Tensor, targets: Tensor) -> None:
        self.targets.append(targets)


def limited(patch: pytest.MonkeyPatch, most: int, after: int = 0) -> None:
    """Let batches of more than `most` images run out of memory, after so many have gone well."""
    real, calls = step.network_input, 0

    def limited_input(images: Tensor, *words: Any) -> Tensor:
        nonlocal calls
        calls += 1
        if len(images) > most and calls > after:
            raise OUT
        return real(images, *words)

    patch.setattr(step, "network_input", limited_input)


@pytest.mark.parametrize("device", DEVICES)
def test_a_training_goes_on_with_the_same_batches_and_schedule(
    splits: Sequence[DatasetIndex],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    device: str,
) -> None:
    found = []
    for after in (99, 2):
        limited(monkeypatch, 1, after)
        seen = Seen()
        state = prepare(job_on(device, splits, tmp_path), None, [seen])
        losses = loop.train_one_epoch(state, 0, Progress())
        own = state.optimizer_step
        found.append((seen.targets, own.steps, own.pending, own.rates, state.ema.updates, losses))
        monkeypatch.undo()
    (batches, *counts, losses), (others, *same, close) = found
    assert len(batches) == 4
    assert all(map(torch.equal, batches, others))
    assert counts == same
    assert close == pytest.approx(losses, rel=0.1)
    halvings = [one.getMessage() for one in caplog.records if "ran out of memory" in one.msg]
    assert [text[-23:] for text in halvings] == [f"going on with {n} at most" for n in (2, 1)]


def test_a_single_image_that_does_not_fit_ends_a_training_with_its_code(
    splits: Sequence[DatasetIndex], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(monkeypatch, 0)
    with pytest.raises(TaskError, match="the GPU ran out of memory with a single image") as caught:
        run(job_on("cpu", splits, tmp_path))
    assert caught.value.code == Code.OUT_OF_MEMORY


def broken(patch: pytest.MonkeyPatch, is_broken: Callable[[int], bool]) -> None:
    """Let the input of some steps, counted from 0, be no numbers."""
    real, calls = step.network_input, 0

    def spoiled(*words: Any) -> Tensor:
        nonlocal calls
        calls += 1
        found = real(*words)
        return found * float("nan") if is_broken(calls - 1) else found

    patch.setattr(step, "network_input", spoiled)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("first", "nosave"), [(0, False), (1, False), (1, True)])
def test_a_loss_that_is_not_finite_goes_back_once_with_lower_rates(
    few: list[DatasetIndex],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    device: str,
    first: int,
    nosave: bool,
) -> None:
    """It equals a training whose rates are lower from that epoch on, and which nothing disturbs."""
    steps = 2  # of an epoch
    job = job_on(device, few, tmp_path / "broken", epochs=3, nosave=nosave)
    assert len(prepare(job).loader) == steps
    broken(monkeypatch, lambda call: call == first * steps)
    run(job)
    monkeypatch.undo()
    assert caplog.text.count("going back to the weights before it") == 1
    assert f"step(s) of epoch {first + 1}" in caplog.text
    if not nosave:
        assert read_state(job.state_file).slowed == recovery.SLOWED

    real = loop.train_one_epoch

    def slowed(state: TrainState, epoch: int, progress: Progress) -> list[float]:
        if epoch >= first:
            state = replace(state, schedule=replace(state.schedule, slowed=recovery.SLOWED))
        return real(state, epoch, progress)

    monkeypatch.setattr(loop, "train_one_epoch", slowed)
    run(job_on(device, few, tmp_path / "same", epochs=3, nosave=nosave))
    found, expected = tensors_of(tmp_path / "broken"), tensors_of(tmp_path / "same")
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, msg=name)


def test_the_second_time_it_ends_and_what_was_earned_is_on_disk(
    few: list[DatasetIndex], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the training was killed and resumed in between."""
    job = job_on("cpu", few, tmp_path, epochs=4)
    broken(monkeypatch, lambda call: call in (2, 6))
    with pytest.raises(TaskError, match=r"not a number in 1 step\(s\) of epoch 3") as caught:
        run(job)
    assert caught.value.code == Code.NOT_A_NUMBER
    assert read_state(job.state_file).epoch == 1
    assert all(tensor.isfinite().all() for tensor in tensors_of(tmp_path, "best").values())
    broken(monkeypatch, lambda call: call == 0)
    with pytest.raises(TaskError, match=r"not a number in 1 step\(s\) of epoch 3"):
        run(job)


def test_steps_that_overflow_in_float16(
    few: list[DatasetIndex], tmp_path: Path, pretend_gpu: PretendGpu
) -> None:
    """The EMA does not count them; it ends where no scale is small enough."""
    change = {"precision": "float16", "nominal_batch_size": 4, "epochs": 2}
    state = prepare(job_on("cuda", few, tmp_path, **change))
    first = next(state.network.parameters())
    overflow = first.register_hook(lambda gradient: gradient * float("inf"))
    scale, ema = state.optimizer_step.scale, state.ema
    assert scale is not None
    loop.train_one_epoch(state, 0, Progress())
    assert (state.optimizer_step.steps, ema.updates, float(scale)) == (2, 0, 2.0**14)
    scale.fill_(1)
    with pytest.raises(TaskError, match=r"every step of epoch 2.*precision to float32") as caught:
        loop.train_one_epoch(state, 1, Progress())
    assert caught.value.code == Code.NOT_A_NUMBER
    overflow.remove()
    loop.train_one_epoch(state, 1, Progress())
    assert (state.optimizer_step.steps, ema.updates) == (6, 2)
