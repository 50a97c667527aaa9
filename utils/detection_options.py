"""How detections are made, as options of a command line: v7.0's names, and the tiles."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from utils.config import InferSettings, parse_settings
from utils.errors import Code, TaskError


def add_detection_options(parser: argparse.ArgumentParser) -> None:
    """Offer the options that `detection_options` reads; all are off unless given."""
    parser.add_argument("--augment", action="store_true", help="see each image at three scales")
    parser.add_argument("--agnostic-nms", action="store_true", help="suppress across classes")
    parser.add_argument("--half", action="store_true", help="float16, on a GPU")
    parser.add_argument("--classes", nargs="+", default=[], help="only these: names or numbers")
    parser.add_argument("--tile-size", type=int, default=0, help="cut large images, pixels")
    parser.add_argument("--tile-overlap", type=float, default=InferSettings().tile_overlap)


def detection_options(options: argparse.Namespace) -> InferSettings:
    """Inference settings with what was given for `add_detection_options`, checked by their rules.

    Raises TaskError(CONFIG) for a value outside its rule.
    """
    given = {
        name: getattr(options, name)
        for name in ("augment", "agnostic_nms", "half", "classes", "tile_size", "tile_overlap")
    }
    return parse_settings(InferSettings, given)[0]


def class_indices(wanted: Sequence[str], class_names: Sequence[str]) -> tuple[int, ...] | None:
    """The indices of the classes named in `wanted`, by name or by number; None where it is empty.

    A name counts before a number. Raises TaskError(CONFIG) for a class that does not exist.
    """
    if not wanted:
        return None
    index_of = {str(number): number for number in range(len(class_names))}
    index_of.update({name: number for number, name in enumerate(class_names)})
    unknown = [word for word in wanted if word not in index_of]
    if unknown:
        raise TaskError(
            Code.CONFIG,
            f"the setting classes names {', '.join(unknown)}; it must hold names or numbers of "
            f"the model's classes: {', '.join(class_names)} (0 to {len(class_names) - 1}).",
        )
    return tuple(sorted({index_of[word] for word in wanted}))
