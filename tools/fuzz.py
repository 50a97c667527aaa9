"""Broken input for every parser: whatever the bytes, the outcome is a value or a TaskError.

python -m tools.fuzz --minutes 10 [--only coco voc] [--seed 0]

Sound documents are cut, doubled, mixed and sprinkled with awkward pieces. A failure is any other
exception, memory beyond a bound, or an input that takes longer than ten seconds; its bytes are
kept below runs/fuzz.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import logging
import random
import resource
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image

from models.checkpoint import build_detector, checkpoint_of, load_checkpoint, save_checkpoint
from models.detector import Detector
from models.layout import parse_layout, read_layout
from models.safetensors_file import write_safetensors
from utils.config import InferSettings, TrainSettings, parse_settings
from utils.errors import TaskError
from utils.hyp_file import read_hyp
from utils.index_file import read_candidates
from utils.labels import read_dataset
from utils.ymir_yolov5 import open_monitor, read_task

SLOWEST = 10.0
"""Seconds that one small input may take."""
MEMORY = 4 * 2**30
"""Bytes of address space beyond what is there; threads reserve much that they never use."""

ENV = {
    "task_id": "t1",
    "protocol_version": "1.1.0",
    "run_training": True,
    "run_mining": False,
    "run_infer": False,
    "input": {"root_dir": ".", "config_file": "config.yaml", "training_index_file": "i.tsv"},
    "output": {"root_dir": "out"},
}
CONFIG = {
    "class_names": ["cat", "dog"],
    "gpu_id": "0,1",
    "gpu_count": 2,
    "object_type": 2,
    "export_format": "voc:raw",
    "pretrained_model_params": [],
    "code_config": "configs/default.yaml",
    "args_options": "--epochs 3 --img 640 --cos-lr",
    "hyp": "scratch-low",
    "epochs": "5",
    "img_size": 640,
    "lr0": "1e-3",
    "freeze": [0, 1],
    "model_formats": "",
    "plots": "no",
}
VOC = b"""<?xml version="1.0" encoding="utf-8"?><annotation><size><width>64</width></size><object>
<name>cat</name><bndbox><xmin>3</xmin><ymin>4</ymin><xmax>20</xmax><ymax>30</ymax>
<rotate_angle>0.5</rotate_angle></bndbox></object></annotation>"""
COCO = {
    "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}],
    "categories": [{"id": 0, "name": "cat"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 0, "bbox": [1, 2, 10.5, 12]}],
}

COMMON = (
    *(
        b"",
        b"\0",
        b"\n",
        b"\r\n",
        b"\t",
        b" ",
        b",",
        b":",
        b"'",
        b'"',
        b"\\",
        b"\xff",
        b"\xef\xbb\xbf",
    ),
    *(b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80", b"-1", b"0", b"1e999", b"nan", b"-inf", b"1e300"),
    *(b"9" * 400, b"9" * 5000, b"0x" + b"f" * 5000, b"None", b"true", b"..", b"/etc/passwd"),
)
YAML = (
    *(
        b"[",
        b"]",
        b"{",
        b"}",
        b"&a ",
        b"*a",
        b"<<: ",
        b"- ",
        b"? ",
        b"!!int ",
        b"!!binary ",
        b"!!set ",
    ),
    *(
        b"!!python/object/apply:os.system ",
        b"2021-13-45",
        b'"\\0"',
        b'"\\ud800"',
        b"---\n",
        b"[" * 3000,
    ),
    b"a0: &a0 [x]\n"
    + b"".join(b"a%d: &a%d [*a%d,*a%d]\n" % (n, n, n - 1, n - 1) for n in range(1, 40)),
)
XML = (
    *(b"<object>", b"</object>", b"<bndbox>", b"<name>", b"<![CDATA[", b"<!--", b"&amp;", b"&x;"),
    *(b'<!DOCTYPE a [<!ENTITY x "y">]>', b'<?xml version="1.0" encoding="utf-7"?>', b"<a>" * 5000),
    *(b'<?xml version="1.0" encoding="none"?>', b"&#0;", b"&#1114111;"),
)
JSON = (
    *(
        b"[",
        b"]",
        b"{",
        b"}",
        b"null",
        b"NaN",
        b"Infinity",
        b'"\\ud800"',
        b'"\\u0000"',
        b"[" * 3000,
    ),
    *(b'"id": ', b'"bbox": ', b'"name": ', b"{}", b"[]", b'"image_id": null', b"1.5"),
)
FLAGS = (
    *(b" --epochs ", b" --img ", b" --cache ", b" --freeze ", b" --hyp ", b" --weights ", b" --"),
    *(b" --cos-lr=1 ", b" --e ", b" -h ", b" --help ", b" --version ", b" @file ", b" -- ", b"="),
)


@dataclass(frozen=True)
class Target:
    """A parser with sound documents to start from and pieces that its grammar knows."""

    parse: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    pieces: tuple[bytes, ...] = ()


def mutate(target: Target, chance: random.Random) -> bytes:
    """A document made from a sound one by one to eight edits, or, now and then, of pieces alone."""
    pieces = COMMON + target.pieces
    if chance.random() < 0.05:
        return b"".join(chance.choice(pieces) for _ in range(chance.randrange(12)))
    content = bytearray(chance.choice(target.seeds))
    for _ in range(chance.randrange(1, 9)):
        start = chance.randrange(len(content) + 1)
        stop = min(len(content), start + chance.choice((0, 1, 2, 4, 16, 64)))
        edit = chance.randrange(5)
        if edit == 0:
            content[start:stop] = chance.choice(pieces)
        elif edit == 1:
            content[start:start] = chance.choice(pieces)
        elif edit == 2:
            content[start:stop] = bytes(chance.randrange(256) for _ in range(stop - start))
        elif edit == 3:
            content[start:start] = content[start:stop] * chance.choice((1, 2, 50))
        elif chance.random() < 0.3:
            del content[start:]
        else:
            del content[start:stop]
    return bytes(content)


def targets(folder: Path) -> dict[str, Target]:
    """Every parser of what strangers may hand in, with its files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(folder / "a.png")
    settings, env = (yaml.safe_dump(one).encode() for one in (CONFIG, ENV))
    bare = yaml.safe_dump({k: v for k, v in CONFIG.items() if k != "code_config"}).encode()
    model = yaml.safe_dump(dict(read_layout("yolov5n", 2).definition)).encode()
    coco, nameless = (
        json.dumps(one).encode()
        for one in (COCO, {k: v for k, v in COCO.items() if k != "categories"})
    )
    index = b"a.png\ta.txt\n/b/c d.jpg\t\r\n\nb.png\tb.xml\t\n"
    hyp = b"lr0: 0.01\nanchors: 3.4\nmosaic: 1.0\n# a comment\nfl_gamma: 0\n"
    flags = b"--epochs 3 --img 640 --cache disk --freeze 0 1 2 --optimizer 'Adam' --single-cls"
    return {
        "settings": Target(_task_parser(folder, "config.yaml"), (settings, bare), YAML),
        "env": Target(_task_parser(folder, "env.yaml"), (env,), YAML),
        "hyp": Target(_hyp_parser(folder), (hyp,), YAML),
        "model file": Target(_model_parser(folder), (model,), YAML),
        "args_options": Target(
            _parse_flags, (flags, b"--hyp 'scratch-high' --rect", b"--nosave"), FLAGS
        ),
        "index": Target(_index_parser(folder), (index,), (b"a.png", b"a.txt", b"a.png\t\0")),
        "ark": Target(_label_parser(folder, "a.txt"), (b"0, 3, 4, 20, 30\n1 2 2 9 9 0.5 1.57\n",)),
        "voc": Target(_label_parser(folder, "a.xml"), (VOC,), XML),
        "coco": Target(_label_parser(folder, "a.json"), (coco, nameless), JSON),
        **_checkpoint_targets(folder),
    }


def _task_parser(folder: Path, name: str) -> Callable[[bytes], object]:
    place = folder / name.removesuffix(".yaml")
    place.mkdir(exist_ok=True)
    (place / "i.tsv").write_text("a.png\n", "utf-8")
    (place / "config.yaml").write_text(yaml.safe_dump(CONFIG), "utf-8")
    (place / "env.yaml").write_text(yaml.safe_dump(ENV), "utf-8")

    def parse(content: bytes) -> object:
        (place / name).write_bytes(content)
        open_monitor(place / "env.yaml")
        task = read_task(place / "env.yaml", environ={})
        for index in (task.train_index, task.candidate_index):
            if index is not None:
                read_candidates(index, task.root_in)
        return task

    return parse


def _hyp_parser(folder: Path) -> Callable[[bytes], object]:
    def parse(content: bytes) -> object:
        (folder / "hyp.yaml").write_bytes(content)
        return parse_settings(TrainSettings, read_hyp(str(folder / "hyp.yaml")))

    return parse


def _model_parser(folder: Path) -> Callable[[bytes], object]:
    def parse(content: bytes) -> object:
        (folder / "model.yaml").write_bytes(content)
        return read_layout(folder / "model.yaml", 2)

    return parse


def _parse_flags(content: bytes) -> object:
    text = content.decode("utf-8", "surrogateescape")
    options = {"args_options": text}
    return parse_settings(InferSettings, options), parse_settings(TrainSettings, options)


def _index_parser(folder: Path) -> Callable[[bytes], object]:
    (folder / "a.txt").write_text("0 1 1 5 5\n", "utf-8")

    def parse(content: bytes) -> object:
        path = folder / "index.tsv"
        path.write_bytes(content)
        read_candidates(path, folder)
        return read_dataset(path, ["cat", "dog"], root=folder, max_bad_fraction=1.0)

    return parse


def _label_parser(folder: Path, name: str) -> Callable[[bytes], object]:
    place = folder / Path(name).suffix[1:]
    place.mkdir(exist_ok=True)
    (place / "index.tsv").write_text(f"{folder / 'a.png'}\t{name}\n", "utf-8")

    def parse(content: bytes) -> object:
        (place / name).write_bytes(content)
        return read_dataset(place / "index.tsv", ["cat", "dog"], root=place, max_bad_fraction=1.0)

    return parse


def _checkpoint_targets(folder: Path) -> dict[str, Target]:
    """Weight files as a whole, and their structure alone in an archive that is sound."""
    torch.manual_seed(0)
    definition = {**read_layout("yolov5n", 2).definition, "width_multiple": 0.02}
    detector = Detector(parse_layout(definition, 2))
    checkpoint = checkpoint_of(
        detector, ["cat", "dog"], {"epoch": 3, "fitness": 0.5, "tags": ["a"]}
    )
    save_checkpoint(folder / "sound.pt", checkpoint, half=True)
    rest = {
        **{"format": "ymir-yolov5", "version": 1, "layout": checkpoint.layout},
        **{"class_names": ["cat", "dog"], "metadata": checkpoint.metadata},
    }
    write_safetensors(folder / "sound.safetensors", {**rest, "state": checkpoint.state})
    whole = (folder / "sound.pt").read_bytes()
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    pickled = next(name for name in members if name.endswith("/data.pkl"))
    safe = (folder / "sound.safetensors").read_bytes()
    length = 8 + int.from_bytes(safe[:8], "little")

    def parse(content: bytes) -> object:
        (folder / "tried.pt").write_bytes(content)
        return build_detector(load_checkpoint(folder / "tried.pt"))

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
        "checkpoint structure": Target(parse_structure, (members[pickled],), _opcodes()),
        "safetensors header": Target(parse_header, (safe[8:length],), JSON),
    }


def _opcodes() -> tuple[bytes, ...]:
    """Pieces of pickles: names, tuples, repetition, huge numbers and lengths."""
    return (
        *(b"cos\nsystem\n", b"(", b")", b"}", b"]", b"R", b"b", b"Q", b"0", b"2", b"e", b"u", b"."),
        *(b"ctorch._utils\n_rebuild_tensor_v2\n", b"K\x00", b"M\xff\xff", b"J\xff\xff\xff\x7f"),
        *(
            b"X\xff\xff\xff\x7f",
            b"\x8a\xff",
            b"h\x00",
            b"q\x00",
            b"\x8b\xff\xff\xff\x7f",
            b"]2" * 500,
        ),
    )


def failure_of(target: Target, content: bytes) -> str:
    """'' when parsing gives a value or a TaskError in time, else what happened."""
    started = time.process_time()  # a busy machine is no fault of the parser
    try:
        target.parse(content)
    except TaskError:
        pass
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"{type(error).__name__}: {str(error)[:200]!r}"
    taken = time.process_time() - started
    return f"took {taken:.0f} s" if taken > SLOWEST else ""


@contextmanager
def bounded_memory(beyond: int = MEMORY) -> Iterator[None]:
    """Within, more address space than there is plus `beyond` bytes is a MemoryError (Linux)."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + beyond, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def run(
    chosen: Mapping[str, Target], seconds: float, seed: int, kept: Path
) -> dict[str, tuple[int, dict[str, int]]]:
    """Inputs tried and failures by kind for each target, the time shared out evenly."""
    results = {}
    for name, target in chosen.items():
        chance = random.Random(f"{seed} {name}")
        deadline = time.monotonic() + seconds / len(chosen)
        count, failures = 0, dict[str, int]()
        with bounded_memory():
            while time.monotonic() < deadline:
                content = mutate(target, chance)
                count += 1
                failure = failure_of(target, content)
                if failure and failure not in failures:
                    kept.mkdir(parents=True, exist_ok=True)
                    digest = hashlib.sha256(content).hexdigest()[:12]
                    (kept / f"{name.replace(' ', '-')}-{digest}").write_bytes(content)
                if failure:
                    failures[failure] = failures.get(failure, 0) + 1
        results[name] = count, failures
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz for the time asked, print the table; status 1 if anything failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--only", nargs="*", help="parsers by name; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("runs/fuzz"))
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    try:
        with tempfile.TemporaryDirectory() as folder:
            every = targets(Path(folder))
            chosen = {name: every[name] for name in options.only or every}
            results = run(chosen, 60 * options.minutes, options.seed, options.keep)
    finally:
        logging.disable(logging.NOTSET)
    print("| parser | inputs | failures |\n|---|---|---|")
    for name, (count, failures) in results.items():
        print(f"| {name} | {count} | {sum(failures.values())} |")
    print(
        f"| all | {sum(n for n, _ in results.values())} | "
        f"{sum(sum(f.values()) for _, f in results.values())} |"
    )
    for name, (_, failures) in results.items():
        for failure, times in failures.items():
            print(f"{name}: {failure} ({times} times)")
    return 1 if any(failures for _, failures in results.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
