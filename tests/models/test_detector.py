"""The whole network: keys, shapes, forward parity, fusion, memory format."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.blocks import Conv
from models.checkpoint import build_detector, load_checkpoint
from models.detector import Detector
from models.model_config import parse_model_config, read_model_config
from utils.errors import TaskError

SIZES = [f"models/yolov5{s}.yaml" for s in "nsmlx"] + [
    f"models/hub/yolov5{s}6.yaml" for s in "nsmlx"
]
STOCK = sorted(
    path.relative_to(Path(__file__).parents[2]).as_posix()
    for path in (Path(__file__).parents[2] / "models").rglob("*.yaml")
)


def _unallocated(name: str, nc: int) -> Detector:
    with torch.device("meta"):
        return Detector(read_model_config(name, nc))


def _listing(detector: Detector) -> tuple[int, str]:
    state = detector.state_dict()
    listing = sorted(f"{key} {list(value.shape)}" for key, value in state.items())
    return len(listing), hashlib.sha256("\n".join(listing).encode()).hexdigest()


@pytest.mark.parametrize("name", STOCK)
def test_keys_and_shapes_equal_the_reference(name, golden):
    """tests/golden/models.json: the listing of YOLOv5 v7.0's own state dicts, hashed."""
    reference = json.loads(golden("models.json").read_text())[name]
    detector = _unallocated(name, 80)
    assert _listing(detector) == (reference["n_state_dict_keys"], reference["state_dict_sha256"])
    assert sum(p.numel() for p in detector.parameters()) == reference["parameters"]
    blocks = [sum(p.numel() for p in layer.parameters()) for layer in detector.model]
    assert blocks == [parameters for _, parameters in reference["blocks"]]
    fused, expected = detector.fused(), reference["fused"]
    assert _listing(fused) == (expected["n_state_dict_keys"], expected["state_dict_sha256"])
    assert sum(p.numel() for p in fused.parameters()) == expected["parameters"]


@pytest.mark.parametrize("nc", [1, 3])
@pytest.mark.parametrize("name", SIZES)
def test_another_class_count_changes_the_head_alone(name, nc):
    few, many = (_unallocated(name, count).state_dict() for count in (nc, 80))
    changed = [key for key in many if few[key].shape != many[key].shape]
    levels = 4 if "6" in name else 3
    assert len(changed) == 2 * levels
    assert all(".m." in key and few[key].shape[0] == 3 * (nc + 5) for key in changed)


@pytest.mark.parametrize("name", ["yolov5n", "hub/yolov5n6", "hub/yolov3-tiny", "hub/yolov5-p34"])
def test_anchors_and_stride_equal_the_reference(name, golden):
    """Pixels divided by the stride are exact in binary: strides are powers of two."""
    reference = json.loads(golden("models.json").read_text())[f"models/{name}.yaml"]
    detector = Detector(read_model_config(f"models/{name}.yaml", 1))
    assert detector.stride.tolist() == reference["stride"]
    pixels = detector.anchors * detector.stride.view(-1, 1, 1)
    assert pixels.tolist() == reference["anchors_px"]


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


def test_fused_is_a_copy_in_evaluation_mode(tiny):
    detector = tiny()
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    fused = detector.fused()
    images = torch.rand(2, 3, 32, 48)
    assert not fused.training
    assert detector.training
    assert all(torch.equal(value, before[key]) for key, value in detector.state_dict().items())
    expected = detector.eval().predict(images)
    torch.testing.assert_close(fused.predict(images), expected, atol=1e-3, rtol=1e-4)


def test_building_leaves_the_statistics_fresh():
    """Defect 22 of v7.0: its stride probe updates every running statistic with zeros."""
    detector = Detector(read_model_config("yolov5n", 1))
    for key, value in detector.state_dict().items():
        if key.endswith("running_var"):
            assert torch.equal(value, torch.ones_like(value))
        if key.endswith("num_batches_tracked"):
            assert value == 0


def test_two_detectors_share_nothing(tiny):
    first, second = tiny(seed=0), tiny(seed=1)
    key = "model.0.conv.weight"
    assert not torch.equal(first.state_dict()[key], second.state_dict()[key])


def test_the_activation_of_one_network_is_not_that_of_the_next(tiny_definition):
    """Defect 18 of v7.0: an activation in a model file changed every network built after it."""
    before = Detector(parse_model_config(tiny_definition))
    leaky = Detector(parse_model_config({**tiny_definition, "activation": "nn.LeakyReLU(0.1)"}))
    after = Detector(parse_model_config(tiny_definition))

    def used(detector: Detector) -> set[str]:
        return {str(m.activation) for m in detector.modules() if isinstance(m, Conv)}

    assert used(leaky) == {"nn.LeakyReLU(0.1)"}
    assert used(before) == used(after) == {"nn.SiLU()"}


def test_the_activation_decides_what_comes_out(tiny_definition):
    networks = []
    for text in ("nn.SiLU()", "nn.LeakyReLU(0.1)"):
        torch.manual_seed(0)
        networks.append(
            Detector(parse_model_config({**tiny_definition, "activation": text})).eval()
        )
    images = torch.rand(1, 3, 32, 32)
    silu, leaky = (network.predict(images) for network in networks)
    assert not torch.allclose(silu, leaky, atol=1e-3)


def test_placeholder_anchors_are_known_until_they_are_replaced(tiny, tiny_definition):
    detector = Detector(parse_model_config({**tiny_definition, "anchors": 2}))
    assert detector.has_placeholder_anchors
    detector.anchors.copy_(tiny().anchors)
    assert not detector.has_placeholder_anchors
    assert not tiny().has_placeholder_anchors


def test_batch_equals_singles(tiny):
    detector = tiny().eval()
    images = torch.rand(3, 3, 32, 40)
    together = detector.predict(images)
    alone = torch.cat([detector.predict(image[None]) for image in images])
    torch.testing.assert_close(together, alone)


def test_forward_is_the_same_kind_in_training_and_evaluation(tiny):
    detector = tiny()
    images = torch.rand(2, 3, 32, 32)
    shapes = [(2, 2, 8, 8, 8), (2, 2, 4, 4, 8)]
    assert [tuple(level.shape) for level in detector.train()(images)] == shapes
    assert [tuple(level.shape) for level in detector.eval()(images)] == shapes


def test_every_parameter_gets_a_gradient(tiny):
    detector = tiny().train()
    sum(level.square().mean() for level in detector(torch.rand(2, 3, 32, 32))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in detector.parameters())


def test_gradients_do_not_depend_on_the_memory_format(tiny):
    gradients = []
    for memory in (torch.contiguous_format, torch.channels_last):
        detector = tiny().train().to(memory_format=memory)
        torch.manual_seed(5)
        images = torch.rand(2, 3, 32, 32).contiguous(memory_format=memory)
        sum(level.square().mean() for level in detector(images)).backward()
        gradients.append(detector.model[0].conv.weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-3)


def test_repeated_blocks_are_chained(tiny_definition):
    rows = list(tiny_definition["backbone"])
    rows[2] = [-1, 3, "Bottleneck", [8]]
    detector = Detector(parse_model_config({**tiny_definition, "backbone": rows}))
    assert "model.2.2.cv1.conv.weight" in detector.state_dict()


def test_anchor_levels_follow_the_strides(tiny_definition):
    levels = tiny_definition["anchors"]
    straight = Detector(parse_model_config(tiny_definition))
    turned = Detector(parse_model_config({**tiny_definition, "anchors": levels[::-1]}))
    assert torch.equal(straight.anchors, turned.anchors)


def test_arguments_no_block_takes_are_refused(tiny_definition):
    rows = [[-1, 1, "Conv", [8, "wide"]], *list(tiny_definition["backbone"])[1:]]
    with pytest.raises(TaskError, match="layer 0"):
        Detector(parse_model_config({**tiny_definition, "backbone": rows}))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_equals_cpu(tiny):
    images = torch.rand(2, 3, 64, 64)
    detector = tiny().eval()
    expected = detector.predict(images)
    found = detector.cuda().to(memory_format=torch.channels_last).predict(images.cuda()).cpu()
    torch.testing.assert_close(found, expected, atol=0.05, rtol=5e-3)


@pytest.mark.parametrize(
    ("name", "end", "block"),
    [
        pytest.param("yolov5n", 9, "SPPF", id="v5"),
        pytest.param("yolov5n6", 11, "SPPF", id="four levels"),
        pytest.param("yolov3-tiny", 12, "nn.MaxPool2d", id="v3"),
    ],
)
def test_the_backbone_alone_gives_what_its_last_layer_gives_in_the_whole(name, end, block):
    """Layer numbers by counting the rows of the model files."""
    config = read_model_config(name, 2)
    assert config.backbone_end == end
    assert config.layers[end].block == block
    detector = Detector(config).eval()
    images, seen = torch.rand(2, 3, 64, 128), []
    hook = detector.model[end].register_forward_hook(lambda *call: seen.append(call[2]))
    with torch.no_grad():
        detector(images)
        hook.remove()
        alone = detector.backbone(images)
    assert len(seen) == 1
    assert torch.equal(alone, seen[0])
    assert alone.shape[:2] == (2, config.layers[end].channels)
