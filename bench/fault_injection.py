"""start.py with one injected fault: a full disk, no memory, NaN, a killed worker, lost images.

    python -m bench.fault_injection --fault 2 --env task/in/env.yaml

The faults are real where possible: the disk is filled to its last byte, the process's memory limit
is set to what it holds while the batch grows, a worker process gets SIGKILL, the folder of the
images is moved away.
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
import utils.atomic as atomic
from bench.fault_cases import FAULTS, Fault
from bench.fault_tasks import fill_disk

LARGER = 6
"""Factor of a side by which the batch outgrows the memory."""
HEADROOM = 4 << 20
"""Bytes that a process may still allocate when its memory is at its limit."""


def patch_file(name: str, nth: int, action: Callable[[], object]) -> None:
    """Call `action` the n-th time that a file of this name is about to be replaced."""
    original, calls = atomic._remove_leftovers, itertools.count(1)

    def patched(path: Path) -> None:
        original(path)
        if path.name == name and next(calls) == nth:
            action()

    atomic._remove_leftovers = patched


def patch_function(
    place: str,
    nth: int,
    *,
    before: Callable[[], object] | None = None,
    change: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> None:
    """Patch the n-th call of `MODULE:FUNCTION` or `MODULE:CLASS.METHOD`.

    `before` is called first, `change` replaces the result.
    """
    module, _, path = place.partition(":")
    *outer, name = path.split(".")
    owner: Any = functools.reduce(getattr, outer, importlib.import_module(module))
    function, calls = getattr(owner, name), itertools.count(1)

    @functools.wraps(function)
    def patched(*arguments: Any, **keywords: Any) -> Any:
        hit = next(calls) == nth
        if hit and before:
            before()
        result = function(*arguments, **keywords)
        return change(result) if hit and change else result

    setattr(owner, name, patched)


def to_nan(images: torch.Tensor) -> torch.Tensor:
    """Return a batch of NaN."""
    return images * float("nan")


def exceed_memory(images: torch.Tensor) -> torch.Tensor:
    """Return a much larger batch in a process that may allocate no more memory."""
    larger = images.repeat_interleave(LARGER, 2).repeat_interleave(LARGER, 3)
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + HEADROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return larger


def kill_worker() -> None:
    """Send SIGKILL to one of the data loader's worker processes."""
    workers = multiprocessing.active_children()
    assert workers, "there is no worker process"
    os.kill(workers[0].pid or 0, signal.SIGKILL)


def inject(fault: Fault, task: Path) -> None:
    """Install the patch of a fault for the task in a folder."""
    changes = {"nan": to_nan, "memory": exceed_memory}
    actions: dict[str, Callable[[], object]] = {
        "full": lambda: fill_disk(task / fault.disk, leave=fault.leave),
        "worker": kill_worker,
        "vanish": lambda: (task / "in" / "assets").rename(task / "in" / "gone"),
    }
    kind, _, name = fault.at.partition(":")
    if kind == "file":
        patch_file(name, fault.nth, actions[fault.do])
    else:
        patch_function(
            fault.at, fault.nth, before=actions.get(fault.do), change=changes.get(fault.do)
        )


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
