"""Tasks that look at candidates, stopped in the midst and started again."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

import start
from inference.journal import Entry, Journal
from mining.registry import ALGORITHMS
from tests.conftest import ROOT
from tools.make_task import write_task
from tools.sources import SourceDataset

SETTINGS = {"img_size": "64", "batch_size": "1", "conf_thres": "0.001", "plots": "no"}
RESULTS = ("result.tsv", "infer-result.json")


class Stopped(BaseException):
    """As sudden as a signal."""


def make(
    drawn: SourceDataset,
    weights: Path,
    folder: Path,
    kinds: tuple[str, ...],
    settings: Mapping[str, str],
) -> Path:
    """A task of batches of one image: sections of 8 on a machine of at most 8 cores."""
    changed = {**SETTINGS, **settings}
    return write_task(
        drawn,
        folder,
        kinds=kinds,
        settings=changed,
        weights=[weights],
        candidates="train",
        overwrite=True,
    )


def results(task: Path) -> list[bytes]:
    """The result files there are; paths in them begin with the task's folder, which differs."""
    files = [task / "out" / name for name in RESULTS]
    return [file.read_bytes().replace(bytes(task), b"") for file in files if file.is_file()]


def stop_after(monkeypatch: pytest.MonkeyPatch, lines: int) -> None:
    add, count = Journal.add, 0

    def adding(log: Journal, entry: Entry) -> None:
        nonlocal count
        if count == lines:
            raise Stopped
        count += 1
        add(log, entry)

    monkeypatch.setattr(Journal, "add", adding)


CASES = [
    *((name, ("mining",)) for name in ALGORITHMS),
    ("cald", ("mining", "infer")),
    ("cald", ("infer",)),
]


@pytest.mark.parametrize(("name", "kinds"), CASES, ids=str)
def test_a_stopped_task_goes_on(
    drawn: SourceDataset,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    name: str,
    kinds: tuple[str, ...],
) -> None:
    through, stopped = tmp_path / "through", tmp_path / "stopped"
    settings = {"mining_algorithm": name, "empty_images": "mixed"} if "mining" in kinds else {}
    monkeypatch.setattr("tasks.looking.UNSEEN_SECTION", 8)
    assert start.main(["--env", str(make(drawn, weights, through, kinds, settings))]) == 0
    env_file = make(drawn, weights, stopped, kinds, settings)
    with monkeypatch.context() as patch:
        stop_after(patch, 13)
        with pytest.raises(Stopped):
            start.main(["--env", str(env_file)])
    assert results(stopped) == []
    known = stopped / "out" / ("mining" if "mining" in kinds else "infer") / "known.jsonl"
    assert len(known.read_text().splitlines()) == 14
    capfd.readouterr()
    assert start.main(["--env", str(env_file)]) == 0
    said = "".join(capfd.readouterr())
    assert "going on after 8 of" in said
    assert results(stopped) == results(through)
    assert len(results(stopped)) == len(kinds)


def test_images_that_were_away_are_looked_at_again(
    drawn: SourceDataset, weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One that is broken for good is no reason to begin anew."""
    env_file = make(drawn, weights, tmp_path / "task", ("mining",), {})
    images = sorted((tmp_path / "task/in").rglob("*.jpg"))
    images[0].write_bytes(b"no picture")
    assert start.main(["--env", str(env_file)]) == 0
    capfd.readouterr()
    assert start.main(["--env", str(env_file)]) == 0
    total = len(images)
    assert f"going on after {total} of {total} candidates" in "".join(capfd.readouterr())
    images[0].write_bytes(images[1].read_bytes())
    assert start.main(["--env", str(env_file)]) == 0
    assert f"going on after {total} of" not in "".join(capfd.readouterr())
    scores = (tmp_path / "task/out/result.tsv").read_text().splitlines()
    assert len(scores) == total


def test_other_settings_begin_anew_and_workers_do_not(
    drawn: SourceDataset, weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    task, known = tmp_path / "task", tmp_path / "task" / "out" / "mining" / "known.jsonl"
    for settings, anew in (
        ({"seed": "0"}, True),
        ({"seed": "0", "workers": "1"}, False),
        ({"seed": "1"}, True),
    ):
        before = known.read_bytes() if known.is_file() else None
        env_file = make(drawn, weights, task, ("mining",), settings)
        if before:
            known.parent.mkdir()
            known.write_bytes(before)
        capfd.readouterr()
        assert start.main(["--env", str(env_file)]) == 0
        assert ("going on after" not in "".join(capfd.readouterr())) == anew


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["cald", "entropy"])
def test_a_killed_task_goes_on(
    drawn: SourceDataset, weights: Path, tmp_path: Path, algorithm: str
) -> None:
    """SIGKILL between lines; the scores so far can be read, and the end is that of one run."""
    written, settings = {}, {"mining_algorithm": algorithm}
    for name in ("through", "killed"):
        task = tmp_path / name
        env_file = make(drawn, weights, task, ("mining", "infer"), {**settings, "img_size": "320"})
        command = [sys.executable, str(ROOT / "start.py"), "--env", str(env_file)]
        known = task / "out" / "mining" / "known.jsonl"
        if name == "killed":
            with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
                while process.poll() is None:
                    if known.is_file() and known.read_bytes().count(b"\n") > 10:
                        process.kill()
                        break
                    time.sleep(0.002)
                assert process.wait() < 0
            lines = known.read_text("utf-8").split("\n")[1:-1]
            assert all(json.loads(line)["score"] is not None for line in lines if "score" in line)
            assert len(lines) >= 10
            assert results(task) == []
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert ("going on after" in done.stdout + done.stderr) == (name == "killed")
        written[name] = results(task)
    assert written["through"] == written["killed"]
