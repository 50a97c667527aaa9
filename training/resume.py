"""Whether a training goes on from what an earlier run of it has left on disk."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from data.dataset_index import DatasetIndex
from settings.convert import FALSE_WORDS, TRUE_WORDS
from training.checkpoints import Saved
from training.early_stopping import exhausted
from training.job import TrainingJob
from training.run_state import RunState, read_run_state
from utils.atomic import replace_file
from utils.errors import Code, TaskError

log = logging.getLogger(__name__)

CHANGES_NOTHING_LEARNT = frozenset(
    {
        "args_options",
        "cache",
        "cache_dir",
        "download_weights",
        "hyp",
        "map_metric",
        "max_bad_fraction",
        "model_formats",
        "nosave",
        "onnx",
        "onnx_half",
        "onnx_nms",
        "onnx_simplify",
        "opset",
        "patience",
        "plots",
        "resume",
        "save_period",
        "weights",
        "weights_dir",
        "weights_sha256",
        "workers",
        "ymir_saved_file_patterns",
    }
)
"""Settings that may differ when a training goes on; starting weights count by their content, and
what `hyp` and `args_options` say by the settings that it sets."""


def identity_of(job: TrainingJob) -> dict[str, object]:
    """What makes a training this one: its settings, data, starting weights and model file."""
    settings = asdict(job.settings)
    return {
        "settings": {
            name: value for name, value in settings.items() if name not in CHANGES_NOTHING_LEARNT
        },
        "training data": _digest_of_data(job.train),
        "validation data": _digest_of_data(job.validation),
        "starting weights": _digest_of_file(job.weights),
        "model file": _digest_of_file(Path(job.settings.model)),
    }


def find_state(job: TrainingJob) -> RunState | None:
    """The state to go on from, with the files of its stages in place; None starts anew.

    Setting `resume`: `auto` takes a state in the job's own folder if it belongs to this training,
    and says in the log why not; `never` looks at nothing; a path that does not do is a
    TaskError(CONFIG), as somebody asked for it by name.
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


def is_over(state: RunState, epochs: int, patience: int) -> bool:
    """Whether nothing is left to learn: every epoch done, or none of them better for long."""
    return state.epoch + 1 >= epochs or exhausted(state.epoch, best_epoch(state), patience)


def best_epoch(state: RunState) -> int:
    """The epoch (from 0) of the best weights so far."""
    return next(saved.epoch for saved in state.stages if saved.stage == "best")


def _usable_state(path: Path, job: TrainingJob) -> RunState:
    state = read_run_state(path)
    differs = _difference(state.identity, identity_of(job))
    if differs:
        raise TaskError(
            Code.CONFIG, f"{path} is of another training ({differs}); it cannot be gone on with."
        )
    stages = [_in_place(saved, path, job.stage_folder) for saved in state.stages]
    present = [saved for saved in stages if saved is not None]
    if not {"best", "last"} <= {saved.stage for saved in present}:
        raise TaskError(
            Code.CONFIG, f"{path} can no longer be gone on with: its best or last weights are gone."
        )
    state = replace(state, stages=present)
    over = is_over(state, job.settings.epochs, job.settings.patience)
    if not over and state.parts is None:
        raise TaskError(
            Code.CONFIG,
            f"{path} is of a training that was over after epoch {state.epoch + 1}; it cannot be "
            "gone on with.",
        )
    if over:
        log.info("complete already (%s): reporting its results again", path)
    else:
        log.info("going on after epoch %d of %d (%s)", state.epoch + 1, job.settings.epochs, path)
    return state


def _difference(before: Mapping[str, object], now: Mapping[str, object]) -> str:
    """In words what differs between two identities, '' if nothing does."""
    old, new = before.get("settings"), now["settings"]
    assert isinstance(new, Mapping)
    if not isinstance(old, Mapping):
        return "its settings are unknown"
    changed = [
        f"{name} was {old.get(name)}, is {new.get(name)}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]
    changed += [
        f"other {name}" for name in now if name != "settings" and before.get(name) != now[name]
    ]
    return "; ".join(changed)


def _in_place(saved: Saved, state_file: Path, stage_folder: Callable[[str], Path]) -> Saved | None:
    """A stage with its files in this job's folder, copied from beside the state if need be.

    None when its weights are nowhere.
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


def _digest_of_data(index: DatasetIndex) -> str:
    """A digest of paths, sizes, boxes, classes and their names."""
    digest = hashlib.sha256()
    for text in (*index.class_names, "", *index.paths):
        digest.update(text.encode("utf-8", "surrogateescape") + b"\0")
    for array in (index.sizes, index.boxes, index.classes, index.offsets):
        digest.update(array.tobytes())
    return digest.hexdigest()


def _digest_of_file(path: Path | None) -> str:
    if path is None or not path.is_file():
        return ""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
