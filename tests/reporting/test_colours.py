from __future__ import annotations

import itertools

import numpy as np
import pytest

from reporting.colours import ACCENT, ALERT, SERIES, bgr, ink_on, rgb, series_colour

# Machado et al. 2009, severity 1: what the three kinds of colour-blindness leave of linear RGB.
BLINDNESS = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
               [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
               [-0.011820, 0.042940, 0.968881]],
}  # fmt: skip


def linear(colour: str) -> np.ndarray:
    share = np.array(rgb(colour)) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def test_orders_of_the_channels() -> None:
    assert rgb("#0a1b2c") == (10, 27, 44)
    assert bgr("#0a1b2c") == (44, 27, 10)
    assert series_colour(len(SERIES)) == SERIES[0]


@pytest.mark.parametrize("kind", BLINDNESS)
def test_found_and_missed_differ_for_every_eye(kind: str) -> None:
    found, missed = (np.array(BLINDNESS[kind]) @ linear(colour) for colour in (ACCENT, ALERT))
    assert np.abs(found - missed).max() > 0.15


@pytest.mark.parametrize("kind", BLINDNESS)
def test_the_first_series_differ_for_every_eye(kind: str) -> None:
    for one, other in itertools.combinations(SERIES[:4], 2):
        seen = [np.array(BLINDNESS[kind]) @ linear(colour) for colour in (one, other)]
        assert np.abs(seen[0] - seen[1]).max() > 0.1, (one, other)


@pytest.mark.parametrize("colour", [*SERIES, ACCENT, ALERT])
def test_text_on_a_colour_can_be_read(colour: str) -> None:
    """Contrast of at least 4.5 to 1, as WCAG 2 asks for text."""
    ground, ink = (
        float(linear(one) @ (0.2126, 0.7152, 0.0722)) for one in (colour, ink_on(colour))
    )
    low, high = sorted((ground, ink))
    assert (high + 0.05) / (low + 0.05) >= 4.5
