"""The log of candidates: whole sections come back bit by bit, anything torn is done again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from inference.journal import Entry, Journal, digest_of

ROWS = np.random.default_rng(0).normal(0, 300, (7, 3, 6)).astype(np.float32)
ORDER = (1, 0, 2, 5, 4, 3, 6)
"""Three sections of at most three images, each in an order of its own."""


def entry(position: int) -> Entry:
    scored = {"score": 1 / 3 + position, "empty": True} if position % 2 else None
    if position == 4:
        return Entry(4, "/in/e\udcff.jpg", None, np.zeros((0, 6), np.float32), "broken", 4)
    return Entry(position, f"/in/{position}.jpg", (60, 80), ROWS[position], None, 9, scored)


def open_log(path: Path, identity: str = "one", total: int = 7, section: int = 3) -> Journal:
    return Journal(path, identity=identity, section=section, total=total)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "out" / "known.jsonl"
    with open_log(path) as log:
        assert list(log.kept()) == []
        for position in ORDER:
            log.add(entry(position))
    return path


def kept(path: Path, **changed: object) -> list[list[int]]:
    with open_log(path, **changed) as log:  # type: ignore[arg-type]
        return [[one.position for one in section] for section in log.kept()]


def test_a_section_with_an_outdated_image_is_done_again(path: Path) -> None:
    with Journal(
        path, identity="one", section=3, total=7, outdated=lambda one: one.error is not None
    ) as log:
        assert [[one.position for one in section] for section in log.kept()] == [[1, 0, 2]]
        assert log.done == 3


def test_everything_comes_back_bit_by_bit(path: Path) -> None:
    with open_log(path) as log:
        found = [one for section in log.kept() for one in section]
        assert log.done == 7
        again = [log.entry(position) for position in range(7)]
    assert [one.position for one in found] == list(ORDER)
    for one in found:
        expected = entry(one.position)
        assert (one.path, one.size, one.error, one.seen) == (
            expected.path, expected.size, expected.error, expected.seen,
        )  # fmt: skip
        assert one.detections.dtype == np.float32
        assert np.array_equal(one.detections, expected.detections)
        assert one.scored == expected.scored
        other = again[one.position]
        assert other is not None
        assert other.scored == one.scored


LINES = [pytest.param(n, id=f"{n} lines") for n in range(1, 9)]


@pytest.mark.parametrize("lines", LINES)
@pytest.mark.parametrize("torn", ["", '{"n": 3, "pa', "\0\0\n", '{"n":3}\n', "[]\n"])
def test_whole_sections_stay_and_the_rest_goes(path: Path, lines: int, torn: str) -> None:
    text = path.read_text().splitlines(keepends=True)
    path.write_text("".join(text[:lines]) + torn)
    whole = {4: 1, 5: 1, 6: 1, 7: 2, 8: 3}.get(lines, 0)
    assert kept(path) == [[1, 0, 2], [5, 4, 3], [6]][:whole]
    assert path.read_text() == "".join(text[: (1, 4, 7, 8)[whole]])


def test_goes_on_after_the_last_whole_section(path: Path) -> None:
    expected = path.read_text()
    path.write_text(expected[: expected.index('{"n":3')])
    with open_log(path) as log:
        assert [one.position for section in log.kept() for one in section] == [1, 0, 2]
        for position in ORDER[log.done :]:
            log.add(entry(position))
    assert path.read_text() == expected


@pytest.mark.parametrize(
    "changed", [{"identity": "other"}, {"identity": ""}, {"section": 2}], ids=str
)
def test_another_task_begins_anew(path: Path, changed: dict[str, object]) -> None:
    assert kept(path, **changed) == []
    assert len(path.read_text().splitlines()) == 1


def test_without_identity_nothing_is_ever_kept(tmp_path: Path) -> None:
    with open_log(tmp_path / "log", identity="", total=1) as log:
        list(log.kept())
        log.add(entry(0))
    assert kept(tmp_path / "log", identity="", total=1) == []


@pytest.mark.parametrize("line", [1, 2])
def test_a_line_out_of_place_ends_what_is_kept(path: Path, line: int) -> None:
    """An image twice, or one of another section."""
    text = path.read_text().splitlines(keepends=True)
    text[line] = text[3] if line == 1 else text[5]
    path.write_text("".join(text))
    assert kept(path) == []


def test_a_full_disk_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    with open_log(tmp_path / "log") as log:
        list(log.kept())
        log._file.close()
        log._file = open("/dev/full", "r+b", buffering=0)  # noqa: SIM115
        for position in ORDER:
            log.add(entry(position))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "a restart begins anew" in caplog.text


def test_digest_follows_values_texts_and_content(tmp_path: Path) -> None:
    weights = tmp_path / "w"
    weights.write_bytes(b"1")
    first = digest_of({"a": 1, "b": (2.5,)}, ["x", "y\udcff"], weights)
    assert first == digest_of({"b": (2.5,), "a": 1}, ["x", "y\udcff"], weights)
    others = {
        digest_of({"a": 2, "b": (2.5,)}, ["x", "y\udcff"], weights),
        digest_of({"a": 1, "b": (2.5,)}, ["y\udcff", "x"], weights),
        digest_of({"a": 1, "b": (2.5,)}, ["xy\udcff"], weights),
        digest_of({"a": 1, "b": (2.5,)}, ["x", "y\udcff"], None),
    }
    weights.write_bytes(b"2")
    others.add(digest_of({"a": 1, "b": (2.5,)}, ["x", "y\udcff"], weights))
    assert len(others - {first}) == 5


def test_head_says_what_the_file_is_of(path: Path) -> None:
    assert json.loads(path.read_text().splitlines()[0]) == {"identity": "one", "section": 3}
