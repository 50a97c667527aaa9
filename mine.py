"""Rank images for labelling by any mining algorithm.

python mine.py --weights best.pt --source photographs/ --algorithm entropy [img_size=320 ...]
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

from api.detector import Detector
from settings.detect import MINING_ALGORITHMS, DetectionSettings
from settings.flags import with_dashes
from settings.parse import ALIASES
from utils.atomic import replace_text
from utils.command import run_command
from utils.logs import log_to_console

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Score the images of a source and write `path<TAB>score`, best first."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--source", required=True, help="an image, a folder, a pattern, a list")
    parser.add_argument("--output", type=Path, default=Path("result.tsv"))
    parser.add_argument("--algorithm", choices=MINING_ALGORITHMS, default=MINING_ALGORITHMS[0])
    parser.add_argument("--device", help="for example 0 or cpu; the first GPU if there is one")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings of mining")
    options = parser.parse_args(with_dashes(arguments))
    pairs = [pair.partition("=") for pair in options.settings]
    if any(not equals for _, equals, _ in pairs):
        parser.error("settings are written KEY=VALUE")
    log_to_console()
    settings = {key: value for key, _, value in pairs}
    shared = {item.name for item in fields(DetectionSettings)}
    of_detector = {key: v for key, v in settings.items() if ALIASES.get(key, key) in shared}
    detector = Detector(options.weights, device=options.device, **of_detector)
    ranked = detector.mine(options.source, options.algorithm, **settings)
    with replace_text(options.output) as file:
        file.writelines(f"{one.path}\t{one.score:.9f}\n" for one in ranked)
    log.info("%d images scored by %s: %s", len(ranked), options.algorithm, options.output)


if __name__ == "__main__":
    sys.exit(run_command(main))
