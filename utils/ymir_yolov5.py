"""Re-export the bridge to YMIR: `read_task`, the task's types and its files live in `ymir`."""

from ymir.monitor import Monitor as Monitor
from ymir.results import InferResultWriter as InferResultWriter
from ymir.results import ModelStage as ModelStage
from ymir.results import write_mining_result as write_mining_result
from ymir.results import write_training_result as write_training_result
from ymir.task import fallback_monitor_path as fallback_monitor_path
from ymir.task import open_monitor as open_monitor
from ymir.task import read_task as read_task
from ymir.task_types import OutputPaths as OutputPaths
from ymir.task_types import Task as Task
from ymir.task_types import stage_folder as stage_folder
