"""The size of network input that weights were trained at, as they remember it."""

from __future__ import annotations

from collections.abc import Mapping

KEY = "img_size"


def note_on_size(metadata: Mapping[str, object], size: int) -> str:
    """A word of warning if weights with this `metadata` look at images of another `size`, longest
    side in pixels, than they were trained at; '' if not, or if they do not tell.
    """
    trained = metadata.get(KEY)
    if not isinstance(trained, int) or trained == size:
        return ""
    return (
        f"the weights were trained at {trained} px and look at {size} px now: img_size {trained} "
        "shows them objects of the sizes that they know"
    )
