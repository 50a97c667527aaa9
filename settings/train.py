"""What a training task may be told."""

from __future__ import annotations

from dataclasses import dataclass, field

from settings.rules import (
    ARGS,
    BAD,
    MAX_DET,
    PRECISION,
    SEED,
    SIZE,
    WEIGHTS_DIR,
    WORKERS,
    module_names,
    spec,
)

EXPORT_FORMATS = tuple(
    name.replace("_", "-") for name in module_names("exporting", prefix="format_", first="onnx")
)
"""A file `exporting/format_<name>.py` writes the format <name> (`exporting/export.py`)."""


@dataclass(frozen=True)
class TrainSettings:
    """Everything a training task may be told; the hyper-parameters' names are those of v7.0."""

    model: str = field(
        default="yolov5s",
        metadata=spec("network: yolov5n, s, m, l, x, another of models/hub, or a model YAML file"),
    )
    weights: str = field(
        default="",
        metadata=spec(
            "weight file to start from; '' for what the platform hands in, else <model>.pt of "
            "weights_dir; scratch for none"
        ),
    )
    weights_dir: str = field(default="", metadata=WEIGHTS_DIR)
    download_weights: bool = field(
        default=False,
        metadata=spec("fetch the official <model>.pt if there are no weights; needs its SHA-256"),
    )
    weights_sha256: str = field(
        default="", metadata=spec("SHA-256 of the file to download, 64 hexadecimal digits")
    )
    hyp: str = field(
        default="",
        metadata=spec("hyper-parameters: a name in configs/hyps, or a YAML file; '' for none"),
    )
    args_options: str = field(default="", metadata=ARGS)
    activation: str = field(
        default="",
        metadata=spec("activation of the network, such as nn.ReLU(); '' keeps the model's own"),
    )
    img_size: int = field(default=640, metadata=SIZE)
    batch_size: int = field(
        default=16,
        metadata=spec(
            "images per step; -1 for what fits the GPU's memory (16 on a CPU)", 1, 4096, also=-1
        ),
    )
    epochs: int = field(default=100, metadata=spec("passes over the training set", 1, 100000))
    patience: int = field(
        default=100,
        metadata=spec("early stopping: epochs without improvement, 0 for never", 0, 100000),
    )
    resume: str = field(
        default="auto",
        metadata=spec(
            "auto resumes a stopped training of the same settings and data, never starts "
            "anew; or a last.pt to resume from"
        ),
    )
    freeze: tuple[int, ...] = field(
        default=(),
        metadata=spec(
            "frozen layers: one number for so many first layers, several for exactly those",
            0,
            1000,
        ),
    )
    workers: int = field(default=-1, metadata=WORKERS)
    seed: int = field(default=0, metadata=SEED)
    cache: str = field(
        default="ram",
        metadata=spec(
            "where decoded images are kept: ram, disk (training images), val "
            "(evaluation images, in ram); none also when they do not fit",
            choices=("ram", "disk", "val", "none"),
            synonyms={"true": "ram", "false": "none"},
        ),
    )
    cache_dir: str = field(
        default="",
        metadata=spec("folder of the cache on disk; '' for the system's temporary folder"),
    )
    precision: str = field(default="auto", metadata=PRECISION)
    schedule: str = field(
        default="linear",
        metadata=spec(
            "learning-rate schedule",
            choices=("linear", "cosine"),
            synonyms={"true": "cosine", "false": "linear"},
        ),
    )
    nominal_batch_size: int = field(
        default=64,
        metadata=spec("images per optimizer step, reached by gradient accumulation", 1, 4096),
    )
    optimizer: str = field(
        default="sgd",
        metadata=spec("optimizer", choices=("sgd", "adam", "adamw")),
    )
    lr0: float = field(
        default=0.01, metadata=spec("initial learning rate, after warm-up", 0.000001, 1)
    )
    lrf: float = field(
        default=0.01, metadata=spec("final learning rate, as a fraction of lr0", 0, 1)
    )
    momentum: float = field(
        default=0.937, metadata=spec("momentum of SGD, or the first beta of Adam", 0, 0.9999)
    )
    weight_decay: float = field(
        default=0.0005, metadata=spec("weight decay at the nominal batch", 0, 1)
    )
    warmup_epochs: float = field(
        default=3.0, metadata=spec("warm-up length", 0, 1000, unit="epochs")
    )
    warmup_momentum: float = field(
        default=0.8, metadata=spec("warm-up initial momentum", 0, 0.9999)
    )
    warmup_bias_lr: float = field(
        default=0.1, metadata=spec("warm-up initial learning rate of biases", 0, 1)
    )
    box: float = field(default=0.05, metadata=spec("box loss gain", 0, 100))
    cls: float = field(default=0.5, metadata=spec("class loss gain", 0, 100))
    cls_pw: float = field(
        default=1.0, metadata=spec("positive weight of the class BCE loss", 0.01, 100)
    )
    obj: float = field(default=1.0, metadata=spec("objectness loss gain", 0, 100))
    obj_pw: float = field(
        default=1.0, metadata=spec("positive weight of the objectness BCE loss", 0.01, 100)
    )
    anchor_t: float = field(
        default=4.0,
        metadata=spec(
            "anchor-multiple threshold: largest side ratio of a box and its anchor", 1, 100
        ),
    )
    anchors: int = field(
        default=0,
        metadata=spec("anchors per output level, fitted to the boxes; 0 keeps the model's", 0, 10),
    )
    noautoanchor: bool = field(
        default=False,
        metadata=spec(
            "disable AutoAnchor: keep the model's anchors even if they fit few of the boxes"
        ),
    )
    fl_gamma: float = field(
        default=0.0, metadata=spec("focal loss gamma, 0 for plain cross-entropy", 0, 10)
    )
    label_smoothing: float = field(default=0.0, metadata=spec("label smoothing epsilon", 0, 0.9))
    hsv_h: float = field(
        default=0.015, metadata=spec("image HSV-Hue augmentation, as a fraction", 0, 1)
    )
    hsv_s: float = field(
        default=0.7, metadata=spec("image HSV-Saturation augmentation, as a fraction", 0, 1)
    )
    hsv_v: float = field(
        default=0.4, metadata=spec("image HSV-Value augmentation, as a fraction", 0, 1)
    )
    degrees: float = field(
        default=0.0, metadata=spec("image rotation, +/-", 0, 180, unit="degrees")
    )
    translate: float = field(
        default=0.1, metadata=spec("image translation, +/- fraction of the side", 0, 1)
    )
    scale: float = field(default=0.5, metadata=spec("image scale, +/- gain", 0, 0.99))
    shear: float = field(default=0.0, metadata=spec("image shear, +/-", 0, 80, unit="degrees"))
    perspective: float = field(
        default=0.0, metadata=spec("image perspective, +/- coefficient", 0, 0.01)
    )
    flipud: float = field(default=0.0, metadata=spec("probability of a vertical flip", 0, 1))
    fliplr: float = field(default=0.5, metadata=spec("probability of a horizontal flip", 0, 1))
    mosaic: float = field(default=1.0, metadata=spec("probability of a mosaic of 4 images", 0, 1))
    mosaic9: float = field(
        default=0.0, metadata=spec("fraction of the mosaics that are made of 9 images", 0, 1)
    )
    mixup: float = field(default=0.0, metadata=spec("probability of mixup of two mosaics", 0, 1))
    copy_paste: float = field(
        default=0.0,
        metadata=spec(
            "probability of copy-paste; without effect: it needs segments, the data have boxes",
            0,
            1,
        ),
    )
    albumentations: bool = field(
        default=False,
        metadata=spec("blur, grey and contrast at v7.0's rates by the package of that name"),
    )
    close_mosaic: int = field(
        default=0, metadata=spec("last epochs without mosaics", 0, 100000, unit="epochs")
    )
    rect: bool = field(
        default=False,
        metadata=spec(
            "rectangular training: batches of like shape, unshuffled and without mosaics"
        ),
    )
    image_weights: bool = field(
        default=False,
        metadata=spec(
            "weighted image selection: images with rare and badly found classes more often"
        ),
    )
    multi_scale: bool = field(
        default=False,
        metadata=spec(
            "multi-scale training: another image size each step, 0.5 to 1.5 times img_size"
        ),
    )
    quad: bool = field(
        default=False,
        metadata=spec("quad dataloader: four training images as one of twice the side, loss x 4"),
    )
    single_cls: bool = field(default=False, metadata=spec("train multi-class data as single-class"))
    conf_thres: float = field(
        default=0.001, metadata=spec("confidence threshold of evaluation", 0, 1)
    )
    iou_thres: float = field(default=0.6, metadata=spec("NMS IoU threshold of evaluation", 0, 1))
    max_det: int = field(default=300, metadata=MAX_DET)
    report_conf: float = field(
        default=0.25, metadata=spec("confidence threshold at which tp, fp and fn are counted", 0, 1)
    )
    map_metric: str = field(
        default="map50",
        metadata=spec(
            "mAP that is reported: at IoU 0.5, or averaged over 0.5 to 0.95",
            choices=("map50", "map50_95"),
            synonyms={"0.5": "map50", "0.5:0.95": "map50_95", "map50-95": "map50_95"},
        ),
    )
    noval: bool = field(
        default=False, metadata=spec("evaluate the final epoch only; no early stopping then")
    )
    nosave: bool = field(
        default=False,
        metadata=spec("save the final checkpoint only; no resume then"),
    )
    save_period: int = field(
        default=-1,
        metadata=spec(
            "save a checkpoint every so many epochs (the latest nine are kept), -1 for none",
            -1,
            100000,
        ),
    )
    sync_bn: bool = field(
        default=False,
        metadata=spec(
            "synchronised batch normalisation over all GPUs of a training; one process ignores it"
        ),
    )
    onnx: bool = field(default=True, metadata=spec("write best.onnx beside the best weights"))
    opset: int = field(default=17, metadata=spec("operator set of the ONNX file", 11, 27))
    onnx_nms: bool = field(default=False, metadata=spec("NMS within the ONNX file itself"))
    onnx_half: bool = field(default=False, metadata=spec("float16 weights in the ONNX file"))
    onnx_simplify: bool = field(
        default=False, metadata=spec("fold constants of the ONNX file; not with onnx_half")
    )
    model_formats: tuple[str, ...] = field(
        default=(),
        metadata=spec(
            "further files of the best weights",
            choices=EXPORT_FORMATS[1:],
            synonyms={"state_dict": "state-dict"},
            allow_empty=True,
        ),
    )
    ymir_saved_file_patterns: str = field(
        default="",
        metadata=spec(
            "regular expressions between commas: hand over only files of such names, and weights"
        ),
    )
    plots: bool = field(default=True, metadata=spec("draw curves, images and report.html"))
    max_bad_fraction: float = field(default=0.5, metadata=BAD)
