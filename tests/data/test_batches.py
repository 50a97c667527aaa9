"""Samples become batches."""

from __future__ import annotations

import pytest
import torch

from data.datasets import Batch, collate


class TestBatch:
    def test_collate_numbers_the_images(self) -> None:
        samples = [
            (torch.zeros((3, 4, 4), dtype=torch.uint8), torch.ones((count, 6)))
            for count in (2, 0, 1)
        ]
        batch = collate(samples)
        assert batch.images.shape == (3, 3, 4, 4)
        assert batch.targets[:, 0].tolist() == [0, 0, 2]
        assert samples[2][1][0, 0] == 1

    def test_no_targets(self) -> None:
        batch = collate([(torch.zeros((3, 4, 4), dtype=torch.uint8), torch.zeros((0, 6)))])
        assert batch.targets.shape == (0, 6)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs a GPU")
    def test_pinned(self) -> None:
        batch = Batch(torch.zeros(1, 3, 4, 4), torch.zeros(0, 6)).pin_memory()
        assert batch.images.is_pinned()
