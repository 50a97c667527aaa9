"""Run inference on images with a trained detector.

python detect.py --weights best.pt --source photographs/ [--save-txt] [--output detections.json]
"""

from __future__ import annotations

from utils.shutdown import listen_for_interrupts

if __name__ == "__main__":
    listen_for_interrupts()  # before the seconds that the imports take

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from cli.detect import parse_detect_command
from inference.outputs import DetectionFiles, DetectionJson
from inference.predictor import load_predictor
from reporting.drawing import draw_boxes
from utils.command import run_command
from utils.device import parse_device
from utils.logs import log_to_console
from utils.progress import progress_bar

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Detect objects; write annotated images, label files, crops and one JSON file."""
    log_to_console()
    command = parse_detect_command(arguments)
    device, images = parse_device(command.device), command.images
    predictor = load_predictor(command.weights, command.settings, device, images=images)
    folder = command.run.make() if command.run else Path()
    output = command.output or folder / "detections.json"
    names = predictor.class_names
    files = DetectionFiles(folder, command.base, names, command.outputs, draw_boxes)
    with DetectionJson(output, images, names) as found:
        for prediction in progress_bar(predictor.stream(images), "detection", total=len(images)):
            found.add(prediction)
            if prediction.size is None:
                log.warning("skipped %s: %s", prediction.path, prediction.error)
            elif command.run:
                files.write(prediction.path, prediction.detections, prediction.size)
    where = folder if command.run else output
    log.info("%d images, %d objects: %s", len(images), found.objects, where)


if __name__ == "__main__":
    sys.exit(run_command(main))
