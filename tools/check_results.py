"""Check result.yaml, result.tsv and infer-result.json: does the platform read what was meant?

Each check yields what breaks the protocol as pairs of a short rule name and a plain sentence.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import TypeGuard

import torch
import yaml
from PIL import Image, UnidentifiedImageError

SCORES = ("mAP", "mAR", "mIoU", "mAcc", "maskAP", "boxAP")
COUNTS = ("tp", "fp", "fn")
MAX_STAGES = 11
STAGES, STAGE_FOLDERS = (1,), (1, 1)  # protocols with model stages, and with a folder for each

Findings = Iterator[tuple[str, str]]
Candidates = Mapping[str, Path | None]  # lines of the index, with their files where below in/


def check_training(path: Path, models_dir: Path, protocol: tuple[int, ...]) -> Findings:
    """Check result.yaml and everything it lists."""
    text = _read_text(path)
    if text is None:
        yield "result.missing", f"{path} does not exist or is not UTF-8, so the model is lost."
        return
    try:
        result = yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        yield "result.unreadable", f"{path}: a numpy or torch value, or no plain YAML: {reason}"
        return
    if not isinstance(result, dict):
        yield "result.shape", f"{path} is no mapping."
    elif protocol < STAGES or ("model" in result and "model_stages" not in result):
        yield from _check_legacy(result, models_dir)
    else:
        yield from _check_stages(result, models_dir, protocol)
        checks = {"evaluate_config": _check_evaluate_config, "attachments": _check_attachments}
        for key, check in checks.items():
            content = result.get(key, {})
            if isinstance(content, dict):
                yield from check(content, models_dir / "attachments")
            else:
                yield key, f"{key} must be a mapping, not {content!r}."


def _check_legacy(result: Mapping[str, object], models_dir: Path) -> Findings:
    """Check `model` and `map`, which all platforms read, and those before 1.0.0 alone."""
    if "model_stages" in result:
        yield "legacy.stages", "Before protocol 1.0.0 there are no model_stages: write model, map."
    files = result.get("model")
    if not _is_names(files) or not files:
        yield "legacy.model", f"model must be a list of file names, but is {files!r}."
    else:
        for name in files:
            yield from _check_file("model", name, [models_dir])
    if not _is_share(result.get("map")):
        yield "score", f"map must be a number from 0 to 1, not {result.get('map')!r}."


def _check_stages(
    result: Mapping[str, object], models_dir: Path, protocol: tuple[int, ...]
) -> Findings:
    if "model" in result:
        yield "result.model_hides_stages", "The key model makes the platform ignore all stages."
    stages, best = result.get("model_stages"), result.get("best_stage_name")
    if not isinstance(stages, dict) or not stages:
        yield "stages.missing", "result.yaml has no model_stages, or it is empty."
        return
    if not isinstance(best, str) or best not in stages:
        yield "best_stage_name", f"best_stage_name is {best!r}, which is none of {list(stages)}."
    if len(stages) > MAX_STAGES:
        yield "stages.many", f"{len(stages)} stages: keep {MAX_STAGES}, all are copied at each use."
    owners: dict[str, str] = {}
    for name, stage in stages.items():
        if not isinstance(name, str) or not name.isidentifier():
            yield "stage.name", f"{name!r} is no plain identifier (letters, digits, underscores)."
        if not isinstance(stage, dict):
            yield "stage.shape", f"The stage {name} is no mapping."
            continue
        flat = protocol < STAGE_FOLDERS
        folders = [models_dir] if flat else [models_dir / str(name), models_dir]
        yield from _check_stage(str(name), stage, folders)
        for file in stage["files"] if flat and _is_names(stage.get("files")) else ():
            if owners.setdefault(file, name) != name:
                both = f"{owners[file]} and {name} both list {file!r}"
                yield "stage.shared_name", f"{both}; before protocol 1.1.0 they share a folder."


def _check_stage(name: str, stage: Mapping[str, object], folders: Sequence[Path]) -> Findings:
    where, files, time = f"the stage {name}", stage.get("files"), stage.get("timestamp")
    if stage.get("stage_name") != name:
        yield "stage.stage_name", f"{where} calls itself {stage.get('stage_name')!r}."
    if not _is_names(files) or not files:
        yield "stage.files", f"files of {where} must be a list of names, not {files!r}."
    else:
        for file in files:
            yield from _check_file(where, file, folders)
        if not any(file.endswith((".pt", ".pth")) for file in files):
            yield "stage.no_weights", f"{where} lists no .pt file; a task gets one stage's files."
    if type(time) is not int:
        yield "stage.timestamp", f"timestamp of {where} must be whole seconds, not {time!r}."
    for key in SCORES:
        if (key in stage or key == "mAP") and not _is_share(stage.get(key)):
            yield "score", f"{key} of {where} must be a number from 0 to 1, not {stage.get(key)!r}."
    for key in COUNTS:
        if type(count := stage.get(key, 0)) is not int or count < 0:
            yield "stage.count", f"{key} of {where} must be a whole number from 0, not {count!r}."
        if key.upper() in stage:
            yield "stage.upper_case", f"The platform ignores {key.upper()} of {where}; write {key}."


def _check_file(owner: str, name: str, folders: Sequence[Path]) -> Findings:
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        yield "file.path", f"{owner} lists {name!r}, which leaves its folder."
        return
    path = next((folder / name for folder in folders if (folder / name).exists()), None)
    if path is None:
        yield "file.missing", f"{owner} lists {name!r}, but {folders[0] / name} is missing."
    elif path.is_symlink() or not path.is_file():
        yield "file.kind", f"{path} is listed, but is no regular file."
    elif path.stat().st_size == 0:
        yield "file.empty", f"{path} is listed, but is empty."
    elif path.suffix in (".pt", ".pth"):
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever a damaged file makes torch raise is the finding
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            yield "weights.load", f"{path} does not load as plain data: {reason}"
            return
        if not isinstance(content, dict) or not {"class_names", "names"} & content.keys():
            yield "weights.names", f"{path} holds no class names; a later task needs them."


def _check_evaluate_config(content: Mapping[str, object], _folder: Path) -> Findings:
    for key, value in content.items():
        if not isinstance(key, str) or not _is_number(value):
            found = f"evaluate_config.{key} must be a number, not {value!r}"
            yield "evaluate_config", f"{found}; anything else makes the whole model invalid."


def _check_attachments(content: Mapping[str, object], folder: Path) -> Findings:
    for section, names in content.items():
        if not isinstance(section, str) or not _is_names(names):
            yield "attachments", f"attachments.{section} must be a list of names, not {names!r}."
            continue
        for name in names:
            yield from _check_file(f"attachments.{section}", name, [folder / section])


def _is_names(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_number(value: object) -> TypeGuard[float]:
    return type(value) in (int, float) and math.isfinite(float(str(value)))


def _is_share(value: object) -> bool:
    return _is_number(value) and 0 <= value <= 1


def check_mining(path: Path, candidates: Candidates) -> Findings:
    """Check result.tsv: one line per candidate, scores finite and falling.

    Only names of candidates may be in another encoding than UTF-8.
    """
    if (text := _read_text(path, "surrogateescape")) is None:
        yield _no_text(path)
        return
    if _is_escaped(text) and not any(map(_is_escaped, candidates)):
        yield _no_text(path)
        return
    rows: list[tuple[str, float]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        image, tab, score = line.rstrip("\r").rpartition("\t")
        try:
            rows += [(image, float(score))] if line.strip() else []
        except ValueError:
            tab = ""
        if line.strip() and (not tab or "\t" in image):
            yield "tsv.line", f"{path}:{number}: {line!r} is not a path, one tab and a score."
            return
    scores = [score for _, score in rows]
    if odd := sum(not math.isfinite(score) for score in scores):
        yield "tsv.finite", f"{path} holds {odd} scores that are not finite."
    elif rises := [n for n, (one, two) in enumerate(pairwise(scores), start=2) if two > one]:
        rule = "scores must fall, the platform takes the first rows"
        yield "tsv.order", f"{path}: row {rises[0]} has a higher score than the one above; {rule}."
    stems = Counter(PurePosixPath(image).stem for image, _ in rows)
    if twice := [stem for stem, count in stems.items() if count > 1]:
        yield "tsv.duplicate", f"{path} lists {twice[0]} more than once."
    if foreign := sorted({image for image, _ in rows} - set(candidates)):
        found = f"{path} lists {len(foreign)} paths, first {foreign[0]}"
        yield "tsv.unknown", f"{found}, that the candidate index does not have in these words."
    if missing := [c for c in candidates if PurePosixPath(c).stem not in stems]:
        count = f"{len(missing)} of {len(candidates)}"
        yield "tsv.missing", f"{path} lacks {count} candidates, first {missing[0]}."
    known = [(image, file) for image, _ in rows if (file := candidates.get(image)) is not None]
    unreadable = [image_size(file) is None for _, file in known]
    if unreadable != sorted(unreadable):
        first = known[unreadable.index(True)][0]
        yield "tsv.unreadable_first", f"{path}: {first} cannot be read and belongs at the end."


def check_infer(
    path: Path, candidates: Candidates, class_names: Sequence[str], protocol: tuple[int, ...]
) -> Findings:
    """Check infer-result.json: every candidate, boxes of whole pixels inside the image, scores."""
    if (text := _read_text(path)) is None:
        yield _no_text(path)
        return
    try:
        content = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except ValueError as error:
        yield "json.unreadable", f"{path} is no plain JSON: {error}."
        return
    images = content.get("detection") if isinstance(content, dict) else None
    if not isinstance(images, dict):
        yield "json.detection", f"{path} has no mapping under the key detection."
        return
    files = {PurePosixPath(line).name: file for line, file in candidates.items()}
    if missing := sorted(files.keys() - images.keys()):
        count = f"{len(missing)} of {len(files)} candidates, first {missing[0]}"
        yield "json.missing", f"{path} lacks {count}; an image without boxes is listed too."
    if foreign := sorted(images.keys() - files.keys()):
        count = f"{len(foreign)} keys, first {foreign[0]!r}"
        yield "json.unknown", f"{path} has {count}, that are no base name of a candidate."
    for name, record in images.items():
        if not isinstance(record, dict):
            yield "json.record", f"{name}: the entry is no mapping."
            continue
        # From 1.1.0 on the platform reads boxes, and annotations where there are no boxes.
        key = "boxes" if protocol >= STAGE_FOLDERS and "boxes" in record else "annotations"
        if not isinstance(record.get(key), list):
            yield "json.list", f"{name}: there is no list {key}, which is read here."
            continue
        if record.get("boxes", record[key]) != record.get("annotations", record[key]):
            yield "json.twins", f"{name}: boxes and annotations differ; both must be the same."
        file = files.get(name)
        size = None if file is None else image_size(file)
        for number, item in enumerate(record[key], start=1):
            yield from _check_detection(f"{name}, box {number}", item, size, class_names)


def _check_detection(
    where: str, item: object, size: tuple[int, int] | None, class_names: Sequence[str]
) -> Findings:
    if not isinstance(item, dict):
        yield "json.record", f"{where}: the entry is no mapping."
        return
    yield from _check_box(where, item.get("box"), size)
    score, label = item.get("score"), item.get("class_name")
    if not _is_share(score):
        yield "box.score", f"{where}: score must be a number from 0 to 1, not {score!r}."
    if not isinstance(label, str) or (class_names and label not in class_names):
        yield "box.class_name", f"{where}: class_name {label!r} is none of {list(class_names)}."


def _check_box(where: str, box: object, size: tuple[int, int] | None) -> Findings:
    if not isinstance(box, dict) or not {"x", "y", "w", "h"} <= box.keys():
        yield "box.keys", f"{where}: box must have x, y, w and h, but is {box!r}."
        return
    if extra := sorted(box.keys() - {"x", "y", "w", "h", "rotate_angle"}):
        yield "box.keys", f"{where}: the key {extra[0]!r} in box fails the whole task."
    if not _is_number(box.get("rotate_angle", 0.0)):
        yield "box.angle", f"{where}: rotate_angle must be a number, not {box['rotate_angle']!r}."
    values = [box[key] for key in ("x", "y", "w", "h")]
    if not all(type(value) is int for value in values):
        yield "box.integer", f"{where}: {values} are not whole numbers; this fails the whole task."
        return
    x, y, width, height = values
    if min(width, height) < 1:
        yield "box.size", f"{where}: w and h must be at least 1, not {width} and {height}."
    if x < 0 or y < 0 or (size and (x + width > size[0] or y + height > size[1])):
        extent = f"{size[0]} x {size[1]}" if size else "unreadable"
        yield "box.outside", f"{where}: x, y, w, h = {values} leaves the image, which is {extent}."


def image_size(path: Path) -> tuple[int, int] | None:
    """Return (width, height) of the stored pixel grid, None for a file that is no image."""
    try:
        with Image.open(path) as picture:
            return picture.size
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return None


def _is_escaped(text: str) -> bool:
    """Whether text holds bytes that are not UTF-8."""
    return any("\udc80" <= letter <= "\udcff" for letter in text)


def _read_text(path: Path, errors: str = "strict") -> str | None:
    """Return the content of a result file, None when it is absent or not UTF-8."""
    try:
        return path.read_text(encoding="utf-8", errors=errors) if path.is_file() else None
    except UnicodeDecodeError:
        return None


def _no_text(path: Path) -> tuple[str, str]:
    if path.is_file():
        return "result.encoding", f"{path} is not UTF-8."
    return "result.missing", f"{path} does not exist; the platform fails the task."


def _refuse_constant(word: str) -> float:
    raise ValueError(f"it holds {word}, which JSON does not know")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r} stands in it twice")
    return content
