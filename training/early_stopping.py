"""When a training that no longer gets better ends before its last epoch."""

from __future__ import annotations


def exhausted(epoch: int, best_epoch: int, patience: int) -> bool:
    """Whether `patience` epochs up to and with `epoch` brought nothing better than `best_epoch`.

    Both count from 0; patience 0 never ends. An equal fitness is no better (v7.0 takes it for
    one, so that a flat curve never stops there).
    """
    return patience > 0 and epoch - best_epoch >= patience


def stop_reason(epoch: int, epochs: int, best_epoch: int, patience: int) -> str:
    """The sentence for the log; epochs are told from 1."""
    return (
        f"ended after epoch {epoch + 1} of {epochs}: none of the last {epoch - best_epoch} epochs "
        f"was better than epoch {best_epoch + 1} (patience {patience})"
    )
