"""Make a YMIR task directory (in/, out/) from a labelled data set, as the platform exports it.

python -m tools.make_task DATA TASKDIR --kind training --format ark --set epochs=10
"""

from __future__ import annotations

import argparse
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from data.formats.base import SPLITS
from tools.platform_export import FORMATS, Exporter
from tools.sources import SourceDataset, read_source
from utils.errors import Code, TaskError

log = logging.getLogger("make_task")


def write_task(
    source: SourceDataset,
    task_dir: Path,
    *,
    kinds: Sequence[str] = ("training",),
    annotation_format: str = "ark",
    settings: Mapping[str, object] | None = None,
    weights: Sequence[Path] = (),
    gpu_id: str = "",
    limit: int | None = None,
    protocol: str | None = "1.1.0",
    copy: bool = False,
    candidates: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write in/ and an empty out/ below `task_dir`; returns the path of in/env.yaml.

    `kinds` is ('training',) or any of mining and infer. `settings` are written as strings, the
    way the platform's web form hands them over. `protocol` None writes what a platform before
    1.3 writes: no version, models flat, five ark columns. Images are symbolic links unless `copy`;
    `limit` keeps the first images of each split; `candidates` is the split to mine or infer on
    (default: the first of test, val, train that has images). An existing task is refused with
    TaskError(CONFIG) unless `overwrite`.
    """
    _check_request(kinds, annotation_format, candidates)
    root = _prepare(Path(task_dir).resolve(), overwrite=overwrite)
    into, training = root / "in", "training" in kinds
    splits = {split: source.splits[split][:limit] for split in SPLITS}
    if not training:
        chosen = candidates or next(s for s in ("test", "val", "train") if splits[s])
        splits = {"candidate": splits[chosen]}
        log.info("candidates: %d images of the split %s", len(splits["candidate"]), chosen)
    columns = 5 if protocol is None else 7
    exporter = Exporter(into, source.class_names, annotation_format, columns, copy=copy)
    for split, images in splits.items():
        lines = exporter.export(images, labelled=training)
        (into / f"{split}-index.tsv").write_text("".join(f"{x}\n" for x in lines), "utf-8")
    for note in (*source.notes, *exporter.close()):
        log.info("%s", note)
    models = _place_weights(weights, into / "models", staged=protocol is not None)
    config = _config(root, source.class_names, kinds, gpu_id, protocol)
    if training:
        config["export_format"] = f"{annotation_format}:raw"
    if models or not training:
        config["pretrained_model_params" if training else "model_params_path"] = models
    config.update({key: str(value) for key, value in (settings or {}).items()})
    _dump(config, into / "config.yaml")
    _dump(_environment(root, config["task_id"], kinds, protocol), into / "env.yaml")
    # the platform's own first record: pending, nothing done
    pending = f"{config['task_id']}\t{time.time():.6f}\t0\t1\n"
    (root / "out" / "monitor.txt").write_text(pending, encoding="utf-8")
    return into / "env.yaml"


def _check_request(kinds: Sequence[str], annotation_format: str, candidates: str | None) -> None:
    if set(kinds) not in ({"training"}, {"mining"}, {"infer"}, {"mining", "infer"}):
        raise TaskError(
            Code.CONFIG,
            f"A task cannot be {'+'.join(kinds) or 'of no kind'}: it is training, mining, infer, "
            "or mining+infer.",
        )
    if annotation_format not in FORMATS:
        sentence = f"{annotation_format!r} is no annotation format: choose {', '.join(FORMATS)}."
        raise TaskError(Code.CONFIG, sentence)
    if candidates not in (None, *SPLITS):
        raise TaskError(Code.CONFIG, f"{candidates!r} is no split: choose {', '.join(SPLITS)}.")


def _prepare(root: Path, *, overwrite: bool) -> Path:
    """Make the folders; only what an earlier run of this tool wrote is ever deleted."""
    if any((root / part).exists() for part in ("in", "out")):
        if not (overwrite and (root / "in" / "env.yaml").is_file()):
            raise TaskError(
                Code.CONFIG,
                f"{root} already holds in/ or out/; name another folder, or say --overwrite if it "
                "is a task that may be replaced.",
            )
        for part in ("in", "out"):
            shutil.rmtree(root / part, ignore_errors=True)
    for part in ("in/assets", "in/annotations", "in/models", "out/models", "out/tensorboard"):
        (root / part).mkdir(parents=True)
    return root


def _place_weights(weights: Sequence[Path], models_dir: Path, *, staged: bool) -> list[str]:
    """Copy model files to in/models (in a folder per stage for protocol 1.1.0); their paths."""
    placed = []
    for path in map(Path, weights):
        if not path.is_file():
            raise TaskError(Code.MODEL, f"There are no weights at {path}; give an existing file.")
        stage = path.resolve().parent.name
        stage = stage if stage.isidentifier() and stage != "models" else "default_best_stage"
        target = models_dir / stage / path.name if staged else models_dir / path.name
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, target)
        placed.append(str(target))
    return placed


def _config(
    root: Path, names: Sequence[str], kinds: Sequence[str], gpu_id: str, protocol: str | None
) -> dict[str, object]:
    """Return the reserved keys of config.yaml."""
    config: dict[str, object] = {
        "task_id": "t00000050000" + root.name.encode().hex()[:20].ljust(20, "0"),
        "class_names": list(names),
        "gpu_id": gpu_id,
        "gpu_count": sum(1 for part in gpu_id.split(",") if part.strip()),
    }
    if protocol is not None:
        config |= {"object_type": 2, "openpai_enable": False, "shm_size": "16G"}
    if "training" not in kinds:
        config |= {"run_mining": "mining" in kinds, "run_infer": "infer" in kinds}
    return config


def _environment(
    root: Path, task_id: object, kinds: Sequence[str], protocol: str | None
) -> dict[str, object]:
    """Return the content of env.yaml, with absolute paths as the platform writes them."""
    training = "training" in kinds
    indices = ("training_index_file", "val_index_file") if training else ("candidate_index_file",)
    into = {
        "root_dir": "",
        "assets_dir": "assets",
        "annotations_dir": "annotations",
        "models_dir": "models",
        "training_index_file": "train-index.tsv",
        "val_index_file": "val-index.tsv",
        "candidate_index_file": "candidate-index.tsv",
        "config_file": "config.yaml",
    }
    unused = [key for key in into if key.endswith("index_file") and key not in indices]
    output = {
        "root_dir": "",
        "models_dir": "models",
        "tensorboard_dir": "tensorboard",
        "training_result_file": "models/result.yaml",
        "mining_result_file": "result.tsv",
        "infer_result_file": "infer-result.json",
        "monitor_file": "monitor.txt",
    }
    if protocol is not None:
        output["executor_log_file"] = "ymir-executor-out.log"
    return {
        **({} if protocol is None else {"protocol_version": protocol}),
        "task_id": task_id,
        "run_training": training,
        "run_mining": "mining" in kinds,
        "run_infer": "infer" in kinds,
        "input": {k: "" if k in unused else str(root / "in" / v) for k, v in into.items()},
        "output": {key: str(root / "out" / name) for key, name in output.items()},
        **({} if protocol is None else {"manifest_file": "/img-man/manifest.yaml"}),
    }


def _dump(content: Mapping[str, object], path: Path) -> None:
    text = yaml.safe_dump(dict(content), allow_unicode=True, sort_keys=False)
    path.write_text(text, encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tools.make_task",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", type=Path, help="a VOC, COCO or YOLO data set")
    parser.add_argument("task_dir", type=Path, help="folder that gets in/ and out/")
    parser.add_argument("--kind", default="training", help="training, mining, infer, mining+infer")
    parser.add_argument("--format", default="ark", choices=FORMATS, help="annotations written")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting; repeatable"
    )
    parser.add_argument("--weights", type=Path, nargs="*", default=[], help="model files")
    parser.add_argument("--gpu-id", default="", help="'' is the CPU, '0,1' two GPUs")
    parser.add_argument("--limit", type=int, help="at most so many images of each split")
    parser.add_argument("--protocol", default="1.1.0", help="a version, or none")
    parser.add_argument("--class-names", nargs="*", help="classes in order; others are left out")
    parser.add_argument("--candidates", choices=SPLITS, help="split to mine or infer on")
    parser.add_argument("--copy", action="store_true", help="copy images instead of linking")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier task there")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the task the command line describes; prints the path of its env.yaml."""
    parser = _parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if any("=" not in pair for pair in options.set):
        parser.error("--set wants KEY=VALUE")
    settings = dict(pair.split("=", 1) for pair in options.set)
    if options.kind != "training" and not options.weights and "weights" not in settings:
        log.warning(
            "note: no --weights: only mining with mining_algorithm random does without a model"
        )
    try:
        env_file = write_task(
            read_source(options.data, options.class_names),
            options.task_dir,
            kinds=options.kind.split("+"),
            annotation_format=options.format,
            settings=settings,
            weights=options.weights,
            gpu_id=options.gpu_id,
            limit=options.limit,
            protocol=None if options.protocol.lower() == "none" else options.protocol,
            copy=options.copy,
            candidates=options.candidates,
            overwrite=options.overwrite,
        )
    except TaskError as error:
        log.error("%s", error.sentence)
        return 1
    print(env_file)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
