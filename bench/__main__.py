"""Compare ours with other programs: speed, memory and start, as one table.

    python -m bench --data path/to/bccd --weights path/to/bccd_yolov5n.pt
    python -m bench --only inference,evaluation --quick
    python -m bench --device 0 --markdown docs/performance.md    # on a GPU, into its table there

Against yolov5 7.0.14 and ultralytics, which are installed into build/peer-venv the first time, and
a sequential loop for mining: the same images, sizes, batches and threads, in turns, pair by pair.
"""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.comparison import BUILD, Comparison, machine, peer_interpreter, table
from bench.material import find_data
from bench.parts import FULL, GPU, NEED_PEER, PARTS, QUICK, Measurement
from bench.training import fill
from tools import command_parser
from utils.atomic import write_text
from utils.cpus import available_cpus

BUSY = 0.5
"""Load average above which other programs spoil the times."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the selected parts, print the table and write it."""
    parser = command_parser("bench", __doc__)
    parser.add_argument("--data", type=Path, help="labelled folder (default: drawn images)")
    parser.add_argument("--weights", type=Path, help="checkpoint (default: fresh weights)")
    parser.add_argument("--only", default="", help=f"some of {','.join(PARTS)}, with commas")
    parser.add_argument("--quick", action="store_true", help="little work and one pair")
    parser.add_argument("--pairs", type=int, help="pairs of runs (default: 3, or 1 with --quick)")
    parser.add_argument("--threads", type=int, help="default: 2, or with a GPU all cores")
    own = "precision of ours; the other programs compute in float32 on a CPU"
    precisions = ("auto", "float32", "bfloat16", "float16")
    parser.add_argument("--precision", choices=precisions, default="auto", help=own)
    parser.add_argument("--device", default="", help="the number of a GPU; default: the CPU")
    parser.add_argument("--peer", default="", help="Python of an environment that has the peer")
    parser.add_argument("--out", type=Path, default=BUILD, help="folder for jobs and weights")
    place = "where the table goes; a page with a place for it keeps its text"
    default = Path("runs/bench/performance.md")
    parser.add_argument("--markdown", type=Path, default=default, help=place)
    options = parser.parse_args(arguments)
    chosen = options.only.split(",") if options.only else list(PARTS)
    if unknown := sorted(set(chosen) - set(PARTS)):
        parser.error(f"--only {','.join(unknown)} is unknown: choose from {','.join(PARTS)}")
    pairs = (1 if options.quick else 3) if options.pairs is None else options.pairs
    threads = options.threads
    if threads is None:
        threads = available_cpus() if options.device else 2
    if min(pairs, threads) < 1:
        parser.error("--pairs and --threads must be at least 1")
    if os.getloadavg()[0] > BUSY:
        print("note: other programs are busy here; the times will not mean much", file=sys.stderr)
    given = (threads, options.precision, options.out, options.device)
    peer = peer_interpreter(options.peer) if NEED_PEER & set(chosen) else Path(sys.executable)
    comparison = Comparison(peer, pairs, *given)
    source = find_data(options.data, options.out)
    sizes = QUICK if options.quick else GPU if options.device else FULL
    measurement = Measurement(comparison, source, options.weights, sizes)
    for name, part in PARTS.items():
        if name in chosen:
            part(measurement)
    text = report(measurement)
    print(f"\n{text}")
    place = f"measured: {'GPU' if options.device else 'CPU'}"
    if not fill(options.markdown, place, text.partition("\n\n")[2].strip()):
        write_text(options.markdown, text)


def report(measurement: Measurement) -> str:
    """Format the table, the remarks, and where and when it was measured."""
    comparison = measurement.comparison
    about = "; ".join(f"{program}: {text}" for program, text in comparison.versions.items())
    parts = ["# Ours beside others"]
    parts += [table(measurement.rows)] if measurement.rows else []
    parts += measurement.remarks
    today = datetime.date.today().isoformat()
    parts.append(f"{today}, {machine()}; {about}; {comparison.pairs} pairs.")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
