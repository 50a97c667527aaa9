"""Four samples as one: where each lies, and what becomes of fewer than four."""

from __future__ import annotations

import torch
from torch.utils.data import Dataset

from data.datasets import QuadDataset, Sample, enlarge, join


def sample(level: int) -> Sample:
    """A 4 x 6 image of one grey, with a box in its upper left quarter, of class `level`."""
    targets = torch.tensor([[0, level, 0.25, 0.25, 0.5, 0.5]])
    return torch.full((3, 4, 6), level, dtype=torch.uint8), targets


class Greys(Dataset[Sample]):
    """A sample by its key: its image's number is its grey."""

    def __getitem__(self, key: tuple[int, ...]) -> Sample:
        return sample(key[1])


def test_join_by_hand() -> None:
    """First above second, then third above fourth to the right; boxes in that quarter, halved."""
    image, targets = join([sample(level) for level in (1, 2, 3, 4)])
    assert image.shape == (3, 8, 12)
    assert image[0, [0, 7, 0, 7], [0, 0, 11, 11]].tolist() == [1, 2, 3, 4]
    assert (image[:, :4, :6] == 1).all()
    expected = [
        [0, 1, 0.125, 0.125, 0.25, 0.25],
        [0, 2, 0.125, 0.625, 0.25, 0.25],
        [0, 3, 0.625, 0.125, 0.25, 0.25],
        [0, 4, 0.625, 0.625, 0.25, 0.25],
    ]
    torch.testing.assert_close(targets, torch.tensor(expected))


def test_join_leaves_its_samples_alone() -> None:
    samples = [sample(level) for level in range(4)]
    join(samples)
    assert all(torch.equal(own[1], sample(level)[1]) for level, own in enumerate(samples))


def test_enlarge_by_hand() -> None:
    """Doubling 0, 100: new middles at -0.25, 0.25, 0.75, 1.25 give 0, 25, 75, 100."""
    image = torch.tensor([0, 100], dtype=torch.uint8).expand(3, 1, 2)
    grown, targets = enlarge((image, sample(5)[1]))
    assert grown.dtype == torch.uint8
    assert grown[0].tolist() == [[0, 25, 75, 100]] * 2
    torch.testing.assert_close(targets, sample(5)[1])


def test_half_are_joined_half_enlarged_and_a_key_decides() -> None:
    quads = QuadDataset(Greys(), seed=0)
    joined = 0
    for epoch in range(60):
        keys = [(epoch, image) for image in (1, 2, 3, 4)]
        image, targets = quads[keys]
        assert image.shape == (3, 8, 12)
        assert torch.equal(image, quads[keys][0])
        joined += len(targets) == 4
    assert 18 < joined < 42


def test_fewer_than_four_are_the_first_enlarged() -> None:
    quads = QuadDataset(Greys(), seed=0)
    for count in (1, 2, 3):
        for epoch in range(8):
            image, targets = quads[[(epoch, 7), (epoch, 8), (epoch, 9)][:count]]
            assert (image == 7).all()
            assert image.shape == (3, 8, 12)
            assert len(targets) == 1
