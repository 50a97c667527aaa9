"""Rank images for labelling by any mining algorithm; `balanced` if none is named.

python mine.py --weights best.pt --source photographs/ --algorithm entropy --imgsz 320
"""

from __future__ import annotations

if __name__ == "__main__":
    from cli.parsers import mine_parser
    from utils.shutdown import listen_for_interrupts

    listen_for_interrupts()  # before the seconds that the imports take
    mine_parser().read()  # so that help and a mistyped flag do not wait for them either

import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path

from api.detector import Detector
from cli.options import RunName, language_of, log_next
from cli.parsers import further_settings, mine_parser
from reporting.page import PAGE
from settings.detect import DetectionSettings, MiningSettings
from settings.flags import named_device, typed
from settings.parse import canonical, parse_settings
from utils.atomic import replace_text
from utils.command import run_command
from utils.logs import counted, log_to_console

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Score the images of a source and write `path<TAB>score`, best first, and a report."""
    parser = mine_parser()
    given = parser.read(arguments)
    log_to_console(language=language_of(arguments))
    settings = typed(given, *further_settings("mine")) | parser.pairs(given["settings"])
    of_report = {key: settings.pop(key) for key in list(settings) if canonical(key) == "plots"}
    plots = parse_settings(MiningSettings, of_report)[0].plots
    shared = {item.name for item in fields(DetectionSettings)}
    of_detector = {key: value for key, value in settings.items() if canonical(key) in shared}
    weights, source, algorithm = given["weights"], given["source"], given["algorithm"]
    detector = Detector(weights, device=named_device(given, given["gpu_id"]), **of_detector)
    output, folder = given["output"], None
    with ExitStack() as stack:
        if output is None:
            run = RunName(Path(given["project"]), given["name"], given["exist_ok"])
            folder = stack.enter_context(run.opened())
            output = folder / "result.tsv"
        report = folder if plots else None
        ranked = detector.mine(source, algorithm, report=report, **settings)
        with replace_text(output) as file:
            file.writelines(f"{one.path}\t{one.score:.9f}\n" for one in ranked)
    images = counted(len(ranked), "%s image", "%s images")
    log.info("%s scored by %s: %s", images, algorithm, output)
    if report and (report / PAGE).is_file():
        log.info("report: %s", report / PAGE)
    if folder:
        words = ("python", "train.py", "--weights", weights, "--data", "DATA.yaml")
        log_next("once the first images are labelled", *words)


if __name__ == "__main__":
    sys.exit(run_command(main))
