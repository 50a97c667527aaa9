"""Is the training result (`result.yaml`, the files it lists) one that the platform accepts?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import torch
import yaml

from tools.task_files import Finding, TaskFiles

SCORES = ("mAP", "mAR", "mIoU", "mAcc", "maskAP", "boxAP")
COUNTS = ("tp", "fp", "fn")
MOST_STAGES = 11


def check_training_result(task: TaskFiles) -> Iterator[Finding]:
    """Findings about result.yaml and everything it names; none if all is well."""
    path = task.output["training_result_file"]
    if not path.is_file():
        yield Finding("result.missing", f"{path} does not exist, so the model is lost.")
        return
    try:
        result = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        yield Finding(
            "result.unreadable",
            f"{path} cannot be read as plain YAML (a numpy or torch value in it?): {reason}",
        )
        return
    if not isinstance(result, dict):
        yield Finding("result.shape", f"{path} is no mapping.")
    elif task.legacy():
        yield from _check_legacy(result, task.output["models_dir"])
    else:
        yield from _check_stages(result, task)
        yield from _check_evaluate_config(result.get("evaluate_config", {}))
        yield from _check_attachments(result.get("attachments", {}), task.output["models_dir"])


def _check_legacy(result: Mapping[str, object], models_dir: Path) -> Iterator[Finding]:
    """The form of platforms that state no protocol or one before 1.0.0: `model` and `map`."""
    if "model_stages" in result:
        yield Finding(
            "legacy.stages",
            "The task states no protocol version from 1.0.0 on, so result.yaml must hold model and "
            "map only, but it has model_stages.",
        )
    files = result.get("model")
    if not isinstance(files, list) or not files or not all(isinstance(f, str) for f in files):
        yield Finding("legacy.model", f"model must be a list of file names, but is {files!r}.")
    else:
        for name in files:
            yield from _check_file("model", name, [models_dir])
    yield from _check_score("map", result.get("map"), "result.yaml")


def _check_stages(result: Mapping[str, object], task: TaskFiles) -> Iterator[Finding]:
    if "model" in result:
        yield Finding(
            "result.model_hides_stages",
            "result.yaml has a top-level key model: the platform then ignores all stages.",
        )
    stages = result.get("model_stages")
    if not isinstance(stages, dict) or not stages:
        yield Finding("stages.missing", "result.yaml has no model_stages, or it is empty.")
        return
    best = result.get("best_stage_name")
    if not isinstance(best, str) or best not in stages:
        yield Finding(
            "best_stage_name", f"best_stage_name is {best!r}, which is none of {list(stages)}."
        )
    if len(stages) > MOST_STAGES:
        yield Finding(
            "stages.many",
            f"There are {len(stages)} stages; keep at most {MOST_STAGES}, they are all copied "
            "whenever the model is used.",
        )
    owners: dict[str, str] = {}
    for name, stage in stages.items():
        yield from _check_stage(name, stage, task)
        files = stage.get("files") if isinstance(stage, dict) else None
        for file in files if isinstance(files, list) and not task.staged() else ():
            if owners.setdefault(str(file), name) != name:
                yield Finding(
                    "stage.shared_name",
                    f"The stages {owners[str(file)]} and {name} both list {file!r}; before "
                    "protocol 1.1.0 all lie in one folder, so names must differ.",
                )


def _check_stage(name: object, stage: object, task: TaskFiles) -> Iterator[Finding]:
    if not isinstance(name, str) or not name.isidentifier():
        yield Finding(
            "stage.name",
            f"The stage name {name!r} is no plain identifier (letters, digits, underscores).",
        )
    if not isinstance(stage, dict):
        yield Finding("stage.shape", f"The stage {name} is no mapping.")
        return
    if stage.get("stage_name") != name:
        yield Finding(
            "stage.stage_name",
            f"The stage {name} says stage_name {stage.get('stage_name')!r}; both must be equal.",
        )
    yield from _check_stage_files(str(name), stage.get("files"), task)
    stamp = stage.get("timestamp")
    if not isinstance(stamp, int) or isinstance(stamp, bool):
        yield Finding(
            "stage.timestamp",
            f"The timestamp of the stage {name} must be a whole number of seconds, not {stamp!r}.",
        )
    for key in SCORES:
        if key in stage or key == "mAP":
            yield from _check_score(key, stage.get(key), f"the stage {name}")
    for key in COUNTS:
        value = stage.get(key, 0)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            yield Finding(
                "stage.count",
                f"{key} of the stage {name} must be a whole number from 0 on, not {value!r}.",
            )
        if key.upper() in stage:
            yield Finding(
                "stage.upper_case",
                f"The stage {name} has {key.upper()}, which the platform ignores; write {key}.",
            )


def _check_stage_files(name: str, files: object, task: TaskFiles) -> Iterator[Finding]:
    if not isinstance(files, list) or not files or not all(isinstance(f, str) for f in files):
        yield Finding(
            "stage.files", f"files of the stage {name} must be a list of names, not {files!r}."
        )
        return
    models_dir = task.output["models_dir"]
    places = [models_dir / name, models_dir] if task.staged() else [models_dir]
    for file in files:
        yield from _check_file(f"the stage {name}", file, places)
    if not any(file.endswith((".pt", ".pth")) for file in files):
        yield Finding(
            "stage.no_weights",
            f"The stage {name} lists no .pt file; a later task gets only the files of one stage.",
        )


def _check_file(owner: str, name: str, places: list[Path]) -> Iterator[Finding]:
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        yield Finding("file.path", f"{owner} lists {name!r}, which leaves its folder.")
        return
    found = [place / name for place in places if (place / name).exists()]
    if not found:
        yield Finding("file.missing", f"{owner} lists {name!r}, but {places[0] / name} is missing.")
    elif found[0].is_symlink() or not found[0].is_file():
        yield Finding("file.kind", f"{found[0]} is listed, but is no regular file.")
    elif found[0].stat().st_size == 0:
        yield Finding("file.empty", f"{found[0]} is listed, but is empty.")
    elif found[0].suffix in (".pt", ".pth"):
        yield from _check_weights(found[0])


def _check_weights(path: Path) -> Iterator[Finding]:
    """Weights must be data that loads without running code, with the class names inside."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes torch raise is the finding
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        yield Finding("weights.load", f"{path} does not load as plain data: {reason}")
        return
    if not isinstance(content, dict) or not {"class_names", "names"} & content.keys():
        yield Finding("weights.names", f"{path} holds no class names; a later task needs them.")


def _check_score(key: str, value: object, where: str) -> Iterator[Finding]:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(float(str(value))) or not 0 <= float(str(value)) <= 1:
        yield Finding("score", f"{key} of {where} must be a number from 0 to 1, not {value!r}.")


def _check_evaluate_config(content: object) -> Iterator[Finding]:
    if not isinstance(content, dict):
        yield Finding("evaluate_config", f"evaluate_config must be a mapping, not {content!r}.")
        return
    for key, value in content.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not isinstance(key, str) or not number or not math.isfinite(value):
            yield Finding(
                "evaluate_config",
                f"evaluate_config.{key} must be a number, not {value!r}; anything else makes the "
                "whole model invalid.",
            )


def _check_attachments(content: object, models_dir: Path) -> Iterator[Finding]:
    if not isinstance(content, dict):
        yield Finding("attachments", f"attachments must be a mapping, not {content!r}.")
        return
    for section, names in content.items():
        listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if not isinstance(section, str) or not listed:
            yield Finding(
                "attachments", f"attachments.{section} must be a list of names, not {names!r}."
            )
            continue
        for name in names:
            folder = models_dir / "attachments" / section
            yield from _check_file(f"attachments.{section}", name, [folder])
