"""monitor.txt: always complete, rising, with a new time in every record; a failure comes last."""

from __future__ import annotations

import errno
import threading
import time
import types
from pathlib import Path

import pytest

import ymir.monitor as ymir_monitor
from utils.errors import Code
from ymir.monitor import Monitor

NOW = 1_700_000_000.0


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The record's file; every report is written."""
    monkeypatch.setattr(ymir_monitor, "INTERVAL", 0.0)
    return tmp_path / "monitor.txt"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Clocks of the module that stand where they are put."""
    clock = types.SimpleNamespace(now=NOW, time=lambda: clock.now, monotonic=lambda: clock.now)
    monkeypatch.setattr(ymir_monitor, "time", clock)
    return clock


def columns(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[0].split("\t")


def test_a_record_has_the_protocol_s_columns(path: Path, clock: types.SimpleNamespace) -> None:
    Monitor(path, "t01").report(0.42, "epoch 21/50")
    assert path.read_text() == "t01\t1700000000.000000\t0.420000\t2\t0\nepoch 21/50\n"


def test_at_most_once_a_second_but_the_last_step_always(
    tmp_path: Path, clock: types.SimpleNamespace
) -> None:
    path = tmp_path / "monitor.txt"
    monitor = Monitor(path, "t01")
    seen = []
    for step, fraction in enumerate([0.1, 0.2, 0.3, 1.0, 1.0]):
        clock.now = NOW + 0.4 * step
        monitor.report(fraction)
        seen.append(float(columns(path)[2]))
    assert seen == [0.1, 0.1, 0.1, 1.0, 1.0]


def test_progress_never_falls_and_stays_in_its_range(path: Path) -> None:
    monitor = Monitor(path, "t01")
    seen = []
    for fraction in (0.5, 0.2, -1.0, float("nan"), 0.6, 7.0):
        monitor.report(fraction)
        seen.append(float(columns(path)[2]))
    assert seen == [0.5, 0.5, 0.5, 0.5, 0.6, 1.0]


def test_time_changes_even_when_the_clock_stands_or_is_set_back(
    path: Path, clock: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "monotonic", time.monotonic)
    monitor = Monitor(path, "t01")
    stamps = []
    for shift in (0.0, 0.0, -3600.0, 5.0):
        clock.now += shift
        monitor.report(0.1)
        stamps.append(float(columns(path)[1]))
    monitor.fail(Code.CONFIG, "x")
    stamps.append(float(columns(path)[1]))
    assert stamps == sorted(set(stamps))


def test_a_failure_has_state_4_and_its_code(path: Path) -> None:
    monitor = Monitor(path, "t01")
    monitor.report(0.3)
    monitor.fail(Code.DATASET, "the index\t颜\udce9\nis empty.", "Traceback\n\n  line\n")
    first, *rest = path.read_text("utf-8").splitlines()
    assert first.split("\t")[2:] == ["0.300000", "4", "300002", "the index 颜? is empty."]
    assert rest == ["the index\t颜?", "is empty.", "Traceback", "  line"]


def test_nothing_follows_a_failure(path: Path) -> None:
    monitor = Monitor(path, "t01")
    monitor.fail(Code.MODEL, "first.")
    before = path.read_text()
    monitor.report(0.9)
    monitor.fail(Code.CONFIG, "second.")
    assert path.read_text() == before


def test_a_long_traceback_keeps_the_sentence_and_its_own_end(path: Path) -> None:
    text = "\n".join(f"frame {number}" for number in range(500))
    Monitor(path, "t01").fail(Code.CONTAINER, "it broke.", text)
    lines = path.read_text().splitlines()
    assert len(lines) == 100
    assert (lines[1], lines[-1]) == ("it broke.", "frame 499")


def test_trouble_in_writing_is_logged_not_raised(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = Monitor(tmp_path / "nowhere" / "monitor.txt", "t01")
    monitor.report(0.1)
    monitor.fail(Code.CONFIG, "broken \udce9 name")
    assert "nowhere" in caplog.text
    assert not (tmp_path / "nowhere").exists()


def test_a_reader_never_sees_half_a_record(path: Path) -> None:
    monitor = Monitor(path, "t01")
    monitor.report(0.0)
    stop, faults, seen = threading.Event(), [], []

    def poll() -> None:
        while not stop.is_set():
            found = columns(path)
            if len(found) != 5:
                faults.append(found)
                return
            seen.append((float(found[2]), float(found[1])))

    reader = threading.Thread(target=poll)
    reader.start()
    for step in range(200):
        monitor.report(step / 200)
    stop.set()
    reader.join()
    assert not faults
    assert len(seen) > 10
    assert seen == sorted(seen)
    assert [item.name for item in path.parent.iterdir()] == ["monitor.txt"]


def test_on_a_full_disk_the_end_takes_the_place_of_the_last_record(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = Monitor(path, "t01")
    monitor.report(0.3, "x" * 40)

    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(ymir_monitor, "write_text", full)
    before = path.read_bytes()
    for fraction in (0.4, 0.5):
        monitor.report(fraction)
    assert path.read_bytes() == before
    assert len(caplog.records) == 1
    monitor.fail(Code.CONTAINER, "no space is left.", "\n".join(["frame"] * 3000))
    content = path.read_bytes()
    assert content.startswith(before.split(b"\t")[0] + b"\t")
    assert columns(path)[3:] == ["4", "160004", "no space is left."]
    assert content.endswith(b"frame\n")
    assert len(content) <= max(len(before), path.stat().st_blocks * 512)


def test_a_failure_goes_on_from_what_another_process_reported(
    path: Path, clock: types.SimpleNamespace
) -> None:
    """The launcher's own monitor has seen nothing of the progress of the processes it started."""
    launcher = Monitor(path, "t01")
    launcher.report(0.2)
    clock.now = NOW + 60
    Monitor(path, "t01").report(0.7)
    clock.now = NOW
    launcher.reload()
    launcher.fail(Code.DATASET, "no images.")
    _, stamp, progress, state, code, _ = columns(path)
    assert (progress, state, code) == ("0.700000", "4", str(int(Code.DATASET)))
    assert float(stamp) > NOW + 60


def test_whoever_insists_waits_for_no_thread_that_hangs(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor = Monitor(path, "t01")
    monitor.report(0.5)
    go, whole = threading.Event(), ymir_monitor.write_text

    def hang(where: Path, text: str) -> None:
        if threading.current_thread() is stuck:
            go.wait()
        whole(where, text)

    monkeypatch.setattr(ymir_monitor, "write_text", hang)
    stuck = threading.Thread(target=monitor.report, args=(0.7,))
    stuck.start()
    monitor.fail_now(Code.CONTAINER, "told to stop.", patience=0.05)
    assert columns(path)[2:] == ["0.700000", "4", "160004", "told to stop."]
    go.set()
    stuck.join()
    monitor.report(0.9)  # whoever goes on says nothing any more
    assert columns(path)[2] == "0.700000"


def test_whoever_insists_leaves_another_failure_alone(path: Path) -> None:
    Monitor(path, "t01").fail(Code.DATASET, "no images.")
    before = path.read_bytes()
    Monitor(path, "t01").fail_now(Code.CONTAINER, "told to stop.")
    assert path.read_bytes() == before
