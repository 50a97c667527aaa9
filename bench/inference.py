"""How fast inference is beside yolov5 7.0.14: image files on disk to detections.

    python -m bench.inference --weights best.pt --data a/voc/folder --markdown build/inference.md

Both read the same files with the same weights (fused), image size, batch size, thresholds
(confidence 0.25, IoU 0.45, 300 objects) and number of threads; the first batches are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.material import BUILD, find_data, image_files, write_weights
from bench.pairs import common_arguments, contest, publish


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both at every image size and batch size and print the table."""
    parser = common_arguments(__doc__)
    parser.add_argument("--img-sizes", type=int, nargs="+", default=[320, 640])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[16, 1])
    parser.add_argument("--images", type=int, default=64, help="files in one pass")
    parser.add_argument("--passes", type=int, default=3, help="their median is one measurement")
    options = parser.parse_args(arguments)
    if options.passes < 1 or options.images < 1:
        parser.error("--passes and --images must be at least 1")
    runner, source = contest(options), find_data(options.data)
    weights = write_weights(BUILD, options.model, options.weights, source.class_names)
    for image_size in options.img_sizes:
        for batch_size in options.batch_sizes:
            job = {
                "kind": "inference",
                "model": options.model,
                "class_names": weights.class_names,
                "ours_weights": str(weights.ours.absolute()),
                "state": str(weights.state.absolute()),
                "image_size": image_size,
                "batch_size": batch_size,
                "files": image_files(source, options.images),
                "passes": options.passes,
            }
            runner.measure(f"inference, {options.model}, {image_size} px, batch {batch_size}", job)
    publish(runner.report("Inference speed"), options.markdown)


if __name__ == "__main__":
    main()
