"""The settings of a task: one frozen data class per kind, parsed from plain mappings."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TypeVar, get_type_hints

from utils.errors import Code, TaskError
from utils.option_names import ALIASES, NOT_SUPPORTED, PLATFORM_KEYS, WITHOUT_EFFECT
from utils.options import FALSE_WORDS, Rule, absent, convert
from utils.setting_layers import unfold_layers
from utils.v7_flags import Command


def _rule(
    help: str,
    least: float | None = None,
    most: float | None = None,
    *,
    unit: str = "",
    choices: tuple[str, ...] = (),
    synonyms: Mapping[str, str] | None = None,
    multiple: int = 1,
    besides: float | None = None,
    may_be_empty: bool = False,
) -> dict[str, Rule]:
    rule = Rule(
        help,
        unit,
        least,
        most,
        choices,
        dict(synonyms or {}),
        multiple,
        besides=besides,
        may_be_empty=may_be_empty,
    )
    return {"rule": rule}


_SIZE = _rule(
    "longest side of the network's input", 32, 8192, unit="pixels, a multiple of 32", multiple=32
)
_WORKERS = _rule("processes that read images, -1 for as many as fit the machine", -1, 128)
_SEED = _rule("start of every random sequence", 0, 2**31 - 1)
_WEIGHTS = _rule("weight file to use; '' for those that the platform hands in")
_WEIGHTS_DIR = _rule("folder in which weight files are looked for, before the image's own /weights")
_ARGS = _rule("command line of v7.0 in one string, such as '--img 320 --half'")
_MAX_DET = _rule("most detections kept per image", 1, 10000)
_BAD = _rule("share of unusable images or annotations above which the task fails", 0, 1)
_PRECISION = _rule(
    "arithmetic of the network; auto takes bfloat16 where the hardware has it",
    choices=("auto", "float32", "bfloat16"),
    synonyms={"fp32": "float32", "32": "float32", "bf16": "bfloat16"},
)


@dataclass(frozen=True)
class TrainSettings:
    """Everything a training task may be told; the hyper-parameters' names are those of v7.0."""

    model: str = field(
        default="yolov5s",
        metadata=_rule("network: yolov5n, s, m, l, x, another of models/hub, or a model YAML file"),
    )
    weights: str = field(
        default="",
        metadata=_rule(
            "weight file to start from; '' for what the platform hands in, else <model>.pt of "
            "weights_dir; scratch for none"
        ),
    )
    weights_dir: str = field(default="", metadata=_WEIGHTS_DIR)
    download_weights: bool = field(
        default=False,
        metadata=_rule("fetch the official <model>.pt if there are no weights; needs its SHA-256"),
    )
    weights_sha256: str = field(
        default="", metadata=_rule("SHA-256 of the file to download, 64 hexadecimal digits")
    )
    hyp: str = field(
        default="",
        metadata=_rule("hyper-parameters: a name in configs/hyps, or a YAML file; '' for none"),
    )
    args_options: str = field(default="", metadata=_ARGS)
    activation: str = field(
        default="",
        metadata=_rule("activation of the network, such as nn.ReLU(); '' keeps the model's own"),
    )
    img_size: int = field(default=640, metadata=_SIZE)
    batch_size: int = field(
        default=16,
        metadata=_rule(
            "images per step; -1 for what fits the GPU's memory (16 on a CPU)", 1, 4096, besides=-1
        ),
    )
    epochs: int = field(default=100, metadata=_rule("passes over the training set", 1, 100000))
    patience: int = field(
        default=100,
        metadata=_rule("epochs without a better model before the end, 0 for never", 0, 100000),
    )
    resume: str = field(
        default="auto",
        metadata=_rule(
            "auto goes on with a stopped training of the same settings and data, never starts "
            "anew; or a last.pt to go on from"
        ),
    )
    freeze: tuple[int, ...] = field(
        default=(),
        metadata=_rule(
            "layers that stay as they are: one number for so many first, several for exactly those",
            0,
            1000,
        ),
    )
    workers: int = field(default=-1, metadata=_WORKERS)
    seed: int = field(default=0, metadata=_SEED)
    cache: str = field(
        default="ram",
        metadata=_rule(
            "where decoded images are kept: ram, disk (training images), val "
            "(evaluation images, in ram); none also when they do not fit",
            choices=("ram", "disk", "val", "none"),
            synonyms={"true": "ram", "false": "none"},
        ),
    )
    cache_dir: str = field(
        default="",
        metadata=_rule("folder of the cache on disk; '' for the system's temporary folder"),
    )
    precision: str = field(default="auto", metadata=_PRECISION)
    schedule: str = field(
        default="linear",
        metadata=_rule(
            "fall of the learning rate over the epochs",
            choices=("linear", "cosine"),
            synonyms={"true": "cosine", "false": "linear"},
        ),
    )
    nominal_batch_size: int = field(
        default=64, metadata=_rule("images per weight update, reached by accumulation", 1, 4096)
    )
    optimizer: str = field(
        default="sgd",
        metadata=_rule("rule of the weight update", choices=("sgd", "adam", "adamw")),
    )
    lr0: float = field(default=0.01, metadata=_rule("learning rate after warm-up", 0.000001, 1))
    lrf: float = field(
        default=0.01, metadata=_rule("last learning rate, as a fraction of lr0", 0, 1)
    )
    momentum: float = field(
        default=0.937, metadata=_rule("momentum of SGD, or the first beta of Adam", 0, 0.9999)
    )
    weight_decay: float = field(
        default=0.0005, metadata=_rule("weight decay at the nominal batch", 0, 1)
    )
    warmup_epochs: float = field(
        default=3.0, metadata=_rule("length of warm-up", 0, 1000, unit="epochs")
    )
    warmup_momentum: float = field(
        default=0.8, metadata=_rule("momentum at the start of warm-up", 0, 0.9999)
    )
    warmup_bias_lr: float = field(
        default=0.1, metadata=_rule("learning rate of biases at the start of warm-up", 0, 1)
    )
    box: float = field(default=0.05, metadata=_rule("weight of the box loss", 0, 100))
    cls: float = field(default=0.5, metadata=_rule("weight of the class loss", 0, 100))
    cls_pw: float = field(
        default=1.0, metadata=_rule("weight of positives in the class loss", 0.01, 100)
    )
    obj: float = field(default=1.0, metadata=_rule("weight of the objectness loss", 0, 100))
    obj_pw: float = field(
        default=1.0, metadata=_rule("weight of positives in the objectness loss", 0.01, 100)
    )
    anchor_t: float = field(
        default=4.0, metadata=_rule("largest side ratio of a box and its anchor", 1, 100)
    )
    anchors: int = field(
        default=0,
        metadata=_rule("anchors per level, found anew for the boxes; 0 keeps the model's", 0, 10),
    )
    noautoanchor: bool = field(
        default=False,
        metadata=_rule("keep the model's anchors even if they fit few of the boxes"),
    )
    fl_gamma: float = field(
        default=0.0, metadata=_rule("focal exponent, 0 for plain cross-entropy", 0, 10)
    )
    label_smoothing: float = field(
        default=0.0, metadata=_rule("share of a class target spread over the others", 0, 0.9)
    )
    hsv_h: float = field(default=0.015, metadata=_rule("largest change of hue, as a share", 0, 1))
    hsv_s: float = field(
        default=0.7, metadata=_rule("largest change of saturation, as a share", 0, 1)
    )
    hsv_v: float = field(
        default=0.4, metadata=_rule("largest change of brightness, as a share", 0, 1)
    )
    degrees: float = field(
        default=0.0, metadata=_rule("largest rotation either way", 0, 180, unit="degrees")
    )
    translate: float = field(
        default=0.1, metadata=_rule("largest shift either way, as a share of the side", 0, 1)
    )
    scale: float = field(
        default=0.5, metadata=_rule("largest change of size either way, as a share", 0, 0.99)
    )
    shear: float = field(
        default=0.0, metadata=_rule("largest shear either way", 0, 80, unit="degrees")
    )
    perspective: float = field(
        default=0.0, metadata=_rule("largest perspective coefficient", 0, 0.01)
    )
    flipud: float = field(default=0.0, metadata=_rule("probability of an upside-down flip", 0, 1))
    fliplr: float = field(default=0.5, metadata=_rule("probability of a left-right flip", 0, 1))
    mosaic: float = field(default=1.0, metadata=_rule("probability of a mosaic of 4 images", 0, 1))
    mosaic9: float = field(
        default=0.0, metadata=_rule("share of the mosaics that are made of 9 images", 0, 1)
    )
    mixup: float = field(
        default=0.0, metadata=_rule("probability that a second mosaic is laid over a first", 0, 1)
    )
    copy_paste: float = field(
        default=0.0, metadata=_rule("without effect: it needs outlines, the data have boxes", 0, 1)
    )
    albumentations: bool = field(
        default=False, metadata=_rule("rare blur, grey and contrast by the package of that name")
    )
    close_mosaic: int = field(
        default=0, metadata=_rule("last epochs that have no mosaics", 0, 100000, unit="epochs")
    )
    rect: bool = field(
        default=False, metadata=_rule("batches of like shape, unshuffled and without mosaics")
    )
    image_weights: bool = field(
        default=False, metadata=_rule("show images with rare and badly found classes more often")
    )
    multi_scale: bool = field(
        default=False, metadata=_rule("another image size each step, half to 1.5 times img_size")
    )
    quad: bool = field(
        default=False, metadata=_rule("four training images as one of twice the side, loss x 4")
    )
    single_cls: bool = field(default=False, metadata=_rule("take all classes as one"))
    conf_thres: float = field(
        default=0.001, metadata=_rule("least confidence of a detection in evaluation", 0, 1)
    )
    iou_thres: float = field(
        default=0.6, metadata=_rule("overlap above which evaluation suppresses a box", 0, 1)
    )
    max_det: int = field(default=300, metadata=_MAX_DET)
    report_conf: float = field(
        default=0.25, metadata=_rule("confidence at which tp, fp and fn are counted", 0, 1)
    )
    map_metric: str = field(
        default="map50",
        metadata=_rule(
            "mAP that is reported: at IoU 0.5, or averaged over 0.5 to 0.95",
            choices=("map50", "map50_95"),
            synonyms={"0.5": "map50", "0.5:0.95": "map50_95", "map50-95": "map50_95"},
        ),
    )
    noval: bool = field(
        default=False, metadata=_rule("evaluate after the last epoch only; no early end then")
    )
    nosave: bool = field(
        default=False,
        metadata=_rule("write the weights only when training ends; no resuming then"),
    )
    save_period: int = field(
        default=-1,
        metadata=_rule(
            "also keep the weights of every so many epochs (the latest nine), -1 for none",
            -1,
            100000,
        ),
    )
    sync_bn: bool = field(
        default=False,
        metadata=_rule("batch statistics over all processes of a training; one alone ignores it"),
    )
    onnx: bool = field(default=True, metadata=_rule("write best.onnx beside the best weights"))
    opset: int = field(default=17, metadata=_rule("operator set of the ONNX file", 11, 27))
    onnx_nms: bool = field(
        default=False, metadata=_rule("suppress overlaps within the ONNX file itself")
    )
    onnx_half: bool = field(default=False, metadata=_rule("float16 weights in the ONNX file"))
    onnx_simplify: bool = field(
        default=False, metadata=_rule("fold constants of the ONNX file; not with onnx_half")
    )
    model_formats: tuple[str, ...] = field(
        default=(),
        metadata=_rule(
            "further files of the best weights",
            choices=("torchscript", "openvino", "safetensors", "state-dict"),
            synonyms={"state_dict": "state-dict"},
            may_be_empty=True,
        ),
    )
    ymir_saved_file_patterns: str = field(
        default="",
        metadata=_rule(
            "regular expressions between commas: hand over only files of such names, and weights"
        ),
    )
    plots: bool = field(default=True, metadata=_rule("draw curves, images and report.html"))
    max_bad_fraction: float = field(default=0.5, metadata=_BAD)


@dataclass(frozen=True)
class DetectionSettings:
    """What inference and mining both may be told: how objects are found."""

    weights: str = field(default="", metadata=_WEIGHTS)
    weights_dir: str = field(default="", metadata=_WEIGHTS_DIR)
    args_options: str = field(default="", metadata=_ARGS)
    img_size: int = field(default=640, metadata=_SIZE)
    batch_size: int = field(default=16, metadata=_rule("images per forward pass", 1, 4096))
    workers: int = field(default=-1, metadata=_WORKERS)
    conf_thres: float = field(default=0.25, metadata=_rule("least confidence kept", 0, 1))
    iou_thres: float = field(
        default=0.45, metadata=_rule("overlap above which a box is suppressed", 0, 1)
    )
    max_det: int = field(default=300, metadata=_MAX_DET)
    precision: str = field(default="auto", metadata=_PRECISION)
    engine: str = field(
        default="torch",
        metadata=_rule(
            "program that computes the network; auto takes the fastest that is there and agrees",
            choices=("torch", "auto", "onnxruntime", "openvino", "tensorrt"),
            synonyms={"ort": "onnxruntime", "pytorch": "torch", "trt": "tensorrt"},
        ),
    )
    half: bool = field(
        default=False, metadata=_rule("compute in float16 on a GPU, whatever precision says")
    )
    classes: tuple[str, ...] = field(
        default=(),
        metadata=_rule("only these classes, by name or number; [] for all", may_be_empty=True),
    )
    agnostic_nms: bool = field(
        default=False, metadata=_rule("a box also suppresses boxes of other classes")
    )
    tile_size: int = field(
        default=0,
        metadata=_rule(
            "side of the tiles that larger images are also seen in, 0 for none",
            0,
            65536,
            unit="pixels of the original",
        ),
    )
    tile_overlap: float = field(
        default=0.2,
        metadata=_rule("share of its side that a tile has in common with the next", 0, 0.9),
    )
    plots: bool = field(
        default=True, metadata=_rule("write report.html: counts, scores, example images")
    )
    max_bad_fraction: float = field(default=1.0, metadata=_BAD)


@dataclass(frozen=True)
class InferSettings(DetectionSettings):
    """Everything an inference task may be told."""

    augment: bool = field(
        default=False, metadata=_rule("see every image at three scales, one of them mirrored")
    )


@dataclass(frozen=True)
class MiningSettings(DetectionSettings):
    """Everything a mining task may be told: detection as in inference, then the scoring."""

    mining_algorithm: str = field(
        default="cald",
        metadata=_rule(
            "how images are scored",
            choices=("cald", "aldd", "diverse", "entropy", "misses", "random"),
        ),
    )
    views: tuple[str, ...] = field(
        default=("flip", "cutout", "resize", "rotate"),
        metadata=_rule(
            "perturbed views whose detections are compared",
            choices=("flip", "cutout", "resize", "rotate"),
        ),
    )
    empty_images: str = field(
        default="last",
        metadata=_rule(
            "rank of images without any detection; mixed spreads them through the others",
            choices=("first", "last", "mixed"),
        ),
    )
    balance_window: int = field(
        default=-1,
        metadata=_rule(
            "best images that cald ranks anew by class balance, about 1.2 times as many as will be "
            "labelled; -1 for 12 % of the candidates, 0 for none",
            -1,
            100000000,
            unit="images",
        ),
    )
    labelled_objects: tuple[float, ...] = field(
        default=(),
        metadata=_rule(
            "objects of each class per labelled image, in the order of the classes; [] for what "
            "training noted in the weights",
            0,
            1000000,
        ),
    )
    diverse_score: str = field(
        default="cald",
        metadata=_rule(
            "what diverse weighs against likeness: consistency or uncertainty",
            choices=("cald", "entropy"),
        ),
    )
    diverse_window: int = field(
        default=-1,
        metadata=_rule(
            "best images that diverse ranks anew, several times as many as will be labelled; -1 "
            "for a fourth of the candidates but at most 10000, 0 for none",
            -1,
            100000,
            unit="images",
        ),
    )
    miss_conf: float = field(
        default=0.05,
        metadata=_rule("least confidence of what misses takes for an overlooked object", 0, 1),
    )
    class_distribution_scores: tuple[float, ...] = field(
        default=(),
        metadata=_rule(
            "weights of the classes in aldd, in their order; 1 for those left out", 0, 1000000
        ),
    )
    seed: int = field(default=0, metadata=_SEED)

    @property
    def needs_network(self) -> bool:
        """Whether the algorithm looks at images through the network."""
        return self.mining_algorithm != "random"


KINDS = (TrainSettings, InferSettings, MiningSettings)
SECTIONS = {"training": TrainSettings, "infer": InferSettings, "mining": MiningSettings}
Settings = TypeVar("Settings", TrainSettings, InferSettings, MiningSettings)


def parse_settings(
    kind: type[Settings], *layers: Mapping[str, object]
) -> tuple[Settings, list[str]]:
    """Settings of one kind from plain mappings, a later one over an earlier one.

    `hyp` and `args_options` are unfolded into further layers (`utils.setting_layers`).
    Every value may be text ('True', '0.5', '[1, 2]', '1e-3'); None, '' and 'None' mean the
    default. Returns the settings and warnings: unknown keys with the nearest known one, options
    that are not supported yet, sizes that were rounded up. Raises TaskError(CONFIG) naming key,
    value and rule, or both keys when an option and its alias disagree within one mapping.
    """
    chosen: dict[str, object] = {}
    command: Command = "train" if kind is TrainSettings else "detect"
    unfolded, warnings = unfold_layers(layers, command=command)
    for layer in unfolded:
        chosen.update(_parse_layer(kind, layer, warnings))
    for item in fields(kind):
        value, multiple = chosen.get(item.name), item.metadata["rule"].multiple
        if isinstance(value, int) and value % multiple:
            chosen[item.name] = -(-value // multiple) * multiple
            warnings.append(
                f"{item.name} {value} is not a multiple of {multiple}: {chosen[item.name]} is used"
            )
    return kind(**chosen), list(dict.fromkeys(warnings))  # type: ignore[arg-type]


def _parse_layer(
    kind: type[Settings], layer: Mapping[str, object], warnings: list[str]
) -> dict[str, object]:
    types = get_type_hints(kind)
    rules: dict[str, Rule] = {item.name: item.metadata["rule"] for item in fields(kind)}
    chosen: dict[str, object] = {}
    given: dict[str, str] = {}
    for key, value in layer.items():
        name = _canonical(key)
        if name not in rules:
            warnings += _why_ignored(key, name, value)
            continue
        if absent(value) and not _says_none(value, rules[name]):
            continue
        converted = convert(str(key), value, types[name], rules[name])
        if name in given and converted != chosen[name]:
            raise TaskError(
                Code.CONFIG,
                f"the settings {given[name]} ({layer[given[name]]!r}) and {key} ({value!r}) "
                "are two names of one option and differ; give only one of them.",
            )
        given[name], chosen[name] = key, converted
    return chosen


def _says_none(value: object, rule: Rule) -> bool:
    return "none" in rule.choices and str(value).strip().lower() == "none" and value is not None


def flatten_sections(values: Mapping[str, object], section: str) -> dict[str, object]:
    """One flat mapping for a task from a settings file: its plain keys, then those of `section`.

    A settings file may hold the sections training, mining and infer, because some settings (the
    confidence threshold, for one) have another default in each; others' sections are left out.
    """
    flat = {key: value for key, value in values.items() if key not in SECTIONS}
    own = values.get(section)
    if own is None:
        return flat
    if not isinstance(own, Mapping):
        raise TaskError(Code.CONFIG, f"the section {section} of the settings must be a mapping.")
    return {**flat, **own}


def _canonical(key: object) -> str:
    name = str(key).strip().lstrip("-").replace("-", "_")
    return ALIASES.get(name, name)


def _known_names() -> frozenset[str]:
    return frozenset(item.name for kind in KINDS for item in fields(kind))


def _why_ignored(key: object, name: str, value: object) -> list[str]:
    if name in PLATFORM_KEYS or name in _known_names():
        return []
    if name in WITHOUT_EFFECT:
        return [f"{key} has no effect: {WITHOUT_EFFECT[name]}"]
    if name in NOT_SUPPORTED:
        switched_off = absent(value) or str(value).strip().lower() in FALSE_WORDS | {"-1", "0.0"}
        return [] if switched_off else [f"{key} is not supported yet, ignored"]
    near = difflib.get_close_matches(name, sorted(_known_names() | set(ALIASES)), n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return [f"unknown setting {key}, ignored{hint}"]
