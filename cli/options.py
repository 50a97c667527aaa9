"""What the command lines share: settings as options, notes, and run folders."""

from __future__ import annotations

import argparse
import logging
import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from settings.detect import InferSettings
from settings.flags import add_flags, resolve_flags, with_dashes
from settings.parse import parse_settings
from settings.v7_flags import FLAGS, Command
from utils.errors import Code, TaskError

log = logging.getLogger(__name__)


def add_command_flags(parser: argparse.ArgumentParser, command: Command) -> None:
    """Add v7.0's flags of a command, and --gpu-id."""
    add_flags(parser, command)
    parser.add_argument("--gpu-id", help="for example 0; '' for the CPU")


def add_settings(
    parser: argparse.ArgumentParser, kind: type[Any], taken: Collection[str]
) -> list[str]:
    """Add an option for every setting of a kind that is not `taken`, and return their names."""
    group = parser.add_argument_group("further settings")
    further = [item for item in fields(kind) if item.name not in taken]
    for item in further:
        is_bool = isinstance(item.default, bool)  # which may stand alone, as a flag does
        alone: dict[str, Any] = {"nargs": "?", "const": True} if is_bool else {}
        names = ["--" + item.name.replace("_", "-")]
        group.add_argument(
            *names + (["--imgsz", "--img"] if item.name == "img_size" else []),
            dest=item.name,
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=item.metadata["spec"].help.replace("%", "%%"),
            **alone,
        )
    shared: dict[str, Any] = {"const": False, "default": argparse.SUPPRESS}
    group.add_argument(
        "--noplots", dest="plots", action="store_const", help="as --plots false", **shared
    )
    return [item.name for item in further]


def parse_detection_flags(
    parser: argparse.ArgumentParser,
    command: Command,
    arguments: Sequence[str] | None,
    *defaults: Mapping[str, object],
) -> tuple[dict[str, Any], InferSettings]:
    """Parse v7.0's flags and every setting of inference, `defaults` below them.

    Return what was given, by the names of flags and settings, and the settings. A wrong flag, or
    none that names the weights, ends the program as argparse does.
    """
    add_command_flags(parser, command)
    taken = {"args_options", "weights_dir", *(flag.setting for flag in FLAGS[command])}
    if command == "detect":  # an unreadable image is a warning
        taken.add("max_bad_fraction")
    else:  # batches of evaluation are decoded on the host
        taken.add("decode")
    further = add_settings(parser, InferSettings, taken)
    given = vars(parser.parse_args(with_dashes(arguments)))
    if isinstance(given.get("imgsz"), list):
        given["shape"] = _network_shape(given["imgsz"])
        given["imgsz"] = str(max(given["shape"]))
    flags = resolve_flags(command, given)
    settings, notes = parse_settings(
        InferSettings,
        *defaults,
        flags.settings,
        {name: given[name] for name in further if name in given},
    )
    if "weights" not in given:
        parser.error("--weights is required")
    if len(given["weights"]) != 1:
        raise TaskError(
            Code.CONFIG, "--weights names several files: ensembles are not offered, name one."
        )
    log_notes((*flags.notes, *notes))
    return given, settings


def _network_shape(sizes: Sequence[str]) -> tuple[int, int]:
    """Return the (height, width) that one or two numbers of --imgsz give, in multiples of 32."""
    if len(sizes) > 2:
        raise TaskError(
            Code.CONFIG, f"--imgsz has {len(sizes)} numbers: give one, or height and width."
        )
    parsed = [parse_settings(InferSettings, {"imgsz": size}) for size in sizes]
    log_notes(note for _, notes in parsed for note in notes)
    return parsed[0][0].img_size, parsed[-1][0].img_size


def as_typed(*words: object) -> str:
    """Return a command as it is typed where this runs: `words` are those in the checkout."""
    text = shlex.join(map(str, words))
    if package := __name__.removesuffix("cli.options"):  # the installed one
        text = re.sub(r"^python (\w+)\.py", r"ymir-yolov5 \1", text)
        text = re.sub(r"^python -m ", f"python -m {package}", text)
    return text


def log_next(what: str, *words: object) -> None:
    """Log the command that comes next, `as_typed`."""
    log.info("next, %s: %s", what, as_typed(*words))


def log_notes(notes: Iterable[str]) -> None:
    """Log what had no effect, or another than was asked for."""
    for note in notes:
        log.warning("note: %s", note)


@dataclass(frozen=True)
class RunName:
    """A run folder (exp, exp2, ... as in v7.0), not made before the run can start."""

    project: Path
    name: str = "exp"
    exist_ok: bool = False

    @classmethod
    def of_flags(cls, given: Mapping[str, object], project: str) -> RunName:
        """Return the name that --project, --name and --exist-ok give."""
        folder, name = given.get("project", project), given.get("name") or "exp"
        return cls(Path(str(folder)), str(name), "exist_ok" in given)

    def make(self) -> Path:
        """Make and return `project`/`name`, or that with the next free number from 2 on.

        With `exist_ok` an existing folder is used. Two programs that start at the same time get
        different folders.
        """
        number = 1
        while True:
            folder = self.project / (self.name if number == 1 else f"{self.name}{number}")
            try:
                folder.mkdir(parents=True, exist_ok=self.exist_ok)
            except FileExistsError:
                number += 1
            else:
                return folder
