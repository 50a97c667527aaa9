"""What a training task may be told."""

from __future__ import annotations

from dataclasses import dataclass, field

from settings.options import rule
from settings.rules import ARGS, BAD, MAX_DET, PRECISION, SEED, SIZE, WEIGHTS_DIR, WORKERS


@dataclass(frozen=True)
class TrainSettings:
    """Everything a training task may be told; the hyper-parameters' names are those of v7.0."""

    model: str = field(
        default="yolov5s",
        metadata=rule("network: yolov5n, s, m, l, x, another of models/hub, or a model YAML file"),
    )
    weights: str = field(
        default="",
        metadata=rule(
            "weight file to start from; '' for what the platform hands in, else <model>.pt of "
            "weights_dir; scratch for none"
        ),
    )
    weights_dir: str = field(default="", metadata=WEIGHTS_DIR)
    download_weights: bool = field(
        default=False,
        metadata=rule("fetch the official <model>.pt if there are no weights; needs its SHA-256"),
    )
    weights_sha256: str = field(
        default="", metadata=rule("SHA-256 of the file to download, 64 hexadecimal digits")
    )
    hyp: str = field(
        default="",
        metadata=rule("hyper-parameters: a name in configs/hyps, or a YAML file; '' for none"),
    )
    args_options: str = field(default="", metadata=ARGS)
    activation: str = field(
        default="",
        metadata=rule("activation of the network, such as nn.ReLU(); '' keeps the model's own"),
    )
    img_size: int = field(default=640, metadata=SIZE)
    batch_size: int = field(
        default=16,
        metadata=rule(
            "images per step; -1 for what fits the GPU's memory (16 on a CPU)", 1, 4096, besides=-1
        ),
    )
    epochs: int = field(default=100, metadata=rule("passes over the training set", 1, 100000))
    patience: int = field(
        default=100,
        metadata=rule("epochs without a better model before the end, 0 for never", 0, 100000),
    )
    resume: str = field(
        default="auto",
        metadata=rule(
            "auto goes on with a stopped training of the same settings and data, never starts "
            "anew; or a last.pt to go on from"
        ),
    )
    freeze: tuple[int, ...] = field(
        default=(),
        metadata=rule(
            "layers that stay as they are: one number for so many first, several for exactly those",
            0,
            1000,
        ),
    )
    workers: int = field(default=-1, metadata=WORKERS)
    seed: int = field(default=0, metadata=SEED)
    cache: str = field(
        default="ram",
        metadata=rule(
            "where decoded images are kept: ram, disk (training images), val "
            "(evaluation images, in ram); none also when they do not fit",
            choices=("ram", "disk", "val", "none"),
            synonyms={"true": "ram", "false": "none"},
        ),
    )
    cache_dir: str = field(
        default="",
        metadata=rule("folder of the cache on disk; '' for the system's temporary folder"),
    )
    precision: str = field(default="auto", metadata=PRECISION)
    schedule: str = field(
        default="linear",
        metadata=rule(
            "fall of the learning rate over the epochs",
            choices=("linear", "cosine"),
            synonyms={"true": "cosine", "false": "linear"},
        ),
    )
    nominal_batch_size: int = field(
        default=64, metadata=rule("images per weight update, reached by accumulation", 1, 4096)
    )
    optimizer: str = field(
        default="sgd",
        metadata=rule("rule of the weight update", choices=("sgd", "adam", "adamw")),
    )
    lr0: float = field(default=0.01, metadata=rule("learning rate after warm-up", 0.000001, 1))
    lrf: float = field(
        default=0.01, metadata=rule("last learning rate, as a fraction of lr0", 0, 1)
    )
    momentum: float = field(
        default=0.937, metadata=rule("momentum of SGD, or the first beta of Adam", 0, 0.9999)
    )
    weight_decay: float = field(
        default=0.0005, metadata=rule("weight decay at the nominal batch", 0, 1)
    )
    warmup_epochs: float = field(
        default=3.0, metadata=rule("length of warm-up", 0, 1000, unit="epochs")
    )
    warmup_momentum: float = field(
        default=0.8, metadata=rule("momentum at the start of warm-up", 0, 0.9999)
    )
    warmup_bias_lr: float = field(
        default=0.1, metadata=rule("learning rate of biases at the start of warm-up", 0, 1)
    )
    box: float = field(default=0.05, metadata=rule("weight of the box loss", 0, 100))
    cls: float = field(default=0.5, metadata=rule("weight of the class loss", 0, 100))
    cls_pw: float = field(
        default=1.0, metadata=rule("weight of positives in the class loss", 0.01, 100)
    )
    obj: float = field(default=1.0, metadata=rule("weight of the objectness loss", 0, 100))
    obj_pw: float = field(
        default=1.0, metadata=rule("weight of positives in the objectness loss", 0.01, 100)
    )
    anchor_t: float = field(
        default=4.0, metadata=rule("largest side ratio of a box and its anchor", 1, 100)
    )
    anchors: int = field(
        default=0,
        metadata=rule("anchors per level, found anew for the boxes; 0 keeps the model's", 0, 10),
    )
    noautoanchor: bool = field(
        default=False,
        metadata=rule("keep the model's anchors even if they fit few of the boxes"),
    )
    fl_gamma: float = field(
        default=0.0, metadata=rule("focal exponent, 0 for plain cross-entropy", 0, 10)
    )
    label_smoothing: float = field(
        default=0.0, metadata=rule("share of a class target spread over the others", 0, 0.9)
    )
    hsv_h: float = field(default=0.015, metadata=rule("largest change of hue, as a share", 0, 1))
    hsv_s: float = field(
        default=0.7, metadata=rule("largest change of saturation, as a share", 0, 1)
    )
    hsv_v: float = field(
        default=0.4, metadata=rule("largest change of brightness, as a share", 0, 1)
    )
    degrees: float = field(
        default=0.0, metadata=rule("largest rotation either way", 0, 180, unit="degrees")
    )
    translate: float = field(
        default=0.1, metadata=rule("largest shift either way, as a share of the side", 0, 1)
    )
    scale: float = field(
        default=0.5, metadata=rule("largest change of size either way, as a share", 0, 0.99)
    )
    shear: float = field(
        default=0.0, metadata=rule("largest shear either way", 0, 80, unit="degrees")
    )
    perspective: float = field(
        default=0.0, metadata=rule("largest perspective coefficient", 0, 0.01)
    )
    flipud: float = field(default=0.0, metadata=rule("probability of an upside-down flip", 0, 1))
    fliplr: float = field(default=0.5, metadata=rule("probability of a left-right flip", 0, 1))
    mosaic: float = field(default=1.0, metadata=rule("probability of a mosaic of 4 images", 0, 1))
    mosaic9: float = field(
        default=0.0, metadata=rule("share of the mosaics that are made of 9 images", 0, 1)
    )
    mixup: float = field(
        default=0.0, metadata=rule("probability that a second mosaic is laid over a first", 0, 1)
    )
    copy_paste: float = field(
        default=0.0, metadata=rule("without effect: it needs outlines, the data have boxes", 0, 1)
    )
    albumentations: bool = field(
        default=False, metadata=rule("rare blur, grey and contrast by the package of that name")
    )
    close_mosaic: int = field(
        default=0, metadata=rule("last epochs that have no mosaics", 0, 100000, unit="epochs")
    )
    rect: bool = field(
        default=False, metadata=rule("batches of like shape, unshuffled and without mosaics")
    )
    image_weights: bool = field(
        default=False, metadata=rule("show images with rare and badly found classes more often")
    )
    multi_scale: bool = field(
        default=False, metadata=rule("another image size each step, half to 1.5 times img_size")
    )
    quad: bool = field(
        default=False, metadata=rule("four training images as one of twice the side, loss x 4")
    )
    single_cls: bool = field(default=False, metadata=rule("take all classes as one"))
    conf_thres: float = field(
        default=0.001, metadata=rule("least confidence of a detection in evaluation", 0, 1)
    )
    iou_thres: float = field(
        default=0.6, metadata=rule("overlap above which evaluation suppresses a box", 0, 1)
    )
    max_det: int = field(default=300, metadata=MAX_DET)
    report_conf: float = field(
        default=0.25, metadata=rule("confidence at which tp, fp and fn are counted", 0, 1)
    )
    map_metric: str = field(
        default="map50",
        metadata=rule(
            "mAP that is reported: at IoU 0.5, or averaged over 0.5 to 0.95",
            choices=("map50", "map50_95"),
            synonyms={"0.5": "map50", "0.5:0.95": "map50_95", "map50-95": "map50_95"},
        ),
    )
    noval: bool = field(
        default=False, metadata=rule("evaluate after the last epoch only; no early end then")
    )
    nosave: bool = field(
        default=False,
        metadata=rule("write the weights only when training ends; no resuming then"),
    )
    save_period: int = field(
        default=-1,
        metadata=rule(
            "also keep the weights of every so many epochs (the latest nine), -1 for none",
            -1,
            100000,
        ),
    )
    sync_bn: bool = field(
        default=False,
        metadata=rule("batch statistics over all processes of a training; one alone ignores it"),
    )
    onnx: bool = field(default=True, metadata=rule("write best.onnx beside the best weights"))
    opset: int = field(default=17, metadata=rule("operator set of the ONNX file", 11, 27))
    onnx_nms: bool = field(
        default=False, metadata=rule("suppress overlaps within the ONNX file itself")
    )
    onnx_half: bool = field(default=False, metadata=rule("float16 weights in the ONNX file"))
    onnx_simplify: bool = field(
        default=False, metadata=rule("fold constants of the ONNX file; not with onnx_half")
    )
    model_formats: tuple[str, ...] = field(
        default=(),
        metadata=rule(
            "further files of the best weights",
            choices=("torchscript", "openvino", "safetensors", "state-dict"),
            synonyms={"state_dict": "state-dict"},
            may_be_empty=True,
        ),
    )
    ymir_saved_file_patterns: str = field(
        default="",
        metadata=rule(
            "regular expressions between commas: hand over only files of such names, and weights"
        ),
    )
    plots: bool = field(default=True, metadata=rule("draw curves, images and report.html"))
    max_bad_fraction: float = field(default=0.5, metadata=BAD)
