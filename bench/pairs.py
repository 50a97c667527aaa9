"""Ours and the peer in turns, pair by pair, each in a process of its own on an idle machine.

Imported by `python -m bench` and by each of its parts that runs alone.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

from bench.material import BUILD, write_peer_configuration
from bench.peer_environment import peer_interpreter, peer_variables
from bench.process_memory import MemoryWatch
from bench.tables import Row, comparison, milliseconds_per_image, parse_result, turns
from data.workers import available_cpus

ROOT = Path(__file__).resolve().parent.parent
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
BUSY = 0.5
"""Load average above which somebody else is computing."""


@dataclass
class Contest:
    """Runs jobs on both programs and remembers what they said of themselves."""

    peer: Path
    pairs: int
    threads: int
    precision: str = "auto"
    folder: Path = BUILD
    device: str = ""
    """The number of a GPU, or '' for the CPU."""
    script: str = "run_peer.py"
    """What runs the other program's side of a job."""
    rows: list[Row] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)

    def measure(self, name: str, job: Mapping[str, object]) -> Row:
        """`pairs` measurements of one job on both programs, in turns; also printed."""
        results = self.results(job)
        ours, peer = (tuple(map(_milliseconds, results[name])) for name in ("ours", "peer"))
        found = [results[name][-1].get("objects") for name in ("ours", "peer")]
        remark = f"{found[0]} and {found[1]} objects" if found[0] else ""
        row = Row(name, ours, peer, remark)
        self.rows.append(row)
        print(f"{name}: ours {_list(row.ours)}; peer {_list(row.peer)} ms/image", flush=True)
        return row

    def against(self, script: str) -> Contest:
        """The same with another program, which `script` runs; what is known of both is shared."""
        return replace(self, script=script)

    def results(self, job: Mapping[str, object]) -> dict[str, list[dict[str, object]]]:
        """What both programs say of one job, `pairs` times each, in turns."""
        path = (self.folder / "job.json").absolute()
        content = {
            **job,
            "threads": self.threads,
            "precision": self.precision,
            "device": self.device,
            "output": str(self.folder.absolute()),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
        results: dict[str, list[dict[str, object]]] = {"ours": [], "peer": []}
        for pair in turns(self.pairs):
            for program in pair:
                results[program].append(self._run(program, path))
        return results

    def _run(self, program: str, job: Path) -> dict[str, object]:
        """One program once, in a process of its own; its result."""
        threads = dict.fromkeys(THREAD_VARIABLES, str(self.threads))
        if program == "ours":
            result = run_ours(job, threads)
        else:
            configuration = write_peer_configuration(
                (self.folder / "peer-configuration").absolute()
            )
            surroundings = peer_variables(configuration, {**os.environ, **threads})
            command = [str(self.peer), str(ROOT / "bench" / self.script), str(job)]
            result = run_program(command, job.parent, surroundings)
        name = "ultralytics" if program == "peer" and self.script != "run_peer.py" else program
        self.settings[name] = (
            f"torch {result['torch']}, {result['precision']}, {result['threads']} threads"
            + (f", version {result['version']}" if "version" in result else "")
        )
        return result

    def report(self, title: str) -> str:
        """The table, under a line that says where and when it was measured."""
        about = "; ".join(f"{program}: {text}" for program, text in self.settings.items())
        return (
            f"{title}\n\n{comparison(self.rows)}\n\n"
            f"{datetime.date.today().isoformat()}, {machine()}; {about}; {self.pairs} pairs.\n"
        )


def run_ours(job: Path, variables: Mapping[str, str]) -> dict[str, object]:
    """Ours on a job file, in a process of its own with these environment variables too."""
    command = [sys.executable, "-m", "bench.run_ours", str(job)]
    return run_program(command, ROOT, {**os.environ, **variables})


def run_program(
    command: list[str], folder: Path, surroundings: Mapping[str, str]
) -> dict[str, object]:
    """A program's result, and as `peak_mib` the most memory that it and its children held.

    It finds the moment of its start, in seconds since 1970, in the variable BENCH_STARTED.
    """
    with (
        subprocess.Popen(
            command,
            cwd=folder,
            env={**surroundings, "BENCH_STARTED": repr(time.time())},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
        MemoryWatch(process.pid) as memory,
    ):
        output, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"{command} failed:\n{output[-2000:]}\n{errors[-4000:]}")
    return {**parse_result(output), "peak_mib": memory.peak}


def machine() -> str:
    """The processor, its cores and the versions in one line."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        names = [line for line in information.read_text().splitlines() if "model name" in line]
        model = names[0].partition(":")[2].strip() if names else model
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "opencv-python-headless"))
    return f"{model}, {available_cpus()} cores, Python {platform.python_version()}, {packages}"


def common_arguments(description: str | None) -> argparse.ArgumentParser:
    """The options that every speed benchmark has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="VOC folder (default: drawn 640 x 480 pictures)")
    parser.add_argument("--weights", type=Path, help="checkpoint of --model (default: fresh)")
    parser.add_argument("--model", default="yolov5n")
    parser.add_argument("--peer", default="", help="Python of an environment that has the peer")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="arithmetic of ours; the peer always computes in float32 on a CPU",
    )
    parser.add_argument("--markdown", type=Path, help="also write the table to this file")
    return parser


def contest(options: argparse.Namespace) -> Contest:
    """A contest as the command line asks for it; makes the peer's environment if missing."""
    if options.pairs < 1 or options.threads < 1:
        raise SystemExit("--pairs and --threads must be at least 1")
    note_if_busy()
    return Contest(
        peer_interpreter(options.peer), options.pairs, options.threads, options.precision
    )


def note_if_busy() -> None:
    """Say so where other programs would spoil the times."""
    if os.getloadavg()[0] > BUSY:
        print("note: other programs are busy here; the times will not mean much", file=sys.stderr)


def publish(report: str, markdown: Path | None) -> None:
    """Print a report, and write it to a file if one is named."""
    print(f"\n{report}")
    if markdown:
        markdown.parent.mkdir(parents=True, exist_ok=True)
        markdown.write_text(report, encoding="utf-8")


def _milliseconds(result: Mapping[str, object]) -> float:
    seconds, images = result["seconds"], result["images"]
    assert isinstance(seconds, list)
    assert isinstance(images, int)
    return milliseconds_per_image(seconds, images)


def _list(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.1f}" for value in values)
