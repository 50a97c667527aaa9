"""A window that shows annotated images while a program works, where there is a display."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import cv2
import numpy as np

TITLE = "detections"
PROBE = "import cv2; cv2.namedWindow('probe'); cv2.waitKey(1)"
PROBE_SECONDS = 30

log = logging.getLogger(__name__)


def why_no_window() -> str:
    """Return why OpenCV cannot open a window here; '' if it can."""
    places = ("DISPLAY", "WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and not any(map(os.environ.get, places)):
        return "there is no display here"
    # A toolkit that cannot reach its display ends the process: another one tries.
    try:
        probe = subprocess.run(
            [sys.executable, "-c", PROBE], capture_output=True, timeout=PROBE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return "the display does not answer"
    if b"not implemented" in probe.stderr:
        return "this OpenCV has no windows (opencv-python-headless)"
    return "the display cannot be reached" if probe.returncode else ""


def show(image: np.ndarray) -> None:
    """Show a BGR image [h, w, 3] in the window until the next one."""
    cv2.imshow(TITLE, image)
    cv2.waitKey(1)
