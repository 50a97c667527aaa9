"""Every command-line flag of YOLOv5 v7.0, and what becomes of it here.

The tables serve three readers: tasks that carry a string of such flags (`args_options`), the
commands `train.py`, `val.py` and `detect.py`, and the page docs/compatibility.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal

Takes = Literal["value", "nothing", "value or nothing", "values"]
Command = Literal["train", "val", "detect", "export"]


class Effect(Enum):
    """What happens when a flag is given."""

    SETTING = "a setting of the same meaning"
    COMMAND = "acted on by the command itself"
    IGNORED = "no effect, said in a warning"
    REFUSED = "refused"


@dataclass(frozen=True)
class Flag:
    """One flag: its spellings, what follows it, and its fate.

    `setting` is the setting it stands for, with the value `gives` where the flag carries none.
    `says` completes «--flag: ...» for people: the meaning, or why it is not done; `in_a_task` is
    why a flag that the command itself acts on has no effect in a task of the platform.
    """

    names: tuple[str, ...]
    says: str
    effect: Effect = Effect.SETTING
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
    return Flag(tuple(names.split()), says, Effect.SETTING, takes, setting, gives)


def _switch(name: str, setting: str, says: str, gives: object = True) -> Flag:
    return _setting(name, setting, says, "nothing", gives)


def _command(name: str, says: str, in_a_task: str, takes: Takes = "value") -> Flag:
    return Flag((name,), says, Effect.COMMAND, takes, in_a_task=in_a_task)


def _ignored(names: str, says: str, takes: Takes = "value") -> Flag:
    return Flag(tuple(names.split()), says, Effect.IGNORED, takes)


def _refused(names: str, says: str, takes: Takes = "value") -> Flag:
    return Flag(tuple(names.split()), says, Effect.REFUSED, takes)


_SIZE = _setting("--imgsz --img --img-size", "img_size", "longest side of the network's input")
_BATCH = _setting("--batch-size", "batch_size", "images per step")
_WORKERS = _setting("--workers", "workers", "processes that read images")
_CONFIDENCE = _setting("--conf-thres", "conf_thres", "least confidence kept")
_OVERLAP = _setting("--iou-thres", "iou_thres", "overlap above which a box is suppressed")
_MOST = _setting("--max-det", "max_det", "most detections per image")
_SINGLE = _switch("--single-cls", "single_cls", "treat all classes as one")
_HALF = _switch("--half", "half", "half precision on a GPU")
_AUGMENT = _switch("--augment", "augment", "test-time augmentation")
_OUTPUT = "the platform says where a task writes"
_JSON = "a task writes its detections as the platform's JSON"
_NO_PICTURES = "a task draws no pictures of its detections"
_NO_TASK = "a task evaluates while it trains"
_DEVICE = _command(
    "--device",
    "GPU numbers or cpu; the first GPU, else the CPU",
    "gpu_id says where a task computes",
)
_DATA = _command("--data", "the data.yaml", "a task brings its own data set")
_FOLDER = (
    _command("--project", "folder that holds the run folders", _OUTPUT),
    _command("--name", "name of the run folder", _OUTPUT),
    _command("--exist-ok", "use a run folder that is there already", _OUTPUT, "nothing"),
)
_SAVE_TEXT = (
    _command("--save-txt", "write detections as label files", _JSON, "nothing"),
    _command("--save-conf", "add the confidence to those label files", _JSON, "nothing"),
)
_DNN = _ignored(
    "--dnn", "weights are .pt files here, which OpenCV's network module cannot run", "nothing"
)
_REMOTE = "for a remote logger, which this program does not have; TensorBoard files are written"

TRAIN = (
    _setting("--weights", "weights", "weights to start from; '' trains from scratch"),
    _setting("--cfg", "model", "the network: a stock name or a model YAML file"),
    _DATA,
    _setting("--hyp", "hyp", "hyper-parameters: a name in configs/hyps or a YAML file"),
    _setting("--epochs", "epochs", "passes over the training set"),
    _BATCH,
    _SIZE,
    _switch("--rect", "rect", "rectangular batches, without mosaic and shuffling"),
    _setting("--resume", "resume", "go on with a training that was stopped", "value or nothing"),
    _switch("--nosave", "nosave", "save the last epoch only"),
    _switch("--noval", "noval", "evaluate the last epoch only"),
    _switch("--noautoanchor", "noautoanchor", "keep the model's anchors"),
    _switch("--noplots", "plots", "draw nothing", gives=False),
    _refused(
        "--evolve",
        "the search for hyper-parameters is a command of its own: python evolve.py",
        "value or nothing",
    ),
    _ignored("--bucket", "nothing is sent to a cloud bucket: this program uses no network"),
    _setting("--cache", "cache", "where decoded images are kept", "value or nothing", "ram"),
    _switch("--image-weights", "image_weights", "draw images of badly found classes more often"),
    _DEVICE,
    _switch("--multi-scale", "multi_scale", "another image size for every batch"),
    _SINGLE,
    _setting("--optimizer", "optimizer", "SGD, Adam or AdamW"),
    _switch("--sync-bn", "sync_bn", "batch statistics over all GPUs"),
    _WORKERS,
    *_FOLDER,
    _switch("--quad", "quad", "batches of four images in one"),
    _switch("--cos-lr", "schedule", "cosine instead of linear fall of the rate", "cosine"),
    _setting("--label-smoothing", "label_smoothing", "share of a class target given to others"),
    _setting("--patience", "patience", "epochs without improvement before the end"),
    _setting("--freeze", "freeze", "first layers, or the layers listed, that stay", "values"),
    _setting("--save-period", "save_period", "a further checkpoint every so many epochs"),
    _setting("--seed", "seed", "start of every random sequence"),
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
    _command("--task", "the split: train, val or test; speed and study are refused", _NO_TASK),
    _DEVICE,
    _WORKERS,
    _command("--single-cls", "treat all classes as one", _NO_TASK, "nothing"),
    _AUGMENT,
    _ignored("--verbose", "the table of all classes is always printed", "nothing"),
    *_SAVE_TEXT,
    _refused(
        "--save-hybrid", "labels among the detections would raise every score falsely", "nothing"
    ),
    _command("--save-json", "write detections in COCO's JSON form", _JSON, "nothing"),
    *_FOLDER,
    _HALF,
    _DNN,
)

DETECT = (
    _setting("--weights", "weights", "the weights to detect with", "values"),
    _command(
        "--source",
        "an image, a folder, a pattern, or a text file of paths",
        "a task brings its own images",
    ),
    _ignored("--data", "class names come from the weights"),
    _SIZE,
    _CONFIDENCE,
    _OVERLAP,
    _MOST,
    _DEVICE,
    _refused("--view-img", "no window is opened; look at the saved pictures", "nothing"),
    *_SAVE_TEXT,
    _command("--save-crop", "save what lies in each box", _NO_PICTURES, "nothing"),
    _command("--nosave", "draw no pictures", _NO_PICTURES, "nothing"),
    _setting("--classes", "classes", "detect these classes only, by number", "values"),
    _switch("--agnostic-nms", "agnostic_nms", "suppression across classes"),
    _AUGMENT,
    _refused("--visualize", "pictures of feature maps are not drawn", "nothing"),
    _refused("--update", "weights are never downloaded over those that are there", "nothing"),
    *_FOLDER,
    _command("--line-thickness", "thickness of drawn boxes in pixels", _NO_PICTURES),
    _command("--hide-labels", "draw boxes without class names", _NO_PICTURES, "nothing"),
    _command("--hide-conf", "draw boxes without confidence", _NO_PICTURES, "nothing"),
    _HALF,
    _DNN,
    _ignored("--vid-stride", "videos are not read"),
)

_EXPORT = "a training exports its best weights by settings of its own"
_NO_TENSORFLOW = "TensorFlow formats are not written; convert the ONNX file"

EXPORT = (
    _command("--weights", "the weights to export", _EXPORT, "values"),
    _command("--data", "the data.yaml whose names go into the file", _EXPORT),
    Flag(
        ("--imgsz", "--img", "--img-size"),
        "height and width of the network's input",
        Effect.COMMAND,
        "values",
        in_a_task=_EXPORT,
    ),
    _command("--batch-size", "images of a file with a fixed shape", _EXPORT),
    _command("--device", "where the network computes", _EXPORT),
    _command("--half", "float16 weights", _EXPORT, "nothing"),
    _refused("--inplace", "the head never writes into its maps: nothing to switch", "nothing"),
    _refused("--keras", _NO_TENSORFLOW, "nothing"),
    _refused("--optimize", "PyTorch Mobile, which it prepares for, has ended", "nothing"),
    _refused("--int8", "whole numbers are set, with pictures, where the file is used", "nothing"),
    _command("--dynamic", "any batch and size", _EXPORT, "nothing"),
    _command("--simplify", "fold constants of the ONNX graph", _EXPORT, "nothing"),
    _setting("--opset", "opset", "operator set of the ONNX file"),
    _command("--verbose", "show what the converters say", _EXPORT, "nothing"),
    _refused("--workspace", "no TensorRT engine is built"),
    _command("--nms", "suppression within the ONNX file", _EXPORT, "nothing"),
    _command("--agnostic-nms", "that suppression across classes", _EXPORT, "nothing"),
    _refused("--topk-per-class", "the best of all classes are kept together: --topk-all"),
    _command("--topk-all", "most detections of that suppression", _EXPORT),
    _command("--iou-thres", "overlap of that suppression", _EXPORT),
    _command("--conf-thres", "confidence of that suppression", _EXPORT),
    _command("--include", "the formats", _EXPORT, "values"),
)

FLAGS: Mapping[Command, tuple[Flag, ...]] = {
    "train": TRAIN,
    "val": VAL,
    "detect": DETECT,
    "export": EXPORT,
}
