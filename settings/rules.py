"""Specifications of settings: range or choices, unit and help text of each field."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class FieldSpec:
    """What a setting may be: help text, closed range or choices, unit.

    `also` is one more number that is allowed, outside the range; `multiple` is what a size is
    rounded up to; `allow_empty` lets a list have no entry; `synonyms` are other spellings of the
    choices.
    """

    help: str
    min: float = -inf
    max: float = inf
    unit: str = ""
    choices: tuple[str, ...] = ()
    synonyms: Mapping[str, str] = field(default_factory=dict)
    multiple: int = 1
    also: float | None = None
    allow_empty: bool = False

    @property
    def allowed(self) -> str:
        """The range or the choices in words; '' when any value of the type is accepted."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.max == inf:
            return ""
        text = f"{self.min:.10g} to {self.max:.10g}"
        return text if self.also is None else f"{text}, or {self.also:.10g}"

    def details(self, default: object) -> str:
        """Return range or choices, unit and default, as help of a command line shows them."""
        allowed = self.allowed
        if self.choices and isinstance(default, tuple):
            allowed = "some of" + allowed.removeprefix("one of")
        return "; ".join(filter(None, (allowed, self.unit, f"default {as_text(default)}")))


def as_text(value: object) -> str:
    """Return a setting's value as a settings file has it."""
    if isinstance(value, tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return "''" if value == "" else str(value)


def option(default: T, help: str, min: float = -inf, max: float = inf, **more: Any) -> T:
    """Return a dataclass field with a default and the `FieldSpec` of these arguments."""
    return of_spec(default, FieldSpec(help, min, max, **more))


def of_spec(default: T, spec: FieldSpec) -> T:
    """Return a dataclass field with a default and a `FieldSpec` that several settings share."""
    result: T = field(default=default, metadata={"spec": spec})
    return result


def module_names(
    package: str, *, prefix: str = "", first: str, skip: Collection[str] = ()
) -> tuple[str, ...]:
    """Return the names <name> of the modules `<package>/<prefix><name>.py`, `first` before others.

    So a setting offers what a registry finds, without an import of it.
    """
    files = (Path(__file__).resolve().parent.parent / package).glob(f"{prefix}*.py")
    names = sorted(file.stem.removeprefix(prefix) for file in files)
    return (first, *(name for name in names if name not in {first, "__init__", *skip}))


# Settings that several kinds of task share.
SIZE = FieldSpec(
    "image size: longest side of the input", 32, 8192, unit="pixels, a multiple of 32", multiple=32
)
WORKERS = FieldSpec("data-loading worker processes, -1 for as many as fit the machine", -1, 128)
SEED = FieldSpec("random seed", 0, 2**31 - 1)
WEIGHTS = FieldSpec("weight file to use; '' for those that the platform hands in")
WEIGHTS_DIR = FieldSpec("folder searched for weight files, before the image's own /weights")
ARGS = FieldSpec("command line of v7.0 in one string, such as '--img 320 --half'")
MAX_DET = FieldSpec("maximum detections per image", 1, 10000)
BAD = FieldSpec("share of unusable images or annotations above which the task fails", 0, 1)
PRECISION = FieldSpec(
    "precision of the network; auto takes bfloat16 where the hardware has it, on a GPU without it "
    "and for inference on any GPU float16",
    choices=("auto", "float32", "bfloat16", "float16"),
    synonyms={
        **{"fp32": "float32", "32": "float32", "bf16": "bfloat16"},
        **{"fp16": "float16", "half": "float16", "16": "float16"},
    },
)
LANGUAGE = FieldSpec(
    "language of log lines, error sentences and reports: en or zh; English for any other"
)
TF32 = FieldSpec("whether a GPU may round the factors of float32 products to TF32")
