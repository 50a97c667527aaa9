"""Images as a Python program has them: paths, folders, arrays, PIL images, and lists of these."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from data.images import Pixels
from data.sources import find_images
from utils.errors import Code, TaskError

ONE_IMAGE = (str, os.PathLike, np.ndarray, Image.Image)
KINDS = "a path, a folder, an RGB array uint8 [h, w, 3], a PIL image, or a list of these"


@dataclass
class Inputs:
    """Names of images in their order, and the pixels of those that are no files."""

    paths: list[str] = field(default_factory=list)
    pixels: dict[int, Pixels] = field(default_factory=dict)
    """BGR uint8 [h, w, 3] by position."""

    @classmethod
    def read(cls, images: object) -> Inputs:
        """Collect images; a folder, pattern or list file stands for all that it names.

        Arrays are RGB. Raises TaskError for paths without images and for values of other kinds.
        """
        inputs = cls()
        for image in _each(images):
            if isinstance(image, (str, os.PathLike)):
                inputs.paths += find_images(os.fspath(image))[0]
            elif isinstance(image, Image.Image):
                upright = ImageOps.exif_transpose(image).convert("RGB")
                inputs._add(np.asarray(upright), os.fspath(getattr(image, "filename", "") or ""))
            elif isinstance(image, np.ndarray):
                inputs._add(_rgb(image))
            else:
                raise _no_image(f"an image is of the type {type(image).__name__}")
        return inputs

    def _add(self, rgb: NDArray[Any], name: str = "") -> None:
        position = len(self.paths)
        # Files of results are named after it.
        taken = not name or name in self.paths
        self.paths.append(f"image{position}.jpg" if taken else name)
        self.pixels[position] = np.ascontiguousarray(rgb[..., ::-1])


def _each(images: object) -> Iterator[object]:
    if isinstance(images, (*ONE_IMAGE, bytes)) or not isinstance(images, Iterable):
        yield images
    elif type(images).__module__.partition(".")[0] == "torch":
        raise _no_image("the images are a tensor, whose scale and channels are not known")
    else:
        yield from images


def _rgb(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return uint8 [h, w, 3] of an array, also of grey, [h, w, 4] or channels first (v7.0)."""
    if array.dtype != np.uint8:
        raise _no_image(f"an array has values of the type {array.dtype}, not uint8 from 0 to 255")
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise _no_image(f"an array has the shape {list(array.shape)}")
    return array[..., :3] if array.shape[2] > 1 else np.repeat(array, 3, axis=2)


def _no_image(what: str) -> TaskError:
    return TaskError(Code.IMAGE_FORMAT, f"{what}: give {KINDS}.")
