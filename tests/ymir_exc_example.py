"""A stand-in for the 2.x generation of `ymir_exc`, which no package index has.

Written for the tests from the signatures and rules of the protocol page, section 11: the platform's
own package since 2.3. It reads and writes the task that it was made for.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import ModuleType, SimpleNamespace

import yaml

STAGES_KEPT = 11


class ExecutorState(IntEnum):
    ES_PENDING = 1
    ES_RUNNING = 2
    ES_DONE = 3
    ES_ERROR = 4


@dataclass
class Box:
    x: int
    y: int
    w: int
    h: int


@dataclass
class Annotation:
    class_name: str
    score: float
    box: Box


class Generation2:
    """The functions of the package, on the task of one `env.yaml`."""

    def __init__(self, env_file: Path) -> None:
        self._env_file = env_file

    def get_current_env(self) -> SimpleNamespace:
        env = yaml.safe_load(self._env_file.read_text("utf-8"))
        for part in ("input", "output"):
            env[part] = SimpleNamespace(**env[part])
        return SimpleNamespace(**env)

    def get_executor_config(self) -> dict:
        path = self.get_current_env().input.config_file
        return dict(yaml.safe_load(Path(path).read_text("utf-8")))

    def write_monitor_logger(
        self, percent: float, state: int = ExecutorState.ES_RUNNING, return_code: int = 0
    ) -> None:
        env = self.get_current_env()
        code = 0 if state == ExecutorState.ES_RUNNING else return_code
        line = f"{env.task_id}\t{time.time():.6f}\t{percent:.2f}\t{int(state)}\t{code}\n"
        Path(env.output.monitor_file).write_text(line, "utf-8")

    def write_mining_result(self, rows: Sequence[tuple[str, float]]) -> None:
        ordered = sorted(rows, key=lambda row: -row[1])
        text = "".join(f"{path}\t{score}\n" for path, score in ordered)
        Path(self.get_current_env().output.mining_result_file).write_text(text, "utf-8")

    def write_infer_result(self, results: Mapping[str, Sequence[Annotation]]) -> None:
        images = {
            Path(path).name: {
                "boxes": [
                    {"box": vars(one.box), "class_name": one.class_name, "score": one.score}
                    for one in found
                ]
            }
            for path, found in results.items()
        }
        target = Path(self.get_current_env().output.infer_result_file)
        target.write_text(json.dumps({"detection": images}), "utf-8")

    def write_model_stage(
        self,
        stage_name: str,
        files: Sequence[str],
        evaluation_result: Mapping[str, float] | None = None,
        timestamp: int | None = None,
        attachments: Mapping[str, Sequence[str]] | None = None,
        evaluate_config: Mapping[str, float] | None = None,
    ) -> None:
        path = Path(self.get_current_env().output.training_result_file)
        result = yaml.safe_load(path.read_text("utf-8")) if path.is_file() else {}
        stages = result.setdefault("model_stages", {})
        stages[stage_name] = {
            "stage_name": stage_name,
            "files": list(files),
            "timestamp": timestamp or int(time.time()),
            **(evaluation_result or {}),
        }
        best = max(stages.values(), key=lambda stage: stage["mAP"])["stage_name"]
        others = sorted((s for s in stages if s != best), key=lambda s: stages[s]["timestamp"])
        for name in others[: max(len(stages) - STAGES_KEPT, 0)]:
            del stages[name]
        result |= {"best_stage_name": best, "mAP": stages[best]["mAP"]}
        # A call without attachments takes earlier ones back.
        result["attachments"] = {k: list(v) for k, v in (attachments or {}).items()}
        if evaluate_config:
            result["evaluate_config"] = dict(evaluate_config)
        path.write_text(yaml.safe_dump(result), "utf-8")


def modules(env_file: Path) -> dict[str, ModuleType]:
    """What `import ymir_exc` and its parts would find, by name."""
    package = Generation2(env_file)
    package.Annotation, package.Box, package.ExecutorState = Annotation, Box, ExecutorState
    results = "Annotation Box write_model_stage write_mining_result write_infer_result"
    parts = {"env": "get_current_env get_executor_config", "monitor": "write_monitor_logger"}
    parts |= {"result_writer": results, "code": "ExecutorState"}
    made = {"ymir_exc": ModuleType("ymir_exc")}
    for name, content in parts.items():
        module = ModuleType(f"ymir_exc.{name}")
        vars(module).update({word: getattr(package, word) for word in content.split()})
        setattr(made["ymir_exc"], name, module)
        made[f"ymir_exc.{name}"] = module
    return made
