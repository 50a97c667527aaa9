"""The ranking of all: draws between equal scores, and what is done where detections say nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import start
from inference.journal import Record
from mining.ranking import Ranking, rank_images, ranking_order
from mining.registry import ALGORITHMS
from mining.scores import ScoringContext, tie_draw
from settings.detect import MiningSettings
from tests.mining.colour_example import SETTINGS, ColourPredictor, draw
from tools.make_task import write_task
from tools.sources import SourceDataset


def test_equal_scores_follow_a_draw_of_seed_and_name() -> None:
    """Equal in six digits; list order, folder and other images change nothing."""
    paths = [f"folder/{n}.jpg" for n in range(40)]
    scores = [0.5 + 1e-8 * (n % 3) for n in range(38)] + [0.7, None]
    order = ranking_order(scores, paths, 0)
    assert (order[0], order[-1]) == (38, 39)
    tied = order[1:-1]
    assert tied == sorted(tied, key=lambda n: -tie_draw(0, paths[n]))
    assert tied not in (sorted(tied), sorted(tied, reverse=True))
    back = ranking_order(scores[::-1], paths[::-1], 0)
    assert [paths[::-1][n] for n in back] == [paths[n] for n in order]
    moved = [path.replace("folder", "elsewhere") for path in paths]
    assert ranking_order(scores, moved, 0) == order
    assert ranking_order(scores, paths, 1) != order


def test_equal_names_follow_their_folders() -> None:
    paths = ["b/1.jpg", "a/1.jpg", "c/1.jpg"]
    assert ranking_order([0.0] * 3, paths, 0) == [1, 0, 2]


def rank(
    predictor: ColourPredictor | None, paths: list[str], settings: MiningSettings
) -> tuple[Ranking, str]:
    """Rank, and return the names of the images in that order too."""
    algorithm = ALGORITHMS[settings.mining_algorithm]
    assert predictor is not None
    context = ScoringContext(predictor, settings, len(paths))
    low = algorithm.confidence
    stream = predictor.stream_tiles(paths, keep_inputs=True, keep_confidence=low)
    again = predictor.shown_again(paths)
    found = rank_images(algorithm.score(stream, context), algorithm, context, paths, again)
    return found, "".join(Path(paths[n]).stem for n in found.order)


@pytest.fixture
def scenes(tmp_path: Path) -> list[str]:
    """Three bright scenes, b a copy of a; d dark; one that cannot be read."""
    (tmp_path / "x.png").write_bytes(b"no image")
    sky = ((0, 0, 96, 30), (250, 250, 250))
    images = [draw(tmp_path / f"{name}.png", (64, 96), sky) for name in "ab"]
    images.append(draw(tmp_path / "c.png", (64, 96), ((0, 0, 40, 60), (250, 250, 250))))
    images.append(draw(tmp_path / "d.png", (64, 96), ((0, 0, 96, 60), (3, 3, 3))))
    return [*images, str(tmp_path / "x.png")]


class Shaded(ColourPredictor):
    """Its backbone's map has the brightness of each quarter."""

    def backbone_map(self, images: Tensor) -> Tensor:
        quarters = torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, 2).mean(1)
        return torch.cat([quarters.flatten(1), 1 - quarters.flatten(1)], 1)[..., None, None]


NETWORK = sorted(set(ALGORITHMS) - {"random", "aldd"})


@pytest.mark.parametrize("algorithm", NETWORK)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_where_nothing_is_found_the_order_is_by_diversity(
    scenes: list[str], algorithm: str, batch_size: int, caplog: pytest.LogCaptureFixture
) -> None:
    settings = replace(SETTINGS, mining_algorithm=algorithm, batch_size=batch_size)
    found, order = rank(Shaded(batch_size=batch_size), scenes, settings)
    assert found.note.startswith(
        "nothing was found in any of the 4 images: this is no ranking by "
        f"{algorithm} but by the differences of the images alone; train longer"
    )
    lower = {"misses": "lower miss_conf (now 0.05)", "balanced": "train longer, or label"}
    assert lower.get(algorithm, "lower conf_thres (now 0.25)") in found.note
    assert found.note in caplog.messages
    # Of the copies a and b one is last.
    assert order[-1] == "x"
    assert order[-2] in "ab"
    first, copy = (scenes.index(scenes["abcd".index(order[n])]) for n in (-4, -2))
    assert "distance" in found.breakdowns[first]
    assert found.breakdowns[copy] == {"distance": 0, "nearest": 1 - copy}
    assert found.scores[4] is None
    scores = [found.scores[n] or 0 for n in found.order[:4]]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 1
    assert rank(Shaded(), scenes[::-1], settings)[1] == order


def test_where_all_scores_are_alike(scenes: list[str]) -> None:
    def same(image: Tensor) -> tuple[Tensor, Tensor]:
        return torch.tensor([[9.0, 9, 20, 20, 0.5, 0]]), torch.eye(3)[:1]

    settings = replace(SETTINGS, mining_algorithm="entropy")
    found, order = rank(Shaded(same), scenes, settings)
    assert found.note.startswith("all 4 images have the same score: this is no ranking by entropy")
    assert order[-2] in "ab"


def test_detections_that_tell_something_are_not_overruled(paths: list[str]) -> None:
    found, _ = rank(ColourPredictor(), paths, replace(SETTINGS, mining_algorithm="entropy"))
    assert found.note == ""
    assert found.order[0] == 3 or found.scores[found.order[0]] != found.scores[found.order[1]]
    alone, _ = rank(ColourPredictor(), paths[2:3], replace(SETTINGS, mining_algorithm="entropy"))
    assert alone.note == ""


def test_breakdowns_of_score_and_ranking_are_joined() -> None:
    own = Record(0, "a", (9, 9), np.zeros((0, 6)), None, 0, {"score": 1, "breakdown": {"class": 1}})
    joined = Ranking([1.0], [0], {0: {"distance": 0.5}}).explained(own)
    assert joined is not None
    assert joined.scored == {"score": 1, "breakdown": {"class": 1, "distance": 0.5}}
    replaced = Ranking([1.0], [0], {0: {"distance": 0.5}}, "a note").explained(own)
    assert replaced is not None
    assert (replaced.scored or {})["breakdown"] == {"distance": 0.5}
    assert Ranking([1.0], [0]).explained(None) is None


@pytest.mark.parametrize("algorithm", ["cald", "entropy"])
def test_a_task_that_finds_nothing_says_so(
    drawn: SourceDataset,
    weights: Path,
    tmp_path: Path,
    algorithm: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """In the log, in the report and in explanations.csv; and it repeats itself."""
    settings = {"mining_algorithm": algorithm, "img_size": "64", "conf_thres": "1", "batch_size": 1}
    env_file = write_task(
        drawn, tmp_path / "task", kinds=("mining",), settings=settings, weights=[weights]
    )
    out = tmp_path / "task" / "out"
    results = []
    for _ in range(2):
        assert start.main(["--env", str(env_file)]) == 0
        results.append((out / "result.tsv").read_text())
    assert results[0] == results[1]
    logged = "".join(capfd.readouterr())
    sentence = f"this is no ranking by {algorithm}"
    table = (out / "mining" / "explanations.csv").read_text().splitlines()
    assert sentence in logged
    assert sentence in table[1]
    assert sentence not in table[2]
    assert sentence in (out / "tensorboard" / "report.html").read_text()
