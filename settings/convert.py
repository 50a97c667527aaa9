"""Conversion of a setting's value, as a form or a YAML file gives it, to the field's type."""

from __future__ import annotations

import math
from typing import get_args, get_origin

import yaml

from settings.rules import FieldSpec
from utils.errors import Code, TaskError
from utils.safe_yaml import load_yaml

TRUE_WORDS = frozenset({"true", "yes", "on", "1"})
FALSE_WORDS = frozenset({"false", "no", "off", "0"})


def absent(value: object) -> bool:
    """Return whether a value is absent: None, '' or the text 'None', as forms write it."""
    return value is None or (isinstance(value, str) and value.strip().lower() in {"", "none"})


def to_bool(key: str, value: object) -> bool:
    """Convert a boolean, 0, 1 or one of true, yes, on, false, no, off to a boolean."""
    word = str(value).strip().lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise config_error(key, value, "true or false")


def to_float(key: str, value: object, wanted: str = "a number") -> float:
    """Convert a number or its text ('0.5', '1e-3') to a finite float; refuse booleans."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise config_error(key, value, wanted)
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise config_error(key, value, wanted) from None
    if not math.isfinite(number):
        raise config_error(key, value, wanted)
    return number


def to_int(key: str, value: object, wanted: str = "a whole number") -> int:
    """Convert 50, '50', 50.0 or '5e1' to an integer; refuse fractions."""
    number = to_float(key, value, wanted)
    if number != int(number):
        raise config_error(key, value, wanted)
    return int(number)


def to_list(key: str, value: object) -> list[object]:
    """Convert a list, text such as '[1, 2]', or words between commas to a list."""
    if isinstance(value, list | tuple):
        return list(value)
    if not isinstance(value, str):
        raise config_error(key, value, "a list")
    text = value.strip()
    if not text.startswith("["):
        return [word.strip() for word in text.split(",") if word.strip()]
    try:
        parsed = load_yaml(text)
    except (yaml.YAMLError, ValueError):
        parsed = None
    if not isinstance(parsed, list):
        raise config_error(key, value, "a list such as [a, b]")
    return parsed


def convert(key: str, value: object, kind: object, spec: FieldSpec) -> object:
    """Convert `value` to `kind` and validate it against `spec`.

    `kind` is bool, int, float, str, or a tuple of int, float or str.
    A tuple of numbers may be one number, or empty; its text may have blanks for commas ('0 1 2').
    Raise TaskError(CONFIG) that names key, value and accepted range.
    """
    if kind is bool:
        return to_bool(key, value)
    if kind in (int, float):
        return _number(key, value, kind, spec)
    if get_origin(kind) is not tuple:
        return _text(key, value, spec)
    item_kind = get_args(kind)[0]
    if item_kind is not str:
        return tuple(_number(key, word, item_kind, spec) for word in _numbers(key, value))
    listed = [value] if isinstance(value, int) else to_list(key, value)
    words = tuple(_text(key, word, spec) for word in listed)
    if not words and not spec.allow_empty:
        raise config_error(key, value, f"a list with some of {spec.allowed}")
    return words


def _number(key: str, value: object, kind: object, spec: FieldSpec) -> float:
    noun, to_number = ("a whole number", to_int) if kind is int else ("a number", to_float)
    wanted = f"{noun}, {spec.allowed}"
    number = to_number(key, value, wanted)
    if number == spec.also or spec.min <= number <= spec.max:
        return number
    raise config_error(key, value, wanted)


def _numbers(key: str, value: object) -> list[object]:
    """Return the entries of a list of numbers; a single number stands for a list of one."""
    if isinstance(value, int | float):
        return [value]
    listed = to_list(key, value)
    return [word for item in listed for word in (item.split() if isinstance(item, str) else [item])]


def _text(key: str, value: object, spec: FieldSpec) -> str:
    if not isinstance(value, str | int | float):
        raise config_error(key, value, spec.allowed or "text")
    text = str(value).strip()
    if not spec.choices:
        return text
    word = spec.synonyms.get(text.lower(), text.lower())
    if word not in spec.choices:
        raise config_error(key, value, spec.allowed)
    return word


def config_error(key: str, value: object, wanted: str) -> TaskError:
    """Return the error for an invalid value: key, value and accepted range in one sentence.

    `key` is a setting or, with its dashes, a flag.
    """
    shown = repr(value)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    named = key if key.startswith("--") else f"the setting {key}"
    return TaskError(Code.CONFIG, f"{named} is {shown}; it must be {wanted}.")
