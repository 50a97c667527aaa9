"""Record the seeded results of a checkout, and compare two records to the last bit.

    python -m bench.same_numbers record CHECKOUT OUT.json --data path/to/bccd --weights bccd.pt
    python -m bench.same_numbers compare BEFORE.json AFTER.json

`record` runs the programs of any checkout on a few small images, one thread on the CPU, and digests
what they leave; it imports nothing of the checkout, so both sides may be arranged differently.
Records of two machines, or of two versions of torch, need not be equal.
"""

from __future__ import annotations

if __name__ == "__main__":
    from tools.parsers import same_numbers_parser

    same_numbers_parser().parse_args()  # before the seconds that the imports take

import argparse
import csv
import fnmatch
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import torch
import yaml

from tools.parsers import same_numbers_parser

Entries = dict[str, Any]

TRAIN = "--cfg yolov5n --img 128 --batch-size 8 --seed 3 --workers 0"
HYPS = """{mosaic: 0.8, mosaic9: 0.3, mixup: 0.6, degrees: 8.0, shear: 3.0, flipud: 0.4, lr0: 0.004,
  perspective: 0.0005, translate: 0.2, scale: 0.7, hsv_h: 0.02, label_smoothing: 0.1, fl_gamma: 1.5,
  cls_pw: 1.3, obj_pw: 0.8, warmup_epochs: 0.5}"""
COMMANDS = {
    "train-float32": f"ark {TRAIN} --epochs 3 precision=float32",
    "train-default": f"voc {TRAIN} --epochs 3 --workers 2",
    "train-finetune": f"yolo {TRAIN} --epochs 2 --hyp HYPS --weights WEIGHTS close_mosaic=1",
    "train-options": f"coco {TRAIN} --epochs 2 --freeze 3 --optimizer AdamW --cos-lr --quad "
    "--multi-scale anchors=3 copy_paste=0.5",
    "train-weighted": f"ark {TRAIN} --epochs 2 --image-weights --optimizer Adam --single-cls",
    "train-rect": f"ark {TRAIN} --epochs 1 --rect --noautoanchor cache=none",
    "train-ranks": f"ark {TRAIN} --epochs 2",  # in two processes
    "val-index": "--index ARK --img 224 --coco",
    "val-rect": "--data YOLO --img 256 --save-json --batch-size 5 --precision float32",
    "val-augment": "--data YOLO --task test --img 160 --augment --agnostic-nms --single-cls",
    "val-tiles": "--index ARK --img 160 --tile-size 320 --conf-thres 0.01",
    "detect-plain": "--img 224",
    "detect-float32": "--img 224 --precision float32 --conf-thres 0.05 --agnostic-nms "
    "--classes 0 2",
    "detect-augment": "--img 192 --augment",
    "detect-tiles": "--img 160 --tile-size 256 --tile-overlap 0.3",
    "detect-onnxruntime": "--img 160 --engine onnxruntime",
    "detect-openvino": "--img 160 --engine openvino",
    "export-onnx": "onnx --img 160",
    "export-onnx-fixed": "onnx --img 160 --batch-size 2 --simplify --opset 16",
    "export-onnx-half": "onnx --img 160 --half",
    "export-onnx-nms": "onnx --img 160 --nms --conf-thres 0.1 --topk-all 50",
    "export-onnx-nms-agnostic": "onnx --img 160 --nms --agnostic-nms --batch-size 2",
    "export-torchscript": "torchscript --img 160",
    "export-xml": "openvino --img 160",
    "export-safetensors": "safetensors --img 160",
    "export-safetensors-half": "safetensors --img 160 --half",
    "export-state_dict": "state-dict --img 160",
}
"""The command lines of programs, by part; a training's opens with the form of its annotations, an
export's with the format."""

NOMINAL: Entries = {"batch_size": 8, "nominal_batch_size": 16}
DETECT: Entries = {"img_size": 160, "batch_size": 8, "workers": 0}
TASKS: dict[str, Entries] = {
    "task-training": {"model": "yolov5n", "epochs": 2, "seed": 1, "img_size": 128, **NOMINAL},
    "mining-cald": {"balance_window": 0, "conf_thres": 0.1},
    "mining-cald-window": {"balance_window": 10, "labelled_objects": "[1, 12, 0.5]"},
    "mining-cald-views": {"views": "flip, rotate", "empty_images": "first", "workers": 2},
    "mining-cald-tiles": {"tile_size": 320, "balance_window": 0},
    "mining-cald-inference": {"run_infer": True, "workers": 2},
    "mining-aldd": {"class_distribution_scores": "[1, 0.5, 3]"},
    "mining-balanced": {"diverse_window": 16},
    "mining-diverse": {"diverse_window": 16, "diverse_score": "cald"},
    "mining-diverse-entropy": {"diverse_score": "entropy"},
    "mining-entropy": {"empty_images": "mixed", "conf_thres": 0.5},
    "mining-misses": {"miss_conf": 0.02},
    "mining-random": {"seed": 5},
}
"""The settings of YMIR tasks, by part; a mining's algorithm is its part's second word."""


def digest(*parts: bytes | str) -> str:
    """Return 16 hexadecimal digits of a SHA-256 over all parts and their lengths."""
    total = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        total.update(len(content).to_bytes(8, "little") + content)
    return total.hexdigest()[:16]


def digest_tensors(tensors: Mapping[str, Any]) -> str:
    """Return the digest of names, types, shapes and bytes of tensors, in the order of the names."""
    arrays = {name: np.asarray(tensors[name]) for name in sorted(tensors)}
    return digest(*(p for n, a in arrays.items() for p in (n, f"{a.dtype}{a.shape}", a.tobytes())))


def table_entries(text: str) -> Entries:
    """Return the values of each column of a CSV text, as a digest where there are many rows."""
    rows = csv.reader(text.splitlines())
    columns = {head.strip(): [_value(c) for c in cells] for head, *cells in zip(*rows, strict=True)}
    return {k: v if len(v) <= 16 else digest(json.dumps(v)) for k, v in columns.items()}


def _value(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell.strip()


def output_entries(outputs: Iterable[Any]) -> Entries:
    """Return shape and digest of each output of a network."""
    arrays = [np.asarray(output) for output in outputs]
    return {f"output {n}": f"{a.shape} {digest_tensors({'': a})}" for n, a in enumerate(arrays)}


def onnx_entries(path: Path, images: np.ndarray[Any, Any]) -> Entries:
    """Return digests of an ONNX file's initializers, whatever they are called, and its outputs."""
    import onnx
    import onnxruntime

    weights = [onnx.numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    feed = images.astype(np.float16) if given.type == "tensor(float16)" else images
    if given.shape[0] == 1:  # a file of one fixed shape
        feed = feed[:1]
    return {
        "initializers": digest(*sorted(digest_tensors({"": one}) for one in weights)),
        "output names": [one.name for one in session.get_outputs()],
        **output_entries(session.run(None, {given.name: feed})),
    }


def export_entries(path: Path, images: np.ndarray[Any, Any]) -> Entries:
    """Return the entries of an exported file: its tensors, or its outputs for `images`."""
    if path.suffix == ".onnx":
        return onnx_entries(path, images)
    if path.suffix == ".torchscript":
        with torch.no_grad():
            outputs = torch.jit.load(path)(torch.from_numpy(images))
        return output_entries(outputs if isinstance(outputs, tuple | list) else [outputs])
    if path.suffix == ".xml":
        import openvino  # type: ignore[import-untyped]

        model = openvino.compile_model(path, "CPU", {"INFERENCE_NUM_THREADS": "1"})
        whole = model.input(0).partial_shape[0].is_dynamic
        return output_entries(model(images if whole else images[:1]).values())
    if path.suffix == ".safetensors":
        from safetensors.numpy import load_file

        return {"tensors": digest_tensors(load_file(path))}
    return {"tensors": digest_tensors(torch.load(path, weights_only=True))}


def file_entries(path: Path, work: Path) -> Entries:
    """Return the entries of a result file, without the path `work` and without times."""
    if path.suffix == ".pt":
        content = torch.load(path, weights_only=True)
        about = json.dumps([content["class_names"], content["metadata"]], sort_keys=True)
        return {"tensors": digest_tensors(content["state"]), "about": about}
    text = path.read_text("utf-8").replace(str(work), "WORK")
    if path.suffix == ".csv":
        return table_entries(text)
    if path.suffix == ".yaml":
        content = yaml.safe_load(text)
        stages = {name: one | {"timestamp": 0} for name, one in content["model_stages"].items()}
        return {"stages": json.dumps(stages, sort_keys=True), "mAP": content["mAP"]}
    if path.suffix == ".json":
        text = json.dumps(json.loads(text), sort_keys=True)
    return {"digest": digest(text)}


class Recorder:
    """Runs the programs of a checkout in the folder `work` and digests what they leave."""

    def __init__(self, checkout: Path, work: Path, weights: Path, names: Sequence[str]) -> None:
        self.checkout, self.work, self.weights, self.names = checkout, work, weights, names

    def record(self, part: str) -> Entries:
        """Run one part and return its entries."""
        kind, name = part.split("-", maxsplit=1)
        out = self.work / part
        if part in TASKS:
            self._run(part, "start.py", "--env", str(self._write_task(part, out)))
            if kind == "mining":
                return self._gather(out / "out", "result.tsv", "*.csv", "infer-result.json")
            exported = onnx_entries(next(out.rglob("best.onnx")), self._two_images())
            return self._gather(out, "*.pt", "*.csv", "result.yaml") | exported
        places = {"ARK": self.work / "ark" / "val.tsv", "YOLO": self.work / "yolo" / "data.yaml"}
        places |= {"HYPS": self.work / "hyps.yaml", "WEIGHTS": self.weights}
        words = [str(places.get(word, word)) for word in COMMANDS[part].split()]
        weights = f"--weights={self.weights}"
        if kind == "train":
            source, *words = words
            data = ["--data", str(places["YOLO"])]
            if source != "yolo":
                splits = [f"--{s}={self.work / source / s}.tsv" for s in ("train", "val")]
                data = [*splits, "--class-names", *self.names]
            ranks = "-m torch.distributed.run --standalone --nproc-per-node 2"
            start = ranks.split() if name == "ranks" else ()
            scratch = () if "--weights" in words else ("--weights", "")
            # Nominal batches of two: an epoch of four has updates, and steps that only accumulate.
            words = [*scratch, *words, "nominal_batch_size=16"]
            self._run(part, *start, "train.py", *data, f"--output={out}", *words)
            return self._gather(out, "*.pt", "results.csv", "classes.csv", "coco.csv")
        if kind == "val":
            own = [f"--report={out}", "--plots=false", "--workers=0"]
            self._run(part, "val.py", weights, *own, *words)
            return self._gather(out, "*.csv", "*.json")
        if kind == "detect":
            given = [weights, f"--source={self.work / 'candidates'}", "--workers=0"]
            run = [f"--project={out}", "--name=run", "--nosave", "--save-txt", "--save-conf"]
            self._run(part, "detect.py", *given, *run, *words)
            return self._gather(out, "detections.json", "*.txt")
        out.mkdir()
        file = out / f"file.{name.split('-')[0]}"
        self._run(part, "export.py", weights, f"--output={file}", "--include", *words)
        return export_entries(file, self._two_images())

    def _run(self, part: str, *arguments: str) -> None:
        variables = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        variables |= {"CUDA_VISIBLE_DEVICES": "", "TMPDIR": f"{self.work}/tmp", "PYTHONPATH": "."}
        command, log = [sys.executable, *arguments], (self.work / f"{part}.log").open("wb")
        with log:
            subprocess.run(
                command, cwd=self.checkout, env=variables, stdout=log, stderr=log, check=True
            )

    def _gather(self, folder: Path, *patterns: str) -> Entries:
        files = sorted({path for name in patterns for path in folder.rglob(name)})
        assert files, f"no {' or '.join(patterns)} in {folder}"
        read = {one.name: file_entries(one, self.work) for one in files}
        return {f"{file}: {name}": value for file in read for name, value in read[file].items()}

    def _two_images(self) -> np.ndarray[Any, Any]:
        """Return two candidates as a network's input, float32 [2, 3, 160, 160]."""
        files = sorted((self.work / "candidates").glob("*.jpg"))[:2]
        images = [cv2.resize(_pixels(file), (160, 160)) for file in files]
        stacked = np.stack(images)[..., ::-1].transpose(0, 3, 1, 2)
        return np.ascontiguousarray(stacked, np.float32) / np.float32(255)

    def _write_task(self, part: str, out: Path) -> Path:
        """Write a YMIR task and return the path of its env.yaml."""
        training, settings = part == "task-training", dict(TASKS[part])
        if not training:
            algorithm = {"mining_algorithm": part.split("-")[1]}
            settings = algorithm | {"model_params_path": [str(self.weights)]} | DETECT | settings
        files = {"training_index_file": "coco/train.tsv", "val_index_file": "coco/val.tsv"}
        files |= {"candidate_index_file": "candidates.tsv", "config_file": f"{part}/config.yaml"}
        kinds = {"run_training": training, "run_mining": not training}
        env = kinds | {
            "protocol_version": "1.1.0",
            "task_id": "t000",
            "run_infer": settings.pop("run_infer", False),
            "input": {"root_dir": str(out)} | {k: f"{self.work}/{v}" for k, v in files.items()},
            "output": {"root_dir": str(out / "out")},
        }
        config = {"task_id": "t000", "class_names": list(self.names), "gpu_id": "", "gpu_count": 0}
        for folder in ("models", "tensorboard"):
            (out / "out" / folder).mkdir(parents=True)
        _write(out / "config.yaml", yaml.safe_dump(config | settings))
        return _write(out / "env.yaml", yaml.safe_dump(env))


def write_data(voc: Path, work: Path, names: Sequence[str]) -> None:
    """Write the first images of a VOC folder's splits as ark, VOC and COCO indexes, as a YOLO
    folder, and those of `test` as candidates, of which some are cut or transposed, one is broken.
    """
    for split, count in (("train", 32), ("val", 24), ("test", 24)):
        stems = (voc / "ImageSets" / "Main" / f"{split}.txt").read_text("utf-8").split()[:count]
        lines: dict[str, list[str]] = {"ark": [], "voc": [], "coco": []}
        categories = [{"id": 10 + number, "name": name} for number, name in enumerate(names)]
        coco: dict[str, list[Any]] = {"images": [], "annotations": [], "categories": categories}
        for number, stem in enumerate(stems):
            document = ElementTree.parse(voc / "Annotations" / f"{stem}.xml").getroot()
            width, height = (int(document.findtext(f"size/{k}", "0")) for k in ("width", "height"))
            image = work / "yolo" / "images" / split / f"{stem}.jpg"
            image.parent.mkdir(parents=True, exist_ok=True)
            image.symlink_to(voc / "JPEGImages" / image.name)
            coco["images"].append({"id": number, "file_name": image.name})
            ark, yolo = [], []
            for thing in document.iter("object"):
                label = names.index(thing.findtext("name", ""))
                corners = ("xmin", "ymin", "xmax", "ymax")
                x1, y1, x2, y2 = (int(thing.findtext(f"bndbox/{k}", "")) for k in corners)
                ark.append(f"{label},{x1},{y1},{x2},{y2}")
                centre = f"{(x1 + x2) / 2 / width:.6f} {(y1 + y2) / 2 / height:.6f}"
                yolo.append(f"{label} {centre} {(x2 - x1) / width:.6f} {(y2 - y1) / height:.6f}")
                ids = {"id": len(coco["annotations"]), "image_id": number}
                box = {"category_id": 10 + label, "bbox": [x1, y1, x2 - x1, y2 - y1]}
                coco["annotations"].append(ids | box)
            _write(work / "yolo" / "labels" / split / f"{stem}.txt", "\n".join(yolo))
            text = _write(work / "ark" / split / f"{stem}.txt", "\n".join(ark))
            lines["ark"].append(f"{image}\t{text}")
            lines["voc"].append(f"{image}\t{voc / 'Annotations' / stem}.xml")
            lines["coco"].append(f"{image}\t{work / 'coco' / split}.json")
            if split == "test":
                _write_candidate(image, work / "candidates", number)
        _write(work / "coco" / f"{split}.json", json.dumps(coco))
        for form, rows in lines.items():
            _write(work / form / f"{split}.tsv", "\n".join(rows))
    splits = {split: f"images/{split}" for split in ("train", "val", "test")}
    description = {"path": str(work / "yolo"), **splits, "names": list(names)}
    _write(work / "yolo" / "data.yaml", yaml.safe_dump(description))
    _write(work / "hyps.yaml", HYPS)
    candidates = sorted(map(str, (work / "candidates").iterdir()))
    broken = _write(work / "tmp" / "broken.jpg", "no image")
    _write(work / "candidates.tsv", "\n".join([*candidates[:5], str(broken), *candidates[5:]]))


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def _pixels(path: Path) -> np.ndarray[Any, Any]:
    image = cv2.imread(str(path))
    assert image is not None, f"{path} is no image"
    return np.asarray(image)


def _write_candidate(image: Path, folder: Path, number: int) -> None:
    """Leave three of four images as they are; the others become PNG of another shape."""
    folder.mkdir(exist_ok=True)
    if number % 4:
        (folder / image.name).symlink_to(image.resolve())
        return
    pixels = _pixels(image)
    pixels = pixels[:, :400] if number % 8 else pixels.transpose(1, 0, 2)
    cv2.imwrite(str(folder / f"{image.stem}.png"), np.ascontiguousarray(pixels))


def record(options: argparse.Namespace, work: Path) -> int:
    """Record the parts that were chosen; return 1 if a program failed."""
    every = (*COMMANDS, *TASKS)
    parts = [part for part in every if any(fnmatch.fnmatch(part, one) for one in options.only)]
    names, weights = options.class_names, options.weights.resolve()
    recorder, entries = Recorder(options.checkout.resolve(), work, weights, names), {}
    write_data(options.data.resolve(), work, names)
    torch.set_num_threads(1)
    for part in parts:
        started = time.monotonic()
        try:
            entries[part] = recorder.record(part)
            ended = f"{len(entries[part])} entries"
        except (subprocess.CalledProcessError, AssertionError, OSError) as error:
            entries[part] = {"failed": type(error).__name__}
            ended = f"FAILED: {error}\n{(work / f'{part}.log').read_text('utf-8')[-1500:]}"
        print(f"{part}: {ended}, {time.monotonic() - started:.1f} s", flush=True)
        _write(options.out, json.dumps(entries, indent=1))
    return int(any("failed" in one for one in entries.values()))


def compare(before: Mapping[str, Entries], after: Mapping[str, Entries]) -> int:
    """Print what differs or failed; return 1 if anything did, or if no part is in both records."""
    wrong, both = list[str](), before.keys() & after.keys()
    for part in sorted(both):
        for name in sorted(before[part].keys() | after[part].keys()):
            old, new = (one[part].get(name, "(missing)") for one in (before, after))
            if name == "failed" or json.dumps(old) != json.dumps(new):
                wrong.append(f"{part}  {name}\n    {old}\n    {new}")
    for part in sorted(before.keys() ^ after.keys()):
        print(f"{part}  in one record only, not compared")
    print(*wrong, f"{len(both)} parts compared, {len(wrong)} entries differ", sep="\n")
    return int(bool(wrong) or not both)


def main(arguments: Sequence[str] | None = None) -> int:
    """Record or compare; return the exit status."""
    options = same_numbers_parser().parse_args(arguments)
    if options.command == "compare":
        return compare(*(json.loads(p.read_text("utf-8")) for p in (options.before, options.after)))
    if options.work is not None:
        options.work.mkdir(parents=True)
        return record(options, options.work.resolve())
    with tempfile.TemporaryDirectory() as folder:
        return record(options, Path(folder).resolve())


if __name__ == "__main__":
    sys.exit(main())
