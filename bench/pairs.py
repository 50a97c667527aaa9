"""Ours and the peer in turns, pair by pair, each in a process of its own on an idle machine.

Imported by `python -m bench.training_step` and `python -m bench.inference`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from bench.material import BUILD, write_peer_configuration
from bench.peer_environment import peer_interpreter, peer_variables
from bench.tables import Row, comparison, milliseconds_per_image, parse_result, turns
from utils.workers import available_cpus

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
    rows: list[Row] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)

    def measure(self, name: str, job: Mapping[str, object]) -> Row:
        """`pairs` measurements of one job on both programs, in turns; also printed."""
        path = (self.folder / "job.json").absolute()
        content = {
            **job,
            "threads": self.threads,
            "precision": self.precision,
            "output": str(self.folder.absolute()),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
        taken: dict[str, list[float]] = {"ours": [], "peer": []}
        objects: dict[str, object] = {}
        for pair in turns(self.pairs):
            for program in pair:
                result = self._run(program, path)
                taken[program].append(_milliseconds(result))
                objects[program] = result.get("objects")
        remark = f"{objects['ours']} and {objects['peer']} objects" if objects["ours"] else ""
        row = Row(name, tuple(taken["ours"]), tuple(taken["peer"]), remark)
        self.rows.append(row)
        print(f"{name}: ours {_list(row.ours)}; peer {_list(row.peer)} ms/image", flush=True)
        return row

    def _run(self, program: str, job: Path) -> dict[str, object]:
        """One program once, in a process of its own; its result."""
        surroundings = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(self.threads))}
        if program == "ours":
            command, folder = [sys.executable, "-m", "bench.run_ours", str(job)], ROOT
        else:
            configuration = write_peer_configuration(
                (self.folder / "peer-configuration").absolute()
            )
            surroundings = peer_variables(configuration, surroundings)
            command, folder = (
                [str(self.peer), str(ROOT / "bench" / "run_peer.py"), str(job)],
                job.parent,
            )
        done = subprocess.run(
            command, cwd=folder, env=surroundings, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{program} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        result = parse_result(done.stdout)
        self.settings[program] = (
            f"torch {result['torch']}, {result['precision']}, {result['threads']} threads"
        )
        return result

    def report(self, title: str) -> str:
        """The table, under a line that says where and when it was measured."""
        about = "; ".join(f"{program}: {text}" for program, text in self.settings.items())
        return (
            f"{title}\n\n{comparison(self.rows)}\n\n"
            f"{datetime.date.today().isoformat()}, {machine()}; {about}; {self.pairs} pairs.\n"
        )


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
    if os.getloadavg()[0] > BUSY:
        print("note: other programs are busy here; the times will not mean much", file=sys.stderr)
    return Contest(
        peer_interpreter(options.peer), options.pairs, options.threads, options.precision
    )


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
