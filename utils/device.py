"""The device that a task runs on, its number format, and the CPU's memory allocator."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

import torch
from torch import Tensor

from utils.cpus import available_cpus
from utils.distributed import SINGLE_PROCESS, DistContext
from utils.environment import threads_are_set
from utils.errors import Code, TaskError

log = logging.getLogger(__name__)

DEVICES = Path("/dev")
"""Where a GPU of the machine shows itself, whatever torch can do with it."""

# Parameters of mallopt(3), from glibc's malloc.h.
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3


def select_device(gpu_ids: Sequence[int]) -> torch.device:
    """Return the device of the first granted GPU id; without ids the CPU, even beside a GPU.

    Ids count from 0 among the devices that the process sees; one beyond them gives the first
    device. The process then computes with no more threads than `available_cpus`, and only on this
    GPU if none is named. Raises TaskError (NO_GPU, CUDA_MISMATCH) if there is no usable GPU.
    """
    if not threads_are_set():
        torch.set_num_threads(min(torch.get_num_threads(), available_cpus()))
    if not gpu_ids:
        return torch.device("cpu")
    visible = torch.cuda.device_count()
    if visible == 0 and torch.version.cuda is None and any(DEVICES.glob("nvidia[0-9]*")):
        raise TaskError(
            Code.CUDA_MISMATCH,
            f"a GPU is here but torch {torch.__version__} was built without CUDA: use an image "
            "with a torch for GPUs, or run on the CPU (gpu_id '', --device cpu).",
        )
    if visible == 0:
        raise TaskError(
            Code.NO_GPU,
            f"GPU {', '.join(map(str, gpu_ids))} is asked for (gpu_id, --device), but no GPU is "
            "visible: grant one, or run on the CPU (gpu_id '', --device cpu).",
        )
    if not torch.cuda.is_available():
        raise TaskError(
            Code.CUDA_MISMATCH,
            f"a GPU is visible but CUDA {torch.version.cuda} of torch {torch.__version__} cannot "
            "use it: update the driver or use an image that fits it.",
        )
    first = gpu_ids[0]
    if first >= visible:
        log.warning("GPU %d is beyond the %d visible GPU(s): using GPU 0", first, visible)
        first = 0
    if len(gpu_ids) > 1:
        log.warning("%d GPUs were granted; this task computes on GPU %d only", len(gpu_ids), first)
    # Else the thread that pins batches would take memory on GPU 0 too.
    torch.cuda.set_device(first)
    return torch.device("cuda", first)


def parse_gpu_ids(text: str) -> list[int]:
    """Parse the GPU ids of a text such as '0', '0, 1' or 'cuda:0'; '' and 'cpu' are the CPU.

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


def parse_device(text: str | None, processes: DistContext = SINGLE_PROCESS) -> torch.device:
    """Return the device that a command line names; None is the first GPU, else the CPU.

    Each of several ranks has a GPU of its own.
    """
    if text is None:
        visible = torch.cuda.device_count() if torch.cuda.is_available() else 0
        ids = list(range(visible if processes.is_distributed else min(visible, 1)))
    else:
        ids = parse_gpu_ids(text)
    return select_device(gpu_of_rank(ids, processes))


def gpu_of_rank(gpu_ids: Sequence[int], processes: DistContext) -> Sequence[int]:
    """Return the id of this rank's GPU among those granted to all; a single process keeps all.

    Raises TaskError(CONFIG) if there are fewer GPUs than ranks on this machine.
    """
    if not gpu_ids or not processes.is_distributed:
        return gpu_ids
    usable = visible_gpus(gpu_ids)
    if len(usable) < processes.local_world_size:
        raise TaskError(
            Code.CONFIG,
            f"{processes.local_world_size} processes were started here, but of the GPUs "
            f"{', '.join(map(str, gpu_ids))} there are {len(usable)}: start as many processes as "
            "GPUs, or name the device cpu.",
        )
    return [usable[processes.local_rank]]


def visible_gpus(gpu_ids: Sequence[int]) -> list[int]:
    """Return the ids, each once, of which there is a GPU."""
    visible = torch.cuda.device_count()
    return [number for number in dict.fromkeys(gpu_ids) if number < visible]


def has_bfloat16(device: torch.device) -> bool:
    """Return whether bfloat16 arithmetic is in hardware, not emulated."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return a context for the forward pass in the number format of `compute_dtype`."""
    kind = compute_dtype(device, precision)
    return nullcontext() if kind == torch.float32 else torch.autocast(device.type, dtype=kind)


def compute_dtype(device: torch.device, precision: str) -> torch.dtype:
    """Return the number format of convolutions.

    `auto` is bfloat16 where the hardware has it, else float16 on a GPU with tensor cores.
    `float16` is for GPUs; on a CPU it is float32.
    """
    if precision == "bfloat16" or (precision == "auto" and has_bfloat16(device)):
        return torch.bfloat16
    if device.type != "cuda" or precision == "float32":
        return torch.float32
    has_tensor_cores = precision == "float16" or torch.cuda.get_device_capability(device) >= (7, 0)
    return torch.float16 if has_tensor_cores else torch.float32


def inference_precision(device: torch.device, precision: str, *, evaluates: bool = False) -> str:
    """Return the precision of inference, whose `auto` differs from that of training.

    On a GPU it is float16, for bfloat16 has three bits less, and moves confidences by .03. A CPU
    `evaluates` in float32 (docs/accuracy.md).
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "float32" if compute_dtype(device, precision) == torch.float32 else "float16"
    return "float32" if evaluates else precision


def allow_tf32(allowed: bool) -> None:
    """Let tensor cores round the factors of float32 products to TF32's ten bits, or forbid it.

    It holds for the process. torch allows it in convolutions unless it is told otherwise.
    """
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed


@contextmanager
def without_tf32() -> Iterator[None]:
    """Forbid TF32 in a comparison, where it would be a difference of its own."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    allow_tf32(False)
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@contextmanager
def tried_kernels(device: torch.device, *, fixed_shapes: bool) -> Iterator[None]:
    """Let cuDNN try its kernels for each new shape and keep the fastest, where shapes are few."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = fixed_shapes and device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def describe(device: torch.device) -> str:
    """Return the device in words, for the head of a log."""
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory / 2**30
        return f"{torch.cuda.get_device_name(device)} ({memory:.0f} GiB)"
    threads = torch.get_num_threads()
    return f"CPU ({threads} thread{'s' * (threads != 1)})"


def keep_freed_memory() -> None:
    """Keep glibc's allocator, where it is used, from returning large blocks to the kernel.

    Each forward pass allocates the same maps; fetched anew they cost page faults, about a tenth of
    a training step. The process keeps the most memory it ever used.
    """
    with suppress(AttributeError, OSError, TypeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, 1 << 30)
        mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)


class Upload:
    """Copies batches to a GPU on a stream of its own, beside its kernels; nothing on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.is_idle = device.type == "cpu"
        self._stream = None if self.is_idle else torch.cuda.Stream(device)

    def __call__(self, host: Tensor) -> Tensor:
        """Return a pinned tensor on the device, where the current stream may use it next."""
        if self._stream is None:
            return host
        current = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._stream):
            there = host.to(self.device, non_blocking=True)
        current.wait_stream(self._stream)
        there.record_stream(current)
        return there
