"""Hyper-parameter sets: the stock ones by name, people's own YAML files of v7.0 by path."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import yaml

from settings.options import to_float
from utils.errors import Code, TaskError
from utils.safe_yaml import load_yaml

STOCK = Path(__file__).resolve().parent.parent / "configs" / "hyps"


def stock_sets() -> tuple[str, ...]:
    """Names of the sets that come with the program."""
    return tuple(sorted(path.stem for path in STOCK.glob("*.yaml")))


def read_hyp(name: str) -> dict[str, object]:
    """The settings that a hyper-parameter set gives.

    `name` is a file, or a stock set as it is called here or in v7.0 ('scratch-med',
    'hyp.scratch-med.yaml', 'data/hyps/hyp.VOC.yaml'). A file's `anchors` is rounded to a whole
    number, as v7.0 does. Raises TaskError(CONFIG) when there is no such set or it is no mapping.
    """
    path = _find(name)
    try:
        content = load_yaml(path.read_text(encoding="utf-8", errors="ignore"))
    except (OSError, yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TaskError(
            Code.CONFIG, f"the hyper-parameter file {path} cannot be read as YAML ({reason})."
        ) from None
    if not isinstance(content, Mapping):
        raise TaskError(
            Code.CONFIG,
            f"the hyper-parameter file {path} must hold keys with values, such as lr0: 0.01.",
        )
    values = {str(key): value for key, value in content.items()}
    if values.get("anchors") is not None:
        values["anchors"] = round(to_float("anchors", values["anchors"]))
    return values


def _find(name: str) -> Path:
    given = Path(name)
    if os.path.isfile(given):
        return given
    stem = given.name.lower().removesuffix(".yaml").removeprefix("hyp.")
    in_a_usual_place = given.parent.as_posix() in {".", "data/hyps", "configs/hyps"}
    if in_a_usual_place and stem in stock_sets():
        return STOCK / f"{stem}.yaml"
    raise TaskError(
        Code.CONFIG,
        f"there is no hyper-parameter file {name}, nor a set of that name; name a YAML file or "
        f"one of {', '.join(stock_sets())}.",
    )
