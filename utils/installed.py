"""Which packages of `extra-requirements.txt` no program here starts without, and which are missing.

python -m utils.installed       says so, with status 1 if one is missing
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.util import find_spec

NEEDED = {
    "torch": "torch",
    "cv2": "opencv-python-headless",
    "numpy": "numpy",
    "yaml": "PyYAML",
    "tqdm": "tqdm",
    "matplotlib": "matplotlib",
    "PIL": "pillow",
    "defusedxml": "defusedxml",
    "msgspec": "msgspec",
}
"""The package of each module. Nothing here imports them: this file has to run without them."""


def complaint(modules: Iterable[str] = tuple(NEEDED)) -> str:
    """One sentence that names the packages of `modules` that are missing; '' if none is."""
    missing = [NEEDED.get(module, module) for module in modules if find_spec(module) is None]
    if not missing:
        return ""
    return (
        f"{sys.executable} has no {', '.join(missing)}: install what this repository needs with "
        f"`{sys.executable} -m pip install -r extra-requirements.txt`, or start it with a Python "
        "that has it."
    )


if __name__ == "__main__":
    sys.exit(complaint() or 0)
