"""Feed broken input to every parser: whatever the bytes, the outcome is a value or a TaskError.

python -m tools.fuzz --minutes 10 [--only coco voc] [--seed 0]

Sound documents are cut, doubled, mixed and sprinkled with awkward pieces. A failure is any other
exception, memory beyond a bound, or an input that takes longer than ten seconds; its bytes are
kept below runs/fuzz.
"""

from __future__ import annotations

import hashlib
import io
import logging
import random
import resource
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image

from data.index_file import read_candidates
from data.read_dataset import read_dataset
from models import checkpoint as checkpoints
from models.detector import Detector
from models.model_config import parse_model_config, read_model_config
from settings.detect import InferSettings
from settings.parse import parse_settings, read_hyp
from settings.train import TrainSettings
from tools import command_parser
from tools.fuzz_folders import read_everywhere
from utils.errors import TaskError
from ymir.task import open_monitor, read_task

MAX_SECONDS = 10.0  # for one small input
MAX_MEMORY = 4 * 2**30  # bytes beyond what is there; threads reserve much that they never use

ENV = b"""\
task_id: t1
protocol_version: 1.1.0
run_training: true
run_mining: false
input: {root_dir: ., config_file: config.yaml, training_index_file: i.tsv}
output: {root_dir: out}
"""
CONFIG = b"""\
class_names: [cat, dog]
gpu_id: 0,1
gpu_count: 2
object_type: 2
export_format: voc:raw
pretrained_model_params: []
args_options: --epochs 3 --img 640 --cos-lr
hyp: scratch-low
epochs: '5'
img_size: 640
lr0: 1e-3
freeze: [0, 1]
model_formats: ''
plots: no
"""
ARK = b"0, 3, 4, 20, 30\n1 2 2 9 9 0.5 1.57\n"
VOC = b"""<?xml version="1.0" encoding="utf-8"?><annotation><size><width>64</width></size><object>
<name>cat</name><bndbox><xmin>3</xmin><ymin>4</ymin><xmax>20</xmax><ymax>30</ymax>
<rotate_angle>0.5</rotate_angle></bndbox></object></annotation>"""
IMAGES = b'"images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}]'
BOXES = b'"annotations": [{"id": 1, "image_id": 1, "category_id": 0, "bbox": [1, 2, 10.5, 12]}]'
CATEGORIES = b'"categories": [{"id": 0, "name": "cat"}]'
COCO = (b"{%s, %s, %s}" % (IMAGES, CATEGORIES, BOXES), b"{%s, %s}" % (IMAGES, BOXES))
HYP = b"lr0: 0.01\nanchors: 3.4\nmosaic: 1.0\n# a comment\nfl_gamma: 0\n"
INDEX = b"a.png\ta.txt\n/b/c d.jpg\t\r\n\nb.png\tb.xml\t\n"
ARGUMENTS = b"--epochs 3 --img 640 --cache disk --freeze 0 1 2 --optimizer 'Adam' --single-cls"


def _words(text: str, *more: bytes) -> tuple[bytes, ...]:
    return (*(word.encode() for word in text.split()), *more)


COMMON = _words(
    ", : ' \" \\ -1 0 1e999 nan -inf 1e300 None true .. /etc/passwd",
    *(b"", b"\0", b"\n", b"\r\n", b"\t", b" ", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\xc3\x28"),
    *(b"\xed\xa0\x80", b"9" * 400, b"9" * 5000, b"0x" + b"f" * 5000),
)
ALIASES = b"".join(b"a%d: &a%d [*a%d,*a%d]\n" % (n, n, n - 1, n - 1) for n in range(1, 40))
YAML = _words(
    "[ ] { } &a *a !!int !!binary !!set !!python/object/apply:os.system 2021-13-45",
    *(b"<<: ", b"- ", b"? ", b'"\\0"', b'"\\ud800"', b"---\n", b"[" * 3000),
    b"a0: &a0 [x]\n" + ALIASES,
)
XML = _words(
    "<object> </object> <bndbox> <name> <![CDATA[ <!-- &amp; &x; &#0; &#1114111;",
    *(b'<!DOCTYPE a [<!ENTITY x "y">]>', b'<?xml version="1.0" encoding="utf-7"?>'),
    *(b"<a>" * 5000, b'<?xml version="1.0" encoding="none"?>'),
)
JSON = _words(
    '[ ] { } {} [] null NaN Infinity 1.5 "\\ud800" "\\u0000" "id": "bbox": "name":',
    *(b"[" * 3000, b'"image_id": null'),
)
FLAGS = _words(
    "--epochs --img --cache --freeze --hyp --weights --cos-lr=1 --e -h --help --version @file = --",
    *(b" -- ", b" --img ", b" --hyp ", b" @file ", b" --"),
)
# Pieces of pickles: names, tuples, repetition, huge numbers and lengths.
OPCODES = _words(
    "( ) } ] R b Q 0 2 e u .",
    *(b"cos\nsystem\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"K\x00", b"M\xff\xff", b"h\x00"),
    *(b"J\xff\xff\xff\x7f", b"X\xff\xff\xff\x7f", b"\x8a\xff", b"q\x00", b"\x8b\xff\xff\xff\x7f"),
    b"]2" * 500,
)


@dataclass(frozen=True)
class Target:
    """A parser with sound documents to start from and pieces that its grammar knows."""

    parse: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    pieces: tuple[bytes, ...] = ()


def targets(folder: Path) -> dict[str, Target]:
    """Return every parser of what strangers may hand in, with its files in `folder`."""
    for name in ("env", "config", "labels", "folders"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(folder / "a.png")
    (folder / "a.txt").write_text("0 1 1 5 5\n", "utf-8")
    hyp, model, index = folder / "hyp.yaml", folder / "model.yaml", folder / "index.tsv"

    def read_index() -> object:
        read_candidates(index, folder)
        return read_dataset(index, ["cat", "dog"], root=folder, max_bad_fraction=1.0)

    def read_flags(content: bytes) -> object:
        options = {"args_options": content.decode("utf-8", "surrogateescape")}
        return parse_settings(InferSettings, options), parse_settings(TrainSettings, options)

    definition = yaml.safe_dump(dict(read_model_config("yolov5n", 2).definition)).encode()
    env, config = _task(folder / "env", "env.yaml"), _task(folder / "config", "config.yaml")
    arguments = (ARGUMENTS, b"--hyp 'scratch-high' --rect", b"--nosave")
    read_hyps = _file(hyp, lambda: parse_settings(TrainSettings, read_hyp(str(hyp))))
    read_model = _file(model, lambda: read_model_config(model, 2))
    labels = folder / "labels"
    return {
        "settings": Target(config, (CONFIG, CONFIG + b"code_config: configs/default.yaml\n"), YAML),
        "env": Target(env, (ENV,), YAML),
        "hyp": Target(read_hyps, (HYP,), YAML),
        "model file": Target(read_model, (definition,), YAML),
        "args_options": Target(read_flags, arguments, FLAGS),
        "index": Target(_file(index, read_index), (INDEX,), (b"a.png", b"a.txt", b"a.png\t\0")),
        "ark": Target(_labels(labels, "a.txt"), (ARK,)),
        "voc": Target(_labels(labels, "a.xml"), (VOC,), XML),
        "coco": Target(_labels(labels, "a.json"), COCO, JSON),
        # The bytes are no document here: they choose a folder and what happens to it.
        "folders": Target(partial(read_everywhere, folder / "folders"), (b"0", b"1")),
        **_checkpoint_targets(folder),
    }


def _file(path: Path, read: Callable[[], object]) -> Callable[[bytes], object]:
    """Return a parser that writes its input to `path` and reads that file."""

    def parse(content: bytes) -> object:
        path.write_bytes(content)
        return read()

    return parse


def _task(folder: Path, name: str) -> Callable[[bytes], object]:
    """Return a parser of the file `name` of a task whose other files are sound."""
    (folder / "i.tsv").write_text("a.png\n", "utf-8")
    (folder / "config.yaml").write_bytes(CONFIG)
    (folder / "env.yaml").write_bytes(ENV)

    def read() -> object:
        open_monitor(folder / "env.yaml")
        task = read_task(folder / "env.yaml")
        for index in (task.train_index, task.candidate_index):
            if index is not None:
                read_candidates(index, task.root_in)
        return task

    return _file(folder / name, read)


def _labels(folder: Path, name: str) -> Callable[[bytes], object]:
    """Return a parser of an annotation file of the picture a.png."""
    index = folder / f"{name}.tsv"
    index.write_text(f"{folder.parent / 'a.png'}\t{name}\n", "utf-8")
    read = partial(read_dataset, index, ["cat", "dog"], root=folder, max_bad_fraction=1.0)
    return _file(folder / name, read)


def _checkpoint_targets(folder: Path) -> dict[str, Target]:
    """Weight files as a whole, and their structure alone in an archive that is sound."""
    torch.manual_seed(0)
    definition = {**read_model_config("yolov5n", 2).definition, "width_multiple": 0.02}
    detector = Detector(parse_model_config(definition, 2))
    metadata = checkpoints.CheckpointMetadata(epoch=3, other={"fitness": 0.5, "tags": ["a"]})
    checkpoint = checkpoints.checkpoint_of(detector, ["cat", "dog"], metadata)
    checkpoints.save_checkpoint(folder / "sound.pt", checkpoint, half=True)
    checkpoints.write_safetensors(folder / "sound.safetensors", checkpoint)
    whole = (folder / "sound.pt").read_bytes()
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    pickled = next(name for name in members if name.endswith("/data.pkl"))
    safe = (folder / "sound.safetensors").read_bytes()
    length = 8 + int.from_bytes(safe[:8], "little")

    def parse(content: bytes) -> object:
        (folder / "tried.pt").write_bytes(content)
        return checkpoints.build_detector(checkpoints.load_checkpoint(folder / "tried.pt"))

    def parse_structure(content: bytes) -> object:
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as archive:
            for name, member in members.items():
                archive.writestr(name, content if name == pickled else member)
        return parse(made.getvalue())

    def parse_header(content: bytes) -> object:
        return parse(len(content).to_bytes(8, "little") + content + safe[length:])

    return {
        "checkpoint": Target(parse, (whole, safe), (b"PK\x03\x04", b"PK\x01\x02")),
        "checkpoint structure": Target(parse_structure, (members[pickled],), OPCODES),
        "safetensors header": Target(parse_header, (safe[8:length],), JSON),
    }


def mutate(target: Target, chance: random.Random) -> bytes:
    """Return a sound document after one to eight edits, or, now and then, pieces alone."""
    pieces = COMMON + target.pieces
    if chance.random() < 0.05:
        return b"".join(chance.choices(pieces, k=chance.randrange(12)))
    content = bytearray(chance.choice(target.seeds))
    for _ in range(chance.randrange(1, 9)):
        start = chance.randrange(len(content) + 1)
        part = bytes(content[start : start + chance.choice((0, 1, 2, 4, 16, 64))])
        piece, repeated = chance.choice(pieces), part * chance.choice((2, 3, 51))
        edited = chance.choice((piece, piece + part, chance.randbytes(len(part)), repeated, b""))
        cut = not edited and chance.random() < 0.3
        content[start : None if cut else start + len(part)] = edited
    return bytes(content)


def failure_of(target: Target, content: bytes) -> str:
    """Return '' when parsing gives a value or a TaskError in time, else what happened."""
    started = time.process_time()  # a busy machine is no fault of the parser
    try:
        with suppress(TaskError):
            target.parse(content)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:200]!r}"
    taken = time.process_time() - started
    return f"took {taken:.0f} s" if taken > MAX_SECONDS else ""


@contextmanager
def bounded_memory(beyond: int = MAX_MEMORY) -> Iterator[None]:
    """Within, more address space than there is plus `beyond` bytes is a MemoryError (Linux)."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + beyond, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def run(target: Target, name: str, seconds: float, seed: int, kept: Path) -> Counter[str]:
    """Return how often each outcome was seen, '' for no failure; keep an input of each failure."""
    chance = random.Random(f"{seed} {name}")
    deadline = time.monotonic() + seconds
    outcomes: Counter[str] = Counter()
    with bounded_memory():
        while time.monotonic() < deadline:
            content = mutate(target, chance)
            failure = failure_of(target, content)
            if failure and failure not in outcomes:
                kept.mkdir(parents=True, exist_ok=True)
                digest = hashlib.sha256(content).hexdigest()[:12]
                (kept / f"{name.replace(' ', '-')}-{digest}").write_bytes(content)
            outcomes[failure] += 1
    return outcomes


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz for the time asked, print the table; status 1 if anything failed."""
    parser = command_parser("tools.fuzz", __doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--only", nargs="*", help="parsers by name; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("runs/fuzz"))
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    try:
        with tempfile.TemporaryDirectory() as folder:
            every = targets(Path(folder))
            names = options.only or list(every)
            seconds = 60 * options.minutes / len(names)
            results = {n: run(every[n], n, seconds, options.seed, options.keep) for n in names}
    finally:
        logging.disable(logging.NOTSET)
    print("| parser | inputs | failures |\n|---|---|---|")
    for name, outcomes in (*results.items(), ("all", sum(results.values(), Counter()))):
        print(f"| {name} | {outcomes.total()} | {outcomes.total() - outcomes['']} |")
    failed = {name: outcomes for name, outcomes in results.items() if outcomes.keys() - {""}}
    for name, outcomes in failed.items():
        print(*(f"{name}: {what} ({times} times)" for what, times in outcomes.items()), sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
