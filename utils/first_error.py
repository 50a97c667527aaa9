"""Which of several processes failed first, and why: the others fail only because it is gone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from utils.errors import Code

VARIABLE = "TORCHELASTIC_ERROR_FILE"
"""Set by torch's launcher: a file of this process in a folder of its own, beside the others'."""
NAME = "first-error.json"


def common_folder(environment: Mapping[str, str]) -> Path | None:
    """The folder that a process shares with those that were launched together with it."""
    own = environment.get(VARIABLE)
    return Path(own).parent.parent if own else None


def write_error_file(
    code: Code, sentence: str, trace: str, *, environment: Mapping[str, str]
) -> bool:
    """Leave an error for the launcher; whether it is the first one of this machine's processes."""
    folder = common_folder(environment)
    if folder is None:
        return True
    words = {"code": int(code), "sentence": sentence, "trace": trace}
    try:
        # Only one process can make the file, whichever way they race.
        with (folder / NAME).open("x", encoding="utf-8") as file:
            json.dump(words, file)
    except FileExistsError:
        return False
    except OSError:
        return True
    return True


def error_left(environment: Mapping[str, str]) -> bool:
    """Whether a process of this machine has failed."""
    folder = common_folder(environment)
    return folder is not None and (folder / NAME).exists()


def first_error(folder: Path) -> tuple[Code, str, str] | None:
    """The code, sentence and traceback of the error left anywhere in a folder; None without one."""
    for path in sorted(folder.rglob(NAME)):
        try:
            words = json.loads(path.read_text(encoding="utf-8"))
            return Code(words["code"]), str(words["sentence"]), str(words["trace"])
        except (OSError, ValueError, KeyError):
            continue
    return None
