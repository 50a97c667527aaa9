"""Comparison of two programs: paired runs in turns, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib

from bench.training import markdown
from utils.cpus import available_cpus
from utils.shutdown import processes_below

ROOT = Path(__file__).resolve().parent.parent
BUILD = Path("build/bench")
PEER, PEER_FOLDER = "yolov5==7.0.14", Path("build/peer-venv")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
OURS, LOOP = "bench.run_ours", "bench.sequential_mining"
"""Programs of this repository, as modules."""
YOLOV5, ULTRALYTICS = "yolov5", "ultralytics"
"""Programs of the peer's environment, which bench/run_peer.py runs."""
HEAD = "task | unit | ours | against | theirs | times as good (least / median / greatest) | remark"

Result = Mapping[str, Any]
"""What a program prints of a job: seconds of its passes, images, and what the kind adds."""


@dataclass(frozen=True)
class Row:
    """One quantity of ours and of another program, pair by pair."""

    task: str
    against: str
    unit: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    more_is_better: bool = True
    remark: str = ""

    @property
    def ratios(self) -> list[float]:
        """How many times as good ours was in each pair: above 1 is better."""
        pairs = zip(self.ours, self.theirs, strict=True)
        return [a / b if self.more_is_better else b / a for a, b in pairs]

    @property
    def cells(self) -> list[str]:
        """The cells of the table's row: medians, and the ratios over the pairs."""
        ours, theirs = (f"{statistics.median(own):.4g}" for own in (self.ours, self.theirs))
        times = self.ratios
        ratio = f"{min(times):.2f} / **{statistics.median(times):.2f}** / {max(times):.2f}"
        return [self.task, self.unit, ours, self.against, theirs, ratio, self.remark]


def table(rows: Sequence[Row]) -> str:
    """Format the rows as Markdown."""
    return markdown(HEAD, [row.cells for row in rows])


@dataclass(frozen=True)
class Comparison:
    """Runs jobs with ours and another program, and records their versions."""

    peer: Path
    """Interpreter of the environment that has the other programs."""
    pairs: int
    threads: int
    precision: str = "auto"
    folder: Path = BUILD
    device: str = ""
    """The number of a GPU, or '' for the CPU."""
    versions: dict[str, str] = field(default_factory=dict)

    def results(self, job: Result, other: str = YOLOV5) -> tuple[list[Result], list[Result]]:
        """Run a job `pairs` times with ours and `other`, each first in turn; return the results."""
        ours: list[Result] = []
        theirs: list[Result] = []
        for pair in range(self.pairs):
            turns = [(OURS, ours), (other, theirs)]
            for program, found in turns if pair % 2 == 0 else reversed(turns):
                found.append(self.run(program, job))
        return ours, theirs

    def run(self, program: str, job: Result) -> Result:
        """Run one job with one program, in a process of its own."""
        folder = self.folder.absolute()
        job = {**job, "threads": self.threads, "precision": self.precision}
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "job.json"
        path.write_text(json.dumps({**job, "device": self.device, "output": str(folder)}))
        variables = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(self.threads))}
        if self.device:
            # Either program then has one GPU, and calls it 0.
            seen = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
            variables["CUDA_VISIBLE_DEVICES"] = (
                seen[int(self.device)] if seen != [""] else self.device
            )
        if program in (OURS, LOOP):
            command, place = [sys.executable, "-m", program, str(path)], ROOT
        else:
            variables |= peer_variables(folder / "peer-configuration")
            script = str(ROOT / "bench" / "run_peer.py")
            command, place = [str(self.peer), script, str(path), program], folder
        result = run_program(command, place, variables)
        about = f"torch {result['torch']}, {result['on']}"
        self.versions[f"{result['program']} in {result['precision']}"] = about
        return result


def run_program(command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> Result:
    """Run a program; return its result with `peak_mib`, the peak memory of it and its children.

    Its variable BENCH_STARTED is its start in seconds since 1970. Memory is sampled five times a
    second (Linux only); pages that workers share count once.
    """
    variables, peak = {**variables, "BENCH_STARTED": repr(time.time())}, 0.0
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=variables, stdout=output, stderr=subprocess.STDOUT
        )
        while process.poll() is None:
            processes = (process.pid, *processes_below(process.pid))
            peak = max(peak, sum(map(proportional_mib, processes)))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise SystemExit(f"{command} failed:\n{text[-6000:]}")
    return {**parse_result(text), "peak_mib": peak}


def parse_result(output: str) -> Result:
    """Parse the last line of `output` that is a JSON object with the key `benchmark`."""
    for line in reversed(output.splitlines()):
        with contextlib.suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict) and "benchmark" in value:
                return value
    raise ValueError("the program printed no result")


def proportional_mib(process: int) -> float:
    """Return the resident MiB of a process, each shared page by its share; 0 if it has ended."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text("ascii")
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1024


def peer_interpreter(given: str = "", folder: Path = PEER_FOLDER) -> Path:
    """Return the peer's Python: `given`, else $PEER, else that of `folder`, made if missing.

    The new environment has the same torch as ours, so that only the programs differ.
    """
    named = given or os.environ.get("PEER", "")
    if named:
        # Not resolved: an environment's Python is a link, and is known by where the link lies.
        interpreter = Path(named).expanduser().absolute()
        if not interpreter.is_file():
            raise SystemExit(f"there is no interpreter at {interpreter}: correct --peer or PEER")
        return interpreter
    interpreter, ready = (folder / "bin" / "python").absolute(), folder / ".ready"
    if not ready.is_file():
        print(f"installing {PEER} into {folder} (once)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        same = [f"{name}=={version(name).partition('+')[0]}" for name in ("torch", "torchvision")]
        # The peer asks for pkg_resources, which setuptools 81 no longer brings.
        install = ["-m", "pip", "install", "--quiet", *same, PEER, "setuptools<81"]
        subprocess.run([str(interpreter), *install], check=True)
        ready.touch()
    return interpreter


def peer_variables(configuration: Path) -> dict[str, str]:
    """Return variables that let the peer run with today's torch, and without the network.

    `configuration` is where it looks for its settings and for the font it would otherwise fetch.
    """
    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    for place in (configuration, configuration / "Ultralytics"):
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(font, place / "Arial.ttf")
    return {
        "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1",
        "YOLOV5_CONFIG_DIR": str(configuration),
        "PYTHONWARNINGS": "ignore",
        "WANDB_MODE": "disabled",
        "COMET_MODE": "disabled",
    }


def machine() -> str:
    """Describe the processor, its cores and the versions in one line."""
    information = Path("/proc/cpuinfo")
    text = information.read_text() if information.is_file() else ""
    named = re.search(r"model name\s*: (.*)", text)
    model = named[1] if named else platform.machine()
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "opencv-python-headless"))
    return f"{model}, {available_cpus()} cores, Python {platform.python_version()}, {packages}"
