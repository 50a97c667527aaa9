"""The one exception a user's mistake may end in, and the platform's return codes."""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """Return codes of the YMIR executor protocol (column 5 of `monitor.txt`)."""

    OK = 0
    CONFIG = 300001
    DATASET = 300002
    IMAGE_FORMAT = 300003
    MODEL = 300004
    OBJECT_TYPE = 300005
    CUDA_MISMATCH = 300101
    NO_GPU = 300102
    OUT_OF_MEMORY = 300103
    NOT_A_NUMBER = 300201
    NETWORK = 300301
    CONTAINER = 160004


class TaskError(Exception):
    """A task cannot go on, for a reason the user can read and act on.

    `sentence` is one plain sentence: what happened, where, and what to do about it.
    """

    def __init__(self, code: Code, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
