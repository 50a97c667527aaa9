"""Command lines for work outside the platform."""

from __future__ import annotations

import argparse


def command_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser that shows a module's docstring as it stands."""
    plain = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(prog=name, description=description, formatter_class=plain)
