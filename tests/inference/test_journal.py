"""The journal: whole shards are replayed bit by bit and merged in order, the rest is redone."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inference.journal import Journal, JournalConfig, Record, count_shard_files
from inference.shards import ShardWriter

ROWS = np.random.default_rng(0).normal(0, 300, (7, 3, 6)).astype(np.float32)
SHARDS = ([1, 0, 2], [5, 4, 3], [6])
"""At most three images, each shard in an order of its own."""
ORDER = [position for shard in SHARDS for position in shard]


def record(position: int) -> Record:
    scored = {"score": 1 / 3 + position, "empty": True} if position % 2 else None
    if position == 4:
        return Record(4, "/in/e\udcff.jpg", None, np.zeros((0, 6), np.float32), "broken", 4)
    return Record(position, f"/in/{position}.jpg", (60, 80), ROWS[position], None, 9, scored)


def is_broken(one: Record) -> bool:
    return one.error is not None


@pytest.fixture
def config(tmp_path: Path) -> JournalConfig:
    return JournalConfig(tmp_path / "out" / "journal.jsonl", "one", shard_size=3, total=7)


@pytest.fixture
def expected(config: JournalConfig) -> bytes:
    """The journal of one process, which is removed."""
    write(config, 7)
    content = config.path.read_bytes()
    config.path.unlink()
    return content


def write(config: JournalConfig, count: int) -> None:
    """A single process that is stopped after some images."""
    with Journal(config) as journal:
        assert list(journal.replay()) == []
        for position in ORDER[:count]:
            journal.append(record(position))


def write_shards(config: JournalConfig, *numbers: int) -> None:
    """A rank that finishes these shards."""
    writer = ShardWriter(config)
    for number in numbers:
        for position in SHARDS[number]:
            writer.append(record(position))


def replay(config: JournalConfig) -> list[list[int]]:
    """The positions that are replayed, by shard."""
    with Journal(config) as journal:
        shards = [[one.position for one in shard] for shard in journal.replay()]
        assert journal.replayed == sum(map(len, shards))
        return shards


def resume(config: JournalConfig) -> list[int]:
    """Replay and append the rest; the positions replayed."""
    with Journal(config) as journal:
        found = [one.position for shard in journal.replay() for one in shard]
        for position in ORDER[journal.replayed :]:
            journal.append(record(position))
    return found


def missing(config: JournalConfig, rank: int = 0, world_size: int = 1) -> list[int]:
    """What a rank of a new start, which is alone, has to compute."""
    start = uuid.uuid4().hex
    writer = ShardWriter(config, rank=rank, world_size=world_size, start=start)
    writer.begin()
    return list(writer.positions())


def test_everything_is_replayed_bit_by_bit(config: JournalConfig) -> None:
    write(config, 7)
    with Journal(config) as journal:
        found = [one for shard in journal.replay() for one in shard]
        again = [journal.record(one.position) for one in found]
    assert [one.position for one in found] == ORDER
    for one, other in zip(found, again, strict=True):
        expected = record(one.position)
        assert other is not None
        assert replace(one, detections=0) == replace(other, detections=0)
        assert replace(one, detections=0) == replace(expected, detections=0)
        assert one.detections.dtype == np.float32
        assert np.array_equal(one.detections, expected.detections)
    header = json.loads(config.path.read_text().splitlines()[0])
    assert header == {"identity": "one", "shard_size": 3}


@pytest.mark.parametrize("lines", range(1, 9))
@pytest.mark.parametrize("torn", ["", '{"n": 3, "pa', "\0\0\n", '{"n":3}\n', "[]\n"])
def test_whole_shards_stay_and_the_rest_is_dropped(
    config: JournalConfig, lines: int, torn: str
) -> None:
    write(config, 7)
    text = config.path.read_text().splitlines(keepends=True)
    config.path.write_text("".join(text[:lines]) + torn)
    whole = {4: 1, 5: 1, 6: 1, 7: 2, 8: 3}.get(lines, 0)
    assert replay(config) == [*SHARDS[:whole]]
    assert config.path.read_text() == "".join(text[: (1, 4, 7, 8)[whole]])


def test_a_stopped_process_resumes_after_the_last_whole_shard(
    config: JournalConfig, expected: bytes
) -> None:
    write(config, 5)
    assert resume(config) == SHARDS[0]
    assert config.path.read_bytes() == expected


@pytest.mark.parametrize("change", [{"identity": "two"}, {"identity": ""}, {"shard_size": 2}])
def test_another_task_starts_anew(config: JournalConfig, change: dict[str, object]) -> None:
    write(config, 7)
    write_shards(config, 0)
    assert replay(replace(config, **change)) == []
    assert len(config.path.read_text().splitlines()) == 1
    assert not config.shard_folder.exists()


@pytest.mark.parametrize(("line", "source"), [(1, 3), (2, 5)], ids=["twice", "another shard's"])
def test_a_line_out_of_place_ends_the_replay(config: JournalConfig, line: int, source: int) -> None:
    write(config, 7)
    text = config.path.read_text().splitlines(keepends=True)
    text[line] = text[source]
    config.path.write_text("".join(text))
    assert replay(config) == []


def test_a_shard_with_an_outdated_image_is_redone(config: JournalConfig) -> None:
    """By one process from there on; what a rank has redone replaces the lines of the journal."""
    config = replace(config, is_outdated=is_broken)
    write(config, 7)
    assert missing(config) == [3, 4, 5, 6]
    writer = ShardWriter(config)
    for position in (3, 4, 5, 6):
        writer.append(Record(position, "new", (9, 9), ROWS[0], None, position))
    with Journal(config) as journal:
        paths = [one.path for shard in journal.replay() for one in shard]
    assert paths == ["/in/1.jpg", "/in/0.jpg", "/in/2.jpg", *["new"] * 4]


def test_a_full_disk_is_a_warning(config: JournalConfig, caplog: pytest.LogCaptureFixture) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    with Journal(replace(config, path=Path("/dev/full"))) as journal:
        journal.replayed = 0
        journal._write(b"line\n")
        journal.append(record(0))
        assert journal.record(0) is None
    assert [line.levelname for line in caplog.records] == ["WARNING"]
    assert "the task cannot be resumed" in caplog.text


def test_shards_of_ranks_are_merged_in_order(
    config: JournalConfig, expected: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    write_shards(config, 1)
    write_shards(config, 0, 2)
    assert count_shard_files(config.path) == 3
    with Journal(config) as journal:
        assert [[one.position for one in shard] for shard in journal.replay()] == [*SHARDS]
        paths = [getattr(journal.record(position), "path", None) for position in range(7)]
    assert paths == [record(position).path for position in range(7)]
    assert config.path.read_bytes() == expected
    assert not config.shard_folder.exists()
    assert "merged candidates 1 to 7 of 7 from shards of several processes" in caplog.text


def test_a_rank_takes_its_shards_first_without_those_on_disk(config: JournalConfig) -> None:
    assert missing(config, 0, 2) == [0, 1, 2, 6, 3, 4, 5]
    assert missing(config, 1, 2) == [3, 4, 5, 6, 0, 1, 2]
    write(config, 4)
    assert missing(config, 0, 2) == [6, 3, 4, 5]
    assert missing(config, 1, 2) == [3, 4, 5, 6]
    write_shards(config, 1)
    assert [missing(config, rank, 2) for rank in (0, 1)] == [[6], [6]]
    assert missing(replace(config, identity="two")) == [0, 1, 2, 3, 4, 5, 6]


def test_a_shard_appears_when_it_is_whole(config: JournalConfig, expected: bytes) -> None:
    """One process takes over after the shards that follow each other."""
    writer = ShardWriter(config)
    for position in (*SHARDS[0], *SHARDS[1][:2]):
        writer.append(record(position))
    write_shards(config, 2)
    assert count_shard_files(config.path) == 2
    assert resume(config) == SHARDS[0]
    assert config.path.read_bytes() == expected
    assert not config.shard_folder.exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-5],
        lambda text: text.replace(b'"n":3', b'"n":4'),
        lambda text: text + text,
        lambda text: b"\0" * len(text),
        lambda text: b"",
    ],
    ids=["torn", "an image twice", "more than a shard", "zeros", "empty"],
)
def test_a_damaged_shard_is_redone(config: JournalConfig, damage: Callable[[bytes], bytes]) -> None:
    write_shards(config, 0, 1, 2)
    path = config.shard_path(1)
    path.write_bytes(damage(path.read_bytes()))
    assert missing(config) == [3, 4, 5]
    assert replay(config) == [SHARDS[0]]
    assert len(config.path.read_text().splitlines()) == 4
