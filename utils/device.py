"""Which processor a task runs on, and which number format it computes in."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from utils.distributed import SINGLE_PROCESS, DistContext
from utils.errors import Code, TaskError

log = logging.getLogger(__name__)

DEVICES = Path("/dev")
"""Where a GPU of the machine shows itself, whatever torch can do with it."""


def select_device(gpu_ids: Sequence[int]) -> torch.device:
    """The device for the ids a task was granted; no ids means the CPU, even beside a visible GPU.

    Ids count from 0 among the devices the process sees. An id beyond them falls back to the first
    device with a warning. Several ids: the first is used.
    """
    if not gpu_ids:
        return torch.device("cpu")
    visible = torch.cuda.device_count()
    if visible == 0 and torch.version.cuda is None and any(DEVICES.glob("nvidia[0-9]*")):
        raise TaskError(
            Code.CUDA_MISMATCH,
            f"a GPU is here but torch {torch.__version__} was built without CUDA: use an image "
            "with a torch for GPUs, or set gpu_id to '' to run on the CPU.",
        )
    if visible == 0:
        raise TaskError(
            Code.NO_GPU,
            f"gpu_id asks for GPU {', '.join(map(str, gpu_ids))} but no GPU is visible: grant the "
            "task a GPU, or set gpu_id to '' to run on the CPU.",
        )
    if not torch.cuda.is_available():
        raise TaskError(
            Code.CUDA_MISMATCH,
            f"a GPU is visible but CUDA {torch.version.cuda} of torch {torch.__version__} cannot "
            "use it: update the driver or use an image that fits it.",
        )
    first = gpu_ids[0]
    if first >= visible:
        log.warning("gpu_id %d is beyond the %d visible GPU(s): using GPU 0", first, visible)
        first = 0
    if len(gpu_ids) > 1:
        log.warning("%d GPUs were granted; this task computes on GPU %d only", len(gpu_ids), first)
    return torch.device("cuda", first)


def gpu_ids_of(text: str) -> list[int]:
    """The ids in a command line's text such as '0', '0, 1' or 'cuda:0'; '' and 'cpu' are the CPU.

    Raises TaskError(CONFIG) for anything else.
    """
    words = [part.strip().lower() for part in text.split(",") if part.strip()]
    if words == ["cpu"]:
        return []
    numbers = [word.removeprefix("cuda").removeprefix(":") or "0" for word in words]
    if not all(number.isdigit() for number in numbers):
        raise TaskError(
            Code.CONFIG, f"the device {text!r} is neither cpu nor numbers of GPUs such as 0 or 0,1."
        )
    return [int(number) for number in numbers]


def device_of(text: str | None, processes: DistContext = SINGLE_PROCESS) -> torch.device:
    """The device a command line names; None, which names none, is the first GPU or else the CPU.

    Of several processes each has a GPU of its own.
    """
    if text is None:
        visible = torch.cuda.device_count() if torch.cuda.is_available() else 0
        ids = list(range(visible if processes.several else min(visible, 1)))
    else:
        ids = gpu_ids_of(text)
    return select_device(own_gpu(ids, processes))


def own_gpu(gpu_ids: Sequence[int], processes: DistContext) -> Sequence[int]:
    """Of the ids that several processes were granted the one of this process; none is the CPU."""
    if not gpu_ids or not processes.several:
        return gpu_ids
    usable = present(gpu_ids)
    if len(usable) < processes.local_world:
        raise TaskError(
            Code.CONFIG,
            f"{processes.local_world} processes were started here, but of the GPUs "
            f"{', '.join(map(str, gpu_ids))} there are {len(usable)}: start as many processes as "
            "GPUs, or name the device cpu.",
        )
    return [usable[processes.local_rank]]


def present(gpu_ids: Sequence[int]) -> list[int]:
    """The ids, each once, of which there is a GPU."""
    visible = torch.cuda.device_count()
    return [number for number in dict.fromkeys(gpu_ids) if number < visible]


def has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 arithmetic is in hardware, not emulated."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """A context for the forward pass: `auto` is bfloat16 where the hardware has it.

    `float16` is for inference on a GPU; elsewhere it is float32, whose range gradients need.
    """
    kind = computed_in(device, precision)
    if kind == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype=kind)


def computed_in(device: torch.device, precision: str) -> torch.dtype:
    """The number format of the convolutions under `autocast` of the same arguments."""
    if precision == "float16" and device.type == "cuda":
        return torch.float16
    if precision == "bfloat16" or (precision == "auto" and has_bfloat16(device)):
        return torch.bfloat16
    return torch.float32


def describe(device: torch.device) -> str:
    """The device in words, for the head of a log."""
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory / 2**30
        return f"{torch.cuda.get_device_name(device)} ({memory:.0f} GiB)"
    threads = torch.get_num_threads()
    return f"CPU ({threads} thread{'s' * (threads != 1)})"
