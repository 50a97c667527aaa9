"""Image files that are odd, damaged, huge, or not images."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from data.dataset_index import DatasetIndex
from data.image_cache import open_image_cache
from data.images import ImageError, read_image
from data.instances import Instances
from data.stream import stream_images
from tests.reliability.case import Case, Ending, Fate, Meet, skipped, taken
from tests.reliability.reading import HEIGHT, WIDTH, picture, read, write_good


def saved(form: str, mode: str = "RGB", **options: Any) -> bytes:
    """The picture in a file format and a colour mode."""
    stream = io.BytesIO()
    picture().convert(mode).save(stream, form, **options)
    return stream.getvalue()


def blank(width: int, height: int) -> Callable[[], bytes]:
    """A white PNG of one bit per pixel."""

    def make() -> bytes:
        stream = io.BytesIO()
        Image.new("1", (width, height), 1).save(stream, "PNG")
        return stream.getvalue()

    return make


def claiming(width: int, height: int) -> bytes:
    """A PNG whose header claims another size than it has."""
    content = bytearray(saved("PNG"))
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    return bytes(content)


def deep(channels: int) -> bytes:
    """A PNG of 16 bits."""
    shape = (HEIGHT, WIDTH, channels) if channels > 1 else (HEIGHT, WIDTH)
    return cv2.imencode(".png", np.full(shape, 40_000, np.uint16))[1].tobytes()


def turned() -> bytes:
    """A JPEG that asks to be shown on its side."""
    tag = Image.Exif()
    tag[0x0112] = 6
    return saved("JPEG", exif=tag)


def image(content: bytes | Callable[[], bytes], name: str = "case.png") -> Meet:
    """An image beside a good one: its header read for the data set, then decoded for training
    (long side 64) and as a candidate, which must agree.
    """

    def meet(folder: Path) -> Ending:
        write_good(folder)
        (folder / "case.txt").write_text("", "utf-8")
        path = folder / name
        path.write_bytes(content() if callable(content) else content)
        ending = read(folder, f"good.png\tgood.txt\n{name}\tcase.txt\n".encode())
        (candidate,) = stream_images([str(path)], workers=1)
        if ending.fate is Fate.SKIPPED:
            assert candidate.image is None
            return ending
        fault = _fault(path)
        assert candidate.error == fault
        if fault is not None:
            assert not _training_pictures(path)
            return Ending(Fate.SKIPPED, f"{name}: {fault}")
        pixels = read_image(path)
        assert candidate.image is not None
        assert candidate.image.shape == pixels.shape
        (kept,) = _training_pictures(path)
        facts = {"height": pixels.shape[0], "width": pixels.shape[1], "channels": pixels.shape[2]}
        facts["corner"] = pixels[0, 0].tolist()
        return Ending(Fate.TAKEN, ending.text, facts={**facts, "training": kept})

    return meet


def _fault(path: Path) -> str | None:
    try:
        read_image(path)
    except ImageError as error:
        return error.reason
    return None


def _training_pictures(path: Path) -> list[tuple[int, ...]]:
    from_header = Image.open(path).size[::-1]
    index = DatasetIndex.build(
        [str(path)],
        [from_header],
        Instances(np.zeros((0, 4), np.float32), np.zeros(0, np.int32)),
        [0],
        ["helmet"],
    )
    cache = open_image_cache(index, 64, cache="ram")
    shapes = []
    for position in range(len(cache.index)):
        kept = cache.image(position)
        assert kept is not None
        shapes.append(kept.shape[:2])
    return shapes


JPEG, PNG = saved("JPEG"), saved("PNG")
GREEN = [30, 220, 10]
"""The top left corner of the picture, in BGR."""
FRAMES: dict[str, Any] = {"save_all": True, "append_images": [picture().rotate(180)]}
SHAPE: dict[str, Any] = {"height": HEIGHT, "width": WIDTH, "channels": 3}

CASES: tuple[Case, ...] = (
    taken("a PNG", image(PNG), **SHAPE, corner=GREEN, training=(38, 64)),
    taken("a wrong extension: the content counts", image(PNG, "case.jpg"), **SHAPE, corner=GREEN),
    taken("no extension", image(PNG, "case"), **SHAPE, corner=GREEN),
    taken("an unknown extension", image(JPEG, "case.unknown"), **SHAPE),
    taken("an extension in capitals", image(JPEG, "CASE.JPEG"), **SHAPE),
    taken("PNG with alpha: alpha left out", image(saved("PNG", "RGBA")), **SHAPE, corner=GREEN),
    taken("PNG with a palette", image(saved("PNG", "P")), **SHAPE),
    taken("grayscale with alpha", image(saved("PNG", "LA")), **SHAPE),
    taken("grayscale JPEG", image(saved("JPEG", "L")), **SHAPE),
    taken("one bit per pixel", image(saved("PNG", "1")), **SHAPE),
    taken("16-bit grayscale PNG: 8 bits of it", image(deep(1)), **SHAPE, corner=[156] * 3),
    taken("16-bit PNG with alpha", image(deep(4)), **SHAPE, corner=[156] * 3),
    taken("CMYK JPEG", image(saved("JPEG", "CMYK")), **SHAPE),
    taken("CMYK TIFF", image(saved("TIFF", "CMYK")), **SHAPE),
    taken("32-bit TIFF", image(saved("TIFF", "F")), **SHAPE),
    taken("progressive JPEG", image(saved("JPEG", progressive=True)), **SHAPE),
    taken("animated GIF: its first frame", image(saved("GIF", **FRAMES)), **SHAPE, corner=GREEN),
    taken("animated PNG: its first frame", image(saved("PNG", **FRAMES)), **SHAPE, corner=GREEN),
    taken("animated WebP: its first frame", image(saved("WEBP", **FRAMES)), **SHAPE),
    taken("TIFF of two pages: the first", image(saved("TIFF", **FRAMES)), **SHAPE, corner=GREEN),
    taken("EXIF says turned: the stored grid counts", image(turned(), "case.jpg"), **SHAPE),
    taken("a JPEG with bytes after its end", image(JPEG + b"more"), **SHAPE),
    taken("1×1", image(blank(1, 1)), height=1, width=1, channels=3, training=(64, 64)),
    taken("1×24", image(blank(1, 24)), height=24, width=1, training=(64, 3)),
    taken("30,000×20", image(blank(30_000, 20)), height=20, width=30_000, training=(1, 64)),
    taken("20×30,000", image(blank(20, 30_000)), height=30_000, width=20, training=(64, 1)),
    taken("100 megapixels", image(blank(10_000, 10_000)), height=10_000, training=(64, 64)),
    skipped("2,500 megapixels claimed", image(claiming(50_000, 50_000)), "more than 178956970 pix"),
    skipped("another size claimed", image(claiming(900, 900)), "cannot be decoded"),
    skipped("no width", image(claiming(0, 24)), "not a readable image file"),
    skipped("zero bytes", image(b""), "not a readable image file"),
    skipped("text", image(b"<html>not found</html>"), "not a readable image file"),
    skipped("SVG", image(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "not a readable image"),
    skipped("EPS, which would be a program", image(saved("EPS")), "not a readable image file"),
    skipped("truncated JPEG", image(JPEG[:-60]), "cannot be decoded"),
    skipped("JPEG cut within its header", image(JPEG[:30]), "not a readable image file"),
    skipped("truncated PNG", image(PNG[:-30]), "cannot be decoded"),
    skipped("truncated GIF", image(saved("GIF")[:-60]), "cannot be decoded"),
    skipped("truncated WebP", image(saved("WEBP")[:-60]), "not a readable image file"),
    skipped("truncated BMP", image(saved("BMP")[:-60]), "cannot be decoded"),
    skipped("truncated TIFF", image(saved("TIFF")[:-400]), "cannot be decoded"),
)
