"""Re-export the bridge to YMIR: `read_task`, the task's types and its files live in `ymir`."""

from ymir.task import (
    InferResultWriter,
    ModelStage,
    Monitor,
    OutputPaths,
    Task,
    fallback_monitor_path,
    open_monitor,
    read_task,
    stage_folder,
    write_mining_result,
    write_training_result,
)

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
