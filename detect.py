"""Images in, detections in their own pixels out: the one stream that everyone asks.

python detect.py --weights best.pt --source photographs/ [--save-txt] [--output detections.json]
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from cli.detect import parse_detect_command
from inference.outputs import DetectionFiles
from inference.predictions import Prediction
from inference.predictor import Predictor, load_predictor
from utils.atomic import write_text
from utils.device import parse_device
from utils.logs import log_to_console
from utils.shutdown import run_command

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Detect objects in images: pictures and label files, and all detections as one JSON file."""
    log_to_console()
    command = parse_detect_command(sys.argv[1:] if arguments is None else arguments)
    for note in command.notes:
        log.warning("note: %s", note)
    settings = command.settings
    predictor = load_predictor(command.weights, settings, parse_device(command.device))
    predictor.use_engine(settings.engine, command.images, batch_size=settings.batch_size)
    folder = command.run.make() if command.run else Path()
    output = command.output or folder / "detections.json"
    files = DetectionFiles(folder, command.base, predictor.class_names, command.choice)
    stream = predictor.stream(
        command.images, batch_size=settings.batch_size, workers=settings.workers
    )
    found: dict[str, list[dict[str, object]]] = {}
    for prediction in tqdm(stream, total=len(command.images), disable=None):
        found[prediction.path] = _plain(prediction, predictor)
        if prediction.size is None:
            log.warning("skipped %s: %s", prediction.path, prediction.error)
        elif command.run:
            files.write(prediction.path, prediction.detections, prediction.size)
    write_text(output, json.dumps({path: found[path] for path in command.images}, indent=1))
    log.info(
        "%d images, %d objects: %s",
        len(found),
        sum(map(len, found.values())),
        folder if command.run else output,
    )


def _plain(prediction: Prediction, predictor: Predictor) -> list[dict[str, object]]:
    return [
        {
            "box": [round(float(v), 2) for v in row[:4]],
            "score": round(float(row[4]), 6),
            "class_name": predictor.class_names[int(row[5])],
        }
        for row in prediction.detections
    ]


if __name__ == "__main__":
    sys.exit(run_command(main))
