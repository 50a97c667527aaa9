"""The settings of a task, parsed from plain mappings into the data class of its kind."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import TypeVar, get_type_hints

from settings.detect import InferSettings, MiningSettings
from settings.option_names import ALIASES, NOT_SUPPORTED, PLATFORM_KEYS, WITHOUT_EFFECT
from settings.options import FALSE_WORDS, Rule, absent, convert
from settings.setting_layers import merge_layers
from settings.train import TrainSettings
from settings.v7_flags import Command
from utils.errors import Code, TaskError

KINDS = (TrainSettings, InferSettings, MiningSettings)
SECTIONS = {"training": TrainSettings, "infer": InferSettings, "mining": MiningSettings}
Settings = TypeVar("Settings", TrainSettings, InferSettings, MiningSettings)


def parse_settings(
    kind: type[Settings], *layers: Mapping[str, object]
) -> tuple[Settings, list[str]]:
    """Settings of one kind from plain mappings, a later one over an earlier one.

    `hyp` and `args_options` are unfolded into further layers (`settings.setting_layers`).
    Every value may be text ('True', '0.5', '[1, 2]', '1e-3'); None, '' and 'None' mean the
    default. Returns the settings and warnings: unknown keys with the nearest known one, options
    that are not supported yet, sizes that were rounded up. Raises TaskError(CONFIG) naming key,
    value and rule, or both keys when an option and its alias disagree within one mapping.
    """
    chosen: dict[str, object] = {}
    command: Command = "train" if kind is TrainSettings else "detect"
    unfolded, warnings = merge_layers(layers, command=command)
    for layer in unfolded:
        chosen.update(_parse_layer(kind, layer, warnings))
    for item in fields(kind):
        value, multiple = chosen.get(item.name), item.metadata["rule"].multiple
        if isinstance(value, int) and value % multiple:
            chosen[item.name] = -(-value // multiple) * multiple
            warnings.append(
                f"{item.name} {value} is not a multiple of {multiple}: {chosen[item.name]} is used"
            )
    return kind(**chosen), list(dict.fromkeys(warnings))  # type: ignore[arg-type]


def _parse_layer(
    kind: type[Settings], layer: Mapping[str, object], warnings: list[str]
) -> dict[str, object]:
    types = get_type_hints(kind)
    rules: dict[str, Rule] = {item.name: item.metadata["rule"] for item in fields(kind)}
    chosen: dict[str, object] = {}
    given: dict[str, str] = {}
    for key, value in layer.items():
        name = _canonical(key)
        if name not in rules:
            warnings += _why_ignored(key, name, value)
            continue
        if absent(value) and not _says_none(value, rules[name]):
            continue
        converted = convert(str(key), value, types[name], rules[name])
        if name in given and converted != chosen[name]:
            raise TaskError(
                Code.CONFIG,
                f"the settings {given[name]} ({layer[given[name]]!r}) and {key} ({value!r}) "
                "are two names of one option and differ; give only one of them.",
            )
        given[name], chosen[name] = key, converted
    return chosen


def _says_none(value: object, rule: Rule) -> bool:
    return "none" in rule.choices and str(value).strip().lower() == "none" and value is not None


def flatten_sections(values: Mapping[str, object], section: str) -> dict[str, object]:
    """One flat mapping for a task from a settings file: its plain keys, then those of `section`.

    A settings file may hold the sections training, mining and infer, because some settings (the
    confidence threshold, for one) have another default in each; others' sections are left out.
    """
    flat = {key: value for key, value in values.items() if key not in SECTIONS}
    own = values.get(section)
    if own is None:
        return flat
    if not isinstance(own, Mapping):
        raise TaskError(Code.CONFIG, f"the section {section} of the settings must be a mapping.")
    return {**flat, **own}


def _canonical(key: object) -> str:
    name = str(key).strip().lstrip("-").replace("-", "_")
    return ALIASES.get(name, name)


def _known_names() -> frozenset[str]:
    return frozenset(item.name for kind in KINDS for item in fields(kind))


def _why_ignored(key: object, name: str, value: object) -> list[str]:
    if name in PLATFORM_KEYS or name in _known_names():
        return []
    if name in WITHOUT_EFFECT:
        return [f"{key} has no effect: {WITHOUT_EFFECT[name]}"]
    if name in NOT_SUPPORTED:
        switched_off = absent(value) or str(value).strip().lower() in FALSE_WORDS | {"-1", "0.0"}
        return [] if switched_off else [f"{key} is not supported yet, ignored"]
    near = difflib.get_close_matches(name, sorted(_known_names() | set(ALIASES)), n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return [f"unknown setting {key}, ignored{hint}"]
