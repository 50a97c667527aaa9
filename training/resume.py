"""Resume a stopped training: its state on disk, and whether it belongs to this training."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluation.confusion_matrix import ConfusionMatrix
from evaluation.evaluator import CountsAtThreshold, Evaluation
from evaluation.metrics import ClassMetrics, Scores
from models.detector import Detector
from settings.convert import FALSE_WORDS, TRUE_WORDS
from settings.train import TrainSettings
from training.checkpoints import SavedCheckpoint
from training.ema import ModelEMA
from training.job import TrainingJob
from training.optimizer import OptimizerStep
from utils.atomic import replace_file
from utils.errors import Code, TaskError
from utils.seeding import random_state, restore_random_state

log = logging.getLogger(__name__)

FORMAT = "ymir-yolov5 training"
VERSION = 2
CLASSES = (Evaluation, Scores, ClassMetrics, ConfusionMatrix, CountsAtThreshold, SavedCheckpoint)
"""Classes in a state file beside plain values: the evaluations of the saved checkpoints."""
IRRELEVANT = frozenset({
    "args_options", "augment_on", "cache", "cache_dir", "cache_share", "compile",
    "download_weights", "hyp", "language", "loggers", "map_metric", "max_bad_fraction",
    "model_formats", "nosave", "onnx", "onnx_dynamic", "onnx_half", "onnx_nms", "onnx_simplify",
    "opset", "patience",
    "plots", "resume", "save_period", "weights", "weights_dir", "weights_sha256", "workers",
    "ymir_saved_file_patterns",
})  # fmt: skip
"""Settings that may differ when a training is resumed. Starting weights count by their content,
`hyp` and `args_options` by the settings that they set."""


@dataclass(frozen=True)
class ResumeState:
    """A training after `epoch` (from 0), as it is saved for resuming.

    `identity` says whose it is, `rows` are those of results.csv, `stages` the saved checkpoints.
    `parts` holds network, EMA, optimiser and random state; None once the training is complete.
    """

    epoch: int
    identity: dict[str, Any]
    batch_size: int
    rows: list[list[float]]
    stages: list[SavedCheckpoint]
    parts: dict[str, Any] | None = None
    slowed: float = 1.0
    """What the rates are multiplied by since a loss was not a number."""

    @property
    def best_epoch(self) -> int:
        """The epoch (from 0) of the best checkpoint."""
        return next(saved.epoch for saved in self.stages if saved.stage == "best")

    def is_complete(self, settings: TrainSettings) -> bool:
        """Return whether no epoch is left to train: all are done, or early stopping applies.

        It applies after `patience` epochs without improvement; patience 0 never stops. An equal
        fitness is no improvement (v7.0 takes it for one, so that a flat curve never stops there).
        """
        stop = 0 < settings.patience <= self.epoch - self.best_epoch
        return stop or self.epoch + 1 >= settings.epochs


def identity_of(job: TrainingJob) -> dict[str, Any]:
    """Return what identifies a training: its settings, data, starting weights and model file.

    Where they lie does not count: a data set may be moved, and a model file.
    """
    settings = {name: v for name, v in asdict(job.settings).items() if name not in IRRELEVANT}
    settings["model"] = Path(job.settings.model).name
    return {
        "settings": settings,
        "training data": job.train.digest(),
        "validation data": job.validation.digest(),
        "starting weights": _digest_of_file(job.weights),
        "model file": _digest_of_file(Path(job.settings.model)),
    }


def find_state(job: TrainingJob) -> ResumeState | None:
    """Return the state to resume from, its files in the job's folders; None to start anew.

    Setting `resume`: `auto` takes the state in the job's own folder if it belongs to this
    training, else the log says why not; `never` starts anew; a path that cannot be resumed from
    raises TaskError(CONFIG), as it was asked for by name.
    """
    word = job.settings.resume.strip().lower()
    if word == "never" or word in FALSE_WORDS:
        return None
    if word == "auto" or word in TRUE_WORDS:
        if not job.state_file.is_file():
            return None
        try:
            return _usable_state(job.state_file, job)
        except TaskError as error:
            log.warning("starting anew: %s", error.sentence)
            return None
    path = Path(job.settings.resume)
    path = path.with_suffix(".state") if path.suffix in (".pt", ".pth") else path
    if not path.is_file():
        raise TaskError(
            Code.CONFIG,
            f"the setting resume is {job.settings.resume!r}, but there is no file {path}; give "
            "the last.pt of a stopped training, with last.state beside it, or auto, or never.",
        )
    return _usable_state(path, job)


def find_common_state(job: TrainingJob) -> ResumeState | None:
    """Return the state that rank 0 finds, on every rank.

    Raises TaskError(CONFIG) if another rank does not find the same.
    """
    processes = job.processes
    state = find_state(job) if processes.is_main else None
    epoch = processes.broadcast(state.epoch if state else -1)
    if epoch >= 0 and not processes.is_main:
        state = find_state(job)
    processes.assert_equal(
        state.epoch if state else -1,
        "the processes find different stages of this training (epochs {numbers}): the folder of "
        "its results must be the same one on every machine.",
    )
    return state


def snapshot(
    network: Detector, ema: ModelEMA[Detector], optimizer_step: OptimizerStep
) -> dict[str, object]:
    """Return what changes during training, as live tensors: write it before the next step."""
    return {
        "network": network.state_dict(),
        "ema": ema.module.state_dict(),
        "updates": ema.updates,
        "optimizer": optimizer_step.state(),
        "random": random_state(),
    }


def load_network(network: Detector, parts: Mapping[str, Any]) -> None:
    """Load the weights and statistics of a snapshot into `network`."""
    _load(network, parts["network"])


def restore(
    parts: Mapping[str, Any], *, ema: ModelEMA[Detector], optimizer_step: OptimizerStep
) -> None:
    """Restore EMA, optimiser and random numbers of a snapshot; the network is loaded before."""
    _load(ema.module, parts["ema"])
    ema.updates = parts["updates"]
    optimizer_step.load_state(parts["optimizer"])
    restore_random_state(parts["random"])


def _load(network: Detector, tensors: Mapping[str, Any]) -> None:
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise TaskError(
            Code.MODEL,
            "the saved training is of another network than the settings describe: start it anew "
            "with resume=never.",
        ) from error


def write_state(path: Path, state: ResumeState) -> None:
    """Write a state in one step; `torch.load(weights_only=True)` reads it."""
    # Without the detections of images, which are many and can be computed again.
    lean = [
        replace(saved, evaluation=replace(saved.evaluation, detections={}))
        for saved in state.stages
    ]
    content = {"format": FORMAT, "version": VERSION} | {
        name: to_plain(value) for name, value in vars(replace(state, stages=lean)).items()
    }
    with replace_file(path) as temporary:
        torch.save(content, temporary)


def read_state(path: Path) -> ResumeState:
    """Read a state, its tensors on the CPU.

    Raises TaskError(MODEL) if the file is damaged, of another kind or of another version.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content.pop("format") != FORMAT or content.pop("version") != VERSION:
            raise ValueError("another format")
        state = ResumeState(**{name: from_plain(value) for name, value in content.items()})
        stages = [
            replace(saved, files=tuple(Path(file) for file in saved.files))
            for saved in state.stages
        ]
    # Whatever a damaged or foreign file leads to; torch itself raises many kinds.
    except Exception as error:
        raise TaskError(
            Code.MODEL,
            f"{path} is not a training that this version can resume ({type(error).__name__}).",
        ) from error
    return replace(state, stages=stages)


def to_plain(value: object) -> object:
    """Convert a value to dicts, lists, numbers, text and tensors; a path becomes text.

    Arrays, tuples and objects of `CLASSES` become dicts of one key, their kind. Tensors stay what
    they are, so they must not change before the result is written.
    """
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, np.ndarray):
        return {"array": torch.from_numpy(np.ascontiguousarray(value)).reshape(value.shape)}
    if isinstance(value, Mapping):
        # A list of pairs: keys may be numbers, or a word that names a kind.
        return {"dict": [[to_plain(key), to_plain(item)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [to_plain(item) for item in value]}
    if isinstance(value, list):
        return [to_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    # numpy's numbers would be pickled under their own names.
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    assert type(value) in CLASSES, f"{type(value).__name__} cannot be stored"
    return {type(value).__name__: {name: to_plain(item) for name, item in vars(value).items()}}


def from_plain(value: Any) -> Any:
    """Return the value that `to_plain` was given (a path stays text).

    Objects are made attribute by attribute, without running their code. Raises ValueError for
    another class than `CLASSES`, or one that has other fields in this version.
    """
    if isinstance(value, list):
        return [from_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "array":
        return content.numpy()
    if kind == "dict":
        return {from_plain(key): from_plain(item) for key, item in content}
    if kind == "tuple":
        return tuple(from_plain(item) for item in content)
    found = next((one for one in CLASSES if one.__name__ == kind), None)
    declared = getattr(found, "__dataclass_fields__", None) or content
    if found is None or content.keys() != declared.keys():
        raise ValueError(f"the class {kind} is not known, or has other fields in this version")
    made = object.__new__(found)
    vars(made).update({name: from_plain(item) for name, item in content.items()})
    return made


def _usable_state(path: Path, job: TrainingJob) -> ResumeState:
    state = read_state(path)
    identity = identity_of(job)
    if job.weights == path.with_suffix(".pt"):  # the starting weights are gone, and not needed
        identity["starting weights"] = state.identity["starting weights"]
    differs = _difference(state.identity, identity)
    if differs:
        raise TaskError(
            Code.CONFIG,
            f"{path} is of another training ({differs}): go on with the pictures, labels and "
            "settings that it had, or start anew without resume.",
        )
    stages = [_in_place(saved, path, job.stage_folder) for saved in state.stages]
    state = replace(state, stages=[saved for saved in stages if saved is not None])
    if not {"best", "last"} <= {saved.stage for saved in state.stages}:
        raise TaskError(
            Code.CONFIG, f"{path} cannot be resumed: its best or last checkpoint is gone."
        )
    done, epochs = state.epoch + 1, job.settings.epochs
    complete = state.is_complete(job.settings)
    if not complete and state.parts is None:
        raise TaskError(
            Code.CONFIG,
            f"{path} cannot be resumed: its training was complete after epoch {done}.",
        )
    if complete:
        log.info("complete already (%s): reporting its results again", path)
    else:
        log.info("going on after epoch %d of %d (%s)", done, epochs, path)
    return state


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return in words what differs between two identities, '' if nothing does.

    A setting that is younger than the state counts as its default.
    """
    old, new = asdict(TrainSettings()) | before["settings"], now["settings"]
    changed = [
        f"{name} was {old.get(name)}, is {new.get(name)}"
        for name in sorted({*before["settings"], *new})
        if old.get(name) != new.get(name)
    ]
    others = [name for name in now if name != "settings" and before[name] != now[name]]
    return "; ".join([*changed, *(f"other {name}" for name in others)])


def _in_place(
    saved: SavedCheckpoint, state_file: Path, stage_folder: Callable[[str], Path]
) -> SavedCheckpoint | None:
    """Return a checkpoint with its files in this job's folder, copied there if need be.

    None if its weights are gone.
    """
    folder = stage_folder(saved.stage)
    found = []
    for number, file in enumerate(saved.files):
        target = folder / file.name
        # Stages lie in folders of their own side by side, or all in one.
        places = (state_file.parent.parent / saved.stage, state_file.parent)
        source = next(
            (place / file.name for place in places if (place / file.name).is_file()), None
        )
        if source is None:
            if number == 0:
                return None
            continue
        if not (target.exists() and target.samefile(source)):
            with replace_file(target) as temporary:
                shutil.copyfile(source, temporary)
        found.append(target)
    return replace(saved, files=tuple(found))


def _digest_of_file(path: Path | None) -> str:
    if path is None or not path.is_file():
        return ""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
