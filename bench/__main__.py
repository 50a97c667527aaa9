"""Everything against everyone, in one command: speed, memory and start, as one table.

    python -m bench --data path/to/bccd --weights path/to/bccd_yolov5n.pt
    python -m bench --only inference,evaluation --quick
    python -m bench --device 0        # the same on a GPU

Ours beside yolov5 7.0.14 and ultralytics, which are installed into an environment of their own the
first time (`bench/peer_environment.py`), and beside a sequential loop for mining: the same images,
sizes, batches and threads, in turns, pair by pair, each in a process of its own.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.material import BUILD, find_data
from bench.pairs import Contest, common_arguments, contest, machine, publish
from bench.parts import FULL, PARTS, QUICK, Measurement, ceiling
from bench.summary import table

CEILING = "ceiling"
ALL = (*PARTS, CEILING)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts that were chosen, print the table and write it."""
    parser = _parser()
    options = parser.parse_args(arguments)
    chosen = options.only.split(",") if options.only else list(ALL)
    if unknown := sorted(set(chosen) - set(ALL)):
        parser.error(f"--only {','.join(unknown)} is unknown: choose from {','.join(ALL)}")
    sizes = QUICK if options.quick else FULL
    options.pairs = options.pairs or (1 if options.quick else 3)
    alone = set(chosen) <= {CEILING, "index", "mining"}
    runner = (
        Contest(Path(sys.executable), options.pairs, options.threads, options.precision)
        if alone
        else contest(options)
    )
    runner.folder, runner.device = options.out, options.device
    measurement = Measurement(runner, find_data(options.data), options.weights, sizes)
    for name in PARTS:
        if name in chosen:
            PARTS[name](measurement)
    publish(report(measurement, with_ceiling=CEILING in chosen), options.markdown)


def report(measurement: Measurement, *, with_ceiling: bool) -> str:
    """The table and what belongs to it."""
    runner = measurement.contest
    about = "; ".join(f"{program}: {text}" for program, text in runner.settings.items())
    where = f"GPU {runner.device}, " if runner.device else ""
    parts = ["# Ours beside others", table(measurement.lines) if measurement.lines else ""]
    parts += measurement.remarks
    parts += [ceiling(measurement)] if with_ceiling else []
    parts.append(
        f"{datetime.date.today().isoformat()}, {where}{machine()}; {about}; {runner.pairs} pairs."
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = common_arguments(__doc__)
    parser.prog = "python -m bench"
    parser.add_argument("--only", default="", help=f"some of {','.join(ALL)}, with commas")
    parser.add_argument("--quick", action="store_true", help="little work and one pair")
    parser.add_argument("--device", default="", help="the number of a GPU; default: the CPU")
    parser.add_argument("--out", type=Path, default=BUILD, help="folder for jobs and weights")
    parser.set_defaults(pairs=0, markdown=Path("runs/bench/performance.md"))
    return parser


if __name__ == "__main__":
    main()
