"""Which classes are wanted, by name or by number, as indices of a network."""

from __future__ import annotations

from collections.abc import Sequence

from utils.errors import Code, TaskError


def class_indices(wanted: Sequence[str], class_names: Sequence[str]) -> tuple[int, ...] | None:
    """The indices of the classes named in `wanted`, by name or by number; None where it is empty.

    A name counts before a number. Raises TaskError(CONFIG) for a class that does not exist.
    """
    if not wanted:
        return None
    index_of = {str(number): number for number in range(len(class_names))}
    index_of.update({name: number for number, name in enumerate(class_names)})
    unknown = [word for word in wanted if word not in index_of]
    if unknown:
        raise TaskError(
            Code.CONFIG,
            f"the setting classes names {', '.join(unknown)}; it must hold names or numbers of "
            f"the model's classes: {', '.join(class_names)} (0 to {len(class_names) - 1}).",
        )
    return tuple(sorted({index_of[word] for word in wanted}))
