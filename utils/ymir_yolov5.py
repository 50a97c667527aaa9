"""Re-export the bridge to YMIR: `read_task`, the task's types and its files live in `ymir`."""

from ymir.task import InferResultWriter as InferResultWriter
from ymir.task import ModelStage as ModelStage
from ymir.task import Monitor as Monitor
from ymir.task import OutputPaths as OutputPaths
from ymir.task import Task as Task
from ymir.task import fallback_monitor_path as fallback_monitor_path
from ymir.task import open_monitor as open_monitor
from ymir.task import read_task as read_task
from ymir.task import stage_folder as stage_folder
from ymir.task import write_mining_result as write_mining_result
from ymir.task import write_training_result as write_training_result
