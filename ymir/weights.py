"""Weight files of a task: named in its settings, handed in by the platform, or in the image."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from settings.convert import absent, to_list
from settings.detect import DetectionSettings
from settings.train import DEFAULT_MODEL, TrainSettings
from utils.errors import Code, TaskError
from utils.official_weights import KNOWN_SHA256, OFFICIAL, SCRATCH


def weights_of_task(
    config: Mapping[str, object],
    settings: TrainSettings | DetectionSettings,
    models_in: Path,
    warnings: list[str],
) -> tuple[Path, ...]:
    """Return the usable weight files, the preferred one first.

    They are named by the task, handed in by the platform, or, for a training, found in weights_dir
    or the image under the model's name. `config` holds the task's own keys; relative names are
    searched in `models_in` too. Notes for the log are added to `warnings`. Raise TaskError: MODEL
    where files are listed and none is usable, CONFIG for an impossible folder or download.
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
    is_pt = path.suffix == ".pt"
    ranks = (path.name == "best.pt", "best" in path.name and is_pt, path.name == "last.pt", is_pt)
    return (*ranks, True).index(True)


IMAGE_FOLDER = Path("/weights")
"""Pretrained weights of a container image."""
SUFFIXES = (".pt", ".pth", ".safetensors")


def weight_folders(weights_dir: str, *, may_be_made: bool = False) -> tuple[Path, ...]:
    """Return the folders to search, in this order.

    A folder that the user names must exist, else TaskError(CONFIG), unless a download may make it.
    """
    if not weights_dir:
        return (IMAGE_FOLDER,)
    folder = Path(weights_dir)
    if not os.path.isdir(folder) and not (may_be_made and not os.path.exists(folder)):
        raise TaskError(
            Code.CONFIG,
            f"the setting weights_dir is {weights_dir!r}; it must be a folder that exists.",
        )
    return (folder, IMAGE_FOLDER)


def find_weights(name: str, folders: Sequence[Path]) -> Path | None:
    """Return the first file of that name, or None; a name never leads out of a folder."""
    if Path(name).name != name or not name.lower().endswith(SUFFIXES):
        return None
    return next((folder / name for folder in folders if os.path.isfile(folder / name)), None)


def file_of_model(model: str) -> str:
    """Return the weight file's name of a model: 's', 'yolov5s' and 'models/yolov5s.yaml' all give
    'yolov5s.pt' (as ''), a model file of one's own gives its own name.
    """
    stem = Path(model or DEFAULT_MODEL).name.removesuffix(".yaml").removesuffix(".yml")
    full = f"yolov5{stem}.pt"
    return full if full in OFFICIAL else f"{stem}.pt"


def check_download(model: str, sha256: str) -> tuple[str, str]:
    """Return name and SHA-256 of the file to download.

    The sum is the user's where one is given, else that of `KNOWN_SHA256`. Raise TaskError(CONFIG)
    without a whole SHA-256, and for a model that the release does not have.
    """
    name = file_of_model(model)
    if name not in OFFICIAL:
        raise TaskError(
            Code.CONFIG,
            f"download_weights has no file for the model {model!r}; it must be one of "
            f"{', '.join(sorted(name.removesuffix('.pt') for name in OFFICIAL))}.",
        )
    digest = sha256.strip().lower() or KNOWN_SHA256.get(name, "")
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise TaskError(
            Code.CONFIG,
            f"download_weights needs weights_sha256, the 64 hexadecimal digits of the SHA-256 of "
            f"{name}, but it is {sha256[:80]!r}: take it from a copy you trust (sha256sum FILE); "
            f"known here is that of {', '.join(KNOWN_SHA256)}.",
        )
    return name, digest
