"""Runs the task that YMIR left in /in and leaves its results in /out.

python3 start.py [--env PATH/env.yaml]
"""

import sys

if sys.version_info < (3, 10):  # noqa: UP036 - told in a sentence, not a traceback
    sys.exit(
        "This repository needs Python 3.10 or later and torch 2.4 or later: run it in a "
        "live-code image with a current Python."
    )

import argparse
import logging
import os
import traceback
from collections.abc import Sequence
from pathlib import Path

from utils.container import log_to_console, provide_home

if __name__ == "__main__":
    provide_home(os.environ)  # before matplotlib and torch look for a home

from tasks import run
from utils.failures import explain
from utils.log_pace import ShareDone
from utils.progress import Progress
from utils.redaction import redact
from utils.termination import Terminated, terminable
from utils.ymir_yolov5 import open_monitor, read_task

log = logging.getLogger("start")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one task; return the exit status. The last line printed says how it ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", type=Path, default=Path("/in/env.yaml"))
    env_file = parser.parse_args(arguments).env
    log_to_console()
    monitor, share = open_monitor(env_file), ShareDone(log)

    def tell(fraction: float) -> None:
        monitor.report(fraction)
        share.tell(fraction)

    try:
        with terminable(lambda: monitor.fail(*explain(Terminated()))):
            task = read_task(env_file)
            run(task, Progress(tell))
    except (Exception, KeyboardInterrupt) as error:
        code, sentence = explain(error)
        sentence, trace = redact(sentence), redact(traceback.format_exc())
        monitor.fail(code, sentence, trace)
        print(trace, end="")
        print(f"FAILED ({int(code)}): {sentence}", flush=True)
        return 1
    print("DONE: every result is written.", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
