"""The smallest live-code executor: reads a task, reports progress, writes results of every kind.

python3 start.py [PATH/env.yaml]       Replace `train`, `score` and `detect`; keep the rest.
"""

import json
import os
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import yaml

CONFIG_ERROR, OTHER_ERROR = 300001, 160004  # return codes of the YMIR protocol
HERE = Path(__file__).resolve().parent


def write(path: Path, text: str) -> None:
    """Replace a file in one step: the platform may read, or kill us, at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


class Task:
    """What YMIR asks: `env` says where things are, `settings` how to do it."""

    def __init__(self, env_file: Path) -> None:
        self.env: dict[str, Any] = yaml.safe_load(env_file.read_text(encoding="utf-8"))
        self.out: dict[str, str] = self.env["output"]
        self.settings: dict[str, Any] = {}

    def read_settings(self) -> None:
        """The file that `code_config` names, and over it the task's own keys."""
        own = yaml.safe_load(Path(self.env["input"]["config_file"]).read_text(encoding="utf-8"))
        chosen = (HERE / str(own.get("code_config") or "configs/a.yaml")).resolve()
        if not chosen.is_relative_to(HERE) or not chosen.is_file():
            raise ValueError(f"code_config must name a file of this repository, not {chosen}")
        self.settings = {**yaml.safe_load(chosen.read_text(encoding="utf-8")), **own}

    def number(self, key: str) -> float:
        """A setting as a number: values typed into the web form arrive as text."""
        try:
            return float(self.settings[key])
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"the setting {key} must be a number") from None

    def lines(self, index: str) -> list[list[str]]:
        """An index file: one image a line, and after a tab its annotations (training only)."""
        text = Path(self.env["input"][index]).read_text(encoding="utf-8")
        return [line.split("\t") for line in text.splitlines() if line.strip()]

    def report(self, progress: float, note: str = "", code: int = 0) -> None:
        """Progress from 0 to 1 for the web page; with a return code, the end in failure."""
        state = 4 if code else 2
        first = f"{self.env['task_id']}\t{time.time():.6f}\t{progress:.4f}\t{state}\t{code}"
        write(Path(self.out["monitor_file"]), f"{first}\n{note}\n")


def train(task: Task) -> None:
    """REPLACE ME: counts images, and keeps a model after every epoch."""
    import torch  # only training needs it here: a .pt file is what later tasks are given
    from torch.utils.tensorboard import SummaryWriter

    epochs, images = int(task.number("epochs")), task.lines("training_index_file")
    names = list(task.settings["class_names"])
    models = Path(task.out["models_dir"])
    with SummaryWriter(task.out["tensorboard_dir"]) as board:
        for epoch in range(1, epochs + 1):
            quality = epoch / (epochs + 1)  # yours is measured on val_index_file
            board.add_scalar("mAP", quality, epoch)
            weights = {"class_names": names, "images_seen": epoch * len(images)}
            (models / "best").mkdir(parents=True, exist_ok=True)
            torch.save(weights, models / "best" / "best.new")
            os.replace(models / "best" / "best.new", models / "best" / "best.pt")
            stage: dict[str, object] = {"stage_name": "best", "files": ["best.pt"]}
            stage |= {"timestamp": int(time.time()), "mAP": quality}
            result = {"best_stage_name": "best", "mAP": quality, "model_stages": {"best": stage}}
            write(Path(task.out["training_result_file"]), yaml.safe_dump(result))
            task.report(epoch / epochs, f"epoch {epoch} of {epochs}")


def score(image: str, task: Task) -> float:
    """REPLACE ME: how much a label for this image would teach; here drawn from its name."""
    return zlib.crc32(f"{task.settings['salt']}{Path(image).name}".encode()) / 2**32


def detect(image: str, task: Task) -> list[dict[str, object]]:
    """REPLACE ME: boxes of whole pixels, from the top left corner; here always one."""
    confidence = task.number("confidence")
    box = {"x": 0, "y": 0, "w": 8, "h": 8}
    name = task.settings["class_names"][0]
    return [{"box": box, "class_name": name, "score": confidence}]


def look(task: Task) -> None:
    """Mining, inference, or both: every candidate gets a line, or an entry."""
    images = [line[0] for line in task.lines("candidate_index_file")]
    scores: list[tuple[str, float]] = []
    found: dict[str, dict[str, object]] = {}
    for number, image in enumerate(images, start=1):
        if task.env.get("run_mining"):
            scores.append((image, score(image, task)))
        if task.env.get("run_infer"):
            boxes = detect(image, task)
            # Older platforms read `annotations`, current ones `boxes`.
            found[Path(image).name] = {"boxes": boxes, "annotations": boxes}
        task.report(0.99 * number / len(images), f"image {number} of {len(images)}")
    if task.env.get("run_mining"):
        # The platform takes the first lines: what to label first stands on top.
        scores.sort(key=lambda pair: (-pair[1], pair[0]))
        text = "".join(f"{image}\t{value:.6f}\n" for image, value in scores)
        write(Path(task.out["mining_result_file"]), text)
    if task.env.get("run_infer"):
        write(Path(task.out["infer_result_file"]), json.dumps({"detection": found}))
    task.report(1.0, "done")


def main(env_file: Path) -> int:
    """Run the task. The last line printed is what people see first when it fails."""
    if not env_file.is_file():
        print(f"There is no task at {env_file}: give the path of its env.yaml.")
        return 1
    task = Task(env_file)
    try:
        task.read_settings()
        task.report(0.0, "started")
        if task.env.get("run_training"):
            train(task)
        else:
            look(task)
    except Exception as error:
        code = CONFIG_ERROR if isinstance(error, ValueError) else OTHER_ERROR
        task.report(0.0, f"{type(error).__name__}: {error}", code)
        print(f"FAILED ({code}): {error}", flush=True)
        return 1
    print(f"DONE: the results are in {task.out['root_dir']}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "/in/env.yaml")))
