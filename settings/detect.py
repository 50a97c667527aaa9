"""What inference and mining tasks may be told."""

from __future__ import annotations

from dataclasses import dataclass, field

from settings.options import rule
from settings.rules import (
    ARGS,
    BAD,
    MAX_DET,
    PRECISION,
    SEED,
    SIZE,
    WEIGHTS,
    WEIGHTS_DIR,
    WORKERS,
)


@dataclass(frozen=True)
class DetectionSettings:
    """What inference and mining both may be told: how objects are found."""

    weights: str = field(default="", metadata=WEIGHTS)
    weights_dir: str = field(default="", metadata=WEIGHTS_DIR)
    args_options: str = field(default="", metadata=ARGS)
    img_size: int = field(default=640, metadata=SIZE)
    batch_size: int = field(default=16, metadata=rule("images per forward pass", 1, 4096))
    workers: int = field(default=-1, metadata=WORKERS)
    conf_thres: float = field(default=0.25, metadata=rule("least confidence kept", 0, 1))
    iou_thres: float = field(
        default=0.45, metadata=rule("overlap above which a box is suppressed", 0, 1)
    )
    max_det: int = field(default=300, metadata=MAX_DET)
    precision: str = field(default="auto", metadata=PRECISION)
    engine: str = field(
        default="torch",
        metadata=rule(
            "program that computes the network; auto takes the fastest that is there and agrees",
            choices=("torch", "auto", "onnxruntime", "openvino", "tensorrt"),
            synonyms={"ort": "onnxruntime", "pytorch": "torch", "trt": "tensorrt"},
        ),
    )
    half: bool = field(
        default=False, metadata=rule("compute in float16 on a GPU, whatever precision says")
    )
    classes: tuple[str, ...] = field(
        default=(),
        metadata=rule("only these classes, by name or number; [] for all", may_be_empty=True),
    )
    agnostic_nms: bool = field(
        default=False, metadata=rule("a box also suppresses boxes of other classes")
    )
    tile_size: int = field(
        default=0,
        metadata=rule(
            "side of the tiles that larger images are also seen in, 0 for none",
            0,
            65536,
            unit="pixels of the original",
        ),
    )
    tile_overlap: float = field(
        default=0.2,
        metadata=rule("share of its side that a tile has in common with the next", 0, 0.9),
    )
    plots: bool = field(
        default=True, metadata=rule("write report.html: counts, scores, example images")
    )
    max_bad_fraction: float = field(default=1.0, metadata=BAD)


@dataclass(frozen=True)
class InferSettings(DetectionSettings):
    """Everything an inference task may be told."""

    augment: bool = field(
        default=False, metadata=rule("see every image at three scales, one of them mirrored")
    )


@dataclass(frozen=True)
class MiningSettings(DetectionSettings):
    """Everything a mining task may be told: detection as in inference, then the scoring."""

    mining_algorithm: str = field(
        default="cald",
        metadata=rule(
            "how images are scored",
            choices=("cald", "aldd", "diverse", "entropy", "misses", "random"),
        ),
    )
    views: tuple[str, ...] = field(
        default=("flip", "cutout", "resize", "rotate"),
        metadata=rule(
            "perturbed views whose detections are compared",
            choices=("flip", "cutout", "resize", "rotate"),
        ),
    )
    empty_images: str = field(
        default="last",
        metadata=rule(
            "rank of images without any detection; mixed spreads them through the others",
            choices=("first", "last", "mixed"),
        ),
    )
    balance_window: int = field(
        default=-1,
        metadata=rule(
            "best images that cald ranks anew by class balance, about 1.2 times as many as will be "
            "labelled; -1 for 12 % of the candidates, 0 for none",
            -1,
            100000000,
            unit="images",
        ),
    )
    labelled_objects: tuple[float, ...] = field(
        default=(),
        metadata=rule(
            "objects of each class per labelled image, in the order of the classes; [] for what "
            "training noted in the weights",
            0,
            1000000,
        ),
    )
    diverse_score: str = field(
        default="cald",
        metadata=rule(
            "what diverse weighs against likeness: consistency or uncertainty",
            choices=("cald", "entropy"),
        ),
    )
    diverse_window: int = field(
        default=-1,
        metadata=rule(
            "best images that diverse ranks anew, several times as many as will be labelled; -1 "
            "for a fourth of the candidates but at most 10000, 0 for none",
            -1,
            100000,
            unit="images",
        ),
    )
    miss_conf: float = field(
        default=0.05,
        metadata=rule("least confidence of what misses takes for an overlooked object", 0, 1),
    )
    class_distribution_scores: tuple[float, ...] = field(
        default=(),
        metadata=rule(
            "weights of the classes in aldd, in their order; 1 for those left out", 0, 1000000
        ),
    )
    seed: int = field(default=0, metadata=SEED)

    @property
    def needs_network(self) -> bool:
        """Whether the algorithm looks at images through the network."""
        return self.mining_algorithm != "random"
