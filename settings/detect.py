"""What inference and mining tasks may be told."""

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
    WEIGHTS,
    WEIGHTS_DIR,
    WORKERS,
    module_names,
    of_spec,
    option,
)

MINING_ALGORITHMS = module_names("mining", prefix="mining_", first="balanced")
"""A file `mining/mining_<name>.py` is the algorithm <name> (`mining/registry.py`)."""
BACKENDS = module_names(
    "inference/backends", first="onnxruntime", skip=("base", "choice", "parity")
)
OF_TASKS = frozenset(
    {"weights", "weights_dir", "args_options", "plots", "max_bad_fraction", "mining_algorithm"}
)
"""Settings that are arguments in the API and mine.py, or of a task's files."""
WITHOUT_NETWORK = frozenset({"random"})
"""Mining algorithms that need neither weights nor a GPU."""


@dataclass(frozen=True)
class DetectionSettings:
    """What inference and mining both may be told: how objects are found."""

    weights: str = of_spec("", WEIGHTS)
    weights_dir: str = of_spec("", WEIGHTS_DIR)
    args_options: str = of_spec("", ARGS)
    img_size: int = of_spec(640, SIZE)
    batch_size: int = option(16, "images per forward pass", 1, 4096)
    workers: int = of_spec(-1, WORKERS)
    conf_thres: float = option(0.25, "confidence threshold", 0, 1)
    iou_thres: float = option(0.45, "NMS IoU threshold", 0, 1)
    max_det: int = of_spec(300, MAX_DET)
    precision: str = of_spec("auto", PRECISION)
    tf32: bool = of_spec(False, TF32)
    engine: str = option(
        "torch",
        "inference backend; auto takes the fastest that is installed and agrees with torch",
        choices=("torch", "auto", *BACKENDS),
        synonyms={"ort": "onnxruntime", "pytorch": "torch", "trt": "tensorrt"},
    )
    decode: str = option(
        "cpu",
        "what decodes JPEG images; nvjpeg does on the GPU, some pixels differ by a few levels",
        choices=("cpu", "nvjpeg"),
    )
    half: bool = option(False, "half precision (float16) on a GPU, whatever precision says")
    classes: tuple[str, ...] = option(
        (), "filter by class, by name or number; [] for all", allow_empty=True
    )
    agnostic_nms: bool = option(False, "class-agnostic NMS")
    tile_size: int = option(
        0,
        "side of the tiles of larger images, beside the whole image; 0 for none",
        0,
        65536,
        unit="pixels of the original",
    )
    tile_overlap: float = option(0.2, "overlap of neighbouring tiles, as a fraction", 0, 0.9)
    plots: bool = option(True, "write report.html: counts, scores, example images")
    max_bad_fraction: float = of_spec(1.0, BAD)
    language: str = of_spec("en", LANGUAGE)


@dataclass(frozen=True)
class InferSettings(DetectionSettings):
    """Everything an inference task may be told."""

    augment: bool = option(False, "test-time augmentation: three scales, one of them flipped")


@dataclass(frozen=True)
class OutputOptions:
    """Files of a detection run; the names are those of v7.0's flags.

    `line_thickness` is in pixels, None for one that suits the image.
    """

    save_images: bool = True
    save_txt: bool = False
    save_conf: bool = False
    save_crop: bool = False
    save_csv: bool = False
    view_img: bool = False
    line_thickness: int | None = None
    hide_labels: bool = False
    hide_conf: bool = False


@dataclass(frozen=True)
class MiningSettings(DetectionSettings):
    """Everything a mining task may be told: detection as in inference, then the scoring."""

    mining_algorithm: str = option("balanced", "mining algorithm", choices=MINING_ALGORITHMS)
    views: tuple[str, ...] = option(
        ("flip", "cutout", "resize", "rotate"),
        "perturbed views whose detections are compared",
        choices=("flip", "cutout", "resize", "rotate"),
    )
    empty_images: str = option(
        "last",
        "rank of images without detections; mixed spreads them through the others",
        choices=("first", "last", "mixed"),
    )
    budget: int = option(
        0, "images that will be labelled, 0 where unknown", 0, 100000000, unit="images"
    )
    balance_window: int = option(
        0,
        "window of CALD's second stage (class balance); 0 for 1.2 times the budget, so none where "
        "that is unknown, -1 for none",
        -1,
        100000000,
        unit="images",
    )
    balance_choice: str = option(
        "divergence",
        "order of CALD's second stage: by divergence from the labelled classes, or greedy with "
        "counts that follow each choice",
        choices=("divergence", "greedy"),
    )
    labelled_objects: tuple[float, ...] = option(
        (),
        "objects of each class per labelled image, in the order of the classes; [] for what "
        "training noted in the weights",
        0,
        1000000,
    )
    diverse_score: str = option(
        "entropy",
        "score that diverse weighs against similarity: uncertainty or consistency",
        choices=("entropy", "cald"),
    )
    diverse_window: int = option(
        -1,
        "window of the farthest-first order of balanced and diverse, several times the budget; "
        "-1 for all candidates (balanced) or a fourth of them (diverse) but at most 10000 or 4 "
        "times the budget, 0 for none",
        -1,
        100000,
        unit="images",
    )
    least_distance: float = option(
        0.0,
        "least distance, 0 to 1, between the images that balanced and diverse choose; nearer ones "
        "come last in the window",
        0,
        1,
    )
    miss_conf: float = option(0.05, "confidence threshold of false negatives in misses", 0, 1)
    class_distribution_scores: tuple[float, ...] = option(
        (), "weights of the classes in aldd, in their order; 1 for those left out", 0, 1000000
    )
    seed: int = of_spec(0, SEED)

    @property
    def needs_network(self) -> bool:
        """Whether the algorithm needs a forward pass."""
        return self.mining_algorithm not in WITHOUT_NETWORK
