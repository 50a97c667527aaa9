"""How fast training is beside yolov5 7.0.14: whole epochs, and the network's step alone.

    python -m bench.training_step --markdown build/training.md

Both learn from the same images with the same starting weights, image size, batch size and number
of threads. Epochs: decoding, augmentation, network, optimiser and average, without validation;
the first epoch is left out. Step: forward, loss, backward, clipping, optimiser on random batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.material import (
    BUILD,
    find_data,
    write_batches,
    write_training_data,
    write_weights,
)
from bench.pairs import common_arguments, contest, publish
from tools.sources import SourceDataset

WARMUP_STEPS = 3


def training_job(
    folder: Path,
    source: SourceDataset,
    weights: Mapping[str, object],
    *,
    image_size: int,
    batch_size: int,
    images: int,
    epochs: int,
    cache: str = "ram",
) -> dict[str, object]:
    """A job of training for both, with its data written; `weights` is what it says of those."""
    task, peer_data = write_training_data(folder, source, images)
    return {
        **weights,
        "image_size": image_size,
        "batch_size": batch_size,
        "task": str(task.absolute()),
        "peer_data": str(peer_data.absolute()),
        "training_images": len(source.splits["train"][:images]),
        "epochs": epochs,
        "cache": cache,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both and print the table."""
    parser = common_arguments(__doc__)
    parser.add_argument("--img-size", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--images", type=int, default=128, help="training images an epoch")
    parser.add_argument("--epochs", type=int, default=3, help="the first is not counted")
    parser.add_argument("--steps", type=int, default=10, help="counted steps on random batches")
    parser.add_argument("--cache", choices=("ram", "none"), default="ram")
    options = parser.parse_args(arguments)
    if options.epochs < 2:
        parser.error("--epochs must be at least 2, as the first one is not counted")
    runner, source = contest(options), find_data(options.data)
    weights = write_weights(BUILD, options.model, options.weights, source.class_names)
    if weights.class_names != source.class_names:
        parser.error(f"the weights know {weights.class_names}, the data {source.class_names}")
    about = {
        "model": options.model,
        "class_names": weights.class_names,
        "ours_weights": str(weights.ours.absolute()),
        "state": str(weights.state.absolute()),
    }
    batches = write_batches(
        BUILD / "batches.pt",
        count=WARMUP_STEPS + options.steps,
        batch_size=options.batch_size,
        image_size=options.img_size,
        classes=len(source.class_names),
    )
    job = {
        **training_job(
            BUILD,
            source,
            about,
            image_size=options.img_size,
            batch_size=options.batch_size,
            images=options.images,
            epochs=options.epochs,
            cache=options.cache,
        ),
        "batches": str(batches.absolute()),
        "warmup": WARMUP_STEPS,
    }
    size = f"{options.model}, {options.img_size} px, batch {options.batch_size}"
    runner.measure(f"training epoch, {size}", {**job, "kind": "training"})
    runner.measure(f"training step, {size}", {**job, "kind": "training_step"})
    publish(runner.report("Training speed"), options.markdown)


if __name__ == "__main__":
    main()
