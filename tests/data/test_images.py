"""Files of every kind become 8-bit BGR, and bad ones a reason."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data.images import (
    ORIENTATION_TAG,
    ImageError,
    image_header,
    image_size,
    read_image,
    stored_boxes,
    write_image,
)

HEIGHT, WIDTH = 24, 40
COARSE = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
IMAGE = cv2.resize(COARSE, (WIDTH, HEIGHT))
RGB = Image.fromarray(IMAGE[..., ::-1].copy())


def save(path: Path, image: Image.Image = RGB, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("a.png", 0), ("a.bmp", 0), ("a.tif", 0), ("a.jpg", 8), ("a.webp", 12)],
)
def test_formats(tmp_path: Path, name: str, tolerance: float) -> None:
    path = save(tmp_path / name)
    image = read_image(path)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - IMAGE).mean() <= tolerance
    assert image_size(path) == image.shape[:2] == (HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("mode", "name"),
    [("L", "a.png"), ("P", "a.gif"), ("RGBA", "a.png"), ("CMYK", "a.jpg"), ("CMYK", "a.tif")],
)
def test_colour_modes_become_bgr(tmp_path: Path, mode: str, name: str) -> None:
    image = read_image(save(tmp_path / name, RGB.convert(mode)))
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert image.dtype == np.uint8
    if mode in ("RGBA", "CMYK"):
        assert np.abs(image.astype(int) - IMAGE).mean() < 8


def test_sixteen_bits_are_scaled_down(tmp_path: Path) -> None:
    gray = IMAGE[..., 0]
    save(tmp_path / "deep.png", Image.fromarray(gray.astype(np.uint16) * 257))
    image = read_image(tmp_path / "deep.png").astype(int)
    assert np.abs(image - gray[..., None]).max() <= 1


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_orientation_tag_is_ignored(tmp_path: Path, name: str, orientation: int) -> None:
    tag = Image.Exif()
    tag[0x0112] = orientation
    options = {"lossless": True} if name == "a.webp" else {}
    path = save(tmp_path / name, exif=tag, **options)
    image = read_image(path)
    assert image_size(path) == image.shape[:2] == (HEIGHT, WIDTH)
    assert np.abs(image.astype(int) - IMAGE).mean() < 8


@pytest.mark.parametrize("orientation", range(9))
def test_a_turned_photograph(tmp_path: Path, orientation: int) -> None:
    """Upright as OpenCV turns it; boxes of it lie on the same pixels of the stored grid."""
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    Image.fromarray(IMAGE[..., ::-1]).save(tmp_path / "a.jpg", exif=exif, quality=100)
    stored, upright = (read_image(tmp_path / "a.jpg", upright=turn) for turn in (False, True))
    np.testing.assert_array_equal(upright, cv2.imread(str(tmp_path / "a.jpg")))
    assert image_size(tmp_path / "a.jpg", upright=True) == upright.shape[:2]
    assert image_size(tmp_path / "a.jpg") == stored.shape[:2] == (HEIGHT, WIDTH)
    header = image_header(tmp_path / "a.jpg")
    ((x1, y1, x2, y2),) = stored_boxes(np.array([[1, 2, 8, 12]]), header).astype(int)
    assert sorted(stored[y1:y2, x1:x2].reshape(-1)) == sorted(upright[2:12, 1:8].reshape(-1))


def test_bytes_after_the_end_of_a_jpeg_do_not_matter(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg")
    whole = read_image(path)
    path.write_bytes(path.read_bytes() + b"more")
    assert np.abs(read_image(path).astype(int) - whole).max() <= 2


def test_error_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(ImageError("a.jpg", "is odd")))
    assert (error.path, error.reason, str(error)) == ("a.jpg", "is odd", "a.jpg: is odd")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".jpg"])
def test_written_images_are_read_back(tmp_path: Path, suffix: str) -> None:
    image = np.full((4, 5, 3), (10, 200, 90), np.uint8)
    write_image(tmp_path / f"a{suffix}", image)
    np.testing.assert_allclose(read_image(tmp_path / f"a{suffix}").astype(int), image, atol=3)


def test_an_image_too_wide_for_its_format_is_an_image_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"70000x1 is too large for \.jpg"):
        write_image(tmp_path / "a.jpg", np.zeros((1, 70_000, 3), np.uint8))
    assert not list(tmp_path.iterdir())
