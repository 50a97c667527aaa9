"""Files that were there and are gone: a folder that was unmounted or removed while a task ran."""

from __future__ import annotations

import os
from collections.abc import Sequence

from utils.errors import Code, TaskError

LOOKED_AT = 64
"""Files that stand for all, so that a look costs nothing."""


def spread(paths: Sequence[str]) -> list[str]:
    """At most 64 of the paths, evenly spread over all."""
    step = max(1, -(-len(paths) // LOOKED_AT))
    return list(paths[::step])


def still_there(paths: Sequence[str]) -> list[str]:
    """Those of `spread` that are there now."""
    return [path for path in spread(paths) if os.path.isfile(path)]


def check_data_available(paths: Sequence[str], *, what: str) -> None:
    """Raise TaskError(DATASET) when more than half of these files, once there, are gone."""
    gone = [path for path in paths if not os.path.isfile(path)]
    if 2 * len(gone) > len(paths):
        raise TaskError(
            Code.DATASET,
            f"the {what} disappeared while the task ran (of {len(paths)} files looked at "
            f"{len(gone)} are gone, {gone[0]} is one): give it back its data and start it again; "
            "what was finished is kept.",
        )
