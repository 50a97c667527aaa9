"""Command lines of YOLOv5 v7.0 read into settings, by the tables of `settings.v7_flags`."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from settings.convert import absent
from settings.v7_flags import FLAGS, Command, FlagStatus
from utils.errors import Code, TaskError


@dataclass(frozen=True)
class ParsedFlags:
    """What a command line says: settings by name, the command's own flags by name, and notes."""

    settings: dict[str, object] = field(default_factory=dict)
    command: dict[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class _Parser(argparse.ArgumentParser):
    """A parser that raises TaskError(CONFIG) instead of ending the program."""

    def error(self, message: str) -> NoReturn:
        raise TaskError(
            Code.CONFIG,
            f"the flags of {self.prog} cannot be understood: {message}; compare them "
            "with docs/compatibility.md.",
        )


def add_flags(parser: argparse.ArgumentParser, command: Command) -> None:
    """Give a parser every v7.0 flag of a command; what is not given leaves no attribute."""
    for flag in FLAGS[command]:
        done = flag.effect in (FlagStatus.SETTING, FlagStatus.COMMAND)
        text = flag.says if done else f"({flag.effect.name.lower()}) {flag.says}"
        shared: dict[str, Any] = {"dest": flag.key, "default": argparse.SUPPRESS, "help": text}
        if flag.takes == "nothing":
            parser.add_argument(*flag.names, action="store_const", const=flag.gives, **shared)
        elif flag.takes == "value or nothing":
            parser.add_argument(*flag.names, nargs="?", const=flag.gives, **shared)
        else:
            nargs = "+" if flag.takes == "values" else None
            parser.add_argument(*flag.names, nargs=nargs, **shared)


def with_dashes(words: Sequence[str]) -> list[str]:
    """Words of a command line with the flags' underscores as dashes (--upload_dataset)."""
    spelt = []
    for word in words:
        name, equals, value = word.partition("=")
        spelt.append(name.replace("_", "-") + equals + value if word.startswith("--") else word)
    return spelt


def resolve_flags(command: Command, given: Mapping[str, object]) -> ParsedFlags:
    """What becomes of flags as `add_flags` leaves them in a namespace.

    Raises TaskError(CONFIG) for a flag that is refused.
    """
    parsed = ParsedFlags()
    notes = []
    for flag in FLAGS[command]:
        key = flag.key
        if key not in given:
            continue
        value = given[key]
        if flag.effect is FlagStatus.REFUSED:
            raise TaskError(Code.CONFIG, f"{flag.names[0]} is refused: {flag.says}.")
        if flag.effect is FlagStatus.IGNORED:
            notes.append(f"{flag.names[0]} has no effect: {flag.says}")
        elif flag.effect is FlagStatus.COMMAND:
            parsed.command[key] = value
        else:
            parsed.settings[flag.setting] = ",".join(value) if isinstance(value, list) else value
    return ParsedFlags(parsed.settings, parsed.command, tuple(notes))


def named_device(command: Mapping[str, object], gpu_id: str | None) -> str | None:
    """The device that --device or --gpu-id names; None where neither does.

    An empty --device names none, as in v7.0; an empty --gpu-id is the CPU, as on the platform.
    """
    return str(command["device"]) if command.get("device") else gpu_id


def flags_of_task(command: Command, text: object) -> ParsedFlags:
    """What a task's string of flags says; those for a command line alone become notes.

    The string is split as a shell would, and never given to one. Raises TaskError(CONFIG) when it
    cannot be split, when a value is missing, or when a flag is refused.
    """
    if absent(text):
        return ParsedFlags()
    try:
        words = with_dashes(shlex.split(str(text)))
    except ValueError as error:
        raise TaskError(
            Code.CONFIG,
            f"args_options {str(text)[:80]!r} cannot be split into flags ({error}): check its "
            "quotation marks.",
        ) from None
    parser = _Parser(prog=f"args_options ({command})", add_help=False)
    add_flags(parser, command)
    known, unknown = parser.parse_known_args(words)
    parsed = resolve_flags(command, vars(known))
    notes = [
        f"{flag.names[0]} has no effect in a task: {flag.in_a_task}"
        for flag in FLAGS[command]
        if flag.key in parsed.command
    ]
    if unknown:
        notes.append(f"args_options: {shlex.join(unknown)} is no flag of v7.0, ignored")
    return ParsedFlags(parsed.settings, {}, (*notes, *parsed.notes))
