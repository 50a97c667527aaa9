"""The folders docker/img-man/*, which images show the platform, written from the settings.

python -m tools.image_templates
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import yaml

from settings.parse import SECTIONS
from utils.atomic import write_text

FOLDER = Path(__file__).resolve().parent.parent / "docker" / "img-man"
NOTE = "# Written by python -m tools.image_templates: change the settings, not this file.\n"
RESERVED = {
    "gpu_count": (1, "GPUs of a task, 0 for the CPU"),
    "shm_size": ("16G", "shared memory of the container"),
}
TRAINING_ONLY = {"export_format": ("ark:raw", "how labels are handed over: ark, voc or coco")}
MANIFEST = """\
# Whether the image runs code that a task names (live code), and what it is for: 2 is detection.
enable_livecode: {live}
object_type: 2
"""


def templates() -> dict[str, str]:
    """Every file below docker/img-man by its relative path."""
    written = {}
    for image, full in (("live-code", False), ("baked", True)):
        written[f"{image}/manifest.yaml"] = MANIFEST.format(live="false" if full else "true")
        for section in SECTIONS:
            text = template(section, full=full)
            written[f"{image}/{section}-template.yaml"] = text
    return written


def template(section: str, *, full: bool) -> str:
    """Key, default and meaning, one setting a line; without `full` the reserved keys alone.

    A live-code image has no others: a key of the template beats the file `code_config`.
    """
    keys = RESERVED | (TRAINING_ONLY if section == "training" else {})
    lines = [_line(key, value, meaning) for key, (value, meaning) in keys.items()]
    for item in fields(SECTIONS[section]) if full else ():
        rule = item.metadata["spec"]
        value = list(item.default) if isinstance(item.default, tuple) else item.default
        extra = "".join(f"; {part}" for part in (rule.unit, rule.allowed) if part)
        lines.append(_line(item.name, value, rule.help + extra))
    return NOTE + "".join(lines)


def _line(key: str, value: object, meaning: str) -> str:
    text = yaml.safe_dump({key: value}, default_flow_style=True, width=10_000).strip()[1:-1]
    return f"{text}  # {meaning}\n"


def main() -> None:
    """Write the folders."""
    for name, text in templates().items():
        write_text(FOLDER / name, text)
    print(FOLDER)


if __name__ == "__main__":
    main()
