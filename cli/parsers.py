"""The flags of every program, and their help: nothing that takes time is imported here."""

from __future__ import annotations

import argparse
import difflib
import re
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from settings.detect import MINING_ALGORITHMS, OF_TASKS, InferSettings, MiningSettings
from settings.flags import KeepTyped, add_flags, with_dashes
from settings.rules import LANGUAGE, as_text
from settings.train import EXPORT_FORMATS, TrainSettings
from settings.v7_flags import FLAGS, Command, FlagStatus

EVALUATION = {name: getattr(TrainSettings, name) for name in ("conf_thres", "iou_thres", "max_det")}
"""The thresholds of evaluation, which are those of training and not of inference."""
KINDS: Mapping[Command, type[Any]] = {
    "train": TrainSettings,
    "val": InferSettings,
    "detect": InferSettings,
    "export": TrainSettings,
}
"""The settings that a program's flags stand for."""
SIDES = "pixels; default 640"
DETAILS: Mapping[Command, Mapping[str, str]] = {
    "train": {"name": "default exp"},
    "val": {"name": "default exp", "task": "default val"},
    "detect": {
        "name": "default exp",
        "imgsz": f"{SIDES}",
        "line_thickness": "pixels; default: what suits the image",
        "vid_stride": "frames; default 1",
    },
    "export": {
        "imgsz": SIDES,
        "batch_size": "images; default 1",
        "device": "default cpu",
        "include": f"some of {', '.join(EXPORT_FORMATS)}; default onnx",
        "topk_all": f"default {InferSettings.max_det}",
        "iou_thres": f"0 to 1; default {InferSettings.iou_thres}",
        "conf_thres": f"0 to 1; default {InferSettings.conf_thres}",
    },
}
"""Units and defaults of flags that no setting describes."""


UNKNOWN = "unrecognized arguments: "
"""How argparse begins what it says of them."""


class Parser(argparse.ArgumentParser):
    """A parser whose usage is one or two lines, and whose errors name the flag that was meant."""

    def __init__(self, program: str, usage: str, description: str | None, **more: Any) -> None:
        super().__init__(
            prog=program,
            usage=f"%(prog)s {usage}",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **more,
        )

    def read(self, arguments: Sequence[str] | None = None) -> dict[str, Any]:
        """Parse a command line, None for the program's; end the program where it is wrong."""
        return vars(self.parse_args(with_dashes(arguments)))

    def pairs(self, words: Sequence[str]) -> dict[str, object]:
        """Return settings written KEY=VALUE; end the program where one is not."""
        parts = [word.partition("=") for word in words]
        if wrong := [key for key, equals, _ in parts if not equals]:
            self.error(f"settings are written KEY=VALUE, and {wrong[0]} is not")
        return {key: value for key, _, value in parts}

    def error(self, message: str) -> NoReturn:
        """Write the short usage and the error; end the program with status 2."""
        if message.startswith(UNKNOWN):
            flags = [name for action in self._actions for name in action.option_strings]
            word = message.removeprefix(UNKNOWN).split()[0].partition("=")[0]
            near = difflib.get_close_matches(word, flags, n=1)
            message += f"; did you mean {near[0]}?" if near else ""
        super().error(f"{message}\n{self.prog} --help lists every flag")


def train_parser(program: str = "train.py") -> Parser:
    """Return the parser of train.py, or of evolve.py, which takes the number of trials too."""
    own = {
        "train.py": (
            "--data DATA [--weights FILE] [--img SIZE] [--epochs N] [flags] [KEY=VALUE ...]",
            "Train a detector: YOLOv5 v7.0's flags on a data set, or YMIR index files\n"
            "(--train, --val, --class-names).",
        ),
        "evolve.py": (
            "--trials N --data DATA [flags of train.py] [KEY=VALUE ...]",
            "Search for better hyper-parameters: many short trainings, one after the other.",
        ),
    }
    taken = {flag.setting for flag in FLAGS["train"]} | {"args_options"}
    parser = Parser(program, *own[program], epilog=_settings_text(TrainSettings, taken))
    if program == "evolve.py":  # as many by default as v7.0's generations
        parser.add_argument(
            "--trials", type=int, default=300, metavar="N", help="trainings in all (default 300)"
        )
    project = f"runs/{program.removesuffix('.py')}"
    _add_v7_flags(parser, "train", {"project": f"default {project}"})
    ymir = parser.add_argument_group("YMIR index files instead of --data")
    ymir.add_argument("--train", type=Path, metavar="FILE", help="index: image TAB annotation")
    ymir.add_argument("--val", type=Path, metavar="FILE", help="index of the validation split")
    ymir.add_argument("--class-names", nargs="+", default=[], metavar="NAME", help="in their order")
    ymir.add_argument(
        "--output", type=Path, metavar="FOLDER", help="for everything, instead of a run folder"
    )
    _add_language(parser)
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="any setting, see below")
    return parser


def val_parser() -> Parser:
    """Return the parser of val.py."""
    parser = Parser(
        "val.py",
        "--weights FILE --data DATA [--task SPLIT] [--img SIZE] [flags]",
        "Evaluate weights with the flags of YOLOv5 v7.0's val.py on a data.yaml, or on a\n"
        "YMIR index file (--index): tables and speed are printed, and go with plots and\n"
        "report.html to a run folder (runs/val/exp).",
    )
    parser.add_argument("--index", type=Path, metavar="FILE", help="a YMIR index: image TAB labels")
    parser.add_argument(
        "--coco", action="store_true", help="fail without the package of COCO's twelve metrics"
    )
    parser.add_argument(
        "--report", type=Path, metavar="FOLDER", help="write to this folder, no run folder"
    )
    parser.add_argument("--nosave", action="store_true", help="write nothing, print the tables")
    _add_v7_flags(parser, "val", {"project": "default runs/val"}, EVALUATION)
    add_settings(parser, InferSettings, further_settings("val"))
    return parser


def detect_parser() -> Parser:
    """Return the parser of detect.py."""
    parser = Parser(
        "detect.py",
        "--weights FILE --source IMAGES [--img SIZE] [--conf-thres X] [flags]",
        "Detect objects in images and videos with the flags of YOLOv5 v7.0's detect.py:\n"
        "annotated pictures, detections.json and report.html go to a run folder\n"
        "(runs/detect/exp), or only the JSON file that --output names.",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="this JSON file only, and no run folder"
    )
    _add_v7_flags(parser, "detect", {"project": "default runs/detect"})
    add_settings(parser, InferSettings, further_settings("detect"))
    return parser


def export_parser() -> Parser:
    """Return the parser of export.py."""
    parser = Parser(
        "export.py",
        "--weights FILE [--include FORMAT ...] [--img SIZE] [flags]",
        "Write networks in other programs' formats with the flags of YOLOv5 v7.0's export.py:\n"
        f"{', '.join(EXPORT_FORMATS)}.",
    )
    _add_v7_flags(parser, "export", {})
    _add_language(parser)
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="the file (default: beside the weights)"
    )
    return parser


def mine_parser() -> Parser:
    """Return the parser of mine.py."""
    parser = Parser(
        "mine.py",
        "--weights FILE --source IMAGES [--algorithm NAME] [flags] [KEY=VALUE ...]",
        "Rank images for labelling by any mining algorithm:\n\n"
        "python mine.py --weights best.pt --source photographs/ --algorithm entropy --imgsz 320",
    )
    add = parser.add_argument
    add("--weights", type=Path, required=True, metavar="FILE", help="the weights to mine with")
    add("--source", required=True, help="image, folder, pattern, or text file that lists images")
    usual = MINING_ALGORITHMS[0]
    names = ", ".join(MINING_ALGORITHMS)
    add(
        *("--algorithm",),
        choices=MINING_ALGORITHMS,
        default=usual,
        metavar="NAME",
        help=f"one of {names} (default {usual})",
    )
    add("--device", help="for example 0 or cpu (default: the first GPU if there is one)")
    _add_gpu_id(parser)
    add("--output", type=Path, metavar="FILE", help="this file only, and no run folder")
    project, name = "runs/mine", "exp"
    saved = "save result.tsv and report.html to project/name (default %(default)s)"
    add("--project", default=project, help=saved)
    add("--name", default=name, help=saved)
    add("--exist-ok", action="store_true", help="an existing project/name is used")
    add("settings", nargs="*", metavar="KEY=VALUE", help="settings in another form")
    add_settings(parser, MiningSettings, further_settings("mine"))
    return parser


def further_settings(program: str) -> list[str]:
    """Return the settings that are options of a program beside v7.0's flags."""
    if program == "mine":
        kind: type[Any] = MiningSettings
        taken = OF_TASKS - {"plots"}
    else:
        kind = InferSettings
        own = FLAGS["val" if program == "val" else "detect"]
        taken = frozenset({"args_options", "weights_dir", *(flag.setting for flag in own)})
        if program == "detect":  # an unreadable image is a warning
            taken |= {"max_bad_fraction"}
        if program == "val":  # its batches are decoded on the host
            taken |= {"decode"}
    return [item.name for item in fields(kind) if item.name not in taken]


def add_settings(parser: argparse.ArgumentParser, kind: type[Any], names: Collection[str]) -> None:
    """Add an option for each of the settings `names` of a kind."""
    group = parser.add_argument_group("further settings")
    for item in fields(kind):
        if item.name not in names:
            continue
        is_bool = isinstance(item.default, bool)  # which may stand alone, as a flag does
        alone: dict[str, Any] = {"nargs": "?", "const": True} if is_bool else {}
        flag, spec = "--" + item.name.replace("_", "-"), item.metadata["spec"]
        group.add_argument(
            *[flag] + (["--imgsz", "--img"] if item.name == "img_size" else []),
            dest=item.name,
            action=KeepTyped,
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=f"{spec.help} ({spec.details(item.default)})".replace("%", "%%"),
            **alone,
        )
    shared: dict[str, Any] = {"const": False, "default": argparse.SUPPRESS}
    group.add_argument(
        "--noplots", dest="plots", action="store_const", help="as --plots false", **shared
    )


def _add_v7_flags(
    parser: Parser,
    command: Command,
    details: Mapping[str, str],
    defaults: Mapping[str, object] | None = None,
) -> None:
    """Add v7.0's flags and --gpu-id; `details` and `defaults` are those of this program."""
    specs = {item.name: item for item in fields(KINDS[command])}
    known = {**DETAILS[command], **details}
    for flag in FLAGS[command]:
        item = specs.get(flag.setting)
        if flag.effect is FlagStatus.SETTING and item and flag.takes != "nothing":
            default = (defaults or {}).get(item.name, item.default)
            known.setdefault(flag.key, item.metadata["spec"].details(default))
    add_flags(parser, command, known)
    _add_gpu_id(parser)


def _add_gpu_id(parser: Parser) -> None:
    parser.add_argument("--gpu-id", help="as --device, for example 0; '' for the CPU")


def _add_language(parser: Parser) -> None:
    parser.add_argument(
        "--language",
        default=argparse.SUPPRESS,
        metavar="LANGUAGE",
        help=f"{LANGUAGE.help} (default en)",
    )


def _settings_text(kind: type[Any], taken: Collection[str]) -> str:
    """Return the settings that no flag stands for, as KEY=VALUE with their meaning."""
    lines = ["settings as KEY=VALUE, with their defaults:"]
    for item in fields(kind):
        if item.name not in taken:
            spec = item.metadata["spec"]
            values = "; ".join(filter(None, (spec.allowed, spec.unit)))
            told = spec.help + (f" ({values})" if values else "")
            lines.append(f"  {item.name}={as_text(item.default)}")
            lines += textwrap.wrap(told, 78, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return re.sub("%", "%%", "\n".join(lines))
