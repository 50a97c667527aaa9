"""Run inference on images and videos with a trained detector.

python detect.py --weights best.pt --source photographs/ [--save-txt] [--output detections.json]
"""

from __future__ import annotations

if __name__ == "__main__":
    from cli.parsers import detect_parser
    from utils.shutdown import listen_for_interrupts

    listen_for_interrupts()  # before the seconds that the imports take
    detect_parser().read()  # so that help and a mistyped flag do not wait for them either

import logging
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from cli.detect import DetectCommand, parse_detect_command
from cli.options import language_of, log_next
from data.images import ImageError
from data.videos import Video, write_video
from inference.background import done_behind
from inference.exported import is_exported
from inference.outputs import DetectionFiles, DetectionTable
from inference.predictions import Prediction
from inference.predictor import Predictor, load_predictor
from inference.video import predict_video
from reporting.candidate_report import About, CandidateReport
from reporting.drawing import draw_boxes
from reporting.page import PAGE
from reporting.training_page import setting_rows
from reporting.window import show, why_no_window
from utils.command import run_command
from utils.device import describe, parse_device
from utils.errors import Code, TaskError
from utils.logs import counted, duration, log_to_console
from utils.progress import progress_bar

log = logging.getLogger(__name__)


@dataclass
class Results:
    """Where the predictions of a run go: files, tables, the report and the window."""

    command: DetectCommand
    folder: Path
    files: DetectionFiles
    table: DetectionTable
    report: CandidateReport
    shows: bool
    failure: str = ""
    """What could not be read last, and why."""

    def add(
        self, prediction: Prediction, frame: np.ndarray | None = None, name: str = ""
    ) -> np.ndarray | None:
        """Add an image, or a `frame` of a video whose files are named after the path `name`.

        Return it annotated if it was drawn.
        """
        self.table.add(prediction)
        self.report.counts.add(prediction, shown=frame is None)
        path, rows = prediction.path, prediction.detections
        if prediction.size is None:
            self.skip(path, prediction.error or "")
            return None
        if not self.command.run and not self.shows:
            return None
        picture = frame is None and self.command.run is not None
        drawn = self.files.write(name or path, rows, prediction.size, frame, picture=picture)
        if drawn is not None and self.shows:
            show(drawn)
        return drawn

    def skip(self, path: str, reason: str) -> None:
        """Log that a file cannot be used."""
        self.failure = f"{path}: {reason}"
        log.warning("skipped %s", self.failure)

    def add_video(self, predictor: Predictor, path: str, first: int) -> int:
        """Detect in the frames of a video, the first at position `first`; return their number."""
        video, stride, number = Video(path), self.command.stride, 0
        frames = predict_video(predictor, video, stride=stride, first=first)
        total, saved = video.total // stride or None, self.folder / self.files.name(path)
        bar = progress_bar(frames, saved.name, total=total, unit="frame")
        with ExitStack() as stack:
            writer: cv2.VideoWriter | None = None
            for number, (frame, prediction) in enumerate(bar, start=1):
                name = str(Path(path).with_stem(f"{Path(path).stem}_{number}"))
                drawn = self.add(prediction, frame, name)
                if drawn is None or not (self.command.run and self.command.outputs.save_images):
                    continue
                if writer is None:
                    target, size = saved.with_suffix(".mp4"), drawn.shape[:2]
                    writer = stack.enter_context(write_video(target, size, video.rate))
                writer.write(drawn)
        return number


def main(arguments: Sequence[str] | None = None) -> None:
    """Detect objects; write annotated images and videos, label files, crops, tables, a report."""
    log_to_console(language=language_of(arguments))
    command = parse_detect_command(arguments)
    device = parse_device(command.device)
    predictor = load_predictor(
        command.weights,
        command.settings,
        device,
        images=command.images,
        shape=command.shape,
        upright=True,
    )
    with command.run.opened() if command.run else nullcontext(Path()) as folder:
        detect(command, predictor, folder)


def detect(command: DetectCommand, predictor: Predictor, folder: Path) -> None:
    """Detect, write everything to the run's folder, and log where it is."""
    began, images, outputs = time.monotonic(), command.images, command.outputs
    no_window = why_no_window() if outputs.view_img else "not asked for"
    if outputs.view_img and no_window:
        log.warning("note: --view-img shows nothing: %s; look at the saved pictures", no_window)
    names, rows = predictor.class_names, folder / "predictions.csv" if outputs.save_csv else None
    with DetectionTable(command.output or folder / "detections.json", names, rows) as table:
        files = DetectionFiles(folder, command.base, names, outputs, draw_boxes, upright=True)
        report = CandidateReport(names, mining=False, upright=True)
        results = Results(command, folder, files, table, report, not no_window)
        stream = predictor.stream(images)
        # A window belongs to the main thread.
        done = map(results.add, stream) if results.shows else done_behind(stream, results.add)
        for _ in progress_bar(done, "detection", total=len(images)):
            pass
        seen = len(images)
        for path in command.videos:
            try:
                seen += results.add_video(predictor, path, seen)
            except ImageError as error:
                results.skip(path, error.reason)
        if not table.readable:
            raise TaskError(
                Code.DATASET,
                f"no image of --source {command.source} can be read ({results.failure}): give "
                "image or video files.",
            )
    where = folder if command.run else command.output
    counts = [counted(len(images), "%s image", "%s images")]
    if command.videos:
        counts.append(counted(seen - len(images), "%s frame", "%s frames"))
    counts.append(counted(table.objects, "%s object", "%s objects"))
    log.info("%s: %s", ", ".join(counts), where)
    if command.run and command.settings.plots:
        facts = [
            ("weights", str(command.weights)),
            ("image size", f"{command.settings.img_size} px"),
            ("device", describe(predictor.pool.device)),
            ("time", duration(time.monotonic() - began)),
        ]
        settings = command.settings
        about = About(rows=facts, settings=setting_rows(settings), language=settings.language)
        report.write(folder, about=about, tensorboard=False)
        log.info("report: %s", folder / PAGE)
    if command.run and images and not is_exported(Path(command.weights)):
        mining = ("python", "mine.py", "--weights", command.weights, "--source", command.source)
        log_next("which to label first", *mining, "--imgsz", command.settings.img_size)


if __name__ == "__main__":
    sys.exit(run_command(main))
