"""Result files of a YMIR task: model stages, mining scores and detections, written atomically."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt
import yaml

from settings.convert import config_error
from utils.atomic import replace_text, write_text
from utils.errors import Code, TaskError
from ymir.task_types import STAGES, STAGES_IN_FOLDERS, Task

LOG = logging.getLogger(__name__)

BOX_KEYS = ("boxes", "annotations")
"""The same list under both: protocol 1.1.0 prefers the first, older platforms read the second."""
STAGES_KEPT = 11
"""The best stage and the ten latest others, as many as the platform's own packages keep."""


@dataclass(frozen=True)
class ModelStage:
    """A model stage: weight files with their metrics on the validation set.

    name: an identifier. files: names relative to the stage's folder. timestamp: UNIX seconds.
    mean_ap: the reported mAP, and mean_ar: the recall, in [0, 1]. tp, fp, fn: counts.
    """

    name: str
    files: tuple[str, ...]
    timestamp: int
    mean_ap: float
    mean_ar: float = 0.0
    tp: int = 0
    fp: int = 0
    fn: int = 0


def write_training_result(
    task: Task,
    stages: Sequence[ModelStage],
    best: str,
    attachments: Mapping[str, Sequence[str]] | None = None,
    evaluate_config: Mapping[str, float] | None = None,
) -> None:
    """Replace `result.yaml`: call it after every improvement, when the files are on disk.

    Only files that exist now are listed (regular ones, not empty), only stages that have some, and
    of more than eleven the best and the latest ten. Figures are clamped to what the platform
    accepts; one that is not finite becomes 0. `attachments` maps a section to file names under
    `models/attachments/<section>/`. A platform that states no protocol version gets the best stage
    in the old form (`model`, `map`).
    """
    for stage in stages:
        assert stage.name.isidentifier(), f"stage name {stage.name!r} is no identifier"
    listed = {stage.name: _existing_files(task, stage) for stage in stages}
    kept = _stages_to_keep([stage for stage in stages if listed[stage.name]], best)
    chosen = next((stage for stage in kept if stage.name == best), None)
    if chosen is None:
        raise ValueError(f"the best stage {best!r} has no file in {task.out.models}")
    result: dict[str, object]
    if task.protocol < STAGES:
        result = {"model": listed[best], "map": _share(chosen.mean_ap)}
    else:
        result = {
            "best_stage_name": best,
            "mAP": _share(chosen.mean_ap),
            "model_stages": {stage.name: _stage_record(stage, listed) for stage in kept},
        }
        if evaluate_config:
            result["evaluate_config"] = {key: float(v) for key, v in evaluate_config.items()}
        if existing := _existing_attachments(task, attachments or {}):
            result["attachments"] = existing
    text = yaml.safe_dump(result, sort_keys=False, allow_unicode=True)
    write_text(task.out.training_result, text)


def _stage_record(stage: ModelStage, listed: Mapping[str, list[str]]) -> dict[str, object]:
    return {
        "stage_name": stage.name,
        "files": listed[stage.name],
        "timestamp": int(stage.timestamp),
        "mAP": _share(stage.mean_ap),
        "mAR": _share(stage.mean_ar),
        "tp": max(0, int(stage.tp)),
        "fp": max(0, int(stage.fp)),
        "fn": max(0, int(stage.fn)),
    }


def _stages_to_keep(stages: Sequence[ModelStage], best: str) -> list[ModelStage]:
    by_rank = sorted(stages, key=lambda stage: (stage.name == best, stage.timestamp))
    kept = {stage.name for stage in by_rank[-STAGES_KEPT:]}
    return [stage for stage in stages if stage.name in kept]


def _existing_files(task: Task, stage: ModelStage) -> list[str]:
    # The platform looks in the stage's own folder first, then in the common one.
    folders = [task.out.models]
    if task.protocol >= STAGES_IN_FOLDERS:
        folders.insert(0, task.out.models / stage.name)
    return [name for name in stage.files if any(_is_whole(folder / name) for folder in folders)]


def _is_whole(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size > 0


def _existing_attachments(
    task: Task, attachments: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    folder = task.out.models / "attachments"
    existing = {
        section: [name for name in names if _is_whole(folder / section / name)]
        for section, names in attachments.items()
    }
    return {section: names for section, names in existing.items() if names}


def _share(value: float) -> float:
    number = float(value)
    return min(max(number, 0.0), 1.0) if math.isfinite(number) else 0.0


def write_mining_result(task: Task, rows: Iterable[tuple[str, float | None]]) -> int:
    """Replace `result.tsv` by `(path as in the index, score)`; return the number of lines.

    Larger scores come first, since the platform takes lines from the top. Equal scores (to the six
    digits written) keep the order of `rows`. A score of None marks an unreadable image: it comes
    last, with one less than the lowest score or than 0. A path that repeats counts once. Raise
    TaskError(NOT_A_NUMBER) for a score that is not finite.
    """
    scores: dict[str, float | None] = {}
    for path, score in rows:
        if score is not None and not math.isfinite(score):
            raise TaskError(
                Code.NOT_A_NUMBER,
                f"the mining score of {path} is {score}; the model's weights are damaged: "
                "use another model.",
            )
        # + 0.0 turns the -0.0 that rounding can leave into 0.0.
        scores.setdefault(path, None if score is None else round(float(score), 6) + 0.0)
    readable = [(path, score) for path, score in scores.items() if score is not None]
    readable.sort(key=lambda row: -row[1])
    last = min([0.0] + [score for _, score in readable]) - 1.0
    lines = readable + [(path, last) for path, score in scores.items() if score is None]
    with replace_text(task.out.mining_result, newline="\n") as file:
        file.writelines(f"{path}\t{score:.6f}\n" for path, score in lines)
    return len(lines)


class InferResultWriter:
    """Streams `infer-result.json`: memory stays the same however many images there are.

        with InferResultWriter(task) as results:
            results.add(path, detections, class_names, (height, width))

    The file appears, complete, when the block is left without an exception. Every candidate must
    be added, unreadable ones through `add_empty`.
    """

    def __init__(self, task: Task) -> None:
        self._document = _document(task.out.infer_result)
        self._names: set[str] = set()

    def __enter__(self) -> InferResultWriter:
        self._file = self._document.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._document.__exit__(*raised)

    def add(
        self,
        path: str,
        detections: npt.ArrayLike,
        class_names: Sequence[str],
        size: tuple[int, int],
    ) -> None:
        """List one image: detections [n, 6], xyxy in its own pixels, confidence, class index.

        `size` is (height, width) of the stored image. Boxes become whole numbers inside it, at
        least one pixel wide and high, the most confident first; n may be 0.
        """
        self._write(path, _boxes(detections, class_names, size))

    def add_empty(self, path: str) -> None:
        """List an image without boxes."""
        self._write(path, [])

    def _write(self, path: str, boxes: list[dict[str, object]]) -> None:
        # The platform knows an image by its base name, which is unique within a task.
        name = PurePath(path).name
        if name in self._names:
            LOG.warning("%s: another image of this name is listed already; left out", path)
            return
        text = json.dumps(boxes, allow_nan=False, separators=(",", ":"))
        record = ",".join(f'"{key}":{text}' for key in BOX_KEYS)
        comma = ",\n" if self._names else "\n"
        self._file.write(f"{comma}{json.dumps(name)}:{{{record}}}")
        self._names.add(name)


@contextmanager
def _document(path: Path) -> Iterator[TextIO]:
    with replace_text(path) as file:
        file.write('{"detection": {')
        yield file
        file.write("\n}}\n")


def _boxes(
    detections: npt.ArrayLike, class_names: Sequence[str], size: tuple[int, int]
) -> list[dict[str, object]]:
    rows = np.asarray(detections, np.float64).reshape(-1, 6)
    rows = rows[np.isfinite(rows).all(axis=1)]
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    height, width = size
    corners = np.rint(np.clip(rows[:, :4], 0, [width, height, width, height])).astype(np.int64)
    left_top = np.minimum(corners[:, :2], [width - 1, height - 1])
    extent = np.maximum(corners[:, 2:] - left_top, 1)
    scores = np.clip(rows[:, 4], 0, 1).round(6)
    places = np.hstack([left_top, extent]).tolist()
    names = [class_names[index] for index in rows[:, 5].astype(np.int64)]
    return [
        {"box": dict(zip("xywh", place, strict=True)), "class_name": name, "score": score}
        for place, name, score in zip(places, names, scores.tolist(), strict=True)
    ]


class SavedFiles:
    """The setting `ymir_saved_file_patterns`: regular expressions between commas.

    Each is matched against the beginning of a file's name. Without any, every file of a model is
    handed over; weights always are, since a later task gets nothing but the files of one stage.
    Raise TaskError(CONFIG) for an invalid expression.
    """

    def __init__(self, patterns: str) -> None:
        words = [word.strip() for word in patterns.split(",") if word.strip()]
        try:
            self._patterns = [re.compile(word) for word in words]
        except re.error as error:
            wanted = f"regular expressions between commas ({error})"
            raise config_error("ymir_saved_file_patterns", patterns, wanted) from None

    def of(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return those of the file names that are handed over, in their order."""
        return tuple(
            name
            for name in names
            if not self._patterns
            or name.endswith((".pt", ".pth"))
            or any(pattern.match(name) for pattern in self._patterns)
        )
