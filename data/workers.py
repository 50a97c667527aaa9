"""How many processes and threads prepare data, given this machine's CPUs and shared memory."""

from __future__ import annotations

import logging
import shutil
import sys

import cv2
import torch

from utils.cpus import available_cpus

log = logging.getLogger(__name__)

PREFETCH = 2
"""Batches that each worker prepares ahead."""
SHARED_MEMORY = "/dev/shm"
SHARED_MEMORY_SHARE = 0.7
"""Part of the free shared memory that batches in flight may fill."""
MAX_WORKERS = 64
"""Samples of that many CPUs are more than any network takes."""


def worker_count(
    requested: int, *, batch_bytes: int, on_gpu: bool, local_world_size: int = 1
) -> int:
    """Return how many worker processes to start: what is requested or automatic (-1), if it fits.

    Automatic: with a GPU one per CPU, at most 64; else none, since a process that takes a CPU from
    the network stalls its threads at the end of each layer. Batches of workers travel through
    /dev/shm: there are no more workers than fit into 70% of it, with 0 the main process prepares
    the batches. CPUs and shared memory are divided by `local_world_size`, this machine's ranks.
    """
    if sys.platform != "linux":
        return 0  # only a forked worker shares the images in memory
    wanted = requested
    if requested < 0:
        wanted = thread_count(local_world_size) if on_gpu else 0
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        free = 0
    fitting = int(SHARED_MEMORY_SHARE * free // max(batch_bytes * PREFETCH * local_world_size, 1))
    if fitting < wanted:
        log.warning(
            "%s has %d MiB free: %d worker processes instead of %d prepare batches "
            "(start the container with a larger --shm-size to allow more)",
            SHARED_MEMORY,
            free >> 20,
            fitting,
            wanted,
        )
    return min(wanted, fitting)


def thread_count(local_world_size: int = 1) -> int:
    """Return the threads for decoding: the CPUs divided by `local_world_size`, at most 64."""
    return min(MAX_WORKERS, max(available_cpus() // local_world_size, 1))


def limit_worker_threads(_number: int) -> None:
    """Keep a worker process to one thread: there is a worker per CPU already."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
