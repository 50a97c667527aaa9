"""The ranks of a distributed run, and what they send each other."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous as meet

from utils.environment import RANK_VARIABLES, agent_store, ranks, threads_are_set
from utils.errors import Code, TaskError, first_line

MESSAGE = 1 << 24
"""Numbers that are sent at once."""
MEETING = timedelta(minutes=10)
"""Within it the ranks of a start have met, or all end: one may have failed before."""
TIMEOUT = timedelta(hours=3)
"""While rank 0 writes or evaluates alone; a rank that dies is noticed at once."""


@dataclass(frozen=True)
class DistContext:
    """Rank `rank` of `world_size` processes, of which `local_world_size` are on this machine.

    Every method that communicates must be called by all ranks in the same order; in a single
    process (the default) it does nothing.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    @classmethod
    def from_environment(cls) -> DistContext:
        """Return the ranks that torchrun set. Raises TaskError(CONFIG) if they are no numbers."""
        try:
            return cls(*ranks())
        except ValueError:
            names = ", ".join(RANK_VARIABLES)
            sentence = f"the variables {names} must be numbers, as torchrun sets them."
            raise TaskError(Code.CONFIG, sentence) from None

    @property
    def is_main(self) -> bool:
        """Whether this rank writes and reports."""
        return self.rank == 0

    @property
    def is_distributed(self) -> bool:
        """Whether there are other ranks."""
        return self.world_size > 1

    @contextmanager
    def process_group(self, device: torch.device) -> Iterator[None]:
        """Join the process group: gloo on the CPU, nccl between GPUs.

        Leaves it together with the other ranks; after an exception at once, as they may be gone.
        Raises TaskError(CONTAINER) if one has not come within MEETING.
        """
        if not self.is_distributed:
            yield
            return
        self.share_threads()
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        store = shared_store(self.rank, self.world_size, MEETING)
        store.set_timeout(TIMEOUT)
        dist.init_process_group(
            backend, store=store, rank=self.rank, world_size=self.world_size, timeout=TIMEOUT
        )
        yield
        together = self.all_reduce(torch.zeros(1))  # a barrier
        # Held until after: a thread of gloo that had to free it would wait for the interpreter,
        # which torch 2.4 keeps while it waits for that thread.
        dist.destroy_process_group()
        del together

    def share_threads(self) -> None:
        """Take this rank's share of the machine's CPU threads."""
        if self.is_distributed and not threads_are_set():
            torch.set_num_threads(max(torch.get_num_threads() // self.local_world_size, 1))

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors, such as gradients, by their sums over all ranks, in few messages."""
        if self.is_distributed:
            _in_few_messages(tensors, dist.all_reduce)

    def broadcast_module(self, network: nn.Module) -> None:
        """Copy weights and buffers of the network from rank 0, in place, in few messages."""
        if self.is_distributed:
            tensors = (*network.parameters(), *network.buffers())
            _in_few_messages(tensors, lambda joined: dist.broadcast(joined, 0))

    def all_reduce(self, values: Tensor) -> Tensor:
        """Return the sum over all ranks as a new tensor."""
        if not self.is_distributed:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over all ranks as a new tensor."""
        return self.all_reduce(values) / self.world_size

    def normaliser(self, counts: Tensor) -> Tensor:
        """Return the divisor of a loss per object: the mean of `counts` over all ranks.

        A sum of 0 is taken for 1. With it the mean of the ranks' losses is that of the whole batch.
        """
        return self.all_reduce(counts).clamp(min=1) / self.world_size

    def broadcast(self, number: int) -> int:
        """Return the number that rank 0 has."""
        if not self.is_distributed:
            return number
        sent = torch.tensor([number])
        dist.broadcast(sent, 0)
        return int(sent)

    def broadcast_text(self, text: str) -> str:
        """Return the text that rank 0 has."""
        if not self.is_distributed:
            return text
        content = bytearray(text.encode("utf-8", "surrogateescape"))
        sent = torch.zeros(self.broadcast(len(content)), dtype=torch.uint8)
        if self.is_main:
            sent = torch.frombuffer(content, dtype=torch.uint8)
        dist.broadcast(sent, 0)
        return bytes(sent.tolist()).decode("utf-8", "surrogateescape")

    def gather(self, content: bytes) -> list[bytes]:
        """Return what every rank gave, by rank, on rank 0; an empty list on the others."""
        if not self.is_distributed:
            return [content]
        sizes = self._all_gather(len(content))
        if not self.is_main:
            dist.send(torch.from_numpy(np.frombuffer(content, np.uint8).copy()), 0)
            return []
        gathered = [content]
        for rank in range(1, self.world_size):
            received = torch.zeros(sizes[rank], dtype=torch.uint8)
            dist.recv(received, rank)
            gathered.append(received.numpy().tobytes())
        return gathered

    def assert_equal(self, number: int, sentence: str) -> None:
        """Raise TaskError(CONFIG), its sentence with `{numbers}`, on every rank if they differ."""
        numbers = self._all_gather(number) if self.is_distributed else [number]
        if len(set(numbers)) > 1:
            raise TaskError(Code.CONFIG, sentence.format(numbers=", ".join(map(str, numbers))))

    def _all_gather(self, number: int) -> list[int]:
        numbers = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world_size)]
        dist.all_gather(numbers, torch.tensor([number]))
        return [int(one) for one in numbers]


SINGLE_PROCESS = DistContext()


@torch.no_grad()
def _in_few_messages(tensors: Sequence[Tensor], send: Callable[[Tensor], object]) -> None:
    """Send tensors joined to messages of one type, and copy what has become of them back."""
    for dtype in dict.fromkeys(one.dtype for one in tensors):
        rest = [one for one in tensors if one.dtype == dtype]
        while rest:
            ends = np.cumsum([one.numel() for one in rest])
            count = max(int(np.searchsorted(ends, MESSAGE, "right")), 1)
            part, rest = rest[:count], rest[count:]
            joined = part[0].new_empty(int(ends[count - 1]))
            # In plain memory order, as ranks' tensors may lie in others.
            pieces = zip(joined.split([one.numel() for one in part]), part, strict=True)
            views = [piece.view(one.shape) for piece, one in pieces]
            torch._foreach_copy_(views, part)
            send(joined)
            torch._foreach_copy_(part, views)


def shared_store(rank: int, world_size: int, timeout: timedelta) -> Store:
    """Return this start's part (`rendezvous`) of the launcher's store, or of one that rank 0 opens.

    Raises TaskError(CONTAINER) if there is none, or another rank has not come after `timeout`.
    """
    address = agent_store()
    try:
        if address is None:
            store, _, _ = next(meet("env://", rank, world_size, timeout=timeout))
        else:
            store = dist.TCPStore(  # type: ignore[attr-defined]
                *address, is_master=False, timeout=timeout, wait_for_workers=False
            )
        return rendezvous(store, rank, world_size, timeout)
    except dist.DistError as error:
        raise TaskError(
            Code.CONTAINER,
            f"process {rank} of {world_size} could not meet the others ({first_line(error)}): the "
            "log of each machine says why.",
        ) from error


def rendezvous(store: Store, rank: int, world_size: int, timeout: timedelta) -> Store:
    """Return a part of the store that the `world_size` processes of this start have to themselves.

    `torchrun --max-restarts` starts processes again on the store of the killed ones, with their
    addresses; launchers on several machines count restarts each for itself. Therefore every rank
    asks a question that was never asked before, and rank 0 answers all with the name of a new part
    until each rank has confirmed it. Raises TaskError(CONTAINER) on all if one has not after
    `timeout`.
    """
    if rank == 0:
        name = uuid.uuid4().hex
        missing = _answer(store, name, world_size, timeout)
        store.set(f"missing/{name}", missing)
    else:
        question = uuid.uuid4().hex
        store.set(f"question/{rank}", question)
        name = store.get(f"answer/{question}").decode()  # waits for it
        store.set(f"confirmed/{name}/{rank}", "")
        missing = store.get(f"missing/{name}").decode()
    if missing:
        raise TaskError(
            Code.CONTAINER,
            f"of {world_size} processes {missing} did not come within {timeout}: the log of their "
            "machine says why.",
        )
    return PrefixStore(name, store)


def _answer(store: Store, name: str, world_size: int, timeout: timedelta) -> str:
    """Answer the ranks until all have confirmed; return those that have not in time."""
    missing = list(range(1, world_size))
    end = time.monotonic() + timeout.total_seconds()
    while missing := [one for one in missing if not store.check([f"confirmed/{name}/{one}"])]:
        for one in missing:
            if store.check([f"question/{one}"]):
                store.set(f"answer/{store.get(f'question/{one}').decode()}", name)
        if time.monotonic() > end:
            break
        time.sleep(0.01)
    return ", ".join(map(str, missing))
