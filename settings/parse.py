"""Parsing of settings: layers of plain mappings to the frozen settings of one kind of task."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TypeVar, get_type_hints

import yaml

from settings.convert import FALSE_WORDS, absent, convert, to_float
from settings.detect import InferSettings, MiningSettings
from settings.flags import flags_of_task
from settings.rules import FieldSpec
from settings.train import TrainSettings
from settings.v7_flags import Command
from utils.errors import Code, TaskError
from utils.safe_yaml import load_yaml

SECTIONS = {"training": TrainSettings, "infer": InferSettings, "mining": MiningSettings}
Settings = TypeVar("Settings", TrainSettings, InferSettings, MiningSettings)

# Another name of an option, and what it is called here.
ALIASES = {
    "batch": "batch_size",
    "batch_size_per_gpu": "batch_size",
    "imgsz": "img_size",
    "img": "img_size",
    "image_size": "img_size",
    "num_workers": "workers",
    "num_workers_per_gpu": "workers",
    "cfg": "model",
    "cos_lr": "schedule",
    "nbs": "nominal_batch_size",
    "conf": "conf_thres",
    "confidence": "conf_thres",
    "conf_threshold": "conf_thres",
    "iou": "iou_thres",
    "iou_threshold": "iou_thres",
    "max_detections": "max_det",
    "opset_version": "opset",
    "simplify": "onnx_simplify",
    "dynamic": "onnx_dynamic",
}

# Options of those repositories that this version does not act on.
NOT_SUPPORTED = frozenset({"device", "dnn", "evolve", "pin_memory", "save_best_only"})

# Options that v7.0 knows and does not use.
WITHOUT_EFFECT = {"iou_t": "v7.0 does not use it either"}

# Keys of config.yaml that are the platform's own (protocol section 5).
PLATFORM_KEYS = frozenset({
    "class_names", "code_config", "export_format", "git_branch", "git_url", "gpu_count", "gpu_id",
    "model_params_path", "object_type", "openpai_enable", "pretrained_model_params", "pypi_mirror",
    "run_infer", "run_mining", "run_training", "shm_size", "task_id",
})  # fmt: skip

Layer = Mapping[str, object]


class _HypSet(dict[str, object]):
    """The layer of a hyper-parameter set."""


STOCK = Path(__file__).resolve().parent.parent / "configs" / "hyps"


def parse_settings(kind: type[Settings], *layers: Layer) -> tuple[Settings, list[str]]:
    """Parse settings of one kind from plain mappings, a later one over an earlier one.

    Every value may be text ('True', '0.5', '[1, 2]', '1e-3'); None, '' and 'None' mean the
    default. Return the settings and warnings: unknown keys with the nearest known one, options
    that are not supported yet, sizes that were rounded up. Raise TaskError(CONFIG) naming key,
    value and rule, or both keys when an option and its alias disagree within one mapping.
    """
    chosen: dict[str, object] = {}
    spelt: dict[str, str] = {}
    of_set: dict[str, object] = {}
    unfolded, warnings = _merge_layers(layers, "train" if kind is TrainSettings else "detect")
    for layer in unfolded:
        values, given = _parse_layer(kind, layer, warnings)
        chosen.update(values)
        spelt.update(given)
        if isinstance(layer, _HypSet):
            of_set = values
    defaults = {item.name: item.default for item in fields(kind)}
    kept = [key for key in of_set if of_set[key] != chosen[key] == defaults[key]]
    if kept:
        warnings.append(
            f"{', '.join(kept)}: the defaults given beside hyp count more than the set "
            f"{chosen['hyp']}; leave these lines out to train with its values"
        )
    for item in fields(kind):
        value, multiple = chosen.get(item.name), item.metadata["spec"].multiple
        if isinstance(value, int) and value % multiple:
            chosen[item.name] = used = -(-value // multiple) * multiple
            named = spelt[item.name]
            warnings.append(f"{named} {value} is not a multiple of {multiple}: {used} is used")
    return kind(**chosen), list(dict.fromkeys(warnings))  # type: ignore[arg-type]


def _parse_layer(
    kind: type[Settings], layer: Mapping[str, object], warnings: list[str]
) -> tuple[dict[str, object], dict[str, str]]:
    """Return the values of a layer by the names of settings, and the key that gave each."""
    types = get_type_hints(kind)
    specs: dict[str, FieldSpec] = {item.name: item.metadata["spec"] for item in fields(kind)}
    chosen: dict[str, object] = {}
    given: dict[str, str] = {}
    for key, value in layer.items():
        name = canonical(key)
        if name not in specs:
            warnings += _why_ignored(key, name, value)
            continue
        spec = specs[name]
        says_none = "none" in spec.choices and isinstance(value, str) and value.strip() != ""
        if absent(value) and not says_none:
            continue
        converted = convert(str(key), value, types[name], spec)
        if name in given and converted != chosen[name]:
            raise TaskError(
                Code.CONFIG,
                f"the settings {given[name]} ({layer[given[name]]!r}) and {key} ({value!r}) "
                "are two names of one option and differ; give only one of them.",
            )
        given[name], chosen[name] = str(key), converted
    return chosen, given


def flatten_sections(values: Mapping[str, object], section: str) -> dict[str, object]:
    """Return the settings of a file for one kind of task: its plain keys, then its section's.

    A settings file may hold the sections training, mining and infer, because some settings (the
    confidence threshold, for one) have another default in each; others' sections are left out.
    """
    flat = {key: value for key, value in values.items() if key not in SECTIONS}
    own = values.get(section) or {}
    if not isinstance(own, Mapping):
        raise TaskError(Code.CONFIG, f"the section {section} of the settings must be a mapping.")
    return {**flat, **own}


def canonical(key: object) -> str:
    """Return the name of the setting that a key or a flag in any spelling stands for."""
    name = str(key).strip().lstrip("-").replace("-", "_")
    return ALIASES.get(name, name)


def _why_ignored(key: object, name: str, value: object) -> list[str]:
    known = {item.name for kind in SECTIONS.values() for item in fields(kind)}
    if name in PLATFORM_KEYS | known:
        return []
    if name in WITHOUT_EFFECT:
        return [f"{key} has no effect: {WITHOUT_EFFECT[name]}"]
    if name in NOT_SUPPORTED:
        switched_off = absent(value) or str(value).strip().lower() in FALSE_WORDS | {"-1", "0.0"}
        return [] if switched_off else [f"{key} is not supported yet, ignored"]
    near = difflib.get_close_matches(name, sorted(known | set(ALIASES)), n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return [f"unknown setting {key}, ignored{hint}"]


def _merge_layers(layers: Sequence[Layer], command: Command) -> tuple[list[Layer], list[str]]:
    """Return the layers with what their `hyp` and `args_options` stand for, and notes for the log.

    The hyper-parameter set that the last layer names comes just below this layer: keys of the same
    layer override it, and it overrides those below, such as a `code_config` that fills in every
    key. The flags of an `args_options` follow the layer they stand in: who writes them means them,
    while a form fills in every key. Only a training has hyper-parameters.
    """
    notes: list[str] = []
    unfolded: list[Layer] = []
    chosen, below = None, 0
    for layer in layers:
        own = [layer]
        flags = flags_of_task(command, _last([layer], "args_options"))
        notes += flags.notes
        if flags.settings:
            own.append(flags.layer)
        named = _last(own, "hyp")
        if named is not None:
            chosen, below = named, len(unfolded)
        unfolded += own
    if command == "train" and chosen is not None:
        unfolded.insert(below, _HypSet(read_hyp(str(chosen))))
    return unfolded, notes


def _last(layers: Sequence[Layer], name: str) -> object:
    """Return the last value that says something for a key, whichever way the key is spelt."""
    pairs = (pair for layer in layers for pair in layer.items())
    said = [value for key, value in pairs if canonical(key) == name and not absent(value)]
    return said[-1] if said else None


def read_mapping(
    path: Path, what: str, *, advice: str = "", errors: str = "strict", words: str = ""
) -> dict[str, object]:
    """Read a YAML file of keys with values, undecodable bytes as `errors` says.

    The items of a list under the key `words` stay the text they are, such as `no` and `007`. Raise
    TaskError(CONFIG) that names it as `what`; `advice` is for a file that cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig", errors=errors)
        content = load_yaml(text)
        if isinstance(content, dict) and isinstance(content.get(words), list):
            as_words = load_yaml(text, words=True)
            assert isinstance(as_words, dict)
            content[words] = as_words.get(words, content[words])
    except OSError as error:
        raise TaskError(
            Code.CONFIG, f"{what} {path} cannot be read ({error.strerror}){advice}."
        ) from None
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TaskError(Code.CONFIG, f"{what} {path} is not valid YAML ({reason}).") from None
    if not isinstance(content, dict):
        raise TaskError(Code.CONFIG, f"{what} {path} must hold keys with values.")
    return {str(key): value for key, value in content.items()}


def stock_sets() -> tuple[str, ...]:
    """Return the names of the hyper-parameter sets that come with the program."""
    return tuple(sorted(path.stem for path in STOCK.glob("*.yaml")))


def read_hyp(name: str) -> dict[str, object]:
    """Read a hyper-parameter set; raise TaskError(CONFIG) when there is none or it is no mapping.

    `name` is a file, or a stock set as it is called here or in v7.0 ('scratch-med',
    'hyp.scratch-med.yaml', 'data/hyps/hyp.VOC.yaml'). A file's `anchors` is rounded to a whole
    number, as v7.0 does.
    """
    values = read_mapping(_find_hyp(name), "the hyper-parameter file", errors="ignore")
    if values.get("anchors") is not None:
        values["anchors"] = round(to_float("anchors", values["anchors"]))
    return values


def _find_hyp(name: str) -> Path:
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
