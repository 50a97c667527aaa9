"""The one exception a user's mistake may end in, and the platform's return codes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def best_effort(what: str, log: logging.Logger) -> Iterator[None]:
    """Turn any exception of a block into a warning that `what` is missing.

    For figures and pages only: a model must not be lost to a name that cannot be drawn.
    """
    try:
        yield
    except Exception as error:
        log.warning(
            "%s could not be made (%s: %s); the results are not affected",
            what,
            type(error).__name__,
            error,
            exc_info=True,
        )
