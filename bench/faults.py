"""Tasks killed, starved and robbed: what they leave is valid, and started again they finish.

    python -m bench.faults --page                        # everything, and the table of the docs
    python -m bench.faults --only signals --kills 30 --terms 5
    python -m bench.faults --only NaN                    # the faults with this word in their name

Signals meet a tiny training and a mining task with inference, so many of each: SIGKILL at moments
drawn over the time that the undisturbed task takes, SIGTERM once its work has begun. The other
faults happen at a given place (`fault_cases`).
Outcomes are added to outcomes.jsonl in the folder `--out`; remove it to begin anew.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from bench.fault_cases import FAULTS, carry_out
from bench.fault_disk import may_mount, run_within
from bench.fault_signals import TOO_LATE, disturb
from bench.fault_table import remember, remembered, table, write_page
from bench.fault_tasks import Outcome, make, start
from tools.draw_dataset import draw_dataset
from tools.sources import SourceDataset, read_source

SIGNALS = "signals"
SOONER = 0.75
"""Share of the time left for the signals that follow one that came too late."""


def undisturbed(source: SourceDataset, out: Path) -> tuple[Path, dict[str, float]]:
    """Weights for mining, and how long each kind of task takes when it is left alone, seconds."""
    weights, lasts = out / "model" / "out" / "models" / "best" / "best.pt", {}
    for kind, task in (("training", out / "model"), ("mining", out / "looked")):
        make(source, task, kind, weights)
        began = time.monotonic()
        if start(task).wait() != 0:
            raise SystemExit(f"the undisturbed {kind} failed: see {task / 'log.txt'}")
        lasts[kind] = time.monotonic() - began
        print(f"an undisturbed {kind} takes {lasts[kind]:.1f} s", flush=True)
    return weights, lasts


def met(
    number: signal.Signals,
    kind: str,
    times: int,
    *,
    out: Path,
    prepare: Callable[[Path], None],
    latest: float,
    chance: random.Random,
) -> Iterator[Outcome]:
    """Tasks of a kind until `times` were met by the signal, but twice as many at most.

    One that was whole before its signal is an outcome too: the next signals come sooner than
    `latest` seconds. `prepare` makes the task in the folder it is given.
    """
    count = 0
    for attempt in range(2 * times):
        if count == times:
            return
        task = out / f"{number.name}-{kind}-{attempt:02d}"
        prepare(task)
        outcome = disturb(task, kind, number, chance.uniform(0.0, latest))
        if outcome.fault.endswith(TOO_LATE):
            latest *= SOONER
        else:
            count += 1
        yield outcome


def outcomes(options: argparse.Namespace, source: SourceDataset, out: Path) -> Iterator[Outcome]:
    """Carry out what was asked for, one after the other."""
    weights, lasts = undisturbed(source, out)
    chance = random.Random(options.seed)
    if options.only in ("", SIGNALS):
        wanted = {signal.SIGKILL: options.kills, signal.SIGTERM: options.terms}
        for number, times in wanted.items():
            for kind, latest in lasts.items():
                if options.kind not in ("", kind):
                    continue
                prepare = partial(make, source, kind=kind, weights=weights)
                yield from met(
                    number, kind, times, out=out, prepare=prepare, latest=latest, chance=chance
                )
    for index, fault in enumerate(FAULTS):
        if options.only not in fault.name or options.kind not in ("", fault.kind):
            continue
        if fault.needs_disk and not options.within:
            print(f"left out, no mount namespaces here: {fault.name}", flush=True)
            continue
        yield carry_out(source, out / f"fault-{index:02d}", fault, weights)


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out faults, print the table; status 1 if anything was wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30, help="SIGKILL, of each kind of task")
    parser.add_argument("--terms", type=int, default=5, help="SIGTERM, of each kind of task")
    parser.add_argument("--only", default="", help="'signals', or a part of a fault's name")
    parser.add_argument("--kind", default="", choices=("", "training", "mining"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/faults"))
    parser.add_argument("--page", action="store_true", help="write docs/reliability.md")
    parser.add_argument("--within", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not options.within and may_mount():
        words = sys.argv[1:] if arguments is None else list(arguments)
        return run_within(["bench.faults", *words, "--within"])
    out = options.out.resolve()
    draw_dataset(out / "data", images=24, size_wh=(160, 120), seed=1)
    wrong, kept = 0, out / "outcomes.jsonl"
    for one in outcomes(options, read_source(out / "data"), out):
        remember(kept, one)
        wrong += bool(one.wrong)
        print(f"{one.kind}, {one.fault}: {one.ended} ({one.after:.1f} s)", *one.wrong, flush=True)
    print(table(remembered(kept)), flush=True)
    if options.page:
        write_page(remembered(kept))
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
