"""Transfer of pretrained weights to another data set: fitting tensors, classes matched by name."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from models.checkpoint import Checkpoint, head_keys
from models.detector import Detector

BOX_OUTPUTS = 5
"""Outputs of an anchor before its classes: x, y, w, h and objectness."""
MAX_LISTED = 40


@dataclass(frozen=True)
class TransferReport:
    """Result of a transfer.

    `parts` has how many tensors of each part of the network were taken whole, taken by class, and
    left fresh. `classes` are the task's names, each with the checkpoint's class whose weights it
    starts from (None: initial weights); `dropped` are the checkpoint's classes that the task does
    not have. `anchors` and `note` are sentences for the log. `anchors_belong_to_head` if both the
    anchors and the outputs of some class are those of the checkpoint.
    """

    parts: Mapping[str, tuple[int, int, int]]
    classes: tuple[tuple[str, str | None], ...]
    dropped: tuple[str, ...]
    anchors: str
    note: str
    anchors_belong_to_head: bool

    @property
    def copied(self) -> int:
        """Number of tensors that hold something of the checkpoint."""
        return sum(taken + mapped for taken, mapped, _ in self.parts.values())

    @property
    def total(self) -> int:
        """Number of tensors of the network."""
        return sum(map(sum, self.parts.values()))

    def lines(self) -> list[str]:
        """Return the report as a table for the log."""
        lines = ["part        taken  by class  fresh"]
        for name, (taken, mapped, fresh) in self.parts.items():
            lines.append(f"{name:<10}{taken:>7}{mapped:>10}{fresh:>7}")
        width = max(len(name) for name, _ in self.classes) + 1
        for name, origin in self.classes[:MAX_LISTED]:
            known = f"class {name:<{width}}<- {origin}"
            lines.append(known if origin is not None else f"class {name:<{width}}<- (fresh)")
        if len(self.classes) > MAX_LISTED:
            lines.append(f"... and {len(self.classes) - MAX_LISTED} more classes")
        if self.dropped:
            shown = ", ".join(self.dropped[:MAX_LISTED])
            more = len(self.dropped) - MAX_LISTED
            lines.append(f"left behind: {shown}{f' and {more} more' if more > 0 else ''}")
        return [*lines, self.anchors, self.note]


def transfer(
    detector: Detector,
    checkpoint: Checkpoint,
    class_names: Sequence[str],
    *,
    keep_anchors: bool = False,
) -> TransferReport:
    """Copy what fits of a checkpoint into `detector`, in place.

    Tensors of the same key and shape are copied. If the classes differ, the head's rows for boxes
    and objectness are copied too, and those of every class that both have by name (exactly, else
    but for case and blanks); new classes keep their initial values. A level whose anchor count
    differs keeps its initial values. The checkpoint's anchors are taken with something of its head,
    unless `keep_anchors` keeps the detector's.
    """
    own = detector.state_dict()
    names = tuple(class_names)
    same = names == checkpoint.class_names
    pairs = class_pairs(names, checkpoint.class_names)
    convolutions = head_keys(detector)
    anchors = f"model.{len(detector.model) - 1}.anchors"
    taken = {
        key: value
        for key, value in checkpoint.state.items()
        if key in own
        and own[key].shape == value.shape
        and (same or key not in convolutions)
        and not (keep_anchors and key == anchors)
    }
    # A single class has no class loss, so its row is never trained.
    single = 1 in (len(names), len(checkpoint.class_names))
    known = {} if single and not same else pairs
    mapped = {} if same else _mapped(detector, checkpoint, own, known)
    for part in (taken, mapped):
        # A bias means nothing without its weight, whose shape depends on more.
        for key in [k for k in part if k in convolutions and _weight_of(k) not in part]:
            del part[key]
    kept = len(convolutions & {**taken, **mapped}.keys())
    fits = anchors in taken
    if not kept:
        taken.pop(anchors, None)
    detector.load_state_dict({**taken, **mapped}, strict=False)
    origins = {new: checkpoint.class_names[old] for new, old in known.items() if kept}
    return TransferReport(
        parts=_parts(detector, own, taken, mapped),
        classes=tuple((name, origins.get(index)) for index, name in enumerate(names)),
        dropped=tuple(
            name
            for index, name in enumerate(checkpoint.class_names)
            if index not in pairs.values() or not origins
        ),
        anchors="Anchors: those that the task sets, not those of the weights."
        if keep_anchors
        else "Anchors: those of the weights."
        if anchors in taken
        else "Anchors: those of the model, because the head of the weights has another shape."
        if fits
        else "Anchors: those of the model, because the weights have another number of them.",
        note=_note(kept // 2, len(convolutions) // 2, len(origins), len(names))
        if mapped or kept < len(convolutions)
        else "The whole network starts from the pretrained weights.",
        anchors_belong_to_head=anchors in taken and bool(origins),
    )


def _weight_of(key: str) -> str:
    return f"{key.rpartition('.')[0]}.weight"


def class_pairs(new: Sequence[str], old: Sequence[str]) -> dict[int, int]:
    """Match classes by name: new index to old index.

    Exact names first, then names that differ in case or surrounding blanks only; ambiguous names
    are left out, and no old class serves two new ones.
    """
    exact = {name: index for index, name in enumerate(old)}
    pairs = {index: exact[name] for index, name in enumerate(new) if name in exact}
    alike = _by_folded_name(old, set(pairs.values()))
    for name, indices in _by_folded_name(new, pairs).items():
        found = alike.get(name, [])
        if len(indices) == len(found) == 1:
            pairs[indices[0]] = found[0]
    return dict(sorted(pairs.items()))


def _by_folded_name(names: Sequence[str], left_out: Container[int]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        if index not in left_out:
            groups.setdefault(name.strip().casefold(), []).append(index)
    return groups


def _mapped(
    detector: Detector, checkpoint: Checkpoint, own: Mapping[str, Tensor], pairs: Mapping[int, int]
) -> dict[str, Tensor]:
    """Return the head's convolutions with the checkpoint's rows for boxes and known classes."""
    anchors = detector.anchors.shape[1]
    old_width = BOX_OUTPUTS + len(checkpoint.class_names)
    mapped = {}
    for key in sorted(head_keys(detector)):
        fresh, old = own[key], checkpoint.state.get(key)
        if old is None or old.shape != (anchors * old_width, *fresh.shape[1:]):
            continue
        rows = fresh.clone().unflatten(0, (anchors, -1))
        source = old.to(fresh).unflatten(0, (anchors, old_width))
        rows[:, :BOX_OUTPUTS] = source[:, :BOX_OUTPUTS]
        for new_class, old_class in pairs.items():
            rows[:, BOX_OUTPUTS + new_class] = source[:, BOX_OUTPUTS + old_class]
        mapped[key] = rows.flatten(0, 1)
    return mapped


def _parts(
    detector: Detector, own: Mapping[str, Tensor], taken: Container[str], mapped: Container[str]
) -> dict[str, tuple[int, int, int]]:
    counts = {"backbone": [0, 0, 0], "neck": [0, 0, 0], "head": [0, 0, 0]}
    for key in own:
        layer = int(key.split(".")[1])
        name = "backbone" if layer <= detector.config.backbone_end else "neck"
        name = "head" if layer == len(detector.model) - 1 else name
        counts[name][0 if key in taken else 1 if key in mapped else 2] += 1
    return {name: (taken, mapped, fresh) for name, (taken, mapped, fresh) in counts.items()}


def _note(kept: int, levels: int, known: int, classes: int) -> str:
    """Return the sentence on the head: levels and classes that it takes from the checkpoint."""
    if not kept:
        return "The head keeps its initial weights: that of the checkpoint has another shape."
    where = "" if kept == levels else f" on {kept} of the {levels} levels"
    return (
        f"The head takes box and objectness outputs{where} and those of {known} of the {classes} "
        "classes from the checkpoint; the rest keeps its initial weights."
    )
