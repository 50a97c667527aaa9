"""One option as a form or a YAML file gives it, turned into the type that its field declares."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args, get_origin

import yaml

from utils.errors import Code, TaskError
from utils.safe_yaml import load_yaml

TRUE_WORDS = frozenset({"true", "yes", "on", "1"})
FALSE_WORDS = frozenset({"false", "no", "off", "0"})


@dataclass(frozen=True)
class Rule:
    """What a value may be: a sentence for people, its unit, and the closed range or the choices."""

    help: str
    unit: str = ""
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    synonyms: Mapping[str, str] = field(default_factory=dict)
    multiple: int = 1
    besides: float | None = None
    """One more number that is allowed, outside the range."""
    may_be_empty: bool = False
    """Whether a list may have no entry."""

    @property
    def allowed(self) -> str:
        """The range or the choices in words, or '' when anything of the type will do."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.least is None or self.most is None:
            return ""
        text = f"{_plain(self.least)} to {_plain(self.most)}"
        return text if self.besides is None else f"{text}, or {_plain(self.besides)}"


def rule(
    help: str,
    least: float | None = None,
    most: float | None = None,
    *,
    unit: str = "",
    choices: tuple[str, ...] = (),
    synonyms: Mapping[str, str] | None = None,
    multiple: int = 1,
    besides: float | None = None,
    may_be_empty: bool = False,
) -> dict[str, Rule]:
    """The metadata of a field that has this `Rule`."""
    return {
        "rule": Rule(
            help,
            unit,
            least,
            most,
            choices,
            dict(synonyms or {}),
            multiple,
            besides=besides,
            may_be_empty=may_be_empty,
        )
    }


def _plain(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


def absent(value: object) -> bool:
    """Whether a value says nothing: None, '' or the text 'None', as forms write it."""
    return value is None or (isinstance(value, str) and value.strip().lower() in {"", "none"})


def to_bool(key: str, value: object) -> bool:
    """True or False from a boolean, 0 or 1, or one of the words true, yes, on, false, no, off."""
    word = str(value).strip().lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise refusal(key, value, "true or false")


def to_float(key: str, value: object, wanted: str = "a number") -> float:
    """A finite number from a number or its text ('0.5', '1e-3'); booleans are refused."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise refusal(key, value, wanted)
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise refusal(key, value, wanted) from None
    if not math.isfinite(number):
        raise refusal(key, value, wanted)
    return number


def to_int(key: str, value: object, wanted: str = "a whole number") -> int:
    """A whole number from 50, '50', 50.0 or '5e1'; a fraction is refused, not cut."""
    number = to_float(key, value, wanted)
    if number != int(number):
        raise refusal(key, value, wanted)
    return int(number)


def to_list(key: str, value: object) -> list[object]:
    """A list from a list, from text such as '[1, 2]', or from words between commas."""
    if isinstance(value, list | tuple):
        return list(value)
    if not isinstance(value, str):
        raise refusal(key, value, "a list")
    text = value.strip()
    if not text.startswith("["):
        return [word.strip() for word in text.split(",") if word.strip()]
    try:
        parsed = load_yaml(text)
    except (yaml.YAMLError, ValueError):
        parsed = None
    if not isinstance(parsed, list):
        raise refusal(key, value, "a list such as [a, b]")
    return parsed


def convert(key: str, value: object, kind: object, rule: Rule) -> object:
    """`value` as `kind`, held to `rule`: bool, int, float, str, or a tuple of int, float or str.

    A tuple of numbers may be one number, and empty; its text may have blanks for commas ('0 1 2').
    Raises TaskError(CONFIG) that names key, value and rule.
    """
    if kind is bool:
        return to_bool(key, value)
    if kind in (int, float):
        return _number(key, value, kind, rule)
    if get_origin(kind) is tuple and get_args(kind)[0] is str:
        listed = [value] if isinstance(value, int) else to_list(key, value)
        words = tuple(_text(key, word, rule) for word in listed)
        if not words and not rule.may_be_empty:
            raise refusal(key, value, f"a list with some of {rule.allowed}")
        return words
    if get_origin(kind) is tuple and get_args(kind)[0] is int:
        return tuple(int(_number(key, word, int, rule)) for word in _numbers(key, value))
    if get_origin(kind) is tuple and get_args(kind)[0] is float:
        return tuple(_number(key, word, float, rule) for word in _numbers(key, value))
    assert kind is str, f"no conversion for {kind!r} of {key}"
    return _text(key, value, rule)


def _number(key: str, value: object, kind: object, rule: Rule) -> float:
    noun = "a whole number" if kind is int else "a number"
    wanted = f"{noun}, {rule.allowed}" if rule.allowed else noun
    number = to_int(key, value, wanted) if kind is int else to_float(key, value, wanted)
    if number == rule.besides:
        return number
    too_small = rule.least is not None and number < rule.least
    if too_small or (rule.most is not None and number > rule.most):
        raise refusal(key, value, wanted)
    return number


def _numbers(key: str, value: object) -> list[object]:
    """The entries of a list of numbers, of which a single one need not be in a list."""
    if isinstance(value, int | float):
        return [value]
    listed = to_list(key, value)
    return [word for item in listed for word in (item.split() if isinstance(item, str) else [item])]


def _text(key: str, value: object, rule: Rule) -> str:
    if not isinstance(value, str | int | float):
        raise refusal(key, value, rule.allowed or "text")
    text = str(value).strip()
    if not rule.choices:
        return text
    word = rule.synonyms.get(text.lower(), text.lower())
    if word not in rule.choices:
        raise refusal(key, value, rule.allowed)
    return word


def refusal(key: str, value: object, wanted: str) -> TaskError:
    """The error for a value that breaks its rule: key, value and rule in one sentence."""
    shown = repr(value)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return TaskError(Code.CONFIG, f"the setting {key} is {shown}; it must be {wanted}.")
