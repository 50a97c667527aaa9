"""Where the processes of one start find each other, whatever killed ones have left there."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from datetime import timedelta

import torch.distributed as dist

from utils.errors import Code, TaskError

PAUSE = 0.01
"""Seconds between two looks of the first process at who has come."""


def own_store(
    environment: Mapping[str, str], *, rank: int, world: int, patience: timedelta
) -> dist.Store | None:
    """The store of torch's launcher, as far as it belongs to this start; see `meet`.

    None where the launcher offers none: then the first process has one to itself, which ends
    with it.
    """
    if environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    store = dist.TCPStore(
        environment["MASTER_ADDR"],
        int(environment["MASTER_PORT"]),
        is_master=False,
        timeout=patience,
        wait_for_workers=False,
    )
    return meet(store, rank=rank, world=world, patience=patience)


def meet(store: dist.Store, *, rank: int, world: int, patience: timedelta) -> dist.Store:
    """A part of the store that `world` processes have to themselves; all must call it.

    `torchrun --max-restarts` starts processes again on the store that the killed ones had: a
    process that is early finds there the addresses of the dead, and calls those. A number of the
    start as prefix does not part them, as launchers on several machines count restarts each for
    itself. Therefore every process asks a question that nobody has asked before; the first answers
    all there are with the name of a new part, until each of the others has confirmed that name.
    Raises TaskError(CONTAINER) in the first if one has not come after `patience`.
    """
    if rank == 0:
        name = uuid.uuid4().hex
        _answer(store, name, world, patience)
    else:
        question = uuid.uuid4().hex
        store.set(f"question/{rank}", question)
        name = store.get(f"answer/{question}").decode()  # waits for it
        store.set(f"confirmed/{name}/{rank}", "")
    return dist.PrefixStore(name, store)


def _answer(store: dist.Store, name: str, world: int, patience: timedelta) -> None:
    missing = list(range(1, world))
    end = time.monotonic() + patience.total_seconds()
    while missing := [one for one in missing if not store.check([f"confirmed/{name}/{one}"])]:
        for one in missing:
            if store.check([f"question/{one}"]):
                store.set(f"answer/{store.get(f'question/{one}').decode()}", name)
        if time.monotonic() > end:
            raise TaskError(
                Code.CONTAINER,
                f"of {world} processes {', '.join(map(str, missing))} did not come within "
                f"{patience}: the log of their machine says why.",
            )
        time.sleep(PAUSE)
