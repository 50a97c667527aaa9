"""The processes of one training: who this one is among them, and what they tell each other."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from utils.errors import Code, TaskError
from utils.rendezvous import own_store

LONGEST_WAIT = timedelta(hours=3)
"""For the first process while it writes, or looks at the best weights, alone; one that dies is
noticed at once."""
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
"""What torch's launcher sets; where one is missing, this process is alone."""


@dataclass(frozen=True)
class DistContext:
    """Process `rank` of `world`, of which `local_world` are on this machine; alone by default.

    Every method that speaks with the others must be called by all of them in the same order; for
    one that is alone each does nothing.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> DistContext:
        """What the launcher's variables say. Raises TaskError(CONFIG) if they are no numbers."""
        if any(not environment.get(name) for name in VARIABLES):
            return cls()
        try:
            rank, world, local_rank, local_world = (
                int(environment[name]) for name in VARIABLES[:4]
            )
        except ValueError:
            raise TaskError(
                Code.CONFIG,
                f"the variables {', '.join(VARIABLES[:4])} must be numbers, as torchrun sets them.",
            ) from None
        return cls(rank, world, local_rank, local_world)

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and reports."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.world > 1

    @contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """Be connected with the others, by gloo on the CPU and by nccl between GPUs.

        Leaves together with them; after an exception at once, as they may no longer be there.
        """
        if not self.several:
            yield
            return
        self.settle(device)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        store = own_store(os.environ, rank=self.rank, world=self.world, patience=LONGEST_WAIT)
        dist.init_process_group(
            backend, store=store, rank=self.rank, world_size=self.world, timeout=LONGEST_WAIT
        )
        yield
        together = self.total(torch.zeros(1))  # wait for each other
        # Held until after: a thread of gloo that had to free it would wait for the interpreter,
        # which torch 2.4 keeps while it waits for that thread.
        dist.destroy_process_group()
        del together

    def settle(self, device: torch.device) -> None:
        """Take this process's share of the machine's CPUs, and its GPU."""
        if not self.several:
            return
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(torch.get_num_threads() // self.local_world, 1))
        if device.type == "cuda":
            torch.cuda.set_device(device)

    def wrapped(self, network: nn.Module) -> nn.Module:
        """The network with gradients that are means over all processes."""
        if not self.several:
            return network
        device = next(network.parameters()).device
        return DistributedDataParallel(
            network, device_ids=[device.index] if device.type == "cuda" else None
        )

    def broadcast_module(self, network: nn.Module) -> None:
        """Give the network the weights and buffers that it has in the first process."""
        if self.several:
            with torch.no_grad():
                for tensor in (*network.parameters(), *network.buffers()):
                    # A copy in plain memory order, as the network may lie in another.
                    sent = tensor.detach().clone(memory_format=torch.contiguous_format)
                    dist.broadcast(sent, 0)
                    tensor.copy_(sent)

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes, as a new tensor."""
        if not self.several:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all processes, as a new tensor."""
        return self.total(values) / self.world if self.several else values

    def share(self, counts: Tensor) -> Tensor:
        """What is each one's part of the sum of the counts, where a sum of 0 is taken for 1."""
        return self.total(counts).clamp(min=1) / self.world

    def first_says(self, number: int) -> int:
        """The number that the first process has."""
        if not self.several:
            return number
        said = torch.tensor([number])
        dist.broadcast(said, 0)
        return int(said)

    def first_writes(self, text: str) -> str:
        """The text that the first process has."""
        if not self.several:
            return text
        letters = text.encode("utf-8", "surrogateescape")
        said = torch.zeros(self.first_says(len(letters)), dtype=torch.uint8)
        if self.first:
            said.copy_(torch.frombuffer(bytearray(letters), dtype=torch.uint8))
        dist.broadcast(said, 0)
        return bytes(said.tolist()).decode("utf-8", "surrogateescape")

    def gather(self, content: bytes) -> list[bytes]:
        """What every process has to say, by rank, in the first one; nothing in the others."""
        if not self.several:
            return [content]
        own = torch.from_numpy(np.frombuffer(content, np.uint8).copy())
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world)]
        dist.all_gather(sizes, torch.tensor([len(own)]))
        if not self.first:
            dist.send(own, 0)
            return []
        said = [content]
        for rank in range(1, self.world):
            heard = torch.zeros(int(sizes[rank]), dtype=torch.uint8)
            dist.recv(heard, rank)
            said.append(heard.numpy().tobytes())
        return said

    def agree(self, number: int, trouble: str) -> None:
        """End in every process if they do not all have the same number.

        `trouble` is a sentence with a place for `{numbers}`. Raises TaskError(CONFIG).
        """
        if not self.several:
            return
        numbers = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world)]
        dist.all_gather(numbers, torch.tensor([number]))
        said = [int(one) for one in numbers]
        if len(set(said)) > 1:
            listed = ", ".join(map(str, said))
            raise TaskError(Code.CONFIG, trouble.format(numbers=listed))


SINGLE_PROCESS = DistContext()
