"""Active learning: strategies, the log, learning curves (by hand), and a run that is killed."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from PIL import Image

from bench import active_learning
from bench.active_rounds import (
    START,
    Experiment,
    RoundResult,
    append_result,
    epochs_of,
    parse_strategies,
    parse_strategy,
    read_results,
    sample_images,
)
from bench.learning_curves import (
    area,
    by_seed,
    complete_curves,
    default_target,
    estimate,
    labels_needed,
    plot_curves,
    table,
)
from data.dataset_index import DatasetIndex
from data.instances import Instances
from mining.registry import ALGORITHMS
from settings.train import TrainSettings
from tests.killing_example import running, wait_for
from tools.sources import SourceDataset, read_source
from utils.errors import Code, TaskError

TINY = [
    *("--strategies", "random", "cald", "--seeds", "4", "--start", "4", "--per-round", "2"),
    *("--rounds", "2", "--epochs", "1", "--set", "img_size=96", "--set", "batch_size=4"),
    *("--set", "nominal_batch_size=4", "--set", "workers=0", "--set", "precision=float32"),
    *("--mining-set", "precision=float32", "--mining-set", "workers=0"),
    # A network of one epoch is sure of nothing: without this, mining would rank empty images.
    *("--mining-set", "conf_thres=0.0001", "--mining-set", "max_det=20"),
]
IMAGES = [f"{number:02}.jpg" for number in range(12)]


def words(data: Path, out: Path) -> list[str]:
    return ["--data", str(data), "--out", str(out), *TINY]


@pytest.fixture(scope="module")
def data(drawn: SourceDataset) -> Path:
    return drawn.splits["train"][0].path.parents[1]


def test_a_starting_set_shows_every_class(tmp_path: Path) -> None:
    """Of 12 images one shows class 0, one class 2, one nothing and all others class 1."""
    rows = [(kind, 0, 0, 5, 5) for kind in (1, 2, 1, 1, 1, 1, 0, 1, 1, 1, 1)]
    counts = [1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1]
    paths, names = [f"/pool/{name}" for name in IMAGES], ("a", "b", "c")
    pool = DatasetIndex.build(paths, [(9, 9)] * 12, Instances.from_rows(rows), counts, names)
    numbers = {"start": 4, "steps": 1, "per_round": 1, "rounds": 1}
    place = {"out": tmp_path, "weights": None, "gpu_id": ""}
    experiment = Experiment(
        pool=pool, validation=pool, settings=TrainSettings(), **numbers, **place
    )
    drawn = [experiment.starting_set(seed) for seed in range(300)]
    assert all({IMAGES[1], IMAGES[6]} < set(own) and len(set(own)) == 4 for own in drawn)
    # Besides, the first two of ten others, all alike: 60 of 300 draws each, deviation 7.
    seen = Counter(name for own in drawn for name in own)
    assert all(35 < seen[IMAGES[n]] < 85 for n in range(12) if n not in (1, 6))


def result(seed: int, strategy: str, number: int, map50: float = 0.25) -> RoundResult:
    added, losses = (f"{strategy}-{number}.jpg", "ä.jpg"), (0.1, 0.2, 0.30000000000000004)
    labels, boxes = 10 + 10 * number, 40 * number + 2 * seed
    figures = (labels, boxes, number, 3, map50, map50 / 2, losses, 1.5)
    return RoundResult(seed, strategy, number, added, *figures)


@pytest.mark.parametrize("name", sorted(set(ALGORITHMS) - {"random"}))
def test_every_mining_algorithm_is_a_strategy(name: str) -> None:
    own = parse_strategy(f"{name}:diverse_window=40", {"img_size": "64", "diverse_window": "9"})
    assert own.settings == {"img_size": "64", "diverse_window": "40", "mining_algorithm": name}
    assert parse_strategy("random", {"img_size": "64"}).settings == {}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        pytest.param(["dice"], "cald", id="unknown algorithm names those there are"),
        pytest.param(["cald:empty_images=never"], "first", id="value outside its choices"),
        pytest.param(["cald:empty_imags=last"], "did you mean empty_images", id="mistyped key"),
        pytest.param(["cald:flip"], "'flip' is no setting", id="no pair"),
        pytest.param(["random:seed=1"], "random has none", id="random with settings"),
        pytest.param(["cald", "random", "cald"], "name cald twice", id="twice"),
    ],
)
def test_strategies_that_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        parse_strategies(names, {})
    assert caught.value.code is Code.CONFIG


def test_different_names_have_different_folders() -> None:
    names = ["cald", "cald:views=flip", "cald:views=[flip]", "cald:conf_thres=0.1"]
    folders = [strategy.folder for strategy in parse_strategies(names, {})]
    assert len(set(folders)) == len(names)
    assert folders[0] == "cald"
    assert not any(set(folder) & set(":/[]") for folder in folders)


def test_random_choice_is_even_and_depends_on_seed_and_round_only() -> None:
    chosen = sample_images(IMAGES, 4, 0, 2, 1)
    assert chosen == sample_images(IMAGES[::-1], 4, 0, 2, 1)
    assert chosen != sample_images(IMAGES, 4, 0, 2, 2)
    assert sorted(sample_images(IMAGES[:3], 5, 0, 2, 1)) == IMAGES[:3]
    # Each of 12 images is among the 4 with probability 1/3: 300 of 900 draws, deviation 14.
    draws = Counter(one for seed in range(900) for one in sample_images(IMAGES, 4, seed, 2, 1))
    assert all(230 < draws[image] < 370 for image in IMAGES)


def test_epochs_of_a_training() -> None:
    settings = SimpleNamespace(batch_size=16, epochs=7)
    fixed, by_steps = (SimpleNamespace(steps=steps, settings=settings) for steps in (0, 100))
    assert epochs_of(fixed, 20) == 7
    assert epochs_of(by_steps, 20) == 50  # 2 batches an epoch
    assert epochs_of(by_steps, 48) == 34  # 3 batches an epoch, the last epoch whole


def test_results_are_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "seed-0" / "results.jsonl"
    assert read_results(path) == []
    first, second = result(0, START, 0), result(0, "cald", 1)
    append_result(path, first)
    append_result(path, second)
    assert read_results(path) == [first, second]


@pytest.mark.parametrize("line", [b"nonsense\n", b"\xff\xfe\n", b'{"seed": 0}\n'])
def test_a_broken_line_is_named(tmp_path: Path, line: bytes) -> None:
    append_result(tmp_path / "results.jsonl", result(0, START, 0))
    with (tmp_path / "results.jsonl").open("ab") as file:
        file.write(line)
    with pytest.raises(TaskError, match=r"line 2 .*no finished round") as caught:
        read_results(tmp_path / "results.jsonl")
    assert caught.value.code is Code.CONFIG


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--rounds", "9"], "make 22, but the training split .* has 16", id="few"),
        pytest.param(["--strategies", "dice"], "mining_algorithm", id="unknown algorithm"),
        pytest.param(["--set", "epochs=3"], "--set epochs", id="not to be set"),
        pytest.param(["--set", "batch_size=-1", "--steps", "9"], "batch_size", id="no batch size"),
        pytest.param(
            ["--weights", "none.pt"], "weight file none.pt does not exist", id="no weights"
        ),
    ],
)
def test_refusals(data: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        active_learning.main([*words(data, tmp_path / "out"), *arguments])
    assert not list(tmp_path.rglob("results.jsonl"))


def test_a_folder_of_something_else_stays_untouched(data: Path, tmp_path: Path) -> None:
    precious = tmp_path / "letter.txt"
    precious.write_text("dear", encoding="utf-8")
    with pytest.raises(TaskError, match="no folder of this benchmark"):
        active_learning.main(words(data, tmp_path))
    assert list(tmp_path.iterdir()) == [precious]


def test_a_kill_while_the_data_are_written_leaves_a_folder_that_can_be_used(
    data: Path, tmp_path: Path
) -> None:
    source, out = read_source(data), tmp_path / "out"
    (out / active_learning.POOL / "in" / "assets").mkdir(parents=True)
    (out / ".experiment.json.123.tmp").touch()
    active_learning.write_pool(out, source, {"start": 4})
    index = out / active_learning.POOL / "in" / "train-index.tsv"
    assert len(index.read_text("utf-8").splitlines()) == 16
    index.write_text("as it was", encoding="utf-8")
    active_learning.write_pool(out, source, {"start": 4})
    assert index.read_text("utf-8") == "as it was"  # written once
    with pytest.raises(TaskError, match="start was 4, is 6; steps was None, is 5"):
        active_learning.write_pool(out, source, {"start": 6, "steps": 5})


# Areas: random 0.3 and 0.5 (seeds 0, 1), cald 0.4 and 0.5; seed 1 of entropy is not complete.
RESULTS = [
    *(result(0, START, 0, 0.2), result(1, START, 0, 0.4), result(1, "entropy", 1, 0.9)),
    *(result(0, "random", 1, 0.3), result(0, "random", 2, 0.4)),
    *(result(0, "cald", 1, 0.4), result(0, "cald", 2, 0.6)),
    *(result(1, "random", 1, 0.5), result(1, "random", 2, 0.6)),
    *(result(1, "cald", 1, 0.5), result(1, "cald", 2, 0.6)),
]
NAMES = ["random", "cald", "entropy"]


def test_area_under_the_curve() -> None:
    areas = area(pd.DataFrame({7: [0.0, 0.5, 0.5], 8: [0.0, 1.0, 1.0]}, index=[10, 20, 50]))
    # (10 · 0.25 + 30 · 0.5) / 40 = 17.5 / 40
    assert areas.to_dict() == pytest.approx({7: 0.4375, 8: 0.875})


def test_labels_needed() -> None:
    curve = pd.Series([0.2, 0.6, 0.5], index=[20, 40, 60])
    assert labels_needed(curve, 0.4) == pytest.approx(30.0)  # 20 + 20 · 0.2/0.4
    assert labels_needed(curve, 0.55) == pytest.approx(37.5)  # 20 + 20 · 0.35/0.4
    assert labels_needed(curve, 0.6) == pytest.approx(40.0)
    assert labels_needed(curve, 0.61) is None


def test_an_estimate_is_mean_and_standard_error() -> None:
    # Squares from 2.5: 2.25 + 0.25 + 0.25 + 2.25 = 5; sqrt(5/3) / sqrt(4) = 0.645497
    assert estimate(pd.Series([1.0, 4.0, 2.0, 3.0])) == "2.5000 ± 0.6455"
    assert estimate(pd.Series([0.5]), "+") == "+0.5000 ± ?"


def curves(seeds: list[int]) -> pd.DataFrame:
    return complete_curves(RESULTS, NAMES, seeds, rounds=2)


def test_only_complete_curves_count() -> None:
    found = curves([0, 1, 2])
    assert by_seed(found, "cald").to_dict() == {
        0: {10: 0.2, 20: 0.4, 30: 0.6},
        1: {10: 0.4, 20: 0.5, 30: 0.6},
    }
    assert by_seed(found, "entropy").empty
    assert not complete_curves(RESULTS, ["entropy"], [1], rounds=1).empty


def test_the_table() -> None:
    lines = table(curves([0, 1]), NAMES, [0.5, 0.55]).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    # random: areas 0.3 and 0.5: 0.4, sqrt(0.02) / sqrt(2) = 0.1; it ends at 0.4 and 0.6.
    # Its mean curve 0.3, 0.4, 0.5 reaches 0.5 at 30 and 0.55 never; seed 1 alone reaches both.
    assert lines[2] == (
        "| random | 2 | 0.4000 ± 0.1000 |  | 0.5000 ± 0.1000 |  |  | 30 (1 of 2 seeds) "
        "| not reached (1 of 2 seeds) | 81.0 | 2.0 |"
    )
    # cald: areas 0.4 and 0.5; minus random 0.1 and 0.0; mean curve 0.3, 0.45, 0.6; at the end 0.2
    # and 0.0 above random; mAP50-95 is half of mAP50 everywhere.
    # 0.5 is a third of the way from 20 to 30, 0.55 two thirds.
    assert lines[3] == (
        "| cald | 2 | 0.4500 ± 0.0500 | +0.0500 ± 0.0500 (2 pairs) | 0.6000 ± 0.0000 "
        "| +0.1000 ± 0.1000 (2 pairs) | +0.0250 ± 0.0250 (2 pairs) "
        "| 23 (2 of 2 seeds) | 27 (2 of 2 seeds) | 81.0 | 2.0 |"
    )
    assert lines[4].startswith("| entropy | 0 |")
    assert default_target(curves([0, 1])) == pytest.approx([0.5])  # where random choice ends
    alone = complete_curves(RESULTS, ["cald"], [0, 1], rounds=2)
    assert default_target(alone) == []
    assert table(alone, ["cald"], []).splitlines()[2] == (
        "| cald | 2 | 0.4500 ± 0.0500 |  | 0.6000 ± 0.0000 |  |  | 81.0 | 2.0 |"
    )


@pytest.mark.parametrize("seeds", [[0, 1], [0], []], ids=str)
def test_the_plot_shows_every_strategy_with_a_curve(tmp_path: Path, seeds: list[int]) -> None:
    path = tmp_path / "curves.png"
    plot_curves(curves(seeds), NAMES, path)
    with Image.open(path) as picture:
        colours = {rgb for _, rgb in picture.convert("RGB").getcolors(picture.size[0] * 600)}
    # The lines of random and cald, in their colours, wherever there is a curve.
    assert ((0x00, 0x72, 0xB2) in colours) == bool(seeds)
    assert ((0xD5, 0x5E, 0x00) in colours) == bool(seeds)


def run_complete(data: Path, out: Path, *further: str) -> list[RoundResult]:
    active_learning.main([*words(data, out), *further])
    return read_results(out / "seed-4" / "results.jsonl")


def keys(results: list[RoundResult]) -> list[tuple[str, int]]:
    return [(one.strategy, one.round_number) for one in results]


def without_time(results: list[RoundResult]) -> list[RoundResult]:
    return [replace(result, seconds=0.0) for result in results]


def kill_after(lines: int, data: Path, out: Path) -> None:
    """Start the run and kill it, without warning, once so many rounds are on disk."""
    results = out / "seed-4" / "results.jsonl"
    command = ["-m", "bench.active_learning", *words(data, out)]
    with running(out.with_suffix(".log"), *command) as process:
        assert wait_for(lambda: len(read_results(results)) >= lines, 300)
        assert process.poll() is None, "the run ended before it was killed"
        process.kill()


@pytest.mark.slow
def test_a_killed_run_resumes_with_the_same_outcome(data: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    expected = run_complete(data, whole, "--rounds", "3")
    kill_after(2, data, killed)
    before = read_results(killed / "seed-4" / "results.jsonl")
    found = run_complete(data, killed)

    assert keys(before) == keys(found)[:2]
    assert found[:2] == before  # their time too: nothing was run again
    assert without_time(found) == without_time([one for one in expected if one.round_number < 3])
    for name in ("random", "cald"):
        chosen = [i for one in found if one.strategy in (START, name) for i in one.added]
        assert len(set(chosen)) == len(chosen) == 8
    assert [one.labels for one in found] == [4, 6, 8, 6, 8]
    assert all(one.boxes > 0 and min(one.losses) > 0 for one in found)

    setup = json.loads((killed / "experiment.json").read_text(encoding="utf-8"))
    assert (setup["start"], setup["per round"], setup["device"]) == (4, 2, "cpu")
    with pytest.raises(TaskError, match=r"start was 4, is 5"):
        run_complete(data, killed, "--start", "5")

    # A further round, also when somebody has removed the weights that it begins with.
    shutil.rmtree(killed / "seed-4" / "cald")
    longer = run_complete(data, killed, "--rounds", "3")
    assert sorted(keys(longer)) == sorted(keys(expected))
    assert without_time(longer[5:]) == without_time(
        [one for one in expected if one.round_number == 3]
    )
    lines = (whole / "report.md").read_text(encoding="utf-8").splitlines()
    assert [line.split(" | ")[:2] for line in lines[2:]] == [["| random", "1"], ["| cald", "1"]]
    assert (killed / "report.md").read_text("utf-8").splitlines() == lines
    assert (killed / "learning_curves.png").is_file()
