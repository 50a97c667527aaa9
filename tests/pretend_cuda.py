"""What stands in for a CUDA driver where `tests/pretend_gpu.py` pretends a GPU."""

from __future__ import annotations

import atexit
import ctypes
import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import _disable_current_modes

from tests.pretend_gpu import CudaTensor, PretendGpu, is_pinned
from tests.pretend_graph import graph_classes

TORCH = Path(torch.__file__).parent
NAME = "NVIDIA H200 (pretended)"


def replacements(gpu: PretendGpu) -> Iterator[tuple[Any, str, Any]]:
    """Yield (owner, name, value) of what torch says of the machine, or would ask a driver."""
    import torch._dynamo  # before anything is replaced: it makes a table of torch's functions

    none, zero, yes = lambda *_, **__: None, lambda *_: 0, lambda *_, **__: True
    used, most = lambda *_: gpu.in_use, lambda *_: gpu.peak
    numbers = torch.Generator().manual_seed(0).get_state()
    facts = SimpleNamespace(name=NAME, total_memory=gpu.memory, major=9, minor=0)
    stream = _stream(gpu)
    graph, recorder = graph_classes(gpu)
    machine = {
        "is_available": yes,
        "is_initialized": yes,
        "is_bf16_supported": yes,
        "device_count": lambda: gpu.count,
        "_lazy_init": none,
        "init": none,
        "current_device": zero,
        "set_device": none,
        "device": nullcontext,
        "get_device_name": lambda *_: NAME,
        "get_device_properties": lambda *_: facts,
        "get_device_capability": lambda *_: gpu.capability,
        "empty_cache": none,
        "mem_get_info": lambda *_: (gpu.memory - gpu.in_use, gpu.memory),
        "memory_reserved": used,
        "memory_allocated": used,
        "max_memory_reserved": most,
        "max_memory_allocated": most,
        "reset_peak_memory_stats": lambda *_: setattr(gpu, "peak", gpu.in_use),
        "manual_seed": none,
        "manual_seed_all": none,
        "get_rng_state": lambda *_: numbers,
        "set_rng_state": none,
        "set_rng_state_all": none,
        "get_rng_state_all": lambda: [numbers] * gpu.count,
        "synchronize": lambda *_: gpu.waited("cuda.synchronize"),
        "set_sync_debug_mode": lambda mode: setattr(gpu, "strict", mode in (2, "error")),
        "stream": nullcontext,
        "Stream": stream,
        "Event": stream,
        "current_stream": lambda *_: stream(),
        "default_stream": lambda *_: stream(),
        "CUDAGraph": graph,
        "graph": recorder,
        "graph_pool_handle": lambda: (0, 0),
        "is_current_stream_capturing": lambda: gpu.recording is not None,
    }
    yield from ((torch.cuda, name, value) for name, value in machine.items())
    for name in ("is_available", "device_count", "current_device_index", "set_device_index"):
        yield torch.accelerator, name, machine.get(name, zero)
    watcher = SimpleNamespace(start=none, stop=none, events=lambda: ())
    yield torch.profiler, "profile", lambda **_: watcher
    yield torch.Tensor, "pin_memory", _pin
    yield torch.Tensor, "is_pinned", lambda tensor, *_: is_pinned(tensor)
    yield torch, "batch_norm", lambda *args: torch.native_batch_norm(*args[:8])[0]
    same = torch._has_compatible_shallow_copy_type
    yield (
        torch,
        "_has_compatible_shallow_copy_type",
        lambda a, b: not any(isinstance(one, CudaTensor) for one in (a, b)) and same(a, b),
    )
    yield torch.__future__, "get_swap_module_params_on_conversion", lambda: True
    foreach = [*_foreach_utils._foreach_supported_types, CudaTensor, torch.nn.Parameter]
    yield _foreach_utils, "_foreach_supported_types", foreach
    for owner, name in ((torch.onnx, "export"), (torch.jit, "trace")):
        yield owner, name, _without_modes(getattr(owner, name))


def _stream(gpu: PretendGpu) -> type:
    """Return a class for streams and events: everything happens at once."""

    def nothing(*_: object, **__: object) -> None: ...

    idle = ("__init__", "__exit__", "wait_stream", "wait_event", "wait", "record")
    members: dict[str, Any] = {
        **dict.fromkeys(idle, nothing),
        "__enter__": lambda self: self,
        "record_event": lambda *_: made(),
        "query": lambda *_: True,
        "synchronize": lambda _: gpu.waited("stream or event"),
        "cuda_stream": 0,
        "elapsed_time": lambda *_: 1.0,
    }
    made = type("Stream", (), members)
    return made


def _pin(tensor: torch.Tensor, *_: object) -> torch.Tensor:
    made = torch.empty_like(tensor).copy_(tensor)
    storage: Any = made.untyped_storage()
    storage.pretend_pinned = True
    return made


def _without_modes(function: Any) -> Any:
    """Return a tracer of torch's as a function that a dispatch mode does not blind."""

    def called(*args: Any, **kwargs: Any) -> Any:
        with _disable_current_modes():
            return function(*args, **kwargs)

    return called


def let_autograd_run(kept: list[object] = []) -> None:  # noqa: B006
    """Answer what torch asks of CUDA in a backward pass, until the process ends.

    To be called before the first one, which starts a thread for every device that there is.
    Streams come from torch's own guard that does nothing. Whether a device was used yet is asked of
    a C++ object: its table of virtual functions gets one new entry, at the place that torch's
    header gives it.
    """
    if kept:
        return
    torch._C._ensureCUDADeviceGuardSet()
    header = (TORCH / "include/ATen/detail/AcceleratorHooksInterface.h").read_text("utf-8")
    slot = re.findall(r"virtual\s[^(]*?[\s~*&](\w+)\(", header).index("hasPrimaryContext") + 1
    hooks = ctypes.CDLL(str(TORCH / "lib/libtorch_cpu.so"))._ZN2at6detail12getCUDAHooksEv
    hooks.restype = ctypes.c_void_p
    table = ctypes.c_void_p.from_address(hooks())
    front = 2 * ctypes.sizeof(ctypes.c_void_p)  # what lies before the first function
    entries = (ctypes.c_void_p * 128)(*(ctypes.c_void_p * 128).from_address(table.value - front))
    answer = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, ctypes.c_int8)(lambda *_: False)
    entries[2 + slot] = ctypes.cast(answer, ctypes.c_void_p)  # the destructor takes two places
    kept.extend((entries, answer))
    atexit.register(setattr, table, "value", table.value)
    table.value = ctypes.addressof(entries) + front
