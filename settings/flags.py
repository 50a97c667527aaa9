"""Command lines of YOLOv5 v7.0 read into settings, by the tables of `settings.v7_flags`."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from settings.convert import absent
from settings.v7_flags import FLAGS, Command, FlagStatus, Takes
from utils.errors import Code, TaskError


@dataclass(frozen=True)
class ParsedFlags:
    """What a command line says: settings by name, the command's own flags by name, and notes."""

    settings: dict[str, object] = field(default_factory=dict)
    command: dict[str, object] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    typed: dict[str, str] = field(default_factory=dict)
    """The flag that gave a setting, as it was typed."""

    @property
    def layer(self) -> dict[str, object]:
        """The settings by the flags that gave them, which errors then name."""
        return {self.typed.get(name, name): value for name, value in self.settings.items()}


class KeepTyped(argparse.Action):
    """Store a value, or without one the constant, and the spelling of its flag."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        """Add to the namespace, whose `typed` has the spelling of each flag."""
        setattr(namespace, self.dest, self.const if self.nargs == 0 else values)
        namespace.typed = {**getattr(namespace, "typed", {}), self.dest: option_string}


def typed(given: Mapping[str, Any], *names: str) -> dict[str, object]:
    """Return those of `names` that were given, each by the flag that gave it."""
    spelt = given.get("typed", {})
    return {spelt.get(name, name): given[name] for name in names if name in given}


class _Parser(argparse.ArgumentParser):
    """A parser that raises TaskError(CONFIG) instead of ending the program."""

    def error(self, message: str) -> NoReturn:
        raise TaskError(
            Code.CONFIG,
            f"the flags of {self.prog} cannot be understood: {message}; compare them "
            "with docs/compatibility.md.",
        )


def add_flags(
    parser: argparse.ArgumentParser, command: Command, details: Mapping[str, str] | None = None
) -> None:
    """Add every v7.0 flag of a command to a parser; what is not given leaves no attribute.

    `details` are units and defaults for the help, by the flag's key.
    """
    for flag in FLAGS[command]:
        done = flag.effect in (FlagStatus.SETTING, FlagStatus.COMMAND)
        text = flag.says if done else f"({flag.effect.name.lower()}) {flag.says}"
        if detail := (details or {}).get(flag.key):
            text += f" ({detail})"
        takes: Mapping[Takes, Mapping[str, Any]] = {
            "value": {},
            "nothing": {"nargs": 0, "const": flag.gives},
            "value or nothing": {"nargs": "?", "const": flag.gives},
            "values": {"nargs": "+"},
        }
        shared: dict[str, Any] = {"default": argparse.SUPPRESS, "help": text.replace("%", "%%")}
        shared |= takes[flag.takes]
        parser.add_argument(*flag.names, dest=flag.key, action=KeepTyped, **shared)


def with_dashes(words: Sequence[str] | None) -> list[str]:
    """Return the words of a command line, None for the program's, with dashes in its flags."""
    spelt = []
    for word in sys.argv[1:] if words is None else words:
        name, equals, value = word.partition("=")
        spelt.append(name.replace("_", "-") + equals + value if word.startswith("--") else word)
    return spelt


def resolve_flags(command: Command, given: Mapping[str, Any]) -> ParsedFlags:
    """Sort flags as `add_flags` leaves them in a namespace; raise TaskError(CONFIG) if refused."""
    parsed = ParsedFlags()
    for flag in FLAGS[command]:
        if flag.key not in given:
            continue
        value = given[flag.key]
        if flag.effect is FlagStatus.REFUSED:
            raise TaskError(Code.CONFIG, f"{flag.names[0]} is refused: {flag.says}.")
        if flag.effect is FlagStatus.IGNORED:
            parsed.notes.append(f"{flag.names[0]} has no effect: {flag.says}")
        elif flag.effect is FlagStatus.COMMAND:
            parsed.command[flag.key] = value
        else:
            parsed.settings[flag.setting] = ",".join(value) if isinstance(value, list) else value
            if flag.takes != "nothing":
                parsed.typed[flag.setting] = given.get("typed", {}).get(flag.key, flag.names[0])
    return parsed


def named_device(command: Mapping[str, object], gpu_id: str | None) -> str | None:
    """Return the device that --device or --gpu-id names; None where neither does.

    An empty --device names none, as in v7.0; an empty --gpu-id is the CPU, as on the platform.
    """
    return str(command["device"]) if command.get("device") else gpu_id


def flags_of_task(command: Command, text: object) -> ParsedFlags:
    """Parse a task's string of flags; those for a command line alone become notes.

    The string is split as a shell would, and never given to one. Raise TaskError(CONFIG) when it
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
    for flag in FLAGS[command]:
        if flag.key in parsed.command:
            parsed.notes.append(f"{flag.names[0]} has no effect in a task: {flag.in_a_task}")
    if unknown:
        parsed.notes.append(f"args_options: {shlex.join(unknown)} is no flag of v7.0, ignored")
    return parsed
