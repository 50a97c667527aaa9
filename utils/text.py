"""Text files as people save them: UTF-8 with or without a byte order mark, or marked UTF-16."""

from __future__ import annotations

import codecs
from pathlib import Path

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class EncodingError(ValueError):
    """Bytes that are no text in a known encoding: one clause with file, byte and what to do."""


def decode_text(content: bytes, path: str | Path, *, escape: bool = False) -> str:
    """Decode the content of a text file; EncodingError instead of dropped or guessed characters.

    With `escape` bytes that are not UTF-8 come out as surrogates, for lists of file names.
    """
    encoding = next((name for mark, name in MARKS if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding, "surrogateescape" if escape else "strict")
    except UnicodeDecodeError as error:
        reason = f"byte {content[error.start]:#04x} at position {error.start}"
        try:
            content.decode("gb18030")
            reason += "; GBK would fit"
        except UnicodeDecodeError:
            pass
        raise EncodingError(
            f"{path}: not {encoding.removesuffix('-sig').upper()} text ({reason}), save it as UTF-8"
        ) from None


def read_text(path: Path, *, escape: bool = False) -> str:
    """Return the text of a file as `decode_text` does; OSError where it cannot be read."""
    return decode_text(path.read_bytes(), path, escape=escape)
