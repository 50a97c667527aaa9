"""What the command lines share: settings as options, notes, and run folders."""

from __future__ import annotations

import logging
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.parsers import Parser, further_settings
from settings.detect import InferSettings
from settings.flags import resolve_flags, typed
from settings.parse import parse_settings
from settings.v7_flags import Command
from utils.errors import Code, TaskError
from utils.language.catalogue import ENGLISH, language_named

log = logging.getLogger(__name__)


def language_of(arguments: Sequence[str] | None) -> str:
    """Return the language that a command line asks for, before anything else in it is read.

    `arguments` are None for those of the program; the last --language or language= counts.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    named = ENGLISH
    for word, value in zip(words, [*words, ""][1:], strict=True):
        key, equals, own = word.partition("=")
        if key == "--language" or (key == "language" and equals):
            named = own if equals else value
    return language_named(named)


def parse_detection_flags(
    parser: Parser,
    command: Command,
    arguments: Sequence[str] | None,
    *defaults: Mapping[str, object],
) -> tuple[dict[str, Any], InferSettings]:
    """Parse v7.0's flags and every setting of inference, `defaults` below them.

    Return what was given, by the names of flags and settings, and the settings. A wrong flag, or
    none that names the weights, ends the program as argparse does.
    """
    given = parser.read(arguments)
    if isinstance(given.get("imgsz"), list):
        given["shape"] = _network_shape(given["typed"]["imgsz"], given["imgsz"])
        given["imgsz"] = str(max(given["shape"]))
    flags = resolve_flags(command, given)
    own = typed(given, *further_settings(command))
    settings, notes = parse_settings(InferSettings, *defaults, flags.layer, own)
    if "weights" not in given:
        parser.error("--weights is required")
    if len(given["weights"]) != 1:
        raise TaskError(
            Code.CONFIG, "--weights names several files: ensembles are not offered, name one."
        )
    log_notes((*flags.notes, *notes))
    return given, settings


def _network_shape(flag: str, sizes: Sequence[str]) -> tuple[int, int]:
    """Return the (height, width) that one or two numbers of a flag give, in multiples of 32."""
    if len(sizes) > 2:
        raise TaskError(
            Code.CONFIG, f"{flag} has {len(sizes)} numbers: give one, or height and width."
        )
    parsed = [parse_settings(InferSettings, {flag: size}) for size in sizes]
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

    @contextmanager
    def opened(
        self, begun: Callable[[Path], bool] = lambda folder: any(folder.iterdir())
    ) -> Iterator[Path]:
        """Make the folder; after an error take it away again, unless the run has `begun` in it.

        A folder that was there before stays.
        """
        before = self.exist_ok and (self.project / self.name).is_dir()
        folder = self.make()
        try:
            yield folder
        except Exception:
            if not before and not begun(folder):
                shutil.rmtree(folder, ignore_errors=True)
            raise

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
