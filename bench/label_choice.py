"""Which images get labels next in an active-learning run: strategies by name, and their choices."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from settings.detect import MiningSettings
from settings.parse import parse_settings
from utils.errors import Code, TaskError
from utils.seeding import numpy_generator

RANDOM = "random"
"""The strategy that the others are compared with: drawn here, without weights."""
START_PURPOSE, ROUND_PURPOSE = 1, 2


@dataclass(frozen=True)
class Strategy:
    """A way to choose: `random`, or a mining algorithm with settings of its own."""

    name: str
    """As the user wrote it: `cald`, or `cald:empty_images=first`."""
    settings: Mapping[str, str]
    """Settings of the mining task, `mining_algorithm` among them; none for `random`."""

    @property
    def folder(self) -> str:
        """The name as a folder: two different names never share one."""
        plain = re.sub(r"[^\w.=-]+", "-", self.name)
        return plain if plain == self.name else f"{plain}-{zlib.crc32(self.name.encode()):08x}"


def parse_strategy(name: str, common: Mapping[str, str]) -> Strategy:
    """Read `random` or `ALGORITHM[:KEY=VALUE]...`; `common` are settings for every algorithm.

    Raises TaskError(CONFIG) for an algorithm or a setting that mining does not know, with its
    choices.
    """
    algorithm, *pairs = name.split(":")
    own = dict(_pair(pair, name) for pair in pairs)
    if algorithm == RANDOM:
        if own:
            raise TaskError(
                Code.CONFIG, f"The strategy {name} has settings; random has none: give it alone."
            )
        return Strategy(name, {})
    settings = {**common, **own, "mining_algorithm": algorithm}
    _, remarks = parse_settings(MiningSettings, settings)
    if remarks:
        raise TaskError(Code.CONFIG, f"The strategy {name}: {'; '.join(remarks)}.")
    return Strategy(name, settings)


def parse_strategies(names: Sequence[str], common: Mapping[str, str]) -> list[Strategy]:
    """`parse_strategy` for each name; a name given twice is refused with TaskError(CONFIG)."""
    repeated = sorted({name for name in names if list(names).count(name) > 1})
    if repeated:
        raise TaskError(
            Code.CONFIG, f"The strategies name {', '.join(repeated)} twice; give each once."
        )
    return [parse_strategy(name, common) for name in names]


def parse_pairs(pairs: Sequence[str], option: str) -> dict[str, str]:
    """`KEY=VALUE` texts of a repeatable option as a mapping; TaskError(CONFIG) for another form."""
    return dict(_pair(pair, option) for pair in pairs)


def _pair(text: str, where: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise TaskError(Code.CONFIG, f"{where}: {text!r} is no setting; write KEY=VALUE.")
    return key, value


def start_set(images: Sequence[str], number: int, seed: int) -> list[str]:
    """The images that every strategy of a seed starts with, whatever the order of `images`."""
    return _draw(images, number, seed, START_PURPOSE)


def random_choice(
    waiting: Sequence[str], number: int, *, seed: int, round_number: int
) -> list[str]:
    """So many of the images without labels, all equally likely, whatever their order."""
    return _draw(waiting, number, seed, ROUND_PURPOSE, round_number)


def _draw(images: Sequence[str], number: int, seed: int, *purpose: int) -> list[str]:
    ordered = sorted(images)
    chosen = numpy_generator(seed, *purpose).permutation(len(ordered))[:number]
    return [ordered[position] for position in chosen]


def first_of_ranking(ranking: Sequence[str], waiting: Sequence[str], number: int) -> list[str]:
    """The first lines of a mining result as they stand, as the platform takes them.

    `ranking` must name every image of `waiting` once and nothing else: a ranking that does not is
    no ranking of these candidates, and a ValueError says what differs.
    """
    if sorted(ranking) != sorted(waiting):
        missing = sorted(set(waiting) - set(ranking))[:3]
        foreign = sorted(set(ranking) - set(waiting))[:3]
        raise ValueError(
            f"the mining result has {len(ranking)} lines for {len(waiting)} candidates; missing "
            f"{missing}, not asked for {foreign}"
        )
    return list(ranking[:number])
