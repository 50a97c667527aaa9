"""JPEG files that the device decodes: which, with what pixels, and what the host takes over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode

from data.images import ORIENTATION_TAG
from inference.decoding import Decode, nvjpeg
from inference.predictions import Prediction
from inference.predictor import Predictor, PredictorConfig, load_predictor
from models.detector import Detector
from models.model_config import read_model_config
from ops.tiling import Tiling
from settings.detect import InferSettings
from tests.conftest import DEVICES, needs_gpu, needs_real_gpu
from tests.pretend_gpu import PretendGpu
from utils.errors import Code, TaskError

CPU = torch.device("cpu")
SIZES = [(90, 120), (90, 120), (64, 96), (90, 120), (200, 150), (96, 96)]
"""(height, width): enlarged, of the network's own size, shrunk, square."""


@pytest.fixture(scope="module")
def detector() -> Detector:
    torch.manual_seed(0)
    return Detector(read_model_config("yolov5n", nc=3))


def smooth(size: tuple[int, int], seed: int) -> np.ndarray:
    """A picture without edges, BGR."""
    coarse = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Photographs of several sizes."""
    names = [str(tmp_path / f"{number}.jpg") for number in range(len(SIZES))]
    for number, (name, size) in enumerate(zip(names, SIZES, strict=True)):
        cv2.imwrite(name, smooth(size, number), [cv2.IMWRITE_JPEG_QUALITY, 95])
    return names


class HostDecoder:
    """Stands in for nvJPEG: decodes on the host, and refuses files that begin like `bad`."""

    def __init__(self, device: torch.device, bad: Sequence[bytes] = ()) -> None:
        self.device, self.bad = device, bad
        self.calls: list[int] = []
        self.decoded = 0

    def __call__(self, files: Sequence[bytes]) -> Sequence[Tensor]:
        self.calls.append(len(files))
        if any(one in self.bad for one in files):
            raise RuntimeError("nvjpegDecode failed: 2")
        self.decoded += len(files)
        return [self._one(content) for content in files]

    def _one(self, content: bytes) -> Tensor:
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
        assert image is not None
        rgb = torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)))
        if self.device.type == "cpu":
            return rgb
        return rgb.pin_memory().to(self.device, non_blocking=True)


def predictor_on(device: torch.device, detector: Detector, **config: Any) -> Predictor:
    own = PredictorConfig(**{"image_size": 96, "batch_size": 4, "precision": "float32", **config})
    return Predictor.build(detector, ["a", "b", "c"], device=device, config=own)


def predictions(
    detector: Detector,
    paths: Sequence[str],
    decode: Decode | None,
    device: torch.device = CPU,
    **config: Any,
) -> list[Prediction]:
    """The predictions of a stream with their inputs, in order of their positions and windows."""
    predictor = replace(predictor_on(device, detector, **config), decode=decode)
    stream = predictor.stream_tiles(paths, keep_inputs=True)
    return sorted(stream, key=lambda one: (one.position, one.window or ()))


def assert_alike(ours: Sequence[Prediction], theirs: Sequence[Prediction], levels: int = 2) -> None:
    """The same images, and network inputs that differ by a few levels at most."""
    for own, other in zip(ours, theirs, strict=True):
        assert (own.position, own.size, own.mark, own.window) == (
            *(other.position, other.size, other.mark, other.window),
        )
        first, second = own.network_input, other.network_input
        assert first is not None
        assert second is not None
        assert first.letterbox == second.letterbox
        assert (first.image.cpu().int() - second.image.cpu().int()).abs().max() <= levels


@pytest.mark.parametrize("name", DEVICES)
def test_the_device_sees_what_the_host_would(
    detector: Detector, paths: list[str], name: str
) -> None:
    decode = HostDecoder(torch.device(name, 0) if name == "cuda" else CPU)
    ours = predictions(detector, paths, decode, decode.device)
    assert_alike(ours, predictions(detector, paths, None))
    assert decode.decoded == len(paths)
    assert max(decode.calls) > 1, "a batch is one call"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_tags(
    detector: Detector, tmp_path: Path, paths: list[str], orientation: int
) -> None:
    tagged = str(tmp_path / "tagged.jpg")
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    Image.open(paths[0]).save(tagged, exif=exif, quality=95)
    for upright in (False, True):
        decode = HostDecoder(CPU)
        ours = predictions(detector, [tagged], decode, upright=upright)
        assert_alike(ours, predictions(detector, [tagged], None, upright=upright))
        assert decode.decoded == 1


def write_others(folder: Path, photograph: str) -> list[str]:
    """Write files that the device is not given: no JPEG, or of other colours, or cut off."""
    image = Image.open(photograph)
    names = [folder / name for name in ("a.png", "grey.jpg", "cmyk.jpg", "cut.jpg", "none.jpg")]
    image.save(names[0])
    image.convert("L").save(names[1])
    image.convert("CMYK").save(names[2])
    names[3].write_bytes(Path(photograph).read_bytes()[:-400])
    names[4].write_bytes(b"no image")
    return list(map(str, names))


def test_what_the_host_decodes(
    detector: Detector, tmp_path: Path, paths: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    given = [*paths, *write_others(tmp_path, paths[0])]
    decode = HostDecoder(CPU)
    with caplog.at_level("INFO"):
        ours = predictions(detector, given, decode)
    theirs = predictions(detector, given, None)
    assert [one.error for one in ours] == [one.error for one in theirs]
    assert [one.error is None for one in ours[-2:]] == [False, False]
    assert_alike(ours[:-2], theirs[:-2])
    assert decode.decoded == len(paths)
    assert "the GPU decoded 6 images; 3 images and tiles were decoded on the host" in caplog.text


def test_what_the_device_refuses(
    detector: Detector, tmp_path: Path, paths: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """One file spoils a call; and one that nobody can decode is an unreadable image."""
    junk = tmp_path / "junk.jpg"
    content = Path(paths[0]).read_bytes()
    start = content.index(b"\xff\xc4")  # no tables: neither OpenCV nor Pillow can decode it
    junk.write_bytes(content[:start] + b"\xff\xd9")
    given = [*paths[:3], str(junk)]
    decode = HostDecoder(CPU, bad=[Path(paths[1]).read_bytes(), junk.read_bytes()])
    with caplog.at_level("INFO"):
        ours = predictions(detector, given, decode)
    theirs = predictions(detector, given, None)
    assert_alike(ours[:3], theirs[:3])
    assert ours[3] == theirs[3]
    assert ours[3].error
    assert decode.decoded == 2
    assert "the GPU decoded 2 images; 2 images" in caplog.text


def test_memory_that_runs_out_is_no_refusal(detector: Detector, paths: list[str]) -> None:
    decode = HostDecoder(CPU)

    def narrow(files: Sequence[bytes]) -> Sequence[Tensor]:
        if len(files) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return decode(files)

    ours = predictions(detector, paths[:2], narrow)
    assert_alike(ours, predictions(detector, paths[:2], None))
    assert decode.decoded == 2


def test_split_images_are_the_hosts(detector: Detector, paths: list[str]) -> None:
    """A tile is a part of a picture: only images that are not split are decoded on the device."""
    decode = HostDecoder(CPU)
    tiling = Tiling(130)
    ours = predictions(detector, paths, decode, tiling=tiling)
    assert_alike(ours, predictions(detector, paths, None, tiling=tiling))
    assert decode.decoded == len(paths) - 1


def test_decoded_pixels_need_no_decoder(detector: Detector) -> None:
    decode = HostDecoder(CPU)
    stream = replace(predictor_on(CPU, detector), decode=decode).stream(
        ["x"], pixels={0: smooth((96, 96), 0)}
    )
    assert [one.error for one in stream] == [None]
    assert not decode.calls


@needs_gpu
def test_launches_of_a_batch(pretend_gpu: PretendGpu, detector: Detector, tmp_path: Path) -> None:
    """A batch of one size costs as many launches as one picture, and no wait, beside decoding."""
    given = [str(tmp_path / f"{number}.jpg") for number in range(8)]
    for number, name in enumerate(given):
        cv2.imwrite(name, smooth((60, 90), number))
    device = torch.device("cuda", 0)
    plain, counts = predictor_on(device, detector, batch_size=8), []
    for decode in (HostDecoder(device), None):
        predictor = replace(plain, decode=decode)
        for _ in range(2):  # the second time the pass is recorded
            list(predictor.stream(given))
        with pretend_gpu.watch() as seen:
            list(predictor.stream(given))
        counts.append(seen.dispatches.total())
        seen.assert_within(60, 2)
        assert set(seen.bytes) == {"h2d async", "d2h async"}, seen.report()
    assert counts[0] - counts[1] <= 6


def test_without_a_gpu_one_sentence_says_so(
    weights: Path, tmp_path: Path, paths: list[str]
) -> None:
    with pytest.raises(TaskError, match=r"decode is nvjpeg, .* on the CPU: set decode to cpu"):
        load_predictor(weights, InferSettings(decode="nvjpeg"), CPU)


@needs_gpu
@pytest.mark.parametrize(
    ("fails", "says"),
    [
        (RuntimeError("decode_jpegs_cuda: torchvision not compiled with nvJPEG"), "not compiled"),
        (AttributeError("no attribute 'decode_jpeg'"), "no attribute"),
    ],
)
def test_where_nvjpeg_is_missing_one_sentence_says_so(
    monkeypatch: pytest.MonkeyPatch, fails: Exception, says: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise fails

    monkeypatch.setattr("torchvision.io.decode_jpeg", refuse)
    with pytest.raises(
        TaskError, match=f"cannot decode with it here.*{says}.*set decode to cpu"
    ) as e:
        nvjpeg(torch.device("cuda", 0))
    assert e.value.code == Code.CONFIG


@needs_gpu
def test_torchvision_gets_the_bytes(
    monkeypatch: pytest.MonkeyPatch, weights: Path, paths: list[str]
) -> None:
    device = torch.device("cuda", 0)
    host = HostDecoder(device)
    asked: list[tuple[ImageReadMode, torch.device]] = []

    def decode_jpeg(
        files: Sequence[Tensor], *, mode: ImageReadMode, device: torch.device
    ) -> Sequence[Tensor]:
        asked.append((mode, device))
        return host([one.numpy().tobytes() for one in files])

    monkeypatch.setattr("torchvision.io.decode_jpeg", decode_jpeg)
    settings = InferSettings(decode="nvjpeg", img_size=96, precision="float32", batch_size=4)
    predictor = load_predictor(weights, settings, device)
    assert sum(one.error is None for one in predictor.stream(paths)) == len(paths)
    assert host.decoded == len(paths) + 1, "and the small picture of the trial"
    assert set(asked) == {(ImageReadMode.RGB, device)}


@needs_real_gpu
def test_nvjpeg_itself(detector: Detector, paths: list[str]) -> None:
    device = torch.device("cuda", 0)
    ours = predictions(detector, paths, nvjpeg(device), device)
    assert_alike(ours, predictions(detector, paths, None), levels=8)
