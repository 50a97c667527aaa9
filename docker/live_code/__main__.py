"""Starts a live-code task, step by step, and says which step failed and why.

python3 -m live_code [--env /in/env.yaml] [--app /app] [--baked]
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .children import Children
from .secret_urls import Redactor, clean
from .steps import fetch, install, run_start, surroundings
from .task import (
    CONTAINER,
    FAILED,
    RUNNING,
    Places,
    StartError,
    read_code_task,
    read_places,
    says_failed,
    write_record,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one task; the exit status is that of its start.py, or 1 if it came to none."""
    parser = argparse.ArgumentParser(prog="live_code", description=__doc__)
    parser.add_argument("--env", type=Path, default=Path("/in/env.yaml"))
    parser.add_argument("--app", type=Path, default=Path("/app"), help="where the code goes")
    parser.add_argument("--baked", action="store_true", help="the code is there, with its needs")
    options = parser.parse_args(arguments)
    places = Places("default-task", Path("/in/config.yaml"), Path("/out/monitor.txt"))
    children = Children()
    children.listen()
    try:
        places = read_places(options.env)
        environ = surroundings(os.environ)
        if not options.baked:
            environ = _provide_code(options.app, places, children, environ)
        status = run_start(options.app, children, environ)
    except StartError as error:
        sentence = children.redact(error.sentence)
        _fail(places, error.code, sentence)
        return error.status
    if status and not says_failed(places.monitor):
        _fail(places, CONTAINER, f"start.py ended with status {status} and without a reason.")
    return status


def _provide_code(
    app: Path, places: Places, children: Children, environ: dict[str, str]
) -> dict[str, str]:
    task = read_code_task(places.config_file)
    children.redact = Redactor([task.git_url, task.pypi_mirror])

    def tell(sentence: str) -> None:
        print(children.redact(sentence), flush=True)
        where, name = places.monitor, places.task_id
        write_record(where, name, state=RUNNING, code=0, sentence=children.redact(sentence))

    tell(f"cloning {clean(task.git_url)}, {task.git_branch}")
    fetch(task, app, children, environ)
    tell("installing what the code needs")
    return install(app, task.pypi_mirror, children, environ)


def _fail(places: Places, code: int, sentence: str) -> None:
    write_record(places.monitor, places.task_id, state=FAILED, code=code, sentence=sentence)
    print(f"FAILED ({code}): {sentence}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
