"""A package that only some tasks need, imported when it is asked for."""

from __future__ import annotations

import importlib
from types import ModuleType

from utils.errors import Code, TaskError


def optional_package(name: str, *, purpose: str) -> ModuleType:
    """The module `name`; TaskError(CONFIG) that names its package where it is not installed.

    `purpose` completes the sentence '… needs the package …'.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise TaskError(
            Code.CONFIG,
            f"{purpose} needs the package {package}, which cannot be imported here ({error}): "
            f"install {package}, or do without.",
        ) from error
