"""Which engine computes: the one named or a sentence; with auto the fastest, or torch."""

from __future__ import annotations

import logging
import sys
import tempfile
from dataclasses import replace

import pytest
import torch

from inference.backends import choice
from inference.backends.base import Engine
from inference.backends.choice import choose_engine, installed
from utils.errors import Code, TaskError

PACKAGES = ("onnxruntime", "openvino")


def exact(network, name="exact"):
    return lambda trunk, around: Engine(name, "float32", network.head_inputs)


def wrong(network):
    """The finest map upside down: a graph that was converted badly."""
    return lambda trunk, around: Engine(
        "wrong", "float32", lambda images: [one.flip(2) for one in network.head_inputs(images)]
    )


def broken(trunk, around):
    raise RuntimeError("operator 7 is unknown\nand so on")


@pytest.fixture
def builders(monkeypatch, network):
    """Stand-ins for both engines of a CPU, both taken for installed; change them in the test."""
    made = {"openvino": exact(network, "openvino"), "onnxruntime": exact(network, "onnxruntime")}
    monkeypatch.setattr(choice, "BACKENDS", made)
    monkeypatch.setattr(choice, "installed", lambda names: list(names))
    return made


@pytest.fixture
def clock(monkeypatch):
    """Seconds an image that each engine is said to take; None is torch."""
    seconds = {"torch": 1.0, "openvino": 0.8, "onnxruntime": 0.5}

    def scripted(subject, engine, batch):
        return seconds["torch" if engine is None else engine.name]

    monkeypatch.setattr(choice, "seconds_an_image", scripted)
    return seconds


def messages(caplog):
    return [record.getMessage() for record in caplog.records]


@pytest.fixture(autouse=True)
def _log(caplog):
    caplog.set_level(logging.INFO)


def test_torch_needs_nothing(subject, builders):
    assert choose_engine("torch", subject, [], images=1000) is None


@pytest.mark.parametrize("name", PACKAGES)
@pytest.mark.parametrize("lanes", [1, 2])
def test_a_named_engine_agrees(subject, samples, caplog, name, lanes):
    pytest.importorskip(name, reason="the optional package is not installed")
    subject = replace(subject, around=replace(subject.around, lanes=lanes))
    engine = choose_engine(name, subject, samples, images=1)
    assert engine is not None
    assert (engine.name, engine.arithmetic) == (name, "float32")
    (line,) = messages(caplog)
    assert line.startswith(f"engine: {name} in float32; beside torch: 100.0% of")


def test_nothing_is_left_on_disk(subject, samples, tmp_path, monkeypatch, builders):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen = []

    def look(trunk, around):
        seen.append(trunk.is_file())
        return Engine("openvino", "float32", subject.network.head_inputs)

    builders["openvino"] = look
    assert choose_engine("openvino", subject, samples, images=1) is not None
    assert seen == [True]
    assert list(tmp_path.iterdir()) == []


def test_a_named_engine_that_disagrees_is_refused(subject, samples, builders, network):
    builders["openvino"] = wrong(network)
    with pytest.raises(TaskError, match="openvino does not compute what torch does") as caught:
        choose_engine("openvino", subject, samples, images=1)
    assert caught.value.code is Code.MODEL
    assert "set engine to torch" in caught.value.sentence


def test_a_named_engine_that_cannot_be_built_is_refused(subject, samples, builders):
    builders["openvino"] = broken
    with pytest.raises(TaskError, match=r"cannot be built .*\(operator 7 is unknown\)") as caught:
        choose_engine("openvino", subject, samples, images=1)
    assert caught.value.code is Code.MODEL
    assert "\n" not in caught.value.sentence


@pytest.mark.parametrize("name", [*PACKAGES, "tensorrt"])
def test_a_package_that_is_missing_is_named(subject, samples, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    assert name not in installed([name])
    with pytest.raises(TaskError, match=f"needs the package {name},") as caught:
        choose_engine(name, subject, samples, images=1)
    assert caught.value.code is Code.CONFIG


@pytest.mark.parametrize("wish", ["auto", "openvino"])
def test_without_an_image_to_compare_torch_computes(subject, builders, caplog, wish):
    assert choose_engine(wish, subject, [], images=1000) is None
    assert "no image could be read" in caplog.text


def test_auto_takes_the_fastest(subject, samples, builders, clock, caplog):
    engine = choose_engine("auto", subject, samples, images=1000)
    assert engine is not None
    assert engine.name == "onnxruntime"
    lines = messages(caplog)
    assert lines[:2] == [
        "engine auto: openvino in float32 is 1.25 times as fast",
        "engine auto: onnxruntime in float32 is 2.00 times as fast",
    ]
    assert lines[2].startswith("engine auto: onnxruntime; choosing took ")
    assert lines[2].endswith(" s of about 1000 s")


def test_auto_stays_with_torch_for_a_small_gain(subject, samples, builders, clock, caplog):
    clock.update(openvino=0.95, onnxruntime=1.2)
    assert choose_engine("auto", subject, samples, images=1000) is None
    assert "engine auto: torch; choosing took" in caplog.text


@pytest.mark.parametrize(
    ("images", "seconds", "line"),
    [
        (63, 100.0, "63 images are few"),
        (64, 1.0, "its 64 s are too few to try others"),
        (1000, 0.1, "its 100 s are too few to try others"),
    ],
)
def test_auto_does_not_try_for_a_short_task(
    subject, samples, builders, clock, caplog, images, seconds, line
):
    clock["torch"] = seconds
    builders["openvino"] = builders["onnxruntime"] = broken
    assert choose_engine("auto", subject, samples, images=images) is None
    assert messages(caplog) == [f"engine auto: torch; {line}"]


def test_auto_goes_on_past_what_disagrees_or_breaks(
    subject, samples, builders, clock, caplog, network
):
    builders["onnxruntime"] = wrong(network)
    engine = choose_engine("auto", subject, samples, images=1000)
    assert engine is not None
    assert engine.name == "openvino"
    assert "without onnxruntime: The engine onnxruntime does not compute what torch" in caplog.text
    builders["openvino"] = broken
    assert choose_engine("auto", subject, samples, images=1000) is None
    assert "without openvino: The engine openvino cannot be built" in caplog.text


def test_auto_stops_trying_when_it_has_taken_long(
    subject, samples, builders, clock, caplog, monkeypatch
):
    """Each look at the clock is 30 s later, and a twentieth of the 1000 s expected is 50 s."""
    times = iter(range(0, 1000, 30))
    monkeypatch.setattr(choice.time, "perf_counter", lambda: next(times))
    engine = choose_engine("auto", subject, samples, images=1000)
    assert engine is not None
    assert engine.name == "openvino"
    assert "onnxruntime is not tried" in caplog.text


def test_auto_without_packages_is_torch(subject, samples, monkeypatch, caplog):
    for name in PACKAGES:
        monkeypatch.setitem(sys.modules, name, None)
    assert choose_engine("auto", subject, samples, images=10**6) is None
    assert messages(caplog) == ["engine auto: torch; neither openvino nor onnxruntime is there"]


def test_auto_on_a_gpu_is_torch(subject, samples, on_a_gpu, builders, caplog):
    on_one = replace(subject, around=on_a_gpu)
    assert choose_engine("auto", on_one, samples, images=10**6) is None
    assert messages(caplog) == ["engine auto: torch, as always on a GPU"]


def test_a_batch_is_looked_at_in_every_lane(subject):
    seen = []
    watched = replace(subject, look=lambda engine, batch: seen.append((engine, batch.shape)))
    assert choice.seconds_an_image(watched, None, torch.zeros(2, 3, 32, 32)) > 0
    assert seen == [(None, (2, 3, 32, 32))] * subject.lanes.count


def test_a_timed_batch_repeats_the_commonest_shape():
    samples = [torch.zeros(3, 64, 64), torch.zeros(3, 32, 64), torch.ones(3, 32, 64)]
    batch = choice._batch_to_time(samples, 5)
    assert batch.shape == (5, 3, 32, 64)
    assert batch[:, 0, 0, 0].tolist() == [0, 1, 0, 1, 0]
    assert len(choice._batch_to_time(samples, 64)) == choice.TIMED_IMAGES
