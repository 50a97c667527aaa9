"""The choice of a backend: the one named or a sentence; with auto the fastest, or torch."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from data.images import ORIENTATION_TAG
from inference.backends import choice
from inference.backends.base import Backend, BackendType
from inference.backends.choice import SAMPLES, build_checked, choose_backend, sample_images
from ops.letterbox import plan_letterbox
from tests.inference.backends.conftest import broken, exact, wrong
from utils.errors import Code, TaskError


@pytest.fixture
def builders(monkeypatch, network):
    """Stand-ins for both backends of a CPU, taken for installed; change them in the test."""
    made = {"openvino": exact(network, "openvino"), "onnxruntime": exact(network, "onnxruntime")}
    monkeypatch.setattr(choice, "BACKENDS", made)
    monkeypatch.setattr(choice, "installed", list)
    return made


@pytest.fixture
def clock(monkeypatch):
    """Seconds an image of each backend."""
    seconds = {"torch": 1.0, "openvino": 0.8, "onnxruntime": 0.5}

    def scripted(target, backend, batch):
        return seconds["torch" if backend is None else backend.name]

    monkeypatch.setattr(choice, "seconds_per_image", scripted)
    return seconds


@pytest.fixture(autouse=True)
def _log(caplog):
    caplog.set_level(logging.INFO)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_named_backend_passes_the_parity_check(target, samples, caplog, name):
    pytest.importorskip(name, reason="the optional package is not installed")
    backend = choose_backend(name, target, samples, images=1)
    assert backend is not None
    assert (backend.name, backend.arithmetic) == (name, "float32")
    (line,) = caplog.messages
    assert line.startswith(f"engine: {name} in float32; beside torch: 100.0% of")


def test_a_named_backend_that_fails_is_refused(
    target, samples, builders, network, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for backend, words in (
        (wrong(network), "openvino does not compute what torch does .* set engine to torch"),
        (broken, r"openvino cannot be built .*\(operator 7 is unknown\): set engine to torch"),
    ):
        builders["openvino"] = backend
        with pytest.raises(TaskError, match=words) as caught:
            choose_backend("openvino", target, samples, images=1)
        assert caught.value.code is Code.MODEL
        assert "\n" not in caught.value.sentence
        assert list(tmp_path.iterdir()) == []  # no network is left on disk


@pytest.mark.parametrize("name", ["auto", "openvino"])
def test_without_an_image_to_compare_torch_computes(target, builders, caplog, name):
    assert choose_backend(name, target, [], images=1000) is None
    assert "no image could be read" in caplog.text


def test_auto_takes_the_fastest(target, samples, builders, clock, caplog):
    backend = choose_backend("auto", target, samples, images=1000)
    assert backend is not None
    assert backend.name == "onnxruntime"
    lines = caplog.messages
    assert lines[:2] == [
        "engine auto: openvino in float32 is 1.25 times as fast",
        "engine auto: onnxruntime in float32 is 2.00 times as fast",
    ]
    assert lines[2].startswith("engine auto: onnxruntime; choosing took ")
    assert lines[2].endswith(" s of about 1000 s")


def test_auto_stays_with_torch_for_a_small_gain(target, samples, builders, clock, caplog):
    clock.update(openvino=0.95, onnxruntime=1.2)
    assert choose_backend("auto", target, samples, images=1000) is None
    assert "engine auto: torch; choosing took" in caplog.text


@pytest.mark.parametrize(
    ("images", "seconds", "line"),
    [
        (63, 100.0, "; too few images (63)"),
        (64, 1.0, "; its 64 s are too few to try others"),
        (10**6, None, "; no openvino or onnxruntime installed"),
        (10**6, "gpu", ", as always on a GPU"),
    ],
)
def test_auto_does_not_try(
    target, samples, gpu_spec, builders, clock, caplog, monkeypatch, images, seconds, line
):
    clock["torch"] = seconds
    builders["openvino"] = builders["onnxruntime"] = broken
    if seconds is None:
        monkeypatch.setattr(choice, "installed", lambda names: [])
    if seconds == "gpu":
        target = replace(target, spec=gpu_spec)
    assert choose_backend("auto", target, samples, images=images) is None
    assert caplog.messages == [f"engine auto: torch{line}"]


def test_auto_goes_on_past_what_disagrees_or_breaks(
    target, samples, builders, clock, caplog, network
):
    builders["onnxruntime"] = wrong(network)
    backend = choose_backend("auto", target, samples, images=1000)
    assert backend is not None
    assert backend.name == "openvino"
    assert "without onnxruntime: The engine onnxruntime does not compute what torch" in caplog.text
    builders["openvino"] = broken
    assert choose_backend("auto", target, samples, images=1000) is None
    assert "without openvino: The engine openvino cannot be built" in caplog.text


def test_auto_stops_trying_when_it_has_taken_long(
    target, samples, builders, clock, caplog, monkeypatch
):
    """The clock advances by 30 s a reading, and a twentieth of the 1000 s expected is 50 s."""
    times = iter(range(0, 1000, 30))
    monkeypatch.setattr(choice.time, "perf_counter", lambda: next(times))
    backend = choose_backend("auto", target, samples, images=1000)
    assert backend is not None
    assert backend.name == "openvino"
    assert "onnxruntime is not tried" in caplog.text


def noting_backend(target):
    """Torch, and the list of the images that it gets."""
    seen, head_inputs = [], target.network.detector.head_inputs
    return Backend(
        "any", "float32", lambda images: seen.append(images) or head_inputs(images)
    ), seen


def test_a_batch_is_timed_in_every_worker(target):
    assert choice.seconds_per_image(target, None, torch.zeros(2, 3, 32, 32)) > 0
    noting, seen = noting_backend(target)
    choice.seconds_per_image(target, noting, torch.zeros(2, 3, 32, 32))
    assert [tuple(one.shape) for one in seen] == [(2, 3, 32, 32)] * target.pool.count


def plan(size):
    return plan_letterbox(size, (64, 64), minimal=True)


def written(folder, count, bad=()):
    """Images whose grey is their position; those at `bad` are unreadable."""
    for position in range(count):
        path = folder / f"{position:03d}.png"
        if position in bad:
            path.write_text("no image")
        else:
            cv2.imwrite(str(path), np.full((32, 64, 3), position, np.uint8))
    return [str(path) for path in sorted(folder.iterdir())]


@pytest.mark.parametrize(
    ("count", "bad", "expected"),
    [
        (40, (), [0, 10, 20, 30]),
        (3, (), [0, 1, 2]),
        (8, (2, 4), [0, 6, 1, 3]),
        (2, (0, 1), []),
    ],
)
def test_samples_are_spread_over_the_list(tmp_path, count, bad, expected):
    found = sample_images(written(tmp_path, count, bad), plan)
    assert [round(float(one.mean()) * 255) for one in found] == expected
    assert len(found) <= SAMPLES


def test_a_sample_is_a_network_input(tmp_path):
    cv2.imwrite(str(tmp_path / "red.png"), np.full((32, 64, 3), (0, 0, 255), np.uint8))
    (image,) = sample_images([str(tmp_path / "red.png")], plan)
    assert image.dtype == torch.float32
    assert torch.equal(image, torch.tensor([1.0, 0, 0])[:, None, None].expand(3, 32, 64))
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    Image.new("RGB", (64, 32)).save(tmp_path / "turned.png", exif=exif)
    paths = [str(tmp_path / "turned.png")]
    shapes = [sample_images(paths, plan, upright=turn)[0].shape for turn in (False, True)]
    assert shapes == [(3, 32, 64), (3, 64, 32)]


def test_parity_is_checked_on_batches_of_one_shape_and_on_a_half(target, builders):
    noting, seen = noting_backend(target)
    builders["openvino"] = BackendType(lambda neck, spec: noting)
    samples = [torch.rand(shape) for shape in [(3, 96, 64), (3, 64, 64), (3, 96, 64)]]
    build_checked("openvino", target, samples)
    assert [tuple(one.shape) for one in seen] == [(2, 3, 96, 64), (1, 3, 64, 64), (1, 3, 32, 64)]
    assert torch.equal(seen[0][1], samples[2])
