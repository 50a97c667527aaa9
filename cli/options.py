"""Settings as options of a command line: those that no flag of v7.0 stands for."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from settings.parse import Settings


def add_setting_options(
    parser: argparse.ArgumentParser, kind: type[Settings], taken: Collection[str]
) -> None:
    """Offer `--name VALUE` for every setting of a kind but those `taken`; absent unless given."""
    group = parser.add_argument_group("further settings")
    for item in fields(kind):
        if item.name not in taken:
            # A setting that is true or false may stand alone, as a flag does.
            alone: dict[str, Any] = (
                {"nargs": "?", "const": True} if isinstance(item.default, bool) else {}
            )
            group.add_argument(
                "--" + item.name.replace("_", "-"),
                dest=item.name,
                default=argparse.SUPPRESS,
                metavar="VALUE",
                help=item.metadata["rule"].help,
                **alone,
            )


def given_settings(
    kind: type[Settings], given: Mapping[str, object], taken: Collection[str]
) -> dict[str, object]:
    """The values of those options in a parsed command line."""
    names = {item.name for item in fields(kind)} - set(taken)
    return {name: value for name, value in given.items() if name in names}
