"""Rank images for labelling by any mining algorithm; CALD if none is named.

python mine.py --weights best.pt --source photographs/ --algorithm entropy --imgsz 320
"""

from __future__ import annotations

if __name__ == "__main__":
    from utils.shutdown import listen_for_interrupts

    listen_for_interrupts()  # before the seconds that the imports take

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from api.detector import OF_TASKS, Detector
from cli.options import RunName, add_settings, log_next
from reporting.page import PAGE
from settings.detect import MINING_ALGORITHMS, DetectionSettings, MiningSettings
from settings.flags import named_device, with_dashes
from settings.parse import ALIASES, parse_settings
from utils.atomic import replace_text
from utils.command import run_command
from utils.logs import log_to_console

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Score the images of a source and write `path<TAB>score`, best first, and a report."""
    parser = argparse.ArgumentParser(
        prog="mine.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--weights", type=Path, required=True, help="the weights to mine with")
    add("--source", required=True, help="image, folder, pattern, or text file that lists images")
    add("--algorithm", choices=MINING_ALGORITHMS, default=MINING_ALGORITHMS[0])
    add("--device", help="for example 0 or cpu; the first GPU if there is one")
    add("--gpu-id", help="for example 0; '' for the CPU")
    add("--output", type=Path, help="this file only, and no run folder")
    add("--project", default="runs/mine", help="save result.tsv and report.html to project/name")
    add("--name", default="exp", help="save result.tsv and report.html to project/name")
    add("--exist-ok", action="store_true", help="an existing project/name is used")
    add("settings", nargs="*", metavar="KEY=VALUE", help="settings in another form")
    names = add_settings(parser, MiningSettings, OF_TASKS - {"plots"})
    given = vars(parser.parse_args(with_dashes(arguments)))
    pairs = [pair.partition("=") for pair in given["settings"]]
    if any(not equals for _, equals, _ in pairs):
        parser.error("settings are written KEY=VALUE")
    log_to_console()
    settings = {name: given[name] for name in names if name in given}
    settings |= {key: value for key, _, value in pairs}
    plots = parse_settings(MiningSettings, {"plots": settings.pop("plots", None)})[0].plots
    shared = {item.name for item in fields(DetectionSettings)}
    of_detector = {key: v for key, v in settings.items() if ALIASES.get(key, key) in shared}
    weights, source, algorithm = given["weights"], given["source"], given["algorithm"]
    detector = Detector(weights, device=named_device(given, given["gpu_id"]), **of_detector)
    output, folder = given["output"], None
    if output is None:
        folder = RunName(Path(given["project"]), given["name"], given["exist_ok"]).make()
        output = folder / "result.tsv"
    report = folder if plots else None
    ranked = detector.mine(source, algorithm, report=report, **settings)
    with replace_text(output) as file:
        file.writelines(f"{one.path}\t{one.score:.9f}\n" for one in ranked)
    log.info("%d images scored by %s: %s", len(ranked), algorithm, output)
    if report and (report / PAGE).is_file():
        log.info("report: %s", report / PAGE)
    if folder:
        words = ("python", "train.py", "--weights", weights, "--data", "DATA.yaml")
        log_next("once the first images are labelled", *words)


if __name__ == "__main__":
    sys.exit(run_command(main))
