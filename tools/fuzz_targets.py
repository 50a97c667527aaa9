"""Every parser of what strangers may hand in, with sound documents and pieces of its grammar."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image

from data.index_file import read_candidates
from data.read_dataset import read_dataset
from models.checkpoint import (
    CheckpointMetadata,
    build_detector,
    checkpoint_of,
    load_checkpoint,
    save_checkpoint,
    write_safetensors,
)
from models.detector import Detector
from models.model_config import parse_model_config, read_model_config
from settings.detect import InferSettings
from settings.parse import parse_settings, read_hyp
from settings.train import TrainSettings
from ymir.task import open_monitor, read_task

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


def targets(folder: Path) -> dict[str, Target]:
    """Every parser of what strangers may hand in, with its files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(folder / "a.png")
    settings, env = (yaml.safe_dump(one).encode() for one in (CONFIG, ENV))
    bare = yaml.safe_dump({k: v for k, v in CONFIG.items() if k != "code_config"}).encode()
    model = yaml.safe_dump(dict(read_model_config("yolov5n", 2).definition)).encode()
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
        task = read_task(place / "env.yaml")
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
        return read_model_config(folder / "model.yaml", 2)

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
    definition = {**read_model_config("yolov5n", 2).definition, "width_multiple": 0.02}
    detector = Detector(parse_model_config(definition, 2))
    metadata = CheckpointMetadata(epoch=3, other={"fitness": 0.5, "tags": ["a"]})
    checkpoint = checkpoint_of(detector, ["cat", "dog"], metadata)
    save_checkpoint(folder / "sound.pt", checkpoint, half=True)
    rest = {
        **{"format": "ymir-yolov5", "version": 1, "layout": checkpoint.definition},
        **{"class_names": ["cat", "dog"], "metadata": checkpoint.metadata.to_mapping()},
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
