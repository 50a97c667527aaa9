"""What a detector found in images, with the forms and methods of v7.0's results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageShow
from torch import Tensor

from cli.options import RunName
from data.images import ImageError, Pixels, read_image
from inference.outputs import DetectionFiles, crop_box
from inference.predictions import Prediction
from reporting.drawing import draw_boxes
from settings.detect import OutputOptions
from utils.errors import Code, TaskError, optional_package

CORNERS = ("xmin", "ymin", "xmax", "ymax")
CENTRE = ("xcenter", "ycenter", "width", "height")


class Tables(NamedTuple):
    """One pandas.DataFrame an image, in each form: box, confidence, class, name."""

    xyxy: list[Any]
    xywh: list[Any]
    xyxyn: list[Any]
    xywhn: list[Any]


class Results:
    """The detections of images, in their order, by falling confidence.

    `results[0]` and iteration give the results of single images.
    """

    def __init__(
        self,
        predictions: Sequence[Prediction],
        pixels: Sequence[Pixels | None],
        class_names: Sequence[str],
    ) -> None:
        self._predictions, self._pixels, self._names = predictions, pixels, class_names
        self.names = dict(enumerate(class_names))
        self._drawn: list[Pixels] | None = None

    def __len__(self) -> int:
        return len(self._predictions)

    def __getitem__(self, position: int) -> Results:
        return Results([self._predictions[position]], [self._pixels[position]], self._names)

    def __iter__(self) -> Iterator[Results]:
        return (self[position] for position in range(len(self)))

    def tolist(self) -> list[Results]:
        """Return the results of single images."""
        return list(self)

    @property
    def paths(self) -> list[str]:
        """The files, or image0.jpg and so on where there is none."""
        return [one.path for one in self._predictions]

    @property
    def files(self) -> list[str]:
        """The names of the files without folders and with the suffix .jpg, as in v7.0."""
        return [Path(path).with_suffix(".jpg").name for path in self.paths]

    @property
    def xyxy(self) -> list[Tensor]:
        """float32 [n, 6] an image: x1, y1, x2, y2 in its pixels, confidence, class."""
        return [torch.from_numpy(one.detections.copy()) for one in self._predictions]

    pred = xyxy

    @property
    def xywh(self) -> list[Tensor]:
        """float32 [n, 6] an image: centre, width and height in its pixels, confidence, class."""
        return [_centred(rows) for rows in self.xyxy]

    @property
    def xyxyn(self) -> list[Tensor]:
        """As `xyxy`, normalised by the image's width and height."""
        return [self._shares(rows, at) for at, rows in enumerate(self.xyxy)]

    @property
    def xywhn(self) -> list[Tensor]:
        """As `xywh`, normalised by the image's width and height."""
        return [_centred(rows) for rows in self.xyxyn]

    def _shares(self, rows: Tensor, position: int) -> Tensor:
        height, width = self._predictions[position].size or (1, 1)
        return rows / rows.new_tensor([width, height, width, height, 1, 1])

    def pandas(self) -> Tables:
        """Return tables: `results.pandas().xyxy[0]` is that of the first image."""
        pandas = optional_package("pandas", purpose="pandas()")

        def tables(form: list[Tensor], columns: tuple[str, ...]) -> list[Any]:
            rows = [
                [[*row[:5], int(row[5]), self.names[int(row[5])]] for row in one.tolist()]
                for one in form
            ]
            header = [*columns, "confidence", "class", "name"]
            return [pandas.DataFrame(one, columns=header) for one in rows]

        return Tables(
            tables(self.xyxy, CORNERS),
            tables(self.xywh, CENTRE),
            tables(self.xyxyn, CORNERS),
            tables(self.xywhn, CENTRE),
        )

    def __str__(self) -> str:
        lines = []
        for number, one in enumerate(self._predictions, start=1):
            counts = Counter(one.detections[:, 5].astype(int).tolist())
            found = ", ".join(f"{n} {self.names[index]}" for index, n in sorted(counts.items()))
            size = f"{one.size[0]}x{one.size[1]}" if one.size else ""
            what = f"{size}, {found or 'no detections'}" if size else f"skipped, {one.error}"
            lines.append(f"image {number}/{len(self)} {one.path}: {what}")
        return "\n".join(lines)

    def print(self) -> None:
        """Print one line per image: name, size, objects of each class."""
        print(self)

    @property
    def ims(self) -> list[Pixels]:
        """The images, RGB uint8 [h, w, 3], with boxes after `render`; files are read again."""
        if self._drawn is not None:
            return self._drawn
        return [_reversed(self._image(at)) for at in range(len(self))]

    def render(self, labels: bool = True) -> list[Pixels]:
        """Draw the boxes, with names and scores if `labels`; return the images, RGB."""
        self._drawn = []
        for position, one in enumerate(self._predictions):
            boxes, (scores, classes) = one.detections[:, :4], one.detections[:, 4:].T
            drawn = draw_boxes(
                self._image(position), boxes, classes, self._names, scores, named=labels
            )
            self._drawn.append(_reversed(drawn))
        return self._drawn

    def show(self, labels: bool = True) -> None:
        """Show the images with their boxes in a notebook or the desktop's viewer.

        Raises TaskError where there is neither.
        """
        for path, image in zip(self.paths, self.render(labels), strict=True):
            if not ImageShow.show(Image.fromarray(image), Path(path).name):
                raise TaskError(
                    Code.CONFIG,
                    "there is no program here that shows images: write them with save(), or take "
                    "them from render().",
                )

    def save(
        self, labels: bool = True, save_dir: str | Path = "runs/detect/exp", exist_ok: bool = False
    ) -> Path:
        """Write the images with their boxes to a new folder, `save_dir` with the next free number.

        Returns the folder; with `exist_ok` it is `save_dir` itself.
        """
        return self._write(save_dir, exist_ok, OutputOptions(hide_labels=not labels))

    def crop(
        self, save: bool = True, save_dir: str | Path = "runs/detect/exp", exist_ok: bool = False
    ) -> list[dict[str, Any]]:
        """Return `box` (xyxy), `conf`, `cls`, `label` and the crop `im` (BGR) of every object.

        With `save` the crops are written below `save_dir`, as by `save`, one folder a class.
        """
        if save:
            self._write(save_dir, exist_ok, OutputOptions(save_images=False, save_crop=True))
        crops = []
        for position, rows in enumerate(self.xyxy):
            if len(rows):
                image = self._image(position)
            for row in rows:
                crops.append({
                    "box": row[:4],
                    "conf": row[4],
                    "cls": row[5],
                    "label": f"{self.names[int(row[5])]} {row[4]:.2f}",
                    "im": crop_box(image, row[:4].numpy()),
                })  # fmt: skip
        return crops

    def _write(self, save_dir: str | Path, exist_ok: bool, options: OutputOptions) -> Path:
        place = Path(save_dir)
        folder = RunName(place.parent, place.name, exist_ok).make()
        files = DetectionFiles(folder, Path(), self._names, options, draw_boxes, upright=True)
        for one, image in zip(self._predictions, self._pixels, strict=True):
            if one.size:
                files.write(one.path, one.detections, one.size, image)
        return folder

    def _image(self, position: int) -> Pixels:
        """Return an image, BGR."""
        known = self._pixels[position]
        if known is not None:
            return known
        try:
            return read_image(self._predictions[position].path, upright=True)
        except ImageError as error:
            raise TaskError(Code.IMAGE_FORMAT, f"{error}: the image cannot be drawn on.") from None


def _centred(rows: Tensor) -> Tensor:
    """Convert rows [n, 6] from corners to centre, width and height."""
    low, high = rows[:, :2], rows[:, 2:4]
    return torch.cat([(low + high) / 2, high - low, rows[:, 4:]], 1)


def _reversed(image: np.ndarray) -> Pixels:
    return np.ascontiguousarray(image[..., ::-1])
