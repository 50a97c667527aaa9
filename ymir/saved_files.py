"""Which files of a trained model are handed over: the setting `ymir_saved_file_patterns`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePath

from settings.convert import config_error

WEIGHTS = (".pt", ".pth")
KEY = "ymir_saved_file_patterns"


class SavedFiles:
    """Regular expressions between commas, each held against the beginning of a file's name.

    Without any, everything is handed over; weights always are, since a later task gets nothing but
    the files of one stage. Raises TaskError(CONFIG) for an expression that is none.
    """

    def __init__(self, patterns: str) -> None:
        words = [word.strip() for word in patterns.split(",") if word.strip()]
        try:
            self._patterns = [re.compile(word) for word in words]
        except re.error as error:
            wanted = f"regular expressions between commas ({error})"
            raise config_error(KEY, patterns, wanted) from None

    def wants(self, name: str) -> bool:
        """Whether a file of this name is handed over."""
        if not self._patterns or PurePath(name).suffix in WEIGHTS:
            return True
        return any(pattern.match(PurePath(name).name) for pattern in self._patterns)

    def of(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of the names, in their order."""
        return tuple(name for name in names if self.wants(name))
