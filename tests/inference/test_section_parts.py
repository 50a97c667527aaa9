"""Sections that several processes write, taken over by the log in their order."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from inference.journal import (
    Entry,
    Journal,
    candidates_known,
    part_path,
    parts_done,
    parts_folder,
)
from inference.section_parts import ShardWriter
from tests.inference.test_journal import ORDER, entry

SECTIONS = ((1, 0, 2), (5, 4, 3), (6,))
"""As one process writes them: three images, three and one."""


def broken(one: Entry) -> bool:
    """Image 4 is one."""
    return one.error is not None


def open_log(path: Path, outdated: Callable[[Entry], bool] = lambda one: False) -> Journal:
    return Journal(path, identity="one", section=3, total=7, outdated=outdated)


def open_parts(
    path: Path,
    mine: Iterable[int] = (0, 1, 2),
    *,
    outdated: Callable[[Entry], bool] = lambda one: False,
    identity: str = "one",
) -> ShardWriter:
    return ShardWriter(
        path,
        identity=identity,
        section=3,
        total=7,
        claim=lambda number: number in set(mine),
        outdated=outdated,
    )


def write(path: Path, *numbers: int) -> None:
    """Sections by a process of their own."""
    with open_parts(path, numbers) as parts:
        for number in numbers:
            for position in SECTIONS[number]:
                parts.add(entry(position))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out" / "known.jsonl"


@pytest.fixture
def expected(tmp_path: Path) -> bytes:
    """The log of one process."""
    with open_log(tmp_path / "alone.jsonl") as log:
        assert list(log.kept()) == []
        for position in ORDER:
            log.add(entry(position))
    return (tmp_path / "alone.jsonl").read_bytes()


def test_the_log_takes_over_what_all_have_written(
    path: Path, expected: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    write(path, 1)
    write(path, 0, 2)
    assert parts_done(path) == 3
    with open_log(path) as log:
        found = [[one.position for one in section] for section in log.kept()]
        assert found == [list(section) for section in SECTIONS]
        assert log.done == 7
        for position in range(7):
            known = log.entry(position)
            assert known is not None
            assert known.path == entry(position).path
    assert path.read_bytes() == expected
    assert not parts_folder(path).exists()
    assert "candidates 1 to 7 of 7 are those of several processes" in caplog.text


def test_a_section_has_its_name_when_it_is_whole(path: Path) -> None:
    with open_parts(path) as parts:
        for position in ORDER[:5]:
            parts.add(entry(position))
        assert parts_done(path) == 1
        assert not part_path(path, "one", 1).exists()
    with open_log(path) as log:
        assert [one.position for section in log.kept() for one in section] == [1, 0, 2]
        for position in ORDER[3:]:
            log.add(entry(position))
    assert not parts_folder(path).exists()


def test_one_process_goes_on_after_the_sections_that_follow_each_other(
    path: Path, expected: bytes
) -> None:
    with open_log(path) as log:
        list(log.kept())
        for position in ORDER[:3]:
            log.add(entry(position))
    write(path, 2)
    with open_log(path) as log:
        assert [one.position for section in log.kept() for one in section] == [1, 0, 2]
        for position in ORDER[3:]:
            log.add(entry(position))
    assert path.read_bytes() == expected


def test_only_what_is_missing_is_claimed(path: Path) -> None:
    with open_log(path) as log:
        list(log.kept())
        for position in ORDER[:4]:
            log.add(entry(position))
    assert candidates_known(path, identity="one", section=3, total=7) == 3
    assert list(open_parts(path).positions()) == [3, 4, 5, 6]
    assert list(open_parts(path, (0, 2)).positions()) == [6]
    write(path, 1)
    assert list(open_parts(path).positions()) == [6]
    assert list(open_parts(path, outdated=broken).positions()) == [3, 4, 5, 6]
    assert list(open_parts(path, identity="two").positions()) == list(range(7))


def test_a_section_that_was_done_again_is_newer_than_the_log(path: Path) -> None:
    """One with an image that could not be read and now can be."""
    with open_log(path) as log:
        list(log.kept())
        for position in ORDER:
            log.add(entry(position))
    assert list(open_parts(path, outdated=broken).positions()) == [3, 4, 5, 6]
    with open_parts(path) as parts:
        for position in (3, 4, 5, 6):
            parts.add(Entry(position, "new", (9, 9), entry(0).detections, None, position))
    with open_log(path) as log:
        paths = [one.path for section in log.kept() for one in section]
    assert paths == ["/in/1.jpg", "/in/0.jpg", "/in/2.jpg", *["new"] * 4]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda text: text[:-5], id="torn"),
        pytest.param(lambda text: text.replace(b'"n":3', b'"n":4'), id="an image twice"),
        pytest.param(lambda text: text + text, id="more than a section"),
        pytest.param(lambda text: b"\0" * len(text), id="zeros"),
        pytest.param(lambda text: b"", id="empty"),
    ],
)
def test_a_damaged_section_and_those_after_it_are_done_again(
    path: Path, damage: Callable[[bytes], bytes]
) -> None:
    write(path, 0, 1, 2)
    part = part_path(path, "one", 1)
    part.write_bytes(damage(part.read_bytes()))
    assert list(open_parts(path).positions()) == [3, 4, 5]
    with open_log(path) as log:
        assert [one.position for section in log.kept() for one in section] == [1, 0, 2]
        assert log.done == 3
    assert len(path.read_text().splitlines()) == 4


def test_sections_of_another_task_are_not_taken_over(path: Path) -> None:
    write(path, 0)
    with Journal(path, identity="two", section=3, total=7) as log:
        assert list(log.kept()) == []
    assert not parts_folder(path).exists()


def test_a_full_disk_names_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    monkeypatch.setattr("inference.section_parts._unfinished", lambda path: Path("/dev/full"))
    with pytest.raises(OSError, match="No space left") as caught:
        write(path, 0)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(part_path(path, "one", 0))
