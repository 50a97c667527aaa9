"""The pretended GPU notices planted faults and waits, and computes the CPU's numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch

from tests.pretend_gpu import PretendGpu


def test_a_clean_step_waits_for_nothing_and_equals_the_cpu(pretend_gpu: PretendGpu) -> None:
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    image = torch.rand(2, 3, 8, 8)
    layers(image).square().mean().backward()
    wanted = layers[0].weight.grad.clone()
    layers.zero_grad()
    layers.to("cuda:0")
    pinned = image.pin_memory()
    with pretend_gpu.watch() as seen:
        moved = pinned.to("cuda:0", non_blocking=True)
        layers(moved).square().mean().backward()
        with torch.autocast("cuda", dtype=torch.bfloat16):
            low = layers[0](moved)
    assert low.dtype == torch.bfloat16
    assert layers[0].weight.grad.device == torch.device("cuda", 0)
    assert torch.equal(layers[0].weight.grad.cpu(), wanted)
    assert not seen.waits
    assert seen.bytes == {"h2d async": image.numel() * 4}
    assert seen.dispatches["convolution_backward"] == 1
    seen.assert_within(sum(seen.dispatches.values()))
    with pytest.raises(AssertionError, match=r"tests/test_pretend_gpu\.py:\d+ test_a_clean"):
        seen.assert_within(sum(seen.dispatches.values()) - 1)


@pytest.mark.parametrize(
    ("wait", "kinds"),
    [
        pytest.param(lambda x: float(x.sum()), ["_local_scalar_dense"], id="item"),
        pytest.param(lambda x: bool((x > 2).any()), ["_local_scalar_dense"], id="if"),
        pytest.param(lambda x: x[x > 0.5], ["index by a mask"], id="mask"),
        pytest.param(lambda x: x.nonzero(), ["nonzero"], id="nonzero"),
        pytest.param(lambda x: x.sum(0).tolist(), ["d2h"], id="list"),
        pytest.param(lambda x: x.new_tensor([1.0]), ["h2d pageable"], id="list to the device"),
        pytest.param(
            lambda x: torch.rand(3).to(x.device, non_blocking=True), ["h2d pageable"], id="unpinned"
        ),
        pytest.param(
            lambda x: torch.rand(3).pin_memory().to(x.device), ["h2d pinned"], id="blocking"
        ),
        pytest.param(lambda x: torch.cuda.synchronize(), ["cuda.synchronize"], id="synchronize"),
    ],
)
def test_planted_waits_are_counted_with_their_place(
    pretend_gpu: PretendGpu, wait: Callable[[torch.Tensor], object], kinds: list[str]
) -> None:
    on_gpu = torch.rand(4, 4).to("cuda")
    with pretend_gpu.watch() as seen:
        wait(on_gpu)
    assert Counter(kind for kind, _ in seen.waits.elements()) == Counter(kinds), seen.report()
    assert all(at.startswith("tests/test_pretend_gpu.py:") for _, at in seen.waits)
    with pytest.raises(AssertionError, match=f"1 waits {kinds[0]}"):
        seen.assert_within(1000)
    torch.cuda.set_sync_debug_mode("error")
    with pytest.raises(RuntimeError, match="synchronizing"):
        wait(on_gpu)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        pytest.param(lambda x: x + torch.rand(4, 4), "same device", id="two devices"),
        pytest.param(lambda x: torch.cat([x, torch.rand(4, 4)]), "same device", id="cat"),
        pytest.param(lambda x: torch.rand(4)[x[0].long()], "same device", id="index"),
        pytest.param(lambda x: x.numpy(), "can't convert", id="numpy"),
        pytest.param(
            lambda x: torch.rand(3, device="cuda", generator=torch.Generator()),
            "generator",
            id="generator",
        ),
        pytest.param(lambda x: x.expand(1 << 20, 4, 4).clone() + 1, "out of memory", id="memory"),
    ],
)
def test_planted_faults_raise_as_on_cuda(
    pretend_gpu: PretendGpu, fault: Callable[[torch.Tensor], object], message: str
) -> None:
    on_gpu = torch.rand(4, 4).to("cuda")
    pretend_gpu.memory = 1 << 20
    with pytest.raises((RuntimeError, TypeError), match=message):
        fault(on_gpu)


def test_a_graph_does_again_what_was_recorded(pretend_gpu: PretendGpu) -> None:
    """On the same memory, with the numbers that the host had; recording changes nothing."""
    batch, total, rate = torch.ones(3).to("cuda"), torch.zeros(3).to("cuda"), 2.0
    layer, graph = torch.nn.Linear(3, 1, device="cuda"), torch.cuda.CUDAGraph()
    torch.nn.init.ones_(layer.weight)
    with torch.cuda.graph(graph):
        total += batch * rate
        layer(total).sum().backward()
    assert total.tolist() == [0, 0, 0]
    rate = 5.0
    with pretend_gpu.watch() as seen:
        for number in (1.0, 10.0):
            batch.fill_(number)
            graph.replay()
    assert total.tolist() == [22, 22, 22]
    assert layer.weight.grad.tolist() == [[22, 22, 22]]
    assert seen.dispatches == {"fill_": 2, "graph": 2}


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda x: float(x.sum()), id="a wait"),
        pytest.param(lambda x: torch.rand(3).to(x.device, non_blocking=True), id="pageable"),
        pytest.param(lambda x: torch.cuda.synchronize(), id="synchronize"),
        pytest.param(lambda x: x + torch.rand(3), id="two devices"),
    ],
)
def test_what_cannot_be_recorded_raises(
    pretend_gpu: PretendGpu, fault: Callable[[torch.Tensor], object]
) -> None:
    on_gpu, graph = torch.rand(3).to("cuda"), torch.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match=r"stream is capturing|same device"):  # noqa: SIM117
        with torch.cuda.graph(graph):
            fault(on_gpu)
    assert not torch.cuda.is_current_stream_capturing()
