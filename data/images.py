"""Read image files into arrays, or raise `ImageError` with the reason.

A photograph may be stored lying, with an orientation tag (EXIF) that tells viewers how to turn it.
YMIR gives boxes on the stored pixel grid; other people's tools show and label the upright image.
So who reads a file says which of the two he means. (In a TIFF the tag says how the rows themselves
are stored; Pillow and OpenCV always honour it there, and so do both functions.)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from zlib import crc32

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from utils.atomic import replace_file

Pixels = npt.NDArray[np.uint8]

ORIENTATION_TAG = 0x0112
PIXEL_LIMIT = 178_956_970
"""Pillow's: it refuses to open a larger image."""
MARKED = 1 << 16
FORMATS = ("BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that Pillow may try: some other readers start programs (Ghostscript for EPS)."""

# IMREAD_COLOR alone would rotate by the orientation tag.
_DECODE_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


class ImageError(Exception):
    """An image file that cannot be used: `path`, and the `reason` in a few words."""

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(f"{os.fspath(path)}: {reason}")
        self.path = os.fspath(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        """Rebuild from path and reason, so that the error crosses process borders intact."""
        return ImageError, (self.path, self.reason)


class ImageHeader(NamedTuple):
    """What the first bytes of a file say: (height, width) as stored, format, orientation 1 to 8."""

    size: tuple[int, int]
    kind: str
    orientation: int
    has_plain_colours: bool = False
    """Whether it is a JPEG of brightness and two colours (YCbCr), as photographs are."""

    @property
    def upright_size(self) -> tuple[int, int]:
        """(height, width) once the image is turned as its orientation says."""
        return self.size if self.orientation < 5 else (self.size[1], self.size[0])

    def size_of(self, *, upright: bool) -> tuple[int, int]:
        """Return (height, width) of the `upright` image, or of the stored grid."""
        return self.upright_size if upright else self.size


class Jpeg(NamedTuple):
    """A JPEG file that is not decoded: (height, width) and orientation as it is to be seen."""

    content: bytes
    size: tuple[int, int]
    orientation: int


def image_header(path: str | os.PathLike[str]) -> ImageHeader:
    """Read the header of a file without decoding.

    Raises ImageError when the file is missing, is no image or has more pixels than Pillow opens.
    """
    with _open(path) as file:
        return _header(path, file)


def image_size(path: str | os.PathLike[str], *, upright: bool = False) -> tuple[int, int]:
    """Return (height, width) of the stored grid, or of the `upright` image; raises ImageError."""
    return image_header(path).size_of(upright=upright)


def content_mark(path: str | os.PathLike[str]) -> str:
    """Return length and checksum of a file's middle, 64 KiB: it tells images apart, not forgeries.

    '' for a file that cannot be read.
    """
    try:
        with open(path, "rb") as file:
            length = file.seek(0, os.SEEK_END)
            file.seek(max(0, (length - MARKED) // 2))
            return f"{length:x}-{crc32(file.read(MARKED)):08x}"
    except (OSError, ValueError):
        return ""


def read_image(path: str | os.PathLike[str], *, upright: bool = False) -> Pixels:
    """Decode a file by its content, whatever its suffix, to uint8 [h, w, 3] in BGR order.

    Grayscale, palette, alpha, 16-bit and CMYK images are reduced to 8-bit BGR; of an animation
    the first frame counts. `upright` turns the image as its orientation tag says. The pixel count
    is checked before anything is decoded. ImageError when the file is missing, damaged, cut off,
    too large or no image.
    """
    header, content, whole = _read(path)
    # OpenCV fills the missing part of a cut-off JPEG with grey; Pillow refuses it instead.
    image = _decode_opencv(content) if whole else None
    if image is None or image.shape[:2] != header.size:
        image = _decode_pillow(path)
    return _turned(image, header.orientation) if upright else image


def read_jpeg(path: str | os.PathLike[str], *, upright: bool = False) -> Jpeg | None:
    """Read a whole JPEG with plain colours; None for any other image. Raises ImageError."""
    header, content, whole = _read(path)
    if not (whole and header.has_plain_colours):
        return None
    return Jpeg(content, header.size_of(upright=upright), header.orientation if upright else 1)


def _read(path: str | os.PathLike[str]) -> tuple[ImageHeader, bytes, bool]:
    """Read header and content of a file, and whether it is no JPEG that is cut off."""
    with _open(path) as file:
        header = _header(path, file)
        file.seek(0)
        content = file.read()
    whole = header.kind not in ("JPEG", "MPO") or content.rstrip(b"\0\r\n").endswith(b"\xff\xd9")
    return header, content, whole


def _open(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading; anything but a regular file is refused."""
    if not os.path.isfile(path):
        raise ImageError(path, "is a directory" if os.path.isdir(path) else "file not found")
    try:
        return open(path, "rb")
    except OSError as error:
        raise ImageError(path, f"cannot be opened ({error.strerror})") from error


def _header(path: str | os.PathLike[str], file: BinaryIO) -> ImageHeader:
    try:
        with Image.open(file, formats=FORMATS) as image:
            (width, height), kind = image.size, image.format or ""
            exif = image.info.get("exif")
            plain = kind in ("JPEG", "MPO") and image.mode == "RGB"
            plain = plain and image.info.get("adobe_transform") != 0  # else it stores RGB
    except Image.DecompressionBombError as error:
        raise ImageError(path, f"more than {PIXEL_LIMIT} pixels") from error
    except Exception as error:  # header parsers raise anything on damaged bytes
        raise ImageError(path, "not a readable image file") from error
    if height < 1 or width < 1:
        raise ImageError(path, f"empty image ({width}x{height})")
    orientation = 1 if kind == "TIFF" else _orientation(exif)
    return ImageHeader((height, width), kind, orientation, plain)


def _orientation(exif: object) -> int:
    """Return the orientation of EXIF data, 1 (upright) without one or for one that is none."""
    if not isinstance(exif, bytes):
        return 1
    found = Image.Exif()
    try:
        found.load(exif)
        value = found.get(ORIENTATION_TAG, 1)
    except Exception:  # the parser raises anything on damaged bytes
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def turn_of(orientation: int) -> tuple[bool, tuple[int, ...]]:
    """Return how stored pixels become upright: whether height and width change places, and along
    which of the axes (0, 1) they are mirrored then.
    """
    mirrored = ((3, 4, 7, 8), (2, 3, 6, 7))
    return orientation >= 5, tuple(axis for axis in (0, 1) if orientation in mirrored[axis])


def _turned(image: Pixels, orientation: int) -> Pixels:
    """Return stored pixels turned upright: mirrored (2, 4, 5, 7) and by quarter turns."""
    swapped, mirrored = turn_of(orientation)
    return np.ascontiguousarray(np.flip(image.swapaxes(0, 1) if swapped else image, mirrored))


def stored_boxes(
    boxes: npt.NDArray[np.floating[Any]], header: ImageHeader
) -> npt.NDArray[np.floating[Any]]:
    """Return boxes [n, 4] of the upright image as they lie on the stored pixel grid."""
    height, width = header.upright_size
    x1, y1, x2, y2 = np.asarray(boxes).reshape(-1, 4).T
    if header.orientation in (2, 3, 6, 7):
        x1, x2 = width - x2, width - x1
    if header.orientation in (3, 4, 7, 8):
        y1, y2 = height - y2, height - y1
    if header.orientation in (5, 6, 7, 8):
        x1, y1, x2, y2 = y1, x1, y2, x2
    return np.stack([x1, y1, x2, y2], axis=1)


def _decode_opencv(content: bytes) -> Pixels | None:
    """Decode to BGR with OpenCV; None where it does not know or refuses the content."""
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), _DECODE_FLAGS)
    except cv2.error:
        return None
    return image if image is None else np.asarray(image, np.uint8)


def _decode_pillow(path: str | os.PathLike[str]) -> Pixels:
    """Decode to BGR with Pillow, for what OpenCV cannot decode."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            rgb = np.asarray(image.convert("RGB"), np.uint8)
    except Exception as error:  # decoders raise anything on damaged bytes
        raise ImageError(path, f"cannot be decoded ({error})") from error
    return np.ascontiguousarray(rgb[..., ::-1])


def encode_image(image: npt.NDArray[np.uint8], suffix: str, *, quality: int = 95) -> bytes:
    """Encode BGR pixels [h, w, 3] in the format of `suffix`; `quality` is that of JPEG.

    Raises ValueError for an image that the format cannot hold: JPEG ends at 65,500 pixels a side.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix.lower() in (".jpg", ".jpeg") else []
    written, content = cv2.imencode(suffix, np.ascontiguousarray(image), options)
    if not written:
        raise ValueError(f"{image.shape[1]}x{image.shape[0]} is too large for {suffix}")
    return bytes(content.tobytes())


def write_image(path: Path, image: npt.NDArray[np.uint8], *, quality: int = 95) -> None:
    """Replace the file `path` by an image, as `encode_image`. Raises ImageError."""
    try:
        content = encode_image(image, path.suffix, quality=quality)
    except ValueError as error:
        raise ImageError(path, str(error)) from error
    with replace_file(path) as temporary:
        temporary.write_bytes(content)
