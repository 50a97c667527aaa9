"""start.py with one injected fault: a full disk, no memory, NaN, a killed worker, lost images.

    python -m bench.fault_injection --fault 2 --env task/in/env.yaml

The faults are real where possible: the disk is filled to its last byte, the process may hold no
more memory while the batch grows, a worker gets SIGKILL, the folder of the images is moved away.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import itertools
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import start
from bench.fault_cases import FAULTS, Fault
from bench.fault_tasks import fill_disk

LARGER = 4096
"""Images of the batch that outgrows the memory: views of one, which the first layer copies."""
HEADROOM = 64 << 20
"""Bytes that a process may still allocate: less than such a copy, and enough to report the failure.

With almost nothing left, the dynamic linker may find no memory for the thread-local data of a
library and end the process itself, with status 127.
"""


def patch_function(
    place: str,
    nth: int,
    *,
    file: str = "",
    before: Callable[[], object] | None = None,
    change: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> None:
    """Patch the n-th call of `MODULE:FUNCTION` or `MODULE:CLASS.METHOD`.

    `before` is called first, `change` replaces the result. With `file` only calls count whose
    first argument is a path of this name.
    """
    module, _, path = place.partition(":")
    *outer, name = path.split(".")
    owner: Any = functools.reduce(getattr, outer, importlib.import_module(module))
    function, calls = getattr(owner, name), itertools.count(1)

    @functools.wraps(function)
    def patched(*arguments: Any, **keywords: Any) -> Any:
        hit = (not file or arguments[0].name == file) and next(calls) == nth
        if hit and before:
            before()
        result = function(*arguments, **keywords)
        return change(result) if hit and change else result

    setattr(owner, name, patched)


def exceed_memory(images: torch.Tensor) -> torch.Tensor:
    """Return a much larger batch in a process that may allocate hardly any more memory."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + HEADROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return images[:1].expand(LARGER, -1, -1, -1)


def kill_worker() -> None:
    """Send SIGKILL to one of the data loader's worker processes."""
    workers = multiprocessing.active_children()
    assert workers, "there is no worker process"
    os.kill(workers[0].pid or 0, signal.SIGKILL)


def inject(fault: Fault, task: Path) -> None:
    """Install the patch of a fault for the task in a folder."""
    changes = {"nan": lambda images: images * float("nan"), "memory": exceed_memory}
    actions: dict[str, Callable[[], object]] = {
        "full": lambda: fill_disk(task / fault.disk, leave=fault.leave),
        "worker": kill_worker,
        "vanish": lambda: (task / "in" / "assets").rename(task / "in" / "gone"),
    }
    file = fault.at.removeprefix("file:") if fault.at.startswith("file:") else ""
    place = "utils.atomic:_remove_leftovers" if file else fault.at
    before, change = actions.get(fault.do), changes.get(fault.do)
    patch_function(place, fault.nth, file=file, before=before, change=change)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the task with its fault; return the exit status of start.py."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fault", type=int, required=True, help="its number in FAULTS")
    parser.add_argument("--env", required=True)
    options = parser.parse_args(arguments)
    inject(FAULTS[options.fault], Path(options.env).parent.parent)
    return start.main(["--env", options.env])


if __name__ == "__main__":
    sys.exit(main())
