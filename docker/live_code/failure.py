"""How the starter ends early: the platform's return code and one sentence."""

from __future__ import annotations

CONFIG, NETWORK, CONTAINER = 300001, 300301, 160004


class StartError(Exception):
    """A step failed; `sentence` says which, where, and what to do about it."""

    def __init__(self, code: int, sentence: str, status: int = 1) -> None:
        super().__init__(sentence)
        self.code, self.sentence, self.status = code, sentence, status
