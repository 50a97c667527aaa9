"""start.py in which one fault happens at a given place: a full disk, no memory, NaN, a dead worker.

    python -m bench.fault_inside --do nan --at train:network_input --nth 5 --env task/in/env.yaml

The place is `file:NAME`, the n-th time that a file of that name is about to be replaced, or
`MODULE:FUNCTION`, the n-th call of a function. What happens there is real, whatever is possible:
the disk is filled to its last byte, the limit of the process's memory is set to what it has while
the batch becomes larger, a worker process gets SIGKILL, the folder of the images is moved away.
"""

from __future__ import annotations

import argparse
import functools
import importlib
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
from bench.fault_disk import fill

LARGER = 6
"""Factor of a side by which the batch outgrows the memory."""
HEADROOM = 4 << 20
"""Bytes that a process may still take when its memory is at its end."""

Act = Callable[[], object]


def every_nth(nth: int, act: Act) -> Act:
    """Something that does `act` the n-th time that it is called, and nothing otherwise."""
    calls = 0

    def called() -> None:
        nonlocal calls
        calls += 1
        if calls == nth:
            act()

    return called


def before_file(name: str, act: Act) -> None:
    """Do something whenever a file of this name is about to be replaced."""
    original = atomic._remove_leftovers

    def remove_leftovers(path: Path) -> None:
        original(path)
        if path.name == name:
            act()

    atomic._remove_leftovers = remove_leftovers


def around_call(place: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put `wrap(function)` in the place of `MODULE:FUNCTION` or `MODULE:CLASS.METHOD`."""
    module, _, path = place.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    setattr(owner, name, wrap(getattr(owner, name)))


def before_call(place: str, act: Act) -> None:
    """Do something before each call."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def called(*arguments: Any, **keywords: Any) -> Any:
            act()
            return function(*arguments, **keywords)

        return called

    around_call(place, wrap)


def change_images(place: str, nth: int, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Change the images that the n-th call returns."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        calls = 0

        @functools.wraps(function)
        def called(*arguments: Any, **keywords: Any) -> Any:
            nonlocal calls
            calls += 1
            images = function(*arguments, **keywords)
            return change(images) if calls == nth else images

        return called

    around_call(place, wrap)


def not_numbers(images: torch.Tensor) -> torch.Tensor:
    """A batch as a broken computation leaves it."""
    return images * float("nan")


def beyond_memory(images: torch.Tensor) -> torch.Tensor:
    """A batch much larger than before, in a process that may take no more memory."""
    larger = images.repeat_interleave(LARGER, 2).repeat_interleave(LARGER, 3)
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + HEADROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return larger


def kill_a_worker() -> None:
    """SIGKILL for one of the processes that prepare batches."""
    workers = multiprocessing.active_children()
    assert workers, "there is no worker process"
    os.kill(workers[0].pid or 0, signal.SIGKILL)


def install(options: argparse.Namespace) -> None:
    """Make the fault happen later."""
    changes = {"nan": not_numbers, "memory": beyond_memory}
    if options.do in changes:
        change_images(options.at, options.nth, changes[options.do])
        return
    disk = Path(options.env).parent.parent / options.disk
    assets = Path(options.env).parent / "assets"
    acts: dict[str, Act] = {
        "full": lambda: fill(disk, leave=options.leave),
        "worker": kill_a_worker,
        "vanish": lambda: assets.rename(assets.with_name("gone")),
    }
    act = every_nth(options.nth, acts[options.do])
    kind, _, name = options.at.partition(":")
    if kind == "file":
        before_file(name, act)
    else:
        before_call(options.at, act)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the task with its fault; the exit status of start.py."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--do", required=True, choices=("full", "nan", "memory", "worker", "vanish")
    )
    parser.add_argument("--at", required=True)
    parser.add_argument("--nth", type=int, default=1)
    parser.add_argument("--disk", default="out", help="the folder of the task that is full")
    parser.add_argument("--leave", type=int, default=0)
    parser.add_argument("--env", required=True)
    options = parser.parse_args(arguments)
    install(options)
    return start.main(["--env", options.env])


if __name__ == "__main__":
    sys.exit(main())
