"""Pools of clips by hand; maps that are computed once; a frozen run that is taken up again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from bench import frozen_learning, pools
from bench.active_rounds import RoundResult, read_results
from bench.frozen_learning import MapCache
from bench.pools import TAIL, dull, long_tail, mostly_empty
from inference.network import Network
from models.checkpoint import build_detector, load_checkpoint
from tests.bench.test_active_learning import data  # noqa: F401  # a fixture
from tools.sources import read_source
from utils.errors import Code, TaskError

LETTERS = "abcdefghijkl"
CLIPS = {name: [[f"{name}{clip}.{n}" for n in range(5)] for clip in range(12)] for name in LETTERS}


def test_a_long_tail() -> None:
    frames = long_tail(CLIPS)
    assert [sum(one[0] == name for one in frames) for name in LETTERS] == [5 * n for n in TAIL]
    assert frames[-5:] == [f"l0.{n}" for n in range(5)]


def test_mostly_empty() -> None:
    """Three clips of each of the last four classes, all twelve of the other eight."""
    wanted = pools.wanted_classes(LETTERS)
    assert wanted == list("ijkl")
    frames = mostly_empty(CLIPS, wanted)
    assert [sum(one[0] == name for one in frames) for name in LETTERS] == [60] * 8 + [15] * 4


def test_dull() -> None:
    """Two of twelve clips a class whole; of the other 12 * 10 * 5 frames every seventh: 86."""
    frames = dull(CLIPS)
    assert frames[:11] == [*(f"a{c}.{n}" for c in range(2) for n in range(5)), "b0.0"]
    assert len(frames) == 120 + 86
    assert frames[120:122] == ["a2.0", "a3.2"]


def test_the_pools_are_data_sets(data_yaml: Path, tmp_path: Path) -> None:
    source, out = data_yaml.parent, tmp_path / "pools"
    stems = sorted(path.stem for path in (source / "images" / "train").iterdir())
    names = yaml.safe_load(data_yaml.read_text())["names"]
    names = list(names.values()) if isinstance(names, dict) else names
    clips = {stem: [f"clip {n // 2}", names[n % 2 * 2]] for n, stem in enumerate(stems)}
    listed = tmp_path / "data"
    listed.mkdir()
    for part in ("images", "labels", data_yaml.name):
        (listed / part).symlink_to(source / part)
    (listed / "meta.json").write_text(json.dumps({"train": clips}), encoding="utf-8")
    pools.main(["--data", str(listed), "--out", str(out)])
    kept = {one: sorted((out / one / "labels" / "train").glob("*")) for one in pools.POOLS}
    # 8 clips of the first class and 8 of the last: one image each. TAIL[0] is 12, TAIL[2] is 10.
    assert [len(own) for own in kept.values()] == [16, 8 + 3, 4 + 2]
    label = kept["empty"][0].name
    rows = (source / "labels" / "train" / label).read_text().splitlines()
    wanted = ["0" + row[1:] for row in rows if row[0] == "2"]
    assert kept["empty"][0].read_text().splitlines() == wanted
    assert yaml.safe_load((out / "empty" / "data.yaml").read_text())["names"] == [names[2]]
    named = ["--data", str(listed), "--pools", "empty", "--wanted"]
    pools.main([*named, names[0], "--out", str(tmp_path / "named")])
    assert yaml.safe_load((tmp_path / "named/empty/data.yaml").read_text())["names"] == [names[0]]
    with pytest.raises(TaskError, match="has no class ufo; it has"):
        pools.main([*named, "ufo", "--out", str(tmp_path / "other")])
    with pytest.raises(TaskError, match="long-tail exists"):
        pools.main(["--data", str(listed), "--out", str(out)])
    (listed / "meta.json").write_text('{"train": {"a": 3}}', encoding="utf-8")
    with pytest.raises(TaskError, match="clip and class") as caught:
        pools.main(["--data", str(listed), "--out", str(tmp_path / "other")])
    assert caught.value.code is Code.DATASET


def test_drawn_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "DRAWN", {"train": 60, "val": 40})
    pools.main(["--pools", "drawn", "--out", str(tmp_path)])
    source = read_source(tmp_path / "drawn", max_bad_fraction=0.0)
    assert source.class_names == tuple(pools.SHAPES)
    train, val = (source.splits[split] for split in ("train", "val"))
    assert [len(train), len(val)] == [60, 40]
    # 30 and 50 %: 18 and 20 scenes with shapes, deviations 3.5 and 3.2.
    assert 7 < sum(len(one.boxes) > 0 for one in train) < 29
    assert 10 < sum(len(one.boxes) > 0 for one in val) < 30
    counts = np.bincount(np.concatenate([one.classes for one in train]), minlength=8)
    assert counts[:2].sum() > counts[2:].sum()
    sides = np.concatenate([one.boxes[:, 2:] - one.boxes[:, :2] for one in train])
    assert 2 < sides.min() < sides.max() < 92  # at most a diagonal of 2 * 32 * sqrt(2)
    with pytest.raises(SystemExit):
        pools.main(["--out", str(tmp_path / "other")])


def test_maps_are_those_of_the_network_and_computed_once(weights: Path) -> None:
    device = torch.device("cpu")
    network = Network.build(
        build_detector(load_checkpoint(weights)), device=device, precision="float32"
    )
    asked: list[int] = []

    @torch.inference_mode()
    def compute(pixels: torch.Tensor) -> list[torch.Tensor]:
        asked.append(len(pixels))
        return network.compiled.head_inputs(pixels)

    cache = MapCache(compute)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 3, 64, 96), dtype=torch.uint8, generator=generator)
    pixels = network.pixels(images)
    expected = compute(pixels)
    for order in ([0, 1], [1, 2, 0], [2, 2]):
        for own, whole in zip(cache(pixels[order]), expected, strict=True):
            torch.testing.assert_close(own, whole[order], rtol=2e-3, atol=2e-3)
    assert asked == [3, 2, 1]
    # Turned by a quarter it has the same bytes in another shape.
    assert cache(pixels[:1].reshape(1, 3, 96, 64))[0].shape[2:] == (12, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "needs weights"), (["--weights", "none.pt"], "weight file none.pt does not exist")],
)
def test_refusals(tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        frozen_learning.main(["--data", str(tmp_path), "--out", str(tmp_path / "o"), *arguments])


def run(data: Path, weights: Path, out: Path) -> list[RoundResult]:  # noqa: F811
    words = ["--data", str(data), "--weights", str(weights), "--out", str(out), "--seeds", "4"]
    words += ["--start", "4", "--per-round", "3", "--rounds", "2", "--steps", "3"]
    words += ["--set", "img_size=64", "--set", "batch_size=4", "--mining-set", "conf_thres=0.001"]
    frozen_learning.main([*words, "--strategies", "random", "balanced", "cald"])
    return [replace(one, seconds=0) for one in read_results(out / "seed-4" / "results.jsonl")]


def test_a_run_goes_on_with_the_same_outcome(
    data: Path,  # noqa: F811
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = run(data, weights, tmp_path)
    assert "trainings of 3 batches" in "".join(capsys.readouterr())
    assert [one.labels for one in whole] == [4, 7, 10, 7, 10, 7, 10]
    assert all(one.boxes > 0 and min(one.losses) > 0 for one in whole)
    assert all(0 <= one.rare_boxes < one.boxes for one in whole)
    chosen = [one.added for one in whole if one.strategy in ("start", "balanced")]
    assert len({name for added in chosen for name in added}) == 10
    results = tmp_path / "seed-4" / "results.jsonl"
    lines = results.read_text("utf-8").splitlines(keepends=True)
    results.write_text("".join(lines[:4]), encoding="utf-8")
    assert run(data, weights, tmp_path) == whole
    assert results.read_text("utf-8").startswith("".join(lines[:4]))
    assert (tmp_path / "learning_curves.png").is_file()
