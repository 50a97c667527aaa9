from __future__ import annotations

import pytest

from models.trained_size import note_on_size


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        pytest.param({"img_size": 640}, False, id="the same"),
        pytest.param({}, False, id="the weights do not tell"),
        pytest.param({"img_size": "320"}, False, id="no number"),
        pytest.param({"img_size": 320}, True, id="another"),
    ],
)
def test_another_size_is_said(metadata: dict[str, object], said: bool) -> None:
    note = note_on_size(metadata, 640)
    assert bool(note) == said
    if said:
        assert "trained at 320 px and look at 640 px now: img_size 320" in note
