"""The mappings that settings come from, in the order in which they count, later over earlier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from settings.flags import flags_of_task
from settings.hyp_file import read_hyp
from settings.options import absent
from settings.v7_flags import Command

Layer = Mapping[str, object]


def merge_layers(layers: Sequence[Layer], *, command: Command) -> tuple[list[Layer], list[str]]:
    """The layers with what their `hyp` and `args_options` stand for, and notes for the log.

    The hyper-parameter set that the last layer names comes first of all, so that every key
    overrides it. The flags of an `args_options` follow the layer they stand in: who writes them
    means them, while a form fills in every key. `command` is the v7.0 command that the flags
    belong to; only a training has hyper-parameters.
    """
    notes: list[str] = []
    unfolded: list[Layer] = []
    for layer in layers:
        unfolded.append(layer)
        flags = flags_of_task(command, _last([layer], "args_options"))
        notes += flags.notes
        if flags.settings:
            unfolded.append(flags.settings)
    chosen = _last(unfolded, "hyp")
    if command == "train" and not absent(chosen):
        unfolded.insert(0, read_hyp(str(chosen)))
    return unfolded, notes


def _last(layers: Sequence[Layer], name: str) -> object:
    """The last value that says something for a key, whichever way the key is spelt."""
    found: object = None
    for layer in layers:
        for key, value in layer.items():
            spelt = str(key).strip().lstrip("-").replace("-", "_")
            if spelt == name and not absent(value):
                found = value
    return found
