"""JPEG files that the device decodes, and their letterbox there."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from data.images import ImageError, Jpeg, Pixels, read_image, read_jpeg, turn_of
from inference.predictions import Tile
from ops.letterbox import PAD_VALUE, Letterbox
from ops.tiling import Tiling, tile_windows
from utils.classify_error import out_of_memory
from utils.errors import Code, TaskError, first_line, optional_package

log = logging.getLogger(__name__)

NVJPEG = "nvjpeg"
"""The value of the setting `decode`."""
Decode = Callable[[Sequence[bytes]], Sequence[Tensor]]
"""Decodes JPEG files to uint8 [3, h, w] in RGB on its device, or raises RuntimeError."""


def nvjpeg(device: torch.device) -> Decode:
    """Return nvJPEG, tried on a small picture. Raises TaskError(CONFIG) where it does not work."""
    if device.type != "cuda":
        raise TaskError(
            Code.CONFIG,
            "decode is nvjpeg, which is a GPU's, but this runs on the CPU: set decode to cpu, or "
            "run on a GPU.",
        )
    package = optional_package("torchvision.io", purpose="decode=nvjpeg")

    def decode(files: Sequence[bytes]) -> Sequence[Tensor]:
        given = [torch.frombuffer(bytearray(one), dtype=torch.uint8) for one in files]
        with warnings.catch_warnings():  # torchvision means to drop its decoders some day
            warnings.simplefilter("ignore")
            found: list[Tensor] = package.decode_jpeg(
                given, mode=package.ImageReadMode.RGB, device=device
            )
        return found

    try:
        decode([cv2.imencode(".jpg", np.zeros((32, 32, 3), np.uint8))[1].tobytes()])
    except Exception as error:  # whatever a build without it, or a library, says
        raise TaskError(
            Code.CONFIG,
            f"decode is nvjpeg, but torchvision cannot decode with it here ({first_line(error)}): "
            "set decode to cpu, or install a torchvision that was built with nvJPEG.",
        ) from error
    return decode


class DeviceDecoder:
    """Reads files for a device that decodes JPEG, and decodes them there; OpenCV does the rest."""

    def __init__(
        self, decode: Decode, device: torch.device, upright: bool, tiling: Tiling | None
    ) -> None:
        self._decode, self._device = decode, device
        self._upright, self._tiling = upright, tiling
        self.on_device = self.on_host = 0
        """Images and tiles by where they were decoded."""

    def read(self, path: str) -> Pixels | Jpeg:
        """Read a file, and decode what the device is not to: other formats, what is split."""
        jpeg = read_jpeg(path, upright=self._upright)
        if jpeg is None or (self._tiling and tile_windows(jpeg.size, self._tiling)):
            return read_image(path, upright=self._upright)
        return jpeg

    def __call__(self, tiles: Sequence[Tile]) -> tuple[list[Tile], Tensor]:
        """Return tiles of one shape that have a JPEG, and their network inputs uint8 [b, h, w, 3],
        RGB. Of one that cannot be decoded the input is grey, and the tile returned has the error.

        Where equal sizes follow each other, all of them take a few launches.
        """
        pictures, results, on_host = [], [], 0
        for tile, decoded in zip(tiles, self._decoded(tiles), strict=True):
            picture, error = decoded, None
            if picture is not None:
                picture = _turned(picture, tile.encoded.orientation)
            if picture is None or picture.shape != (3, *tile.encoded.size):
                on_host += 1
                picture, error = self._from_host(tile)
            pictures.append(picture)
            if error is not None:
                blank = replace(tile.blank, size=None, error=error, mark="")
                tile = replace(tile, blank=blank)
            results.append(tile)
        shape = (len(tiles), *tiles[0].letterbox.shape, 3)
        images = torch.full(shape, PAD_VALUE, dtype=torch.uint8, device=self._device)
        for plan, run in groupby(range(len(tiles)), lambda number: tiles[number].letterbox):
            numbers = list(run)
            same = torch.stack([pictures[number] for number in numbers])
            _place(same, plan, images[numbers[0] : numbers[-1] + 1])
        self.on_host += on_host
        self.on_device += len(tiles) - on_host
        return results, images

    def _decoded(self, tiles: Sequence[Tile]) -> list[Tensor | None]:
        """Decode on the device, in halves where that fails: None for those that it does not take.

        An error in one file loses the others of its call.
        """
        try:
            return list(self._decode([tile.encoded.content for tile in tiles]))
        except RuntimeError as error:
            if out_of_memory(error):
                raise
        if len(tiles) == 1:
            return [None]
        half = len(tiles) // 2
        return [*self._decoded(tiles[:half]), *self._decoded(tiles[half:])]

    def _from_host(self, tile: Tile) -> tuple[Tensor, str | None]:
        """Return a picture that OpenCV decoded, or a grey one and the reason."""
        path, size = tile.blank.path, tile.encoded.size
        try:
            image = read_image(path, upright=self._upright)
            if image.shape[:2] != size:
                raise ImageError(path, "it changed while it was read")
        except ImageError as error:
            grey = torch.full((3, *size), PAD_VALUE, dtype=torch.uint8, device=self._device)
            return grey, error.reason
        rgb = np.ascontiguousarray(image[..., ::-1])
        return torch.from_numpy(rgb).to(self._device).permute(2, 0, 1), None

    def log_counts(self) -> None:
        """Log how many images the host decoded, if any."""
        if self.on_host:
            log.info(
                "decode=nvjpeg: the GPU decoded %d images; %d images and tiles were decoded on the "
                "host: those split into tiles, and files that are no JPEG in YCbCr colours, are "
                "cut off, or that nvJPEG refuses",
                *(self.on_device, self.on_host),
            )


def _turned(picture: Tensor, orientation: int) -> Tensor:
    """Return stored pixels [3, h, w] turned upright."""
    swapped, mirrored = turn_of(orientation)
    picture = picture.transpose(1, 2) if swapped else picture
    return picture.flip([axis + 1 for axis in mirrored]) if mirrored else picture


def _place(pictures: Tensor, plan: Letterbox, slots: Tensor) -> None:
    """Write uint8 [b, 3, h, w], resized bilinearly, between the borders of `slots` [b, h, w, 3]."""
    if plan.resized != plan.source:
        # OpenCV's positions: the corners of both pixel grids lie on each other.
        pictures = functional.interpolate(
            pictures.float(), plan.resized, mode="bilinear", align_corners=False
        ).round_()
    (height, width), (top, bottom, left, right) = plan.shape, plan.borders
    slots[:, top : height - bottom, left : width - right].copy_(pictures.permute(0, 2, 3, 1))
