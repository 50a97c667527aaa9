"""Re-export the bridge to YMIR: `read_task`, the task's types and its files live in `ymir`."""

from ymir.monitor import Monitor
from ymir.results import (
    InferResultWriter,
    ModelStage,
    write_mining_result,
    write_training_result,
)
from ymir.task import fallback_monitor_path, open_monitor, read_task
from ymir.task_types import OutputPaths, Task, stage_folder

__all__ = [
    "InferResultWriter",
    "ModelStage",
    "Monitor",
    "OutputPaths",
    "Task",
    "fallback_monitor_path",
    "open_monitor",
    "read_task",
    "stage_folder",
    "write_mining_result",
    "write_training_result",
]
