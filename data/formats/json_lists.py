"""The lists of a large JSON document record by record, without holding the document as objects."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

PIECE = 1 << 20
"""Bytes that are looked at ahead, unless one record is longer."""
MARGIN = 64
"""A value that ends so close to what is known of the text may go on behind it."""
OTHER_ENCODINGS = (codecs.BOM_UTF16_BE, codecs.BOM_UTF16_LE)
_BLANKS = re.compile(r"[ \t\n\r]*")

Taker = Callable[[dict[str, Any]], object]


class Irregular(Exception):
    """A document that is not of the plain form: ask `json`, which also says what is wrong."""


def read_lists(
    content: bytes, takers: Mapping[str, Taker], *, piece: int = PIECE
) -> frozenset[str]:
    """Hand every record of the named lists to its taker; the keys of the document.

    The plain form is UTF-8 and one object with keys that do not repeat, and the named values,
    where they are there, are lists of objects. Raises Irregular for any other, when some records
    may have been handed out already.
    """
    start = content[:4]
    if start.startswith(OTHER_ENCODINGS) or b"\0" in start:
        raise Irregular
    text, keys = _Text(content.removeprefix(codecs.BOM_UTF8), piece), set[str]()
    try:
        text.take("{")
        while True:
            key = text.value()
            if not isinstance(key, str) or key in keys:
                raise Irregular
            keys.add(key)
            text.take(":")
            if key in takers:
                _read_list(text, takers[key])
            else:
                text.value()
            if text.take(",}") == "}":
                break
        text.end()
    except RecursionError:
        raise Irregular from None
    return frozenset(keys)


def _read_list(text: _Text, taker: Taker) -> None:
    text.take("[")
    if text.next() == "]":
        text.take("]")
        return
    while True:
        record = text.value()
        if not isinstance(record, dict):
            raise Irregular
        taker(record)
        if text.take(",]") == "]":
            return


class _Text:
    """A document's text as far as it is needed, and the place that has been reached in it."""

    def __init__(self, content: bytes, piece: int) -> None:
        self._rest = memoryview(content)
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogatepass").decode
        self._scan = json.JSONDecoder().raw_decode
        self._piece = piece
        self._text, self._place, self._over = "", 0, False

    def next(self) -> str:
        """The next character that is no blank, which stays there."""
        while True:
            blanks = _BLANKS.match(self._text, self._place)
            assert blanks is not None
            self._place = blanks.end()
            if self._place < len(self._text):
                return self._text[self._place]
            self._more()

    def take(self, allowed: str) -> str:
        """Go past the next character, which must be one of those allowed."""
        found = self.next()
        if found not in allowed:
            raise Irregular
        self._place += 1
        return found

    def value(self) -> Any:
        """The value that comes next."""
        while True:
            self.next()
            try:
                value, end = self._scan(self._text, self._place)
            except ValueError:
                end = len(self._text)
                if self._over:
                    raise Irregular from None
            else:
                if self._over or end + MARGIN <= len(self._text):
                    self._place = end
                    return value
            self._more()

    def end(self) -> None:
        """Irregular if anything but blanks follows."""
        while True:
            rest = self._text[self._place :]
            if rest.strip(" \t\n\r"):
                raise Irregular
            if self._over:
                return
            self._place = len(self._text)
            self._more()

    def _more(self) -> None:
        """Forget what is done and look further ahead."""
        if self._over:
            raise Irregular
        size = max(self._piece, len(self._text) - self._place)
        part, self._rest = self._rest[:size], self._rest[size:]
        self._over = not len(self._rest)
        try:
            new = self._decode(bytes(part), self._over)
        except UnicodeDecodeError:
            raise Irregular from None
        self._text, self._place = self._text[self._place :] + new, 0
