"""Write the network in another program's format, and prove that the file computes the same.

python export.py --weights best.pt --include onnx --nms --half
python export.py --weights best.pt --include torchscript openvino safetensors state-dict
"""

from __future__ import annotations

if __name__ == "__main__":
    from cli.parsers import export_parser
    from utils.shutdown import listen_for_interrupts

    listen_for_interrupts()  # before the seconds that the imports take
    export_parser().read()  # so that help and a mistyped flag do not wait for them either

import sys
from collections.abc import Sequence
from pathlib import Path

from cli.export import ExportCommand, parse_export_command
from cli.options import language_of
from exporting.export import FORMATS, export
from models.checkpoint import build_detector, load_checkpoint
from utils.atomic import fitting_name
from utils.command import run_command
from utils.errors import Code, TaskError
from utils.language.catalogue import Catalogue, catalogue


def main(arguments: Sequence[str] | None = None) -> int:
    """Export the weights named on the command line; the exit status is 0, or 1 if a file failed."""
    texts = catalogue(language_of(arguments))
    try:
        request = parse_export_command(arguments)
    except TaskError as error:
        return _failed(error, texts)
    return max(_export_weights(weights, request, texts) for weights in request.weights)


def _failed(error: TaskError, texts: Catalogue) -> int:
    print(texts.text(error.sentence), file=sys.stderr)
    return 1


def _export_weights(weights: Path, request: ExportCommand, texts: Catalogue) -> int:
    """Write all formats of one weight file; a format that fails does not stop the others."""
    status = 0
    try:
        checkpoint = load_checkpoint(weights)
        detector = build_detector(checkpoint)
        options = request.options_for(checkpoint.class_names, detector.config.input_multiple)
    except TaskError as error:
        return _failed(error, texts)
    for form in request.formats:
        path = request.output or weights.with_name(
            fitting_name(weights.parent, weights.stem, FORMATS[form].suffix)
        )
        try:
            if path.resolve() == weights.resolve():
                raise TaskError(
                    Code.CONFIG,
                    f"{path} is the weight file itself; name another file with --output.",
                )
            done = export(detector, form, path=path, options=options)
        except TaskError as error:
            status = _failed(error, texts)
        else:
            told = f"; {FORMATS[form].advice}" if FORMATS[form].advice else ""
            line = f"{path}: {detector.nc} classes, largest difference {done.difference:.1e}{told}"
            print(texts.text(line))
    return status


if __name__ == "__main__":
    raise SystemExit(run_command(main))
