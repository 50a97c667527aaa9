"""A checkpoint as a safetensors file: tensors, and everything else as JSON in the header.

Nothing in such a file can run. Other programs read the tensors under the keys of v7.0; the
header's entry `ymir-yolov5` holds format, version, layout, class names and metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from models.safe_load.torch_file import unusable
from utils.errors import optional_package

ENTRY = "ymir-yolov5"
STATE = "state"
PURPOSE = "A safetensors file"


def is_safetensors(path: Path) -> bool:
    """Whether a file starts as safetensors do: eight bytes of length, then a JSON mapping."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and not start.startswith(b"PK")


def write_safetensors(path: Path, content: Mapping[str, object]) -> None:
    """Write a checkpoint's content: its tensors under 'state', beside plain types only."""
    library = optional_package("safetensors.torch", purpose=PURPOSE)
    state = content[STATE]
    assert isinstance(state, Mapping)
    rest = {key: value for key, value in content.items() if key != STATE}
    # A clone, because tensors that share memory are refused.
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    library.save_file(tensors, str(path), {"format": "pt", ENTRY: json.dumps(rest)})


def read_safetensors(path: Path) -> dict[str, object]:
    """What `write_safetensors` was given. TaskError (model) for a file that is damaged or bare."""
    library = optional_package("safetensors", purpose=PURPOSE)
    try:
        with library.safe_open(str(path), framework="pt", device="cpu") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
            state: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        content = json.loads(metadata[ENTRY]) if ENTRY in metadata else None
    except (library.SafetensorError, OSError, ValueError, RecursionError) as error:
        raise unusable(path, "is damaged or cut short") from error
    if not isinstance(content, dict):
        raise unusable(path, "holds tensors without the model that they belong to")
    return {**content, STATE: state}
