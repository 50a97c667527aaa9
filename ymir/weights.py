"""The weight files that a task may use: named, handed in by the platform, or lying ready."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from settings.convert import absent, to_list
from settings.detect import DetectionSettings
from settings.train import TrainSettings
from utils.errors import Code, TaskError
from ymir.weight_files import (
    SCRATCH,
    SUFFIXES,
    check_download,
    file_of_model,
    find_weights,
    weight_folders,
)


def weights_of_task(
    config: Mapping[str, object],
    settings: TrainSettings | DetectionSettings,
    models_in: Path,
    warnings: list[str],
) -> tuple[Path, ...]:
    """The usable files, the preferred one first: named by the task, handed in by the platform, or
    for a training lying in weights_dir or the image under the model's name.

    `config` holds the task's own keys; relative names are looked for in `models_in` too. What a
    person should know is added to `warnings`. Raises TaskError: MODEL where files are listed and
    none can be used, CONFIG for a folder or a download that cannot be.
    """
    training = settings if isinstance(settings, TrainSettings) else None
    fetch = training is not None and training.download_weights
    if training and fetch:
        check_download(training.model, training.weights_sha256)
    folders = weight_folders(settings.weights_dir, may_be_made=fetch)
    key = "pretrained_model_params" if training else "model_params_path"
    if training and training.weights.lower() == SCRATCH:
        return ()
    if settings.weights:
        key, offered = "weights", [settings.weights]
    else:
        value = config.get(key)
        offered = [] if absent(value) else [str(item) for item in to_list(key, value)]
    if not offered and training:
        name = file_of_model(training.model)
        found = find_weights(name, folders)
        if found:
            warnings.append(f"nothing was handed in: {found} is used ('weights: scratch' for none)")
        elif training.weights_dir and not fetch:
            warnings.append(f"weights_dir {training.weights_dir} has no {name}")
        return (found,) if found else ()
    usable = [
        found
        for text in offered
        if text.lower().endswith(SUFFIXES)
        and (found := _find_file(text, models_in) or find_weights(text, folders))
    ]
    if not usable:
        listed = ", ".join(offered) or "nothing"
        places = ", ".join(map(str, (models_in, *folders)))
        raise TaskError(
            Code.MODEL,
            f"{key} offers no usable weights: it lists {listed}; a file that exists, as given or "
            f"under {places}, with the ending {', '.join(SUFFIXES)} is needed.",
        )
    return tuple(sorted(dict.fromkeys(usable), key=_preference))


def _find_file(text: str, models_in: Path) -> Path | None:
    # The base name last: a model packed by protocol 1.1.0 is listed in a stage folder that the
    # platform does not always recreate.
    candidates = (Path(text), models_in / text, models_in / Path(text).name)
    return next((path for path in candidates if os.path.isfile(path)), None)


def _preference(path: Path) -> int:
    ranks: Sequence[bool] = (
        path.name == "best.pt",
        "best" in path.name and path.suffix == ".pt",
        path.name == "last.pt",
        path.suffix == ".pt",
    )
    return ranks.index(True) if True in ranks else len(ranks)
