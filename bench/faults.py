"""Fault tests: disturbed tasks leave valid results, and finish when they are started again.

    python -m bench.faults                               # all of them
    python -m bench.faults --only signals --kills 30 --terms 5
    python -m bench.faults --only NaN                    # the faults with this word in their name

Signals are sent to a tiny training and to a mining task with inference: SIGKILL at random moments,
SIGTERM once its work has begun. The other faults are injected at a given place
(`bench.fault_cases`). Prints the table of docs/reliability.md.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.fault_cases import FAULTS, run_with_fault, run_with_signal
from bench.fault_tasks import NAMESPACE, Outcome, can_enter, make_task, start_task
from bench.training import markdown
from tools import command_parser
from tools.draw_dataset import draw_dataset
from tools.sources import SourceDataset, read_source

HEAD = "task | fault | times | code in monitor.txt | reads of monitor.txt"
HEAD += " | with a model | longest end, s | wrong"


def run_undisturbed(source: SourceDataset, out: Path) -> tuple[Path, dict[str, float]]:
    """Return weights for mining, and the duration in seconds of each kind of task."""
    weights, durations = out / "model" / "out" / "models" / "best" / "best.pt", {}
    for kind, task in (("training", out / "model"), ("mining", out / "mining")):
        make_task(source, task, kind, weights)
        began = time.monotonic()
        if start_task(task).wait() != 0:
            raise SystemExit(f"the undisturbed {kind} failed: see {task / 'log.txt'}")
        durations[kind] = time.monotonic() - began
        print(f"an undisturbed {kind} takes {durations[kind]:.1f} s", flush=True)
    return weights, durations


def outcomes(options: argparse.Namespace, source: SourceDataset, out: Path) -> Iterator[Outcome]:
    """Run every fault that the command line selects, one after the other."""
    weights, durations = options.weights, dict[str, float]()
    if weights is None or options.only in ("", "signals"):
        weights, durations = run_undisturbed(source, out)
    generator = random.Random(options.seed)
    for number, times in ((signal.SIGKILL, options.kills), (signal.SIGTERM, options.terms)):
        for kind, duration in durations.items():
            wanted = options.only in ("", "signals") and options.kind in ("", kind)
            for attempt in range(times if wanted else 0):
                task = out / f"{number.name}-{kind}-{attempt:02d}"
                make_task(source, task, kind, weights)
                yield run_with_signal(task, kind, number, generator.uniform(0.0, duration))
    for index, fault in enumerate(FAULTS):
        if options.only not in fault.name or options.kind not in ("", fault.kind):
            continue
        if fault.needs_disk and not options.in_namespace:
            print(f"skipped, no mount namespaces here: {fault.name}", flush=True)
            continue
        yield run_with_fault(source, out / f"fault-{index:02d}", fault, weights)


def table(outcomes: Sequence[Outcome]) -> str:
    """Format a row per task and fault: counts, codes, models kept, slowest end."""
    rows: list[list[object]] = []
    for kind, fault in dict.fromkeys((one.kind, one.fault) for one in outcomes):
        group = [one for one in outcomes if (one.kind, one.fault) == (kind, fault)]
        codes = sorted({one.ended if one.ended.isdigit() else "none" for one in group})
        ends = [one.ended_in for one in group if one.ended_in is not None]
        reads, kept = sum(one.reads for one in group), sum(one.kept_model for one in group)
        end = f"{max(ends):.1f}" if ends else ""
        wrong = sum(bool(one.wrong) for one in group)
        rows.append([kind, fault, len(group), ", ".join(codes), f"{reads:,}", kept, end, wrong])
    return markdown(HEAD, rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run faults, print the table; return 1 if anything was wrong."""
    parser = command_parser("bench.faults", __doc__)
    parser.add_argument("--kills", type=int, default=30, help="SIGKILLs, for each kind of task")
    parser.add_argument("--terms", type=int, default=5, help="SIGTERMs, for each kind of task")
    parser.add_argument("--only", default="", help="'signals', or a part of a fault's name")
    parser.add_argument("--kind", default="", choices=("", "training", "mining"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=Path, help="weights for mining (default: trained first)")
    parser.add_argument("--out", type=Path, default=Path("runs/faults"))
    parser.add_argument("--in-namespace", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not options.in_namespace and can_enter():
        words = sys.argv[1:] if arguments is None else list(arguments)
        command = [*NAMESPACE, sys.executable, "-m", "bench.faults", *words, "--in-namespace"]
        return subprocess.run(command, check=False).returncode
    out = options.out.resolve()
    draw_dataset(out / "data", images=24, size_wh=(160, 120), seed=1)
    done = []
    for one in outcomes(options, read_source(out / "data"), out):
        done.append(one)
        print(f"{one.kind}, {one.fault}: {one.ended} ({one.after:.1f} s)", *one.wrong, flush=True)
    print(table(done), flush=True)
    return 1 if any(one.wrong for one in done) else 0


if __name__ == "__main__":
    raise SystemExit(main())
