"""Make a YMIR task directory (in/, out/) from a labelled data set, as the platform exports it.

python -m tools.make_task DATA TASKDIR --kind training --format ark --set epochs=10

Asset names are content hashes; annotations are ark text, Pascal VOC or one COCO file. Boxes have an
exclusive corner here; ark and VOC hold integers with an inclusive one (xmax = x2 - 1).
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    if not __package__:  # python tools/make_task.py
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from tools.parsers import make_task_parser
    from utils.shutdown import listen_for_interrupts

    listen_for_interrupts()  # before the seconds that the imports take
    make_task_parser().parse_args()  # so that help and mistyped flags do not wait either

import logging
import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence

import yaml

from data.index_file import SPLITS
from tools.check_out import OUTPUT_FILES
from tools.parsers import FORMATS, PROTOCOL, make_task_parser
from tools.sources import SourceDataset, read_source
from tools.task_images import TaskExporter
from utils.atomic import write_text
from utils.command import run_command
from utils.errors import Code, TaskError
from utils.logs import counted
from utils.official_weights import missing_weights

log = logging.getLogger("make_task")

INPUT_FILES = {  # keys of env.yaml, and where the files lie below in/
    **{"root_dir": "", "assets_dir": "assets", "annotations_dir": "annotations"},
    **{"models_dir": "models", "training_index_file": "train-index.tsv"},
    **{"val_index_file": "val-index.tsv", "candidate_index_file": "candidate-index.tsv"},
    "config_file": "config.yaml",
}


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
    protocol: str | None = PROTOCOL,
    copy: bool = False,
    candidates: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write in/ and an empty out/ below `task_dir`; returns the path of in/env.yaml.

    `kinds` is ('training',) or any of mining and infer. `settings` are written as strings, the
    way the platform's web form hands them over. `protocol` None writes what a platform before
    1.3 writes: no version, models flat, five ark columns. Images are symbolic links and paths
    absolute, as the platform writes them; with `copy` files are copied and paths relative to the
    folders in/ and out/, so that the task can be moved, or mounted in a container;
    `limit` keeps the first images of each split; `candidates` is the split to mine or infer on
    (default: the first of test, val, train that has images). An existing task is refused with
    TaskError(CONFIG) unless `overwrite`.
    """
    _check_request(kinds, annotation_format, candidates, limit, protocol)
    root = _prepare(Path(task_dir).resolve(), overwrite=overwrite)
    into, training = root / "in", "training" in kinds
    splits = {split: source.splits[split][:limit] for split in SPLITS}
    if not training:
        order = (candidates,) if candidates else ("test", "val", "train")
        chosen = next((split for split in order if splits[split]), None)
        if chosen is None:
            raise TaskError(Code.DATASET, f"There is no image in {', '.join(order)} to look at.")
        splits = {"candidate": splits[chosen]}
        count = counted(len(splits["candidate"]), "%s image", "%s images")
        log.info("candidates: %s of the split %s", count, chosen)
    columns = 5 if protocol is None else 7
    exporter = TaskExporter(into, source.class_names, annotation_format, columns, copy=copy)
    exporter.choose(splits)
    for split, images in splits.items():
        lines = exporter.export(images, labelled=training)
        write_text(into / f"{split}-index.tsv", "".join(f"{line}\n" for line in lines))
    for note in (*source.notes, *exporter.close()):
        log.info("%s", note)
    models = _place_weights(weights, into / "models", staged=protocol is not None)
    if copy:
        models = [str(Path(path).relative_to(into / "models")) for path in models]
    config = _config(root, source.class_names, kinds, gpu_id, protocol)
    if training:
        config["export_format"] = f"{annotation_format}:raw"
    if models or not training:
        config["pretrained_model_params" if training else "model_params_path"] = models
    config.update({key: str(value) for key, value in (settings or {}).items()})
    _dump(config, into / "config.yaml")
    roots = ("", "../out/") if copy else (f"{into}/", f"{root}/out/")
    _dump(_environment(roots, config["task_id"], kinds, protocol), into / "env.yaml")
    # the platform's own first record: pending, nothing done
    pending = f"{config['task_id']}\t{time.time():.6f}\t0\t1\n"
    (root / "out" / "monitor.txt").write_text(pending, encoding="utf-8")
    return into / "env.yaml"


def _check_request(
    kinds: Sequence[str],
    annotation_format: str,
    candidates: str | None,
    limit: int | None,
    protocol: str | None,
) -> None:
    if set(kinds) not in ({"training"}, {"mining"}, {"infer"}, {"mining", "infer"}):
        rule = "it is training, mining, infer, or mining+infer"
        asked = "+".join(kinds) or "of no kind"
        raise TaskError(Code.CONFIG, f"A task cannot be {asked}: {rule}.")
    if annotation_format not in FORMATS:
        sentence = f"{annotation_format!r} is no annotation format: choose {', '.join(FORMATS)}."
        raise TaskError(Code.CONFIG, sentence)
    if limit is not None and limit < 1:
        raise TaskError(Code.CONFIG, f"The limit is {limit}; it must be 1 or more images.")
    if protocol is not None and not re.fullmatch(r"\d+(\.\d+)*", protocol):
        sentence = f"{protocol!r} is no protocol: give a version such as 1.1.0, or none."
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
            raise missing_weights(path)
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
        "task_id": "t00000050000" + os.fsencode(root.name).hex()[:20].ljust(20, "0"),
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
    roots: tuple[str, str], task_id: object, kinds: Sequence[str], protocol: str | None
) -> dict[str, object]:
    """Return the content of env.yaml.

    `roots` are in/ and out/, relative to the file or absolute; in the first case other paths are
    relative to their root.
    """
    training = "training" in kinds
    unused = ("candidate_index_file",) if training else ("training_index_file", "val_index_file")
    (root_in, root_out), moves = roots, not roots[0]
    below_in, below_out = ("", "") if moves else roots
    into = {k: "" if k in unused else below_in + name for k, name in INPUT_FILES.items()}
    output = {key: below_out + name for key, name in OUTPUT_FILES.items()}
    into["root_dir"], output["root_dir"] = root_in.rstrip("/") or ".", root_out.rstrip("/")
    if protocol is not None:
        output["executor_log_file"] = f"{below_out}ymir-executor-out.log"
    return {
        **({} if protocol is None else {"protocol_version": protocol}),
        "task_id": task_id,
        "run_training": training,
        "run_mining": "mining" in kinds,
        "run_infer": "infer" in kinds,
        "input": into,
        "output": output,
        **({} if protocol is None else {"manifest_file": "/img-man/manifest.yaml"}),
    }


def _dump(content: Mapping[str, object], path: Path) -> None:
    write_text(path, yaml.safe_dump(dict(content), allow_unicode=True, sort_keys=False))


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the task the command line describes; prints the path of its env.yaml."""
    parser = make_task_parser()
    given = vars(parser.parse_args(arguments))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if any("=" not in pair for pair in given["settings"]):
        parser.error("--set wants KEY=VALUE")
    given["settings"] = dict(pair.split("=", 1) for pair in given["settings"])
    given["kinds"] = given["kinds"].split("+")
    given["protocol"] = None if given["protocol"].lower() == "none" else given["protocol"]
    if given["kinds"] != ["training"] and not (given["weights"] or "weights" in given["settings"]):
        note = "note: no --weights: only mining with mining_algorithm random does without a model"
        log.warning(note)
    try:
        labelled = given["kinds"] == ["training"]
        source = read_source(given.pop("data"), given.pop("class_names"), labelled=labelled)
        env_file = write_task(source, **given)
    except TaskError as error:
        log.error("%s", error.sentence)
        return 1
    print(env_file)
    return 0


if __name__ == "__main__":
    raise SystemExit(run_command(main))
