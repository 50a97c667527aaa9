"""The CALD engine on drawn images and a detector that sees colours, then on real networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from inference.batching import WorkerPool
from inference.predictions import Prediction
from inference.predictor import Predictor, PredictorConfig, load_predictor
from mining.mining_cald import EMPTY_SCORES, cald_scores, main
from mining.registry import mine
from mining.scores import UNREADABLE_SCORE, ScoringContext
from models.detector import Detector
from models.model_config import read_model_config
from ops.nms import NmsConfig
from settings.detect import MiningSettings
from utils.errors import Code, TaskError

SETTINGS = MiningSettings(batch_size=4, workers=0)
Read = Callable[[Tensor], tuple[Tensor, Tensor]]
CPU = torch.device("cpu")


def see_colours(image: Tensor) -> tuple[Tensor, Tensor]:
    """At most one object per class, red, green and blue: its extent, as sure as it is bright."""
    rows = []
    for own in range(3):
        others = [image[c].int() for c in range(3) if c != own]
        seen = image[own].int() - torch.maximum(*others) > 40
        if seen.any():
            ys, xs = torch.where(seen)
            confidence = float(image[own][seen].max()) / 255
            rows.append([*(float(v) for v in (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)),
                         confidence, own])  # fmt: skip
    found = torch.tensor(rows).reshape(-1, 6)
    return found, torch.eye(3)[found[:, 5].long()] * 0.85 + 0.05


class ColourPredictor(Predictor):
    """A predictor whose network is `see`; it notes the shape of every batch.

    At 96 px in batches of four; `config` as `PredictorConfig` takes it.
    """

    see: Read
    shapes: list[tuple[int, ...]]

    def __init__(
        self,
        see: Read = see_colours,
        *,
        device: torch.device = CPU,
        labelled_objects: tuple[float, ...] | None = None,
        **config: Any,
    ) -> None:
        network: Any = SimpleNamespace(device=device, stride=32, num_classes=3)
        own = PredictorConfig(**{"image_size": 96, "batch_size": 4, "workers": 1, **config})
        names = ("red", "green", "blue")
        super().__init__(network, names, WorkerPool(CPU), own, labelled_objects)
        object.__setattr__(self, "see", see)
        object.__setattr__(self, "shapes", [])

    def detect_with_classes(
        self, images: Tensor, *, nms: NmsConfig | None = None
    ) -> list[tuple[Tensor, Tensor]]:
        assert images.dtype == torch.uint8
        self.shapes.append(tuple(images.shape))
        return [self.see(image) for image in images]


RED, GREEN, BLUE = (0, 0, 200), (0, 200, 0), (200, 0, 0)  # BGR, as OpenCV writes them
FAINT_RED = (0, 0, 77)


def draw(
    path: Path, size: tuple[int, int], *objects: tuple[tuple[int, int, int, int], tuple[int, ...]]
) -> str:
    """A grey photograph of size (height, width) with coloured boxes (xyxy) on it."""
    height, width = size
    shade = np.linspace(80, 150, width).astype(np.uint8)
    image = np.repeat(np.repeat(shade[None], height, 0)[..., None], 3, 2)
    for (left, top, right, bottom), colour in objects:
        image[top:bottom, left:right] = colour
    assert cv2.imwrite(str(path), image)
    return str(path)


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Images of mixed shapes; the third and the last without objects, the fifth unreadable."""
    box, low = (20, 10, 60, 40), (10, 40, 40, 60)
    broken = tmp_path / "e_broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and then nothing of the kind")
    return [
        draw(tmp_path / "a_landscape.png", (64, 96), (box, RED)),
        draw(tmp_path / "b_portrait.png", (96, 64), (low, GREEN), ((42, 5, 60, 30), BLUE)),
        draw(tmp_path / "c_empty.png", (64, 96)),
        draw(tmp_path / "d_faint.png", (64, 96), (box, FAINT_RED)),
        str(broken),
        draw(tmp_path / "f_odd.png", (50, 90), (box, BLUE)),
        draw(tmp_path / "g_large.png", (192, 256), ((100, 60, 180, 150), GREEN)),
        draw(tmp_path / "h_empty.png", (40, 96)),
    ]


def test_sure_and_consistent_comes_after_unsure(paths: list[str]) -> None:
    """Defect 4: an image at |m - 1.3| near 0 precedes a perfectly consistent one.

    Faint red is found again in every view with confidence 77 / 255 = .302: m near 1.302.
    Bright red with 200 / 255 = .784: m near 1.784, score near 1 - .484 = .516.
    """
    scores = dict(mine(ColourPredictor(), paths, SETTINGS))
    assert scores[paths[3]] > 0.9
    assert scores[paths[0]] == pytest.approx(0.516, abs=0.1)


def test_flip_alone_by_hand(paths: list[str]) -> None:
    """A flip of drawn boxes loses nothing: IoU 1, m = 1 + 200/255, score = 1 - (m - 1.3)."""
    settings = replace(SETTINGS, views=("flip",))
    scores = dict(mine(ColourPredictor(), paths, settings))
    for index in (0, 1, 5):
        assert scores[paths[index]] == pytest.approx(1 - (1 + 200 / 255 - 1.3), abs=1e-5)
    assert scores[paths[3]] == pytest.approx(1 - (1 + 77 / 255 - 1.3), abs=1e-5)


def test_changed_class_changes_the_score(paths: list[str]) -> None:
    """Defects 1 and 2: the same boxes and confidences, another class vector in the views only."""
    count = 0

    def waver(image: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal count
        count += 1
        rows, classes = see_colours(image)
        return rows, classes if count == 1 else classes.roll(1, 1)

    settings = replace(SETTINGS, views=("flip",))
    steady = mine(ColourPredictor(), paths[:1], settings)[0][1]
    wavering = mine(ColourPredictor(waver), paths[:1], settings)[0][1]
    # JS of (.9, .05, .05) and (.05, .9, .05): .9 ln(.9/.475) + .05 ln(.05/.475) = .462607;
    # m = 1 + .784314 * (1 - .462607) = 1.421485.
    assert steady == pytest.approx(0.515686, abs=1e-5)
    assert wavering == pytest.approx(1 - 0.121485, abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 16])
def test_batch_size_changes_nothing(paths: list[str], batch_size: int) -> None:
    expected = mine(ColourPredictor(), paths, SETTINGS)
    own = ColourPredictor(batch_size=batch_size)
    assert mine(own, paths, replace(SETTINGS, batch_size=batch_size)) == expected


def test_order_and_company_change_nothing(paths: list[str]) -> None:
    expected = dict(mine(ColourPredictor(), paths, SETTINGS))
    assert dict(mine(ColourPredictor(), paths[::-1], SETTINGS)) == expected
    for path in paths:
        assert dict(mine(ColourPredictor(), [path], SETTINGS)) == {path: expected[path]}


@pytest.mark.parametrize("empty_images", ["first", "last"])
def test_empty_and_unreadable_images(paths: list[str], empty_images: str) -> None:
    """Defects 5 and 20: one rule for images without objects; a bad file comes last."""
    settings = replace(SETTINGS, empty_images=empty_images)
    rows = mine(ColourPredictor(), paths, settings)
    assert [path for path, _ in rows] == paths
    scores = [score for _, score in rows]
    assert scores[2] == scores[7] == EMPTY_SCORES[empty_images]
    assert scores[4] == UNREADABLE_SCORE == min(scores)
    others = [scores[index] for index in (0, 1, 3, 5, 6)]
    assert all(0 <= score <= 1 for score in others)
    assert (max(others) <= scores[2]) if empty_images == "first" else (min(others) >= scores[2])


def test_view_without_detections_is_the_most_informative(paths: list[str]) -> None:
    def lose(image: Tensor) -> tuple[Tensor, Tensor]:
        rows, classes = see_colours(image)
        kept = rows[:, 0] < 30  # the flipped object begins further right
        return rows[kept], classes[kept]

    settings = replace(SETTINGS, views=("flip",))
    assert mine(ColourPredictor(lose), paths[:1], settings)[0][1] == 1.0


@pytest.mark.parametrize("chosen", [slice(None), slice(2, 3), slice(4, 5), slice(0, 0)])
def test_progress_reaches_the_end(paths: list[str], chosen: slice) -> None:
    """Defect 18: images without objects did not count."""
    told: list[tuple[int, int]] = []
    wanted = paths[chosen]
    mine(
        ColourPredictor(),
        wanted,
        SETTINGS,
        on_progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(done, len(wanted)) for done in range(1, len(wanted) + 1)]


def test_first_predictions_are_used_as_they_are(paths: list[str]) -> None:
    """Mining beside inference decodes and first-predicts every image once."""
    seen: list[Prediction] = []
    predictor = ColourPredictor()

    def watch(predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        for prediction in predictions:
            seen.append(prediction)
            yield prediction

    stream = predictor.stream_tiles(paths, keep_inputs=True)
    scored = list(cald_scores(watch(stream), ScoringContext(predictor, SETTINGS, 1)))
    assert sorted(item.position for item in seen) == list(range(len(paths)))
    assert sorted(item.position for item in scored) == list(range(len(paths)))
    assert all(paths[item.position] == item.path for item in scored)
    # 7 readable images predicted once, 5 with objects four times more.
    assert sum(shape[0] for shape in predictor.shapes) == 7 + 5 * 4


def test_network_inputs_shrink_with_the_content(paths: list[str]) -> None:
    """Defect 12: the smaller view filled a corner of an input of the old size."""
    predictor = ColourPredictor()
    mine(predictor, paths[:1], replace(SETTINGS, views=("resize",)))
    # 64 x 96 -> 51 x 76 within 51.2 x 76.8, up to multiples of 32.
    assert predictor.shapes == [(1, 3, 64, 96), (1, 3, 64, 96)]
    predictor = ColourPredictor(image_size=640)
    mine(predictor, paths[6:7], replace(SETTINGS, views=("resize",)))
    # 192 x 256 fits 480 x 640; .8 of it is 384 x 512.
    assert predictor.shapes == [(1, 3, 480, 640), (1, 3, 384, 512)]


@pytest.mark.parametrize(
    "views",
    [
        pytest.param((), id="none"),
        pytest.param(("flip", "flip"), id="twice"),
        pytest.param(("flip", "blur"), id="unknown"),
    ],
)
def test_wrong_views_are_refused(paths: list[str], views: tuple[str, ...]) -> None:
    with pytest.raises(TaskError, match="views") as caught:
        mine(ColourPredictor(), paths, replace(SETTINGS, views=views))
    assert caught.value.code == Code.CONFIG


def test_scores_that_are_no_numbers_stop_the_task(paths: list[str]) -> None:
    def broken(image: Tensor) -> tuple[Tensor, Tensor]:
        rows, classes = see_colours(image)
        rows[:, 4] = float("nan")
        return rows, classes

    with pytest.raises(TaskError, match=r"a_landscape\.png is nan") as caught:
        mine(ColourPredictor(broken), paths, SETTINGS)
    assert caught.value.code == Code.NOT_A_NUMBER


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_views_on_a_gpu_score_as_on_the_cpu(paths: list[str]) -> None:
    def see(image: Tensor) -> tuple[Tensor, Tensor]:
        rows, classes = see_colours(image.cpu())
        return rows.to(image.device), classes.to(image.device)

    predictor = ColourPredictor(see, device=torch.device("cuda"))
    found = [score for _, score in mine(predictor, paths, SETTINGS)]
    expected = [score for _, score in mine(ColourPredictor(), paths, SETTINGS)]
    assert found == pytest.approx(expected, abs=0.05)  # one grey level may move an edge by a pixel


def untrained(classes: int) -> Predictor:
    torch.manual_seed(0)
    return Predictor.build(
        Detector(read_model_config("yolov5n", nc=classes)),
        [f"class {n}" for n in range(classes)],
        device=CPU,
        config=PredictorConfig(
            image_size=96,
            batch_size=4,
            workers=1,
            nms=NmsConfig(confidence=0.0, iou=0.45, max_detections=20),
            precision="float32",
        ),
    )


@pytest.mark.parametrize("classes", [1, 3])
def test_real_network_repeats_itself(paths: list[str], classes: int) -> None:
    rows = mine(untrained(classes), paths, SETTINGS)
    assert mine(untrained(classes), paths, SETTINGS) == rows
    assert rows[4][1] == UNREADABLE_SCORE
    assert all(0 <= score <= 1 for index, (_, score) in enumerate(rows) if index != 4)


def test_trained_network_scores_alike_in_any_batch(shared: Path) -> None:
    """The reference checkpoint on BCCD: float noise of batching must not move a score."""
    weights = shared / "reference" / "bccd_yolov5n.pt"
    settings = MiningSettings(img_size=320, workers=0, precision="float32")
    images = sorted(str(p) for p in (shared / "data" / "bccd").rglob("*.jpg"))[:6]
    single, batched = (
        [score for _, score in mine(load_predictor(weights, own, CPU), images, own)]
        for own in (replace(settings, batch_size=size) for size in (1, 4))
    )
    assert batched == pytest.approx(single, abs=1e-3)
    assert np.argsort(batched).tolist() == np.argsort(single).tolist()
    assert len(set(single)) == len(images)


def test_command_line(paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mining.mining_cald.load_predictor", lambda *_: ColourPredictor())
    output = tmp_path / "result.tsv"
    call = ["--weights", "any.pt", "--source", str(tmp_path), "--output", str(output),
            "--img-size", "96"]  # fmt: skip
    main(call)
    first = output.read_bytes()
    rows = [line.split("\t") for line in first.decode().splitlines()]
    scores = [float(score) for _, score in rows]
    assert sorted(path for path, _ in rows) == sorted(paths)
    assert scores == sorted(scores, reverse=True)
    assert rows[0][0] == paths[3]
    assert rows[-1] == [paths[4], "-1.000000000"]
    main(call)
    assert output.read_bytes() == first
