"""A small live-code executor on YMIR's SDK `ymir-exc`: its task, items, progress and results.

python3 start.py [PATH/env.yaml]       Replace `train_epoch`, `score` and `detect`; keep the rest.
"""

import os
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from ymir_exc import dataset_reader, env, monitor, result_writer, settings

CONFIG_ERROR, OTHER_ERROR = 300001, 160004  # return codes of the YMIR protocol
HERE = Path(__file__).resolve().parent
Config = dict[str, Any]


class SettingError(Exception):
    """A setting that cannot be used; the task ends with CONFIG_ERROR."""


def read_config() -> Config:
    """Return the settings: the file that `code_config` names, and over it the task's own keys."""
    own = env.get_executor_config()
    path = (HERE / str(own.get("code_config") or "configs/a.yaml")).resolve()
    if not path.is_relative_to(HERE) or not path.is_file():
        raise SettingError(f"code_config must name a file of this repository, not {path}")
    return {**yaml.safe_load(path.read_text(encoding="utf-8")), **own}


def number(config: Config, key: str) -> float:
    """Return a setting as a number: values typed into the web form arrive as text."""
    try:
        return float(config[key])
    except (KeyError, TypeError, ValueError):
        raise SettingError(f"the setting {key} must be a number") from None


def run_training(config: Config) -> None:
    """Train, and keep the best weights and result.yaml up to date after every epoch."""
    import torch  # only training needs it: a .pt file is what later tasks are given
    from torch.utils.tensorboard import SummaryWriter

    output, names = env.get_current_env().output, list(config["class_names"])
    training = list(dataset_reader.item_paths(env.DatasetType.TRAINING))
    validation = list(dataset_reader.item_paths(env.DatasetType.VALIDATION))
    print(f"{len(training)} images to train on, {len(validation)} to validate on", flush=True)
    weights = Path(output.models_dir) / "best.pt"
    epochs = int(number(config, "epochs"))
    with SummaryWriter(output.tensorboard_dir) as board:
        for epoch in range(1, epochs + 1):
            state, mean_ap = train_epoch(epoch / epochs, training, validation)
            board.add_scalar("mAP", mean_ap, epoch)
            temporary = weights.with_suffix(".new")
            torch.save({**state, "class_names": names}, temporary)
            os.replace(temporary, weights)  # whole at any moment: the task may be killed
            class_aps = dict.fromkeys(names, mean_ap)
            result_writer.write_training_result([weights.name], mAP=mean_ap, classAPs=class_aps)
            monitor.write_monitor_logger(percent=epoch / epochs)


def train_epoch(
    part: float, training: list[tuple[str, str]], validation: list[tuple[str, str]]
) -> tuple[Config, float]:
    """REPLACE ME: train on pairs (image, annotation file); return weights and mAP, here made up."""
    return {"images_seen": len(training)}, 0.5 * part


def run_mining(config: Config, first: float, last: float) -> None:
    """Score every candidate; the SDK sorts, what to label first stands on top."""
    rows = [(image, score(image, config)) for image in candidates(first, last)]
    result_writer.write_mining_result(rows)


def score(image: str, config: Config) -> float:
    """REPLACE ME: how much a label for this image would teach; here drawn from its name."""
    return zlib.crc32(f"{config['salt']}{Path(image).name}".encode()) / 2**32


def run_infer(config: Config, first: float, last: float) -> None:
    """Detect objects in every candidate; an image without any is listed with an empty list."""
    found = {image: detect(image, config) for image in candidates(first, last)}
    result_writer.write_infer_result(found)


def detect(image: str, config: Config) -> list[result_writer.Annotation]:
    """REPLACE ME: boxes in whole pixels from the top left corner; here always one."""
    box = result_writer.Box(x=0, y=0, w=8, h=8)
    name, confidence = config["class_names"][0], number(config, "confidence")
    return [result_writer.Annotation(class_name=name, score=confidence, box=box)]


def candidates(first: float, last: float) -> Iterator[str]:
    """Yield the images to look at; report progress from `first` to `last`, once a second."""
    images = [image for image, _ in dataset_reader.item_paths(env.DatasetType.CANDIDATE)]
    reported = 0.0
    for done, image in enumerate(images):
        if time.monotonic() - reported >= 1:
            reported = time.monotonic()
            monitor.write_monitor_logger(percent=first + (last - first) * done / len(images))
        yield image


def report_failure(code: int, reason: str) -> None:
    """Write state 4 and a return code to monitor.txt, for which the SDK has no function."""
    task = env.get_current_env()
    record = f"{task.task_id}\t{time.time():.6f}\t0\t4\t{code}\n{reason}\n"
    Path(task.output.monitor_file).write_text(record, encoding="utf-8")


def main(env_file: Path) -> int:
    """Run the task. The last line printed is what people see first when it fails."""
    if not env_file.is_file():
        print(f"There is no task at {env_file}: give the path of its env.yaml.")
        return 1
    settings.DEFAULT_ENV_FILE_PATH = str(env_file)  # where the SDK looks: /in/env.yaml on YMIR
    task = env.get_current_env()
    try:
        config = read_config()
        monitor.write_monitor_logger(percent=0)
        if task.run_training:
            run_training(config)
        else:  # mining and inference may be asked for together: half of the progress each
            half = 0.5 if task.run_mining and task.run_infer else 1.0
            if task.run_mining:
                run_mining(config, 0, half)
            if task.run_infer:
                run_infer(config, 1 - half, 1)
        monitor.write_monitor_logger(percent=1)
    except Exception as error:
        code = CONFIG_ERROR if isinstance(error, SettingError) else OTHER_ERROR
        report_failure(code, f"{type(error).__name__}: {error}")
        print(f"FAILED ({code}): {error}", flush=True)
        return 1
    print(f"DONE: the results are in {task.output.root_dir}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "/in/env.yaml")))
