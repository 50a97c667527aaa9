"""Are the mining and inference results ones that the platform reads as they were meant?"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path, PurePosixPath

from tools.task_files import Finding, TaskFiles, image_size


def check_mining_result(task: TaskFiles) -> Iterator[Finding]:
    """Findings about result.tsv: one line per candidate, scores finite and falling."""
    path = task.output["mining_result_file"]
    text = _text(path)
    if isinstance(text, Finding):
        yield text
        return
    rows: list[tuple[str, float]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        image, tab, score = line.rstrip("\r").rpartition("\t")
        try:
            rows.append((image, float(score)))
        except ValueError:
            tab = ""
        if not tab or "\t" in image:
            yield Finding(
                "tsv.line", f"{path}:{number}: {line!r} is not an image path, one tab and a score."
            )
            return
    yield from _check_scores(path, [score for _, score in rows])
    yield from _check_members(path, task, [image for image, _ in rows])
    places = [(image, task.image(image)) for image, _ in rows]
    here = [(image, path) for image, path in places if path is not None]
    unreadable = [image_size(path) is None for _, path in here]
    if unreadable != sorted(unreadable):
        late = here[unreadable.index(True)][0]
        yield Finding(
            "tsv.unreadable_first",
            f"{path}: {late} cannot be read, yet it stands before images that can; it belongs at "
            "the end.",
        )


def _check_scores(path: Path, scores: list[float]) -> Iterator[Finding]:
    odd = [score for score in scores if not math.isfinite(score)]
    if odd:
        yield Finding("tsv.finite", f"{path} holds {len(odd)} scores that are not finite.")
        return
    for number, (before, after) in enumerate(pairwise(scores), start=2):
        if after > before:
            yield Finding(
                "tsv.order",
                f"{path}: row {number} has the score {after} after {before}; scores must fall, "
                "the platform takes the first rows.",
            )
            return


def _check_members(path: Path, task: TaskFiles, images: list[str]) -> Iterator[Finding]:
    stems = Counter(PurePosixPath(image).stem for image in images)
    twice = [stem for stem, count in stems.items() if count > 1]
    if twice:
        yield Finding("tsv.duplicate", f"{path} lists {twice[0]} more than once.")
    foreign = sorted(set(images) - set(task.candidates))
    if foreign:
        yield Finding(
            "tsv.unknown",
            f"{path} lists {len(foreign)} paths that the candidate index does not have in these "
            f"words, first {foreign[0]}.",
        )
    missing = [c for c in task.candidates if PurePosixPath(c).stem not in stems]
    if missing:
        yield Finding(
            "tsv.missing",
            f"{path} lacks {len(missing)} of {len(task.candidates)} candidates, first "
            f"{missing[0]}.",
        )


def check_infer_result(task: TaskFiles) -> Iterator[Finding]:
    """Findings about infer-result.json: every candidate, whole pixels inside the image, scores."""
    path = task.output["infer_result_file"]
    text = _text(path)
    if isinstance(text, Finding):
        yield text
        return
    try:
        content = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except ValueError as error:
        yield Finding("json.unreadable", f"{path} is no plain JSON: {error}.")
        return
    images = content.get("detection") if isinstance(content, dict) else None
    if not isinstance(images, dict):
        yield Finding("json.detection", f"{path} has no mapping under the key detection.")
        return
    files = {PurePosixPath(c).name: task.image(c) for c in task.candidates}
    missing, foreign = sorted(files.keys() - images.keys()), sorted(images.keys() - files.keys())
    if missing:
        yield Finding(
            "json.missing",
            f"{path} lacks {len(missing)} of {len(files)} candidates, first {missing[0]}; an image "
            "without boxes is listed too.",
        )
    if foreign:
        yield Finding(
            "json.unknown",
            f"{path} has {len(foreign)} keys that are no base name of a candidate, first "
            f"{foreign[0]!r}.",
        )
    for name, record in images.items():
        yield from _check_record(name, record, files.get(name), task)


def _check_record(
    name: str, record: object, file: Path | None, task: TaskFiles
) -> Iterator[Finding]:
    """One image: the lists that this platform reads, and every box in them."""
    if not isinstance(record, dict):
        yield Finding("json.record", f"{name}: the entry is no mapping.")
        return
    keys = ("boxes",) if task.staged() else ("annotations",)
    absent = [key for key in keys if not isinstance(record.get(key), list)]
    if absent:
        yield Finding("json.list", f"{name}: there is no list {absent[0]}, which is read here.")
        return
    if {"boxes", "annotations"} <= record.keys() and record["boxes"] != record["annotations"]:
        yield Finding("json.twins", f"{name}: boxes and annotations differ; both must be the same.")
    size = None if file is None else image_size(file)
    for number, item in enumerate(record[keys[0]], start=1):
        where = f"{name}, box {number}"
        if not isinstance(item, dict):
            yield Finding("json.record", f"{where}: the entry is no mapping.")
            continue
        yield from _check_box(where, item.get("box"), size)
        yield from _check_labels(where, item, task.class_names)


def _check_box(where: str, box: object, size: tuple[int, int] | None) -> Iterator[Finding]:
    if not isinstance(box, dict) or not {"x", "y", "w", "h"} <= box.keys():
        yield Finding("box.keys", f"{where}: box must have x, y, w and h, but is {box!r}.")
        return
    extra = sorted(box.keys() - {"x", "y", "w", "h", "rotate_angle"})
    if extra:
        yield Finding("box.keys", f"{where}: the key {extra[0]!r} in box fails the whole task.")
    angle = box.get("rotate_angle", 0.0)
    if not isinstance(angle, int | float) or isinstance(angle, bool):
        yield Finding("box.angle", f"{where}: rotate_angle must be a number, not {angle!r}.")
    values = [box[key] for key in ("x", "y", "w", "h")]
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        yield Finding(
            "box.integer",
            f"{where}: x, y, w, h must be whole numbers, not {values}; this fails the whole task.",
        )
        return
    x, y, width, height = values
    if width < 1 or height < 1:
        yield Finding("box.size", f"{where}: w and h must be at least 1, not {width} and {height}.")
    if x < 0 or y < 0 or (size and (x + width > size[0] or y + height > size[1])):
        extent = f"{size[0]} x {size[1]}" if size else "unreadable"
        yield Finding(
            "box.outside", f"{where}: x, y, w, h = {values} leaves the image, which is {extent}."
        )


def _check_labels(where: str, item: dict, class_names: tuple[str, ...]) -> Iterator[Finding]:
    score = item.get("score")
    number = isinstance(score, int | float) and not isinstance(score, bool)
    if not number or not 0 <= float(str(score)) <= 1:
        yield Finding("box.score", f"{where}: score must be a number from 0 to 1, not {score!r}.")
    name = item.get("class_name")
    if not isinstance(name, str) or (class_names and name not in class_names):
        yield Finding(
            "box.class_name", f"{where}: class_name {name!r} is none of {list(class_names)}."
        )


def _text(path: Path) -> str | Finding:
    """The content of a result file, or what is wrong with it."""
    if not path.is_file():
        return Finding("result.missing", f"{path} does not exist; the platform fails the task.")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return Finding("result.encoding", f"{path} is not UTF-8.")


def _refuse_constant(word: str) -> float:
    raise ValueError(f"it holds {word}, which JSON does not know")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r} stands in it twice")
    return content
