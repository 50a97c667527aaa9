"""`TaskError` with the platform's return codes, and the error file that processes share."""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from types import ModuleType

from utils.environment import error_folder

ERROR_FILE = "first-error.json"


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
    """An error that the user can act on; `sentence` says what happened, where, and what to do."""

    def __init__(self, code: Code, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


def optional_package(name: str, *, purpose: str) -> ModuleType:
    """Import the module `name`; raise TaskError(CONFIG) naming its package if it is missing.

    `purpose` completes the sentence '… needs the package …'.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise TaskError(
            Code.CONFIG,
            f"{purpose} needs the package {package}, which cannot be imported here ({error}): "
            f"install {package}, or do without.",
        ) from error


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its repr without one."""
    text = str(error).strip()
    return text.splitlines()[0] if text else repr(error)


def write_error_file(code: Code, sentence: str, trace: str, folder: Path | None = None) -> bool:
    """Write this rank's error into `folder`, else for the launcher; return whether it is the first.

    The other ranks of this machine fail because the first one is gone. Without a launcher every
    error is first.
    """
    folder = folder or error_folder()
    if folder is None:
        return True
    try:
        # Mode "x": only one process can create the file, whichever way they race.
        with (folder / ERROR_FILE).open("x", encoding="utf-8") as file:
            json.dump({"code": int(code), "sentence": sentence, "trace": trace}, file)
    except OSError as error:
        return not isinstance(error, FileExistsError)
    return True


def has_error_file() -> bool:
    """Return whether a process launched together with this one has failed."""
    folder = error_folder()
    return folder is not None and (folder / ERROR_FILE).exists()


def read_error_file(folder: Path) -> tuple[Code, str, str] | None:
    """Return code, sentence and traceback of the error file anywhere below `folder`, or None."""
    for path in sorted(folder.rglob(ERROR_FILE)):
        try:
            words = json.loads(path.read_text(encoding="utf-8"))
            return Code(words["code"]), str(words["sentence"]), str(words["trace"])
        except (OSError, ValueError, KeyError):
            continue
    return None


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
            *(what, type(error).__name__, error),
            exc_info=True,
        )
