"""All classes as one."""

from __future__ import annotations

import torch

from inference.single_class import as_one_class


def test_the_most_probable_class_alone_counts() -> None:
    rows = torch.tensor([[[1, 2, 3, 4, 0.5, 0.2, 0.9, 0.1], [5, 6, 7, 8, 1, 0.3, 0.1, 0.2]]])
    expected = torch.tensor([[[1, 2, 3, 4, 0.5, 0.9], [5, 6, 7, 8, 1, 0.3]]])
    assert torch.equal(as_one_class(rows), expected)
    assert torch.equal(as_one_class(expected), expected)
    assert as_one_class(rows[:, :0]).shape == (1, 0, 6)
