"""The whole network: parity with v7.0, every stock graph, fusion, memory format, gradients."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.checkpoint import build_detector, checkpoint_of, load_checkpoint, save_checkpoint
from models.detector import Detector
from models.loss import DetectionLoss, LossConfig
from models.model_config import parse_model_config, read_model_config
from models.summary import Summary, summarize
from tests.conftest import needs_gpu
from tests.models.conftest import randomize_statistics
from utils.errors import TaskError

ROOT = Path(__file__).parents[2]
STOCK = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "models").rglob("*.yaml"))
# At one width and depth the sizes of a graph are the same network.
GRAPHS = [
    path.stem
    for path in sorted((ROOT / "models" / "hub").glob("*.yaml"))
    if path.stem not in {f"yolov5{size}6" for size in "smlx"}
]


def narrow(name: str) -> Detector:
    """Build the graph at an eighth of its width, with few repeats and anchors that fit."""
    definition = read_model_config(name).definition
    small = {**definition, "depth_multiple": 0.33, "width_multiple": 0.125}
    torch.manual_seed(0)
    detector = randomize_statistics(Detector(parse_model_config(small, nc=2)))
    if detector.has_placeholder_anchors:
        detector.anchors.copy_(torch.tensor([[1.0, 1.5], [2.0, 2.0], [3.5, 3.0]]))
    return detector


def images_for(detector: Detector) -> torch.Tensor:
    """Two images, one cell of the coarsest map high and two wide."""
    multiple = detector.config.input_multiple
    return torch.rand(2, 3, multiple, 2 * multiple)


@pytest.mark.parametrize("name", STOCK)
def test_stock_networks_equal_the_reference(name, golden):
    """tests/golden/models.json: v7.0's own state dicts (hashed), and thop 0.1.1 on its configs."""
    reference = json.loads(golden("models.json").read_text())[name]
    with torch.device("meta"):
        detector = Detector(read_model_config(name, 80))
    for network, expected in (detector, reference), (detector.fused(), reference["fused"]):
        listing = sorted(f"{k} {list(v.shape)}" for k, v in network.state_dict().items())
        assert len(listing) == expected["n_state_dict_keys"]
        found = hashlib.sha256("\n".join(listing).encode()).hexdigest()
        assert found == expected["state_dict_sha256"]
        summary = summarize(network)
        assert summary.layers == expected["layers"]
        assert summary.parameters == expected["parameters"]
        assert summary.gflops == pytest.approx(expected["gflops_640"], rel=1e-6)
    blocks = [sum(p.numel() for p in layer.parameters()) for layer in detector.model]
    assert blocks == [parameters for _, parameters in reference["blocks"]]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_forward_equals_the_reference(shared, fused, memory):
    """golden/yolov5n_official.npz: the official code on its own checkpoint, eval, float32."""
    detector = build_detector(load_checkpoint(shared / "golden" / "yolov5n_official.pt")).eval()
    detector = (detector.fused() if fused else detector).to(memory_format=memory)
    with np.load(shared / "golden" / "yolov5n_official.npz") as arrays, torch.no_grad():
        raw = detector(torch.from_numpy(arrays["x"]).contiguous(memory_format=memory))
        rows = detector.decode(raw).numpy()
        for level in range(3):
            np.testing.assert_allclose(raw[level].numpy(), arrays[f"raw{level}"], atol=2e-4)
        expected = arrays["y_fused" if fused else "y"]
        np.testing.assert_allclose(rows[..., :4], expected[..., :4], rtol=2e-4, atol=5e-3)
        np.testing.assert_allclose(rows[..., 4:], expected[..., 4:], atol=5e-5)


@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph_has_the_maps_of_its_config_however_it_is_run(name):
    """In double precision, where rounding cannot hide a fault of fusion or memory format."""
    detector = narrow(name).double().eval()
    images = images_for(detector).double()
    raw = detector(images)
    for level, stride in zip(raw, detector.config.strides, strict=True):
        rows, columns = (int(side / stride) for side in images.shape[2:])
        assert level.shape == (2, 3, rows, columns, 7)
    expected = detector.decode(raw)
    assert expected.shape == (2, sum(level[0, ..., 0].numel() for level in raw), 7)
    assert expected.isfinite().all()
    assert ((expected[..., 4:] >= 0) & (expected[..., 4:] <= 1)).all()
    fused = detector.fused()
    torch.testing.assert_close(fused.predict(images), expected, rtol=1e-9, atol=1e-9)
    turned = images.contiguous(memory_format=torch.channels_last)
    for network in (detector, fused):
        found = network.to(memory_format=torch.channels_last).predict(turned)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", GRAPHS)
def test_one_step_of_training_reaches_every_parameter(name):
    detector = narrow(name).train()
    criterion = DetectionLoss(detector.anchors, 2, LossConfig(0.05, 1.0, 0.5))
    sizes = [0.05, 0.1, 0.2, 0.4, 0.8]
    targets = torch.tensor([[i % 2, i % 2, 0.45, 0.55, size, size] for i, size in enumerate(sizes)])
    losses = criterion(detector(images_for(detector)), targets)
    assert losses.total.isfinite()
    assert losses.box > 0
    losses.total.backward()
    for key, parameter in detector.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@pytest.mark.parametrize("name", ["yolov5s-LeakyReLU", "yolov5s-transformer", "yolov5-p34"])
def test_a_checkpoint_restores_the_network_and_its_fitted_anchors(name, tmp_path):
    detector = narrow(name).eval()
    save_checkpoint(tmp_path / "best.pt", checkpoint_of(detector, ("cat", "owl")))
    again = build_detector(load_checkpoint(tmp_path / "best.pt")).eval()
    assert again.config.layers == detector.config.layers
    assert again.config.activation == detector.config.activation
    assert not again.has_placeholder_anchors
    images = images_for(detector)
    assert torch.equal(again.predict(images), detector.predict(images))


@needs_gpu
@pytest.mark.parametrize("name", GRAPHS)
def test_cuda_equals_cpu(name):
    detector = narrow(name).double().eval()
    images = images_for(detector).double()
    expected = detector.predict(images)
    found = detector.cuda().to(memory_format=torch.channels_last).predict(images.cuda()).cpu()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_a_fused_copy_and_a_summary_change_nothing(tiny):
    detector = tiny().train()
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    state = torch.get_rng_state()
    assert not detector.fused().training
    summarize(detector)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in detector.modules())
    assert all(not module._forward_hooks for module in detector.modules())
    assert all(torch.equal(value, before[key]) for key, value in detector.state_dict().items())
    assert all(isinstance(p, nn.Parameter) and p.requires_grad for p in detector.parameters())


def test_building_leaves_the_statistics_fresh(tiny_definition):
    """v7.0's stride probe updates every running statistic with zeros; there is none here."""
    for key, value in Detector(parse_model_config(tiny_definition)).state_dict().items():
        if key.endswith("running_var"):
            assert torch.equal(value, torch.ones_like(value))
        if key.endswith("num_batches_tracked"):
            assert value == 0


def test_an_activation_belongs_to_one_network(tiny_definition):
    """In v7.0 an activation in a model file changed every network built after it."""

    def build(**changes: str) -> Detector:
        torch.manual_seed(0)
        return Detector(parse_model_config({**tiny_definition, **changes})).eval()

    before, leaky, after = build(), build(activation="nn.LeakyReLU(0.1)"), build()
    images = torch.rand(1, 3, 32, 32)
    assert not torch.allclose(before.predict(images), leaky.predict(images), atol=1e-3)
    assert torch.equal(before.predict(images), after.predict(images))


def test_anchor_levels_follow_the_strides(tiny, tiny_definition):
    levels = tiny_definition["anchors"]
    turned = Detector(parse_model_config({**tiny_definition, "anchors": levels[::-1]}))
    assert torch.equal(tiny().anchors, turned.anchors)


def test_outputs_are_those_of_single_images_and_alike_in_both_modes(tiny):
    detector = tiny()
    images = torch.rand(3, 3, 32, 40)
    shapes = [(3, 2, 8, 10, 8), (3, 2, 4, 5, 8)]
    assert [tuple(level.shape) for level in detector.train()(images)] == shapes
    assert [tuple(level.shape) for level in detector.eval()(images)] == shapes
    alone = torch.cat([detector.predict(image[None]) for image in images])
    torch.testing.assert_close(detector.predict(images), alone)


def test_arguments_no_block_takes_are_refused(tiny_definition):
    rows = [[-1, 1, "Conv", [8, "wide"]], *list(tiny_definition["backbone"])[1:]]
    with pytest.raises(TaskError, match="layer 0"):
        Detector(parse_model_config({**tiny_definition, "backbone": rows}))


@pytest.mark.parametrize(
    ("name", "end", "block"),
    [("yolov5n", 9, "SPPF"), ("yolov5n6", 11, "SPPF"), ("yolov3-tiny", 12, "nn.MaxPool2d")],
)
def test_the_backbone_alone_gives_its_last_map(name, end, block):
    """Layer numbers by counting the rows of the model files."""
    detector = narrow(name).eval()
    assert detector.config.backbone_end == end
    assert detector.config.layers[end].block == block
    images, seen = images_for(detector), []
    hook = detector.model[end].register_forward_hook(lambda *call: seen.append(call[2]))
    with torch.no_grad():
        detector(images)
        hook.remove()
        alone = detector.backbone(images)
    assert len(seen) == 1
    assert torch.equal(alone, seen[0])


def test_a_summary_is_one_line_of_the_log():
    line = "214 layers, 1.77 M parameters, 4.2 GFLOPs at 640 px"
    assert str(Summary(214, 1_765_270, 4.1923)) == line
