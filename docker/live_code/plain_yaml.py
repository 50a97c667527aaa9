"""Scalars of the simple YAML that YMIR writes, one level deep, without a package.

The starter must run where nothing is installed. What it needs are a few texts in block mappings;
lists and deeper levels are passed over, and a wanted value in another notation is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

ESCAPES = {"0": "\0", "a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r"}
ESCAPES |= {"e": "\x1b", "N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029"}
ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
NOTHING = frozenset({"", "~", "null", "Null", "NULL"})
BLANKS = " \t\n"  # no other white space counts in YAML
OTHER_NOTATIONS = "|>&*!{[%@`"


def read_values(text: str, wanted: Mapping[str, str]) -> dict[str, str]:
    """The texts under the paths in `wanted` ('key' or 'section.key'), '' where there is none.

    `wanted` maps each path to what a message shall call it. Raises ValueError naming the key
    whose value is neither a plain nor a quoted scalar.
    """
    found = dict.fromkeys(wanted, "")
    for path, raw in _entries(text.lstrip("\ufeff")):
        if path in found:
            found[path] = _scalar(raw, wanted[path])
    return found


def _entries(text: str) -> Iterator[tuple[str, list[str]]]:
    """Every key of the first two levels, with the lines of its value."""
    section, inner, path = "", 0, ""
    value: list[str] = []
    key_indent, quote = 0, ""
    for line in re.split(r"\r\n|\r|\n", text):
        body = line.strip(BLANKS)
        indent = len(line) - len(line.lstrip(" "))
        key = (
            None
            if quote
            else re.match(r"([\w.-]+|'[\w.-]+'|\"[\w.-]+\")[ \t]*:(?:[ \t]+(.*))?$", body)
        )
        own = key is not None and (indent == 0 or indent == inner or (inner == 0 and not value[0]))
        if key is None or not own:
            # Comments and list items belong to nothing; all else goes on with the value above.
            if path and (quote or (indent > key_indent and not body.startswith("#"))):
                value.append(body)
                quote = _open_quote(value)
            continue
        if path:
            yield path, value
        name, value, key_indent = key[1].strip("'\""), [key[2] or ""], indent
        section, inner = (name, 0) if indent == 0 else (section, indent)
        path = name if indent == 0 else f"{section}.{name}"
        quote = _open_quote(value)
    if path:
        yield path, value


def _open_quote(lines: list[str]) -> str:
    """The quotation mark of a value that is not closed yet."""
    text = "\n".join(lines).lstrip(BLANKS)
    mark = text[:1]
    if mark not in ("'", '"') or not mark:
        return ""
    return "" if _closed(text, mark) is not None else mark


def _closed(text: str, mark: str) -> re.Match[str] | None:
    pattern = r"'((?:[^']|'')*)'(?!')" if mark == "'" else r'"((?:[^"\\]|\\.)*)"'
    return re.match(pattern, text, re.DOTALL)


def _scalar(lines: list[str], called: str) -> str:
    first = lines[0].lstrip(BLANKS)
    mark = first[:1]
    if mark and mark in OTHER_NOTATIONS:
        raise ValueError(f"{called} must be plain or quoted text on its line")
    if mark in ("'", '"') and mark:
        text = _closed("\n".join(lines).lstrip(BLANKS), mark)
        if text is None:
            raise ValueError(f"{called} has a quotation mark that is never closed")
        if mark == "'":
            return _fold(text[1]).replace("''", "'")
        return ESCAPE.sub(_unescape, _fold(re.sub(r"\\\n[ \t]*", "", text[1])))
    words = [re.split(r"(?:^|[ \t])#", line, maxsplit=1)[0].strip(BLANKS) for line in lines]
    plain = " ".join(word for word in words if word)
    return "" if plain in NOTHING else plain


def _fold(text: str) -> str:
    """Line breaks as YAML reads them: one is a blank, an empty line is a line break."""
    return re.sub(r"[ \t]*\n([ \t]*\n)*[ \t]*", _broken, text)


def _broken(match: re.Match[str]) -> str:
    breaks = match[0].count("\n")
    return " " if breaks == 1 else "\n" * (breaks - 1)


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    return chr(int(code[1:], 16)) if len(code) > 1 else ESCAPES.get(code, code)
