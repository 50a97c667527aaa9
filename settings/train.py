"""What a training task may be told."""

from __future__ import annotations

from dataclasses import dataclass

from settings.rules import (
    ARGS,
    BAD,
    LANGUAGE,
    MAX_DET,
    PRECISION,
    SEED,
    SIZE,
    TF32,
    WEIGHTS_DIR,
    WORKERS,
    module_names,
    of_spec,
    option,
)

EXPORT_FORMATS = tuple(
    name.replace("_", "-") for name in module_names("exporting", prefix="format_", first="onnx")
)
"""A file `exporting/format_<name>.py` writes the format <name> (`exporting/export.py`)."""
DEFAULT_MODEL = "yolov5s"
"""The network without the setting `model` and without weights."""


@dataclass(frozen=True)
class TrainSettings:
    """Everything a training task may be told; the hyper-parameters' names are those of v7.0."""

    model: str = option(
        "",
        "network: yolov5n, s, m, l, x, another of models/hub, or a model YAML file; '' for that of "
        "the weights, yolov5s without any",
    )
    weights: str = option(
        "",
        "weight file to start from; '' for what the platform hands in, else <model>.pt of "
        "weights_dir; scratch for none",
    )
    weights_dir: str = of_spec("", WEIGHTS_DIR)
    download_weights: bool = option(False, "fetch the official <model>.pt if there are no weights")
    weights_sha256: str = option(
        "", "SHA-256 of the file to download, 64 hexadecimal digits; that of yolov5n.pt is known"
    )
    hyp: str = option("", "hyper-parameters: a name in configs/hyps, or a YAML file; '' for none")
    args_options: str = of_spec("", ARGS)
    activation: str = option("", "activation such as nn.ReLU(); '' keeps the model's own")
    img_size: int = of_spec(640, SIZE)
    batch_size: int = option(
        16, "images per step; -1 for what fits the GPU's memory (16 on a CPU)", 1, 4096, also=-1
    )
    epochs: int = option(100, "passes over the training set", 1, 100000)
    patience: int = option(
        100, "early stopping: epochs without improvement, 0 for never", 0, 100000
    )
    resume: str = option(
        "auto",
        "auto resumes a stopped training of the same settings and data, never starts "
        "anew; or a last.pt to resume from",
    )
    freeze: tuple[int, ...] = option(
        (), "frozen layers: one number for so many first layers, several for exactly those", 0, 1000
    )
    workers: int = of_spec(-1, WORKERS)
    seed: int = of_spec(0, SEED)
    cache: str = option(
        "auto",
        "where decoded images are kept if they fit: gpu or disk (training), val (evaluation, in "
        "ram), ram; auto is gpu on a GPU, else ram",
        choices=("auto", "gpu", "ram", "disk", "val", "none"),
        synonyms={"true": "ram", "false": "none"},
    )
    cache_dir: str = option("", "folder of the cache on disk; '' for the system's temporary folder")
    cache_share: float = option(
        0.3, "most of the free GPU memory that decoded images may take, as a fraction", 0, 0.95
    )
    augment_on: str = option(
        "auto",
        "where training images are augmented: host (CPU, OpenCV) or device (that of the training); "
        "auto is device on a GPU",
        choices=("auto", "device", "host"),
    )
    precision: str = of_spec("auto", PRECISION)
    tf32: bool = of_spec(False, TF32)
    compile: str = option(
        "auto",
        "the training step compiled, and on a GPU recorded as CUDA graphs; auto does what pays",
        choices=("auto", "true", "false"),
        synonyms={"yes": "true", "no": "false"},
    )
    schedule: str = option(
        "linear",
        "learning-rate schedule",
        choices=("linear", "cosine"),
        synonyms={"true": "cosine", "false": "linear"},
    )
    nominal_batch_size: int = option(
        64, "images per optimizer step, reached by gradient accumulation", 1, 4096
    )
    optimizer: str = option("sgd", "optimizer", choices=("sgd", "adam", "adamw"))
    lr0: float = option(0.01, "initial learning rate, after warm-up", 0.000001, 1)
    lrf: float = option(0.01, "final learning rate, as a fraction of lr0", 0, 1)
    momentum: float = option(0.937, "momentum of SGD, or the first beta of Adam", 0, 0.9999)
    weight_decay: float = option(0.0005, "weight decay at the nominal batch", 0, 1)
    batch_norm_momentum: float = option(
        0.0,
        "part of a batch in the batch-norm statistics; 0: the model's own, 0.03 as in v7.0",
        0,
        1,
    )
    warmup_epochs: float = option(3.0, "warm-up length", 0, 1000, unit="epochs")
    warmup_momentum: float = option(0.8, "warm-up initial momentum", 0, 0.9999)
    warmup_bias_lr: float = option(0.1, "warm-up initial learning rate of biases", 0, 1)
    box: float = option(0.05, "box loss gain", 0, 100)
    cls: float = option(0.5, "class loss gain", 0, 100)
    cls_pw: float = option(1.0, "positive weight of the class BCE loss", 0.01, 100)
    obj: float = option(1.0, "objectness loss gain", 0, 100)
    obj_pw: float = option(1.0, "positive weight of the objectness BCE loss", 0.01, 100)
    anchor_t: float = option(4.0, "anchor-multiple threshold: side ratio of box and anchor", 1, 100)
    anchors: int = option(
        0, "anchors per output level, fitted to the boxes; 0 keeps the model's", 0, 10
    )
    noautoanchor: bool = option(False, "disable AutoAnchor: keep the model's anchors")
    fl_gamma: float = option(0.0, "focal loss gamma, 0 for plain cross-entropy", 0, 10)
    label_smoothing: float = option(0.0, "label smoothing epsilon", 0, 0.9)
    hsv_h: float = option(0.015, "image HSV-Hue augmentation, as a fraction", 0, 1)
    hsv_s: float = option(0.7, "image HSV-Saturation augmentation, as a fraction", 0, 1)
    hsv_v: float = option(0.4, "image HSV-Value augmentation, as a fraction", 0, 1)
    degrees: float = option(0.0, "image rotation, +/-", 0, 180, unit="degrees")
    translate: float = option(0.1, "image translation, +/- fraction of the side", 0, 1)
    scale: float = option(0.5, "image scale, +/- gain", 0, 0.99)
    shear: float = option(0.0, "image shear, +/-", 0, 80, unit="degrees")
    perspective: float = option(0.0, "image perspective, +/- coefficient", 0, 0.01)
    flipud: float = option(0.0, "probability of a vertical flip", 0, 1)
    fliplr: float = option(0.5, "probability of a horizontal flip", 0, 1)
    mosaic: float = option(1.0, "probability of a mosaic of 4 images", 0, 1)
    mosaic9: float = option(0.0, "fraction of the mosaics that are made of 9 images", 0, 1)
    mixup: float = option(0.0, "probability of mixup of two mosaics", 0, 1)
    copy_paste: float = option(
        0.0, "probability of copy-paste; without effect: data have no segments", 0, 1
    )
    albumentations: bool = option(False, "blur, grey and contrast by the package of that name")
    close_mosaic: int = option(0, "last epochs without mosaics", 0, 100000, unit="epochs")
    rect: bool = option(
        False, "rectangular training: batches of like shape, unshuffled and without mosaics"
    )
    image_weights: bool = option(
        False, "weighted image selection: images with rare and badly found classes more often"
    )
    multi_scale: bool = option(
        False, "multi-scale training: another image size each step, 0.5 to 1.5 times img_size"
    )
    quad: bool = option(
        False, "quad dataloader: four training images as one of twice the side, loss x 4"
    )
    single_cls: bool = option(False, "train multi-class data as single-class")
    conf_thres: float = option(0.001, "confidence threshold of evaluation", 0, 1)
    iou_thres: float = option(0.6, "NMS IoU threshold of evaluation", 0, 1)
    max_det: int = of_spec(300, MAX_DET)
    report_conf: float = option(0.25, "confidence threshold of the counts tp, fp and fn", 0, 1)
    map_metric: str = option(
        "map50",
        "mAP that is reported: at IoU 0.5, or averaged over 0.5 to 0.95",
        choices=("map50", "map50_95"),
        synonyms={"0.5": "map50", "0.5:0.95": "map50_95", "map50-95": "map50_95"},
    )
    noval: bool = option(False, "evaluate the final epoch only; no early stopping then")
    nosave: bool = option(False, "save the final checkpoint only; no resume then")
    save_period: int = option(
        -1, "save a checkpoint every so many epochs (the last nine stay), -1 for none", -1, 100000
    )
    sync_bn: bool = option(False, "synchronised batch normalisation over the GPUs of a training")
    onnx: bool = option(True, "write best.onnx beside the best weights")
    onnx_dynamic: bool = option(
        False, "any batch and size in the ONNX and OpenVINO files; OpenCV 4 reads fixed ones only"
    )
    opset: int = option(17, "operator set of the ONNX file", 11, 27)
    onnx_nms: bool = option(False, "NMS within the ONNX file itself")
    onnx_half: bool = option(False, "float16 weights in the ONNX file")
    onnx_simplify: bool = option(False, "fold constants of the ONNX file; not with onnx_half")
    model_formats: tuple[str, ...] = option(
        (),
        "further files of the best weights",
        choices=EXPORT_FORMATS[1:],
        synonyms={"state_dict": "state-dict"},
        allow_empty=True,
    )
    ymir_saved_file_patterns: str = option(
        "", "regular expressions between commas: hand over only files of such names, and weights"
    )
    loggers: tuple[str, ...] = option(
        (),
        "loggers beside TensorBoard, each by its own package: files in the output folder, nothing "
        "is sent",
        choices=("mlflow", "wandb"),
        allow_empty=True,
    )
    plots: bool = option(True, "draw curves, images and report.html")
    max_bad_fraction: float = of_spec(0.5, BAD)
    language: str = of_spec("en", LANGUAGE)
