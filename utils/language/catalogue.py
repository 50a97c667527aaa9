"""Translate finished texts for users: log lines, error sentences, words of pages.

The English text stands in the code; `zh/*.yaml` has it as a key, with {1}, {2}, ... for what the
code puts in, and its translation, which may have these in another order or leave some out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import NamedTuple

import yaml

ENGLISH, CHINESE = "en", "zh"
FOLDER = Path(__file__).resolve().parent
SETTING = "language"
PAGES = "pages.yaml"
"""Texts of pages: single words, too."""
LONGEST = 100_000
"""Characters of a text that is compared with patterns; longer ones stay as they are."""
DEEPEST = 4
"""Texts within texts that are translated: a sentence, its reason, the reason of that."""
_CHINESE = ("zh", "cn", "chinese", "中文", "简体中文")
_SLOT = re.compile(r"\{(\d+)\}")
_ENDS_CHINESE = re.compile("[\u4e00-\u9fff\uff00-\uffef。，；：] *$")
_BEGINS_CHINESE = re.compile("[\u4e00-\u9fff\uff00-\uffef。，；：]")
_PERCENT = re.compile(r"%%|%[-+#0]*\d*(?:\.\d+)?[sdifgrxe]")
_JOINTS = {"; ": "；", ", or ": "，或", ": ": ": ", ", ": "，"}
"""What parts of a text are joined with, in English and in the translation."""
_START = re.compile(r"; |, |: | \(| - | and ")
"""What a part begins with that is put behind another one."""
_JOINT = re.compile("(; |, or |: |, )")
MOST_PARTS, JOINED = 40, 6
"""Parts of a text that is translated part by part, and parts that are tried together."""


def language_named(value: object) -> str:
    """Return the language that a word such as 'zh', 'zh-CN' or 'zh_CN.UTF-8' names.

    English for anything that is not known.
    """
    word = str(value or "").strip().lower()
    return CHINESE if word.startswith(_CHINESE) else ENGLISH


class Pattern(NamedTuple):
    """An English text with slots: what stands between them, and the translation."""

    literals: tuple[str, ...]
    numbers: tuple[int, ...]
    translation: str

    @classmethod
    def of(cls, key: str, translation: str) -> Pattern:
        """Split a key of the catalogue at its slots."""
        parts = _SLOT.split(key)
        return cls(tuple(parts[::2]), tuple(map(int, parts[1::2])), translation)

    @property
    def neighbours(self) -> list[tuple[int, int]]:
        """The numbers of slots with nothing between them."""
        pairs = zip(pairwise(self.numbers), self.literals[1:-1], strict=True)
        return [pair for pair, between in pairs if not between]

    def values(self, text: str) -> dict[int, str] | None:
        """Return what stands in the slots if `text` fits, else None.

        In time proportional to the text: each literal is looked for once, from left to right,
        which finds a fit wherever there is one.
        """
        first, last = self.literals[0], self.literals[-1]
        at, end = len(first), len(text) - len(last)
        if at > end or not (text.startswith(first) and text.endswith(last)):
            return None
        found = []
        for literal in self.literals[1:-1]:
            place = text.find(literal, at, end)
            if place < 0:
                return None
            found.append(text[at:place])
            at = place + len(literal)
        return dict(zip(self.numbers, [*found, text[at:end]], strict=True))

    def filled(self, values: Mapping[int, str]) -> str:
        """Return the translation with `values` in its slots, without a blank between Chinese."""
        result = ""
        for text, number in zip_longest(*[iter(_SLOT.split(self.translation))] * 2):
            for part in (text, values[int(number)] if number else ""):
                if _ENDS_CHINESE.search(result) and _BEGINS_CHINESE.match(part.lstrip(" ")):
                    result, part = result.rstrip(" "), part.lstrip(" ")
                result += part.lstrip(" ") if result.endswith(" ") else part
        return result.rstrip(" ")


class Catalogue:
    """The translations of one language; a text without one stays English."""

    def __init__(self, texts: dict[str, str]) -> None:
        """Take the translation of each English text, which may have slots."""
        self.texts = texts
        self._exact = {key: text for key, text in texts.items() if not _SLOT.search(key)}
        patterns = [Pattern.of(key, text) for key, text in texts.items() if key not in self._exact]
        # First what begins with words, then the longest: it says most about the text that it fits.
        self._patterns = sorted(
            patterns, key=lambda one: (one.literals[0] == "", -sum(map(len, one.literals)))
        )

    def text(self, text: str, depth: int = 0) -> str:
        """Translate a finished text, and what stands in its slots, else line by line.

        `depth` is the number of texts that it is within, `DEEPEST` at most.
        """
        core = text.strip()
        if not self.texts or len(text) > LONGEST or depth > DEEPEST:
            return text
        if " " not in core:  # within another text it is a name
            return text if depth else self._exact.get(core, text)
        if "\n" in core:
            found = "\n".join(self.text(line, depth) for line in core.split("\n"))
        else:
            found = self._whole(core, depth) or self._parts(core, depth)
        start = text.index(core)
        return text[:start] + found + text[start + len(core) :]

    def message(self, template: str, arguments: Sequence[object]) -> str:
        """Translate a log message: its `template` with % formats, and the arguments put into it.

        Raise what `template % arguments` raises.
        """
        formats = [part[0] for part in _PERCENT.finditer(template) if part[0] != "%%"]
        if not self.texts or not arguments or len(formats) != len(arguments):
            return self.text(template % tuple(arguments) if arguments else template)
        shown = [part % (value,) for part, value in zip(formats, arguments, strict=True)]
        values = {number: self.text(value) for number, value in enumerate(shown, 1)}
        key = key_of_template(template)
        return Pattern.of(key, self.texts.get(key, key)).filled(values)

    def phrases(self, text: str) -> str:
        """Translate a list of phrases, such as a caption: each by itself, the shortest first."""
        return self._parts(text, 0) if self.texts else text

    def word(self, text: str) -> str:
        """Translate a text as a whole, whatever its slots look like."""
        return self.texts.get(text, text)

    def _whole(self, text: str, depth: int) -> str | None:
        if text in self._exact:
            return self._exact[text]
        for pattern in self._patterns:
            values = pattern.values(text)
            if values is not None:
                for one, other in pattern.neighbours:
                    values[one], values[other] = self._divided(values[one] + values[other])
                return pattern.filled({n: self.text(v, depth + 1) for n, v in values.items()})
        return None

    def _divided(self, text: str) -> tuple[str, str]:
        """Return what stands in two slots with nothing between: the second has a known text."""
        for start in _START.finditer(text):
            rest = text[start.start() :]
            if self._whole(rest.strip(), DEEPEST):
                return text[: start.start()], rest
        return text, ""

    def _parts(self, text: str, depth: int) -> str:
        """Translate what lies between joints, the shortest first; the text itself if none is known.

        A number may stand before a part.
        """
        pieces = _JOINT.split(text)  # parts and joints in turn
        if len(pieces) > 2 * MOST_PARTS:
            return text
        done = ""
        at, before = 0, False
        while at < len(pieces):
            end, found = self._shortest(pieces, at, depth)
            if at and (before or found):
                done += _JOINTS[pieces[at - 1]]
            elif at:
                done += pieces[at - 1]
            done += pieces[at] if found is None else found
            at, before = end + 1, found is not None
        return done

    def _shortest(self, pieces: Sequence[str], at: int, depth: int) -> tuple[int, str | None]:
        """Return the end of the fewest pieces from `at` on that are known, and what they become."""
        for end in range(at + 1, min(len(pieces), at + 2 * JOINED - 1) + 1, 2):
            part = "".join(pieces[at:end])
            count, _, rest = part.partition(" ")
            if " " in part and (found := self._whole(part, depth)):
                return end, found
            if count.isdigit() and " " in rest and (found := self._whole(rest, depth)):
                return end, f"{count} {found}"
        return at + 1, None


def key_of_template(template: str) -> str:
    """Return the key of a text with % formats: each becomes {1}, {2} and so on."""
    number = 0

    def slot(part: re.Match[str]) -> str:
        nonlocal number
        if part[0] == "%%":
            return "%"
        number += 1
        return f"{{{number}}}"

    return _PERCENT.sub(slot, template)


@cache
def catalogue(language: str, *, pages: bool = False) -> Catalogue:
    """Return the catalogue of a language; for English an empty one, which changes nothing.

    With `pages` it has their words, too: single ones, which in a log line may be names.
    """
    texts: dict[str, str] = {}
    if language_named(language) == CHINESE:
        for path in sorted((FOLDER / CHINESE).glob("*.yaml")):
            if pages or path.name != PAGES:
                texts.update(read_texts(path))
    return Catalogue(texts)


def read_texts(path: Path) -> dict[str, str]:
    """Return the texts of one file of a catalogue, with their translations."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C: a tenth of the time
    content = yaml.load(path.read_text(encoding="utf-8"), loader)
    return {str(key): str(value) for key, value in (content or {}).items()}
