"""YOLOv5 v7.0 object detection: `from ymir_yolov5 import Detector`, and the command `ymir-yolov5`.

In the installed package this is its `__init__`; it imports torch once a name of it is asked for.
"""

from __future__ import annotations

import importlib
import runpy
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from api.detector import Detector as Detector
    from utils.errors import TaskError as TaskError

NAMES = {"Detector": "api.detector", "TaskError": "utils.errors"}
"""What the package offers, and the module that has it."""
COMMANDS = {
    **{name: name for name in ("train", "val", "detect", "mine", "export", "evolve")},
    "task": "start",
}
"""Commands and the programs that they run."""
USAGE = f"usage: ymir-yolov5 {{{','.join(COMMANDS)}}} [--help] ..."


def __getattr__(name: str) -> Any:
    if name not in NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_nested(NAMES[name])), name)


def main() -> None:
    """Run the program that the first word of the command line names."""
    words = sys.argv[1:]
    if not words or words[0] not in COMMANDS:
        asked = bool(words) and words[0] in ("-h", "--help")
        print(USAGE, file=sys.stdout if asked else sys.stderr)
        sys.exit(0 if asked else 2)
    sys.argv = [f"{sys.argv[0]} {words[0]}", *words[1:]]
    runpy.run_module(_nested(COMMANDS[words[0]]), run_name="__main__")


def _nested(module: str) -> str:
    """Return the name of a module: in the flat checkout it is at the top."""
    return f"{__name__}.{module}" if __spec__ and __spec__.submodule_search_locations else module


if __name__ == "__main__":
    main()
