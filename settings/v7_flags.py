"""Every command-line flag of YOLOv5 v7.0, and what becomes of it in commands and in tasks.

And --save-csv, which came after v7.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal

Takes = Literal["value", "nothing", "value or nothing", "values"]
Command = Literal["train", "val", "detect", "export"]


class FlagStatus(Enum):
    """What happens when a flag is given."""

    SETTING = "a setting of the same meaning"
    COMMAND = "acted on by the command itself"
    IGNORED = "no effect, said in a warning"
    REFUSED = "refused"


@dataclass(frozen=True)
class Flag:
    """One flag: its spellings, what follows it, and its fate.

    `setting` is the setting it stands for, with the value `gives` where the flag carries none.
    `says` is its meaning, or why it is not done; `in_a_task` is why a flag that the command itself
    acts on has no effect in a task of the platform.
    """

    names: tuple[str, ...]
    says: str
    effect: FlagStatus = FlagStatus.SETTING
    takes: Takes = "value"
    setting: str = ""
    gives: object = True
    in_a_task: str = ""

    @property
    def key(self) -> str:
        """The flag's first spelling as a Python name."""
        return self.names[0].removeprefix("--").replace("-", "_")


def _setting(
    names: str, setting: str, says: str, takes: Takes = "value", gives: object = True
) -> Flag:
    return Flag(tuple(names.split()), says, FlagStatus.SETTING, takes, setting, gives)


def _switch(name: str, setting: str, says: str, gives: object = True) -> Flag:
    return _setting(name, setting, says, "nothing", gives)


def _command(names: str, says: str, in_a_task: str = "", takes: Takes = "value") -> Flag:
    return Flag(tuple(names.split()), says, FlagStatus.COMMAND, takes, in_a_task=in_a_task)


def _ignored(names: str, says: str, takes: Takes = "value") -> Flag:
    return Flag(tuple(names.split()), says, FlagStatus.IGNORED, takes)


def _refused(names: str, says: str, takes: Takes = "value") -> Flag:
    return Flag(tuple(names.split()), says, FlagStatus.REFUSED, takes)


_SIZE = _setting("--imgsz --img --img-size", "img_size", "training or inference size")
_BATCH = _setting("--batch-size", "batch_size", "batch size")
_WORKERS = _setting("--workers", "workers", "maximum dataloader workers")
_CONFIDENCE = _setting("--conf-thres", "conf_thres", "confidence threshold")
_OVERLAP = _setting("--iou-thres", "iou_thres", "NMS IoU threshold")
_MOST = _setting("--max-det", "max_det", "maximum detections per image")
_SINGLE = _switch("--single-cls", "single_cls", "treat multi-class data as single-class")
_HALF = _switch("--half", "half", "half-precision (float16) inference on a GPU")
_AUGMENT = _switch("--augment", "augment", "test-time augmentation")
_OUTPUT = "the platform says where a task writes"
_JSON = "a task writes its detections as the platform's JSON"
_NO_VIDEOS = "a task has images only"
_NO_PICTURES = "a task draws no pictures of its detections"
_DEVICE = _command(
    "--device", "GPU numbers or cpu; the first GPU, else the CPU", "gpu_id says where a task runs"
)
_DATA = _command(
    "--data", "the data.yaml, or the folder of a data set", "a task brings its own data set"
)
_FOLDER = (
    _command("--project", "save results to project/name", _OUTPUT),
    _command("--name", "save results to project/name", _OUTPUT),
    _command("--exist-ok", "an existing project/name is used, not incremented", _OUTPUT, "nothing"),
)
_SAVE_TEXT = (
    _command("--save-txt", "save results to *.txt", _JSON, "nothing"),
    _command("--save-conf", "save confidences in --save-txt labels", _JSON, "nothing"),
)
_DNN = _ignored("--dnn", "OpenCV's network module cannot run the .pt files used here", "nothing")
_REMOTE = "for a remote logger; the setting loggers has MLflow and wandb write files, offline"

TRAIN = (
    _setting("--weights", "weights", "weights to start from; '' trains from scratch"),
    _setting("--cfg", "model", "the network: a stock name or a model YAML file"),
    _DATA,
    _setting("--hyp", "hyp", "hyper-parameters: a name in configs/hyps or a YAML file"),
    _setting("--epochs", "epochs", "training epochs"),
    _BATCH,
    _SIZE,
    _switch("--rect", "rect", "rectangular training"),
    _setting("--resume", "resume", "resume the latest, or the given, training", "value or nothing"),
    _switch("--nosave", "nosave", "save the final checkpoint only"),
    _switch("--noval", "noval", "evaluate the final epoch only"),
    _switch("--noautoanchor", "noautoanchor", "disable AutoAnchor"),
    _switch("--noplots", "plots", "save no plot files", gives=False),
    _refused(
        "--evolve",
        "the search is another command: python evolve.py --trials 300",
        "value or nothing",
    ),
    _ignored("--bucket", "nothing is sent to a cloud bucket: this program uses no network"),
    _setting("--cache", "cache", "where decoded images are kept", "value or nothing", "ram"),
    _switch("--image-weights", "image_weights", "weighted image selection for training"),
    _DEVICE,
    _switch("--multi-scale", "multi_scale", "vary the image size by +/- 50 %"),
    _SINGLE,
    _setting("--optimizer", "optimizer", "SGD, Adam or AdamW"),
    _switch("--sync-bn", "sync_bn", "SyncBatchNorm, with several GPUs only"),
    _WORKERS,
    *_FOLDER,
    _switch("--quad", "quad", "quad dataloader"),
    _switch("--cos-lr", "schedule", "cosine learning-rate schedule", "cosine"),
    _setting("--label-smoothing", "label_smoothing", "label smoothing epsilon"),
    _setting("--patience", "patience", "early-stopping patience (epochs without improvement)"),
    _setting("--freeze", "freeze", "frozen layers: backbone 10, or the layers 0 1 2", "values"),
    _setting("--save-period", "save_period", "save a checkpoint every so many epochs"),
    _setting("--seed", "seed", "global training seed"),
    _ignored("--local-rank", "set by an old launcher; none is needed here"),
    _ignored("--entity", _REMOTE),
    _ignored("--upload-dataset", _REMOTE, "value or nothing"),
    _ignored("--bbox-interval", _REMOTE),
    _ignored("--artifact-alias", _REMOTE),
)

VAL = (
    _DATA,
    _setting("--weights", "weights", "the weights to evaluate", "values"),
    _BATCH,
    _SIZE,
    _CONFIDENCE,
    _OVERLAP,
    _MOST,
    _command("--task", "the split: train, val or test; speed and study are refused"),
    _DEVICE,
    _WORKERS,
    _command("--single-cls", "treat multi-class data as single-class", takes="nothing"),
    _AUGMENT,
    _ignored("--verbose", "the table of all classes is always printed", "nothing"),
    *_SAVE_TEXT,
    _refused(
        "--save-hybrid",
        "labels among detections raise every score falsely; --save-txt has the detections",
        "nothing",
    ),
    _command("--save-json", "save a COCO-JSON results file", _JSON, "nothing"),
    *_FOLDER,
    _HALF,
    _DNN,
)

DETECT = (
    _setting("--weights", "weights", "the weights to detect with", "values"),
    _command(
        "--source",
        "image, video, folder, pattern such as 'a/*.jpg', or text file that lists these",
        "a task brings its own images",
    ),
    _ignored("--data", "class names come from the weights"),
    _setting(
        "--imgsz --img --img-size",
        "img_size",
        "inference size: one number, or height and width; in a task one",
        "values",
    ),
    _CONFIDENCE,
    _OVERLAP,
    _MOST,
    _DEVICE,
    _command(
        "--view-img", "show results in a window, where there is a display", _NO_PICTURES, "nothing"
    ),
    *_SAVE_TEXT,
    _command("--save-csv", "save results to predictions.csv", _JSON, "nothing"),
    _command("--save-crop", "save cropped prediction boxes", _NO_PICTURES, "nothing"),
    _command("--nosave", "save no annotated images and videos", _NO_PICTURES, "nothing"),
    _setting("--classes", "classes", "filter by class: --classes 0, or --classes 0 2 3", "values"),
    _switch("--agnostic-nms", "agnostic_nms", "class-agnostic NMS"),
    _AUGMENT,
    _refused(
        "--visualize",
        "feature maps are not drawn; Predictor.backbone_map in inference/predictor.py returns them",
        "nothing",
    ),
    _refused(
        "--update",
        "old weights are read as they are; nothing has to be stripped from them first",
        "nothing",
    ),
    *_FOLDER,
    _command("--line-thickness", "bounding-box thickness", _NO_PICTURES),
    _command("--hide-labels", "hide labels", _NO_PICTURES, "nothing"),
    _command("--hide-conf", "hide confidences", _NO_PICTURES, "nothing"),
    _HALF,
    _DNN,
    _command("--vid-stride", "detect in every so many frames of a video", _NO_VIDEOS),
)

_NO_TENSORFLOW = "TensorFlow formats are not written; convert the ONNX file"

EXPORT = (
    _command("--weights", "the weights to export", takes="values"),
    _command("--data", "the data.yaml whose names go into the file"),
    _command("--imgsz --img --img-size", "image size (height width)", takes="values"),
    _command("--batch-size", "batch size of a file with a fixed shape"),
    _command("--device", "where the network computes"),
    _command("--half", "float16 weights", takes="nothing"),
    _refused("--inplace", "the head never writes into its maps: nothing to switch", "nothing"),
    _refused("--keras", _NO_TENSORFLOW, "nothing"),
    _refused("--optimize", "PyTorch Mobile, which it prepares for, has ended", "nothing"),
    _refused("--int8", "whole numbers are set, with pictures, where the file is used", "nothing"),
    _command("--dynamic", "dynamic axes: any batch and size", takes="nothing"),
    _command("--simplify", "simplify the ONNX graph: fold constants", takes="nothing"),
    _setting("--opset", "opset", "operator set of the ONNX file"),
    _command("--verbose", "show what the converters say", takes="nothing"),
    _refused("--workspace", "no TensorRT engine is built; give the size to trtexec"),
    _command("--nms", "ONNX: add NMS to the graph", takes="nothing"),
    _command("--agnostic-nms", "ONNX: class-agnostic NMS", takes="nothing"),
    _refused("--topk-per-class", "the best of all classes are kept together: --topk-all"),
    _command("--topk-all", "ONNX NMS: maximum detections per image"),
    _command("--iou-thres", "ONNX NMS: IoU threshold"),
    _command("--conf-thres", "ONNX NMS: confidence threshold"),
    _command("--include", "the formats", takes="values"),
)

FLAGS: Mapping[Command, tuple[Flag, ...]] = {
    "train": TRAIN,
    "val": VAL,
    "detect": DETECT,
    "export": EXPORT,
}
