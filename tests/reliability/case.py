"""A case of bad input as data: how it is met, and what must become of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from utils.errors import Code


class Fate(Enum):
    """What becomes of an input."""

    TAKEN = "taken"
    SKIPPED = "skipped and named"
    REFUSED = "refused"


@dataclass(frozen=True)
class Ending:
    """What a reading came to: its fate, what was said, the code of a refusal, and figures."""

    fate: Fate
    text: str
    code: Code | None = None
    facts: Mapping[str, object] = field(default_factory=dict)


Meet = Callable[[Path], Ending]
"""Makes the input in an empty folder and reads it as the program does."""


@dataclass(frozen=True)
class Case:
    """One input and its fate; every text of `says` is said, every fact holds."""

    name: str
    meet: Meet
    fate: Fate
    says: tuple[str, ...] = ()
    code: Code | None = None
    facts: Mapping[str, object] = field(default_factory=dict)


def taken(name: str, meet: Meet, *says: str, **facts: object) -> Case:
    """A case that is read."""
    return Case(name, meet, Fate.TAKEN, says, None, facts)


def skipped(name: str, meet: Meet, *says: str, **facts: object) -> Case:
    """A case whose image is left out and named, while the others stay."""
    return Case(name, meet, Fate.SKIPPED, says, None, facts)


def refused(name: str, meet: Meet, *says: str, code: Code = Code.CONFIG) -> Case:
    """A case that ends the task with a code and a sentence."""
    return Case(name, meet, Fate.REFUSED, says, code)
