"""The platform's progress file as the starter writes it: one record, replaced as a whole."""

from __future__ import annotations

import os
import time
from pathlib import Path

RUNNING, FAILED = 2, 4


def write_record(path: Path, task_id: str, *, state: int, code: int, sentence: str) -> None:
    """Replace `path` by a record of progress 0. Trouble is printed: it must not hide a failure."""
    message = " ".join(sentence.split())
    line = "\t".join([task_id, f"{time.time():.6f}", "0.000000", str(state), str(code), message])
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(f"{line}\n{message}\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        print(f"progress could not be written to {path}: {error}", flush=True)


def says_failed(path: Path) -> bool:
    """Whether the record there already is that of a failure."""
    try:
        columns = path.read_text(encoding="utf-8", errors="replace").split("\n")[0].split("\t")
    except OSError:
        return False
    return len(columns) > 3 and columns[3].strip() == str(FAILED)
