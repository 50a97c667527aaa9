"""A window that shows annotated images while a program works, where there is a display."""

from __future__ import annotations

import re
import sys

import cv2
import numpy as np

from utils.environment import has_display

TITLE = "detections"


def why_no_window() -> str:
    """Return why OpenCV cannot open a window here; '' if it can."""
    if sys.platform.startswith("linux") and not has_display():
        return "there is no display here"
    gui = re.search(r"GUI:\s*(\w+)", cv2.getBuildInformation())
    if gui is None or gui[1] == "NONE":
        return "this OpenCV has no windows (opencv-python-headless)"
    return ""


def show(image: np.ndarray) -> None:
    """Show a BGR image [h, w, 3] in the window until the next one."""
    cv2.imshow(TITLE, image)
    cv2.waitKey(1)
