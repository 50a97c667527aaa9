"""The page docs/compatibility.md, written from the tables that the program itself goes by.

python -m tools.compatibility_page
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import Field, fields
from pathlib import Path

from settings.parse import ALIASES, KINDS, NOT_SUPPORTED, WITHOUT_EFFECT, read_hyp, stock_sets
from settings.train import TrainSettings
from settings.v7_flags import FLAGS, Command, Flag, FlagStatus
from utils.atomic import write_text

PAGE = Path(__file__).resolve().parent.parent / "docs" / "compatibility.md"
SCRIPTS: dict[Command, tuple[str, str]] = {
    "train": ("train.py", "train.py"),
    "val": ("val.py", "val.py"),
    "detect": ("detect.py", "detect.py"),
    "export": ("export.py", "export.py"),
}
IN_TASKS: tuple[Command, ...] = ("train", "detect")
"""Commands whose flags a task may carry."""
INTRODUCTION = """\
# Compatibility with YOLOv5 v7.0

`python -m tools.compatibility_page` writes this page from the tables that the program goes by; a
test keeps the two equal.

The flags below work on the command lines of `train.py`, `val.py` and `detect.py`, and in the
setting `args_options` of a YMIR task: those of train.py in a training, those of detect.py in
mining and inference. The string is split as a shell would split it and never given to one. In a
task, a flag that belongs to a command line alone has no effect; a warning names it and says why.
A setting may also be given under its own name, in a task, in `code_config`, or as `KEY=VALUE`
after the flags of `train.py`.

What counts more, from least to most: the defaults of
[configs/default.yaml](../configs/default.yaml); the hyper-parameter set that `hyp` names; the
file `code_config`; the task's own keys; the flags in its `args_options`.
"""
DATA = """\
## Data sets

A `data.yaml` is read as v7.0 reads it, with these differences:

| key | here |
|---|---|
| `path` | relative to the file, or else to the working directory |
| `train`, `val`, `test` | a folder, a text file of paths, an image, or a list of these |
| `names` | a list, or numbers with names; no name twice |
| `nc` | not looked at, as in v7.0 |
| `download` | never done: where images are missing, a sentence says so |

Boxes that reach over the edge are clipped, boxes without area and repeated ones left out, and
counted; a polygon counts as its upright box, and only in its own line. An image whose label file
makes no sense is left out and named.
"""
FILES = """\
## Checkpoints

| file | read |
|---|---|
| `.pt` of this program | yes |
| `.pt` of YOLOv5 v6 and v7.0, stripped or not, float16 or 32 | yes, and nothing in it is run |
| segmentation, classification, TorchScript, ONNX, other exports | no; refused with the reason |
| `.pt` in the format before zip files | no; refused |

Networks whose anchors were searched state them in pixels in the checkpoint's model definition as
well as in its weights.
"""


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for command, (theirs, ours) in SCRIPTS.items():
        title = theirs if theirs == ours else f"{theirs}, here {ours}"
        rows = [(_names(flag), *_fate(flag, command)) for flag in FLAGS[command]]
        parts.append(f"## {title}\n\n" + _table(("flag", "here", "what it does, or why not"), rows))
    parts += [_hyper_parameters(), DATA, FILES]
    return "\n".join(parts)


def _names(flag: Flag) -> str:
    return " ".join(f"`{name}`" for name in flag.names)


def _fate(flag: Flag, command: Command) -> tuple[str, str]:
    if flag.effect is FlagStatus.IGNORED:
        return "no effect", flag.says
    if flag.effect is FlagStatus.REFUSED:
        return "refused", flag.says
    if flag.effect is FlagStatus.COMMAND:
        without = f"; without effect in a task: {flag.in_a_task}"
        return "yes", flag.says + (without if command in IN_TASKS else "")
    known = {item.name for kind in KINDS for item in fields(kind)}
    if flag.setting not in known:
        return "not yet", f"{flag.says}; a warning says so"
    value = "" if flag.takes != "nothing" or flag.gives is True else f": {_text(flag.gives)}"
    return f"`{flag.setting}{value}`", flag.says


def _hyper_parameters() -> str:
    settings = {item.name: item for item in fields(TrainSettings)}
    names = [*read_hyp("scratch-low"), "anchors", "label_smoothing", *WITHOUT_EFFECT]
    rows = [(f"`{name}`", *_hyper_parameter(name, settings.get(name))) for name in names]
    sets = ", ".join(f"`{name}`" for name in stock_sets())
    aliases = ", ".join(f"`{theirs}` is `{ours}`" for theirs, ours in sorted(ALIASES.items()))
    return (
        "## Hyper-parameters\n\n"
        f"Sets by name: {sets}. A file of v7.0 is named by its path; its `anchors` is rounded.\n\n"
        + _table(("name", "default", "what it is"), rows)
        + f"\nOther names of settings: {aliases}.\n"
    )


def _hyper_parameter(name: str, setting: Field | None) -> tuple[str, str]:
    if setting is not None:
        rule = setting.metadata["spec"]
        unit = f" [{rule.unit}]" if rule.unit else ""
        return _text(setting.default), f"{rule.help}{unit}; {rule.allowed}"
    if name in WITHOUT_EFFECT:
        return "-", f"no effect: {WITHOUT_EFFECT[name]}"
    assert name in NOT_SUPPORTED, name
    return "0", "not yet; a warning says so unless it is 0"


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def lines() -> Iterator[str]:
        yield "| " + " | ".join(heading) + " |"
        yield "|" + "---|" * len(heading)
        for row in rows:
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"

    return "\n".join(lines()) + "\n"


def main() -> None:
    """Write the page."""
    write_text(PAGE, page())
    print(PAGE)


if __name__ == "__main__":
    main()
