"""Video files: their frames, and annotated copies, by OpenCV."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from data.images import ImageError, Pixels
from utils.errors import Code, TaskError

UNREADABLE = (
    "OpenCV cannot read this video (cut off, or in a format it does not know): convert it to MP4"
)
RATE = 30.0
"""Frames a second of a video that does not say."""

log = logging.getLogger(__name__)


class Video:
    """A video file, whose frames are read once, in order; ImageError where it has none."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._capture = cv2.VideoCapture(path)
        except (cv2.error, UnicodeError) as error:
            raise ImageError(path, f"cannot be opened ({error})") from None
        if not self._capture.isOpened():
            raise ImageError(path, UNREADABLE)
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.rate = rate if 0 < rate < 1000 else RATE
        self.total = max(int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        """Frames by the file's own account; 0 if it has none."""

    def frames(self, stride: int = 1) -> Iterator[Pixels]:
        """Yield every `stride`-th frame, BGR uint8 [h, w, 3], as v7.0 counts: the first is number
        `stride`. A file that ends early is a warning.
        """
        read = 0
        try:
            while self._capture.grab():
                read += 1
                if read % stride:
                    continue
                decoded, frame = self._capture.retrieve()
                if not decoded:
                    break
                yield np.asarray(frame, np.uint8)
        finally:
            self._capture.release()
        if not read:
            raise ImageError(self.path, "no frame of this video can be read")
        if read < self.total - 1:
            log.warning(
                "%s ends after %d of its %d frames: it is cut off or damaged there",
                *(self.path, read, self.total),
            )


@contextmanager
def write_video(path: Path, size: tuple[int, int], rate: float) -> Iterator[cv2.VideoWriter]:
    """Yield a writer of BGR frames of `size` (height, width) to an MP4 file (MPEG-4).

    The file can be played up to the last frame written, also after an exception. Raises
    TaskError(CONFIG).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, (size[1], size[0]))
    try:
        if not writer.isOpened():
            raise TaskError(
                Code.CONFIG,
                f"OpenCV cannot write the video {path}: --nosave leaves the annotated video out, "
                "--save-txt writes the detections of its frames.",
            )
        yield writer
    finally:
        writer.release()
