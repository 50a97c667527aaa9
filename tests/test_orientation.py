"""Photographs that an EXIF tag turns: upright outside YMIR, as stored in a task."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import detect
import mine
import start
import val
from bench.training import read_splits as splits_of_task
from data.augmentations import Augmentation
from data.dataset_index import DatasetIndex
from data.folders import read_splits
from data.images import ORIENTATION_TAG, read_image
from data.loaders import LoaderConfig, training_loader
from tasks.candidates import journal_path
from tools.make_task import write_task
from tools.sources import SourceDataset, read_source
from ymir.task import read_task

ROTATION = {6: cv2.ROTATE_90_COUNTERCLOCKWISE, 8: cv2.ROTATE_90_CLOCKWISE, 3: cv2.ROTATE_180}
"""Of an upright image, to get what a camera stores with this tag."""
COLOURS = ((200, 30, 30), (30, 30, 200))
"""RGB of the objects of class 0 and 1."""


def save(path: Path, image: np.ndarray, orientation: int) -> None:
    """Save an upright BGR image, lying and with a tag unless `orientation` is 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation > 1:
        exif[ORIENTATION_TAG] = orientation
        image = cv2.rotate(image, ROTATION[orientation])
    Image.fromarray(image[..., ::-1].copy()).save(path, exif=exif)


def photographs(source: SourceDataset, folder: Path, orientation: int) -> Path:
    """Three drawn photographs in YOLO's layout; only how their files are stored differs."""
    for number, one in enumerate(source.splits["train"][:3]):
        image = read_image(one.path)
        save(folder / "images" / f"{number}.png", image, orientation)
        height, width = image.shape[:2]
        (folder / "labels").mkdir(exist_ok=True)
        centres = (one.boxes[:, :2] + one.boxes[:, 2:]) / 2 / (width, height)
        sides = (one.boxes[:, 2:] - one.boxes[:, :2]) / (width, height)
        rows = np.column_stack([one.classes, centres, sides])
        np.savetxt(folder / "labels" / f"{number}.txt", rows, fmt="%d" + " %.9f" * 4)
    names = ", ".join(source.class_names)
    (folder / "data.yaml").write_text(f"train: images\nval: images\nnames: [{names}]\n")
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the content of files by name, without the time that a report says it took."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    found = {str(path.relative_to(folder)): path.read_bytes() for path in paths}
    if "report.html" in found:
        row = rb'(<td class="text">time</td><td class="text">)[^<]+'
        found["report.html"] = re.sub(row, rb"\1", found["report.html"])
    return found


@pytest.mark.parametrize(
    ("orientation", "options"), [(6, ""), (8, "--tile-size 96"), (6, "--engine onnxruntime")]
)
def test_detect(
    drawn: SourceDataset, weights: Path, tmp_path: Path, orientation: int, options: str
) -> None:
    """Boxes, labels, crops and pictures are those of the same photographs stored upright."""
    pytest.importorskip("onnxruntime")
    found = []
    for how in (1, orientation):
        photographs(drawn, tmp_path / "data", how)
        words = f"--weights {weights} --source {tmp_path / 'data/images'} --project {tmp_path} "
        words += f"--name {how} --imgsz 96 --conf-thres 0.001 --max-det 5 --save-txt --save-crop "
        detect.main([*words.split(), *options.split()])
        found.append(files_of(tmp_path / str(how)))
    assert found[0] == found[1]
    assert len([name for name in found[0] if name.endswith((".png", ".txt"))]) == 6


@pytest.mark.parametrize("options", ["", "--tile-size 96"])
def test_val(
    drawn: SourceDataset,
    weights: Path,
    tmp_path: Path,
    options: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = []
    for how in (1, 6):
        data = photographs(drawn, tmp_path / "data", how) / "data.yaml"
        words = f"--weights {weights} --data {data} --project {tmp_path} --name {how} --imgsz 96 "
        val.main([*words.split(), "--save-txt", "--save-json", *options.split()])
        shown = capsys.readouterr().out
        assert ("3 images turned upright" in shown) == (how == 6)
        table = re.findall(r"^(?:all|red_cell|white_cell) .*", shown, re.MULTILINE)
        files = files_of(tmp_path / str(how))
        page = files.pop("report.html").decode().splitlines()
        found.append((table, files, [line for line in page if "turned upright" not in line]))
    assert found[0] == found[1]
    assert {"best_predictions.json", "labels/0.txt"} <= set(found[0][1])


def test_mining_by_hand(drawn: SourceDataset, weights: Path, tmp_path: Path) -> None:
    """Scores and report; at this threshold a weak detector has objects in every image."""
    found = []
    for how in (1, 6):
        source = photographs(drawn, tmp_path / "data", how) / "images"
        words = f"--weights {weights} --source {source} --project {tmp_path} --name {how} "
        mine.main([*words.split(), "--imgsz", "96", "--conf-thres", "0.001"])
        found.append(files_of(tmp_path / str(how)))
    assert found[0] == found[1]
    assert {"result.tsv", "report.html"} <= set(found[0])


@pytest.mark.parametrize("tag", [6, 8])
def test_inference_and_mining_of_a_task(
    drawn: SourceDataset, weights: Path, tmp_path: Path, tag: int
) -> None:
    """Results are those of the same pixels without the tag."""
    source = read_source(photographs(drawn, tmp_path / "data", tag))
    settings = {"img_size": 96, "conf_thres": 0.001, "mining_algorithm": "cald"}
    kinds, results = ("mining", "infer"), ("infer-result.json", "result.tsv")
    task = tmp_path / "task"
    more = {"kinds": kinds, "settings": settings, "weights": [weights], "copy": True}
    env_file = write_task(source, task, candidates="train", **more)
    found = []
    for _ in range(2):
        assert start.main(["--env", str(env_file)]) == 0
        found.append([(task / "out" / name).read_text() for name in results])
        assert len(found[-1][1].splitlines()) == 3
        shutil.rmtree(journal_path(read_task(env_file)).parent)
        for asset in (task / "in" / "assets").rglob("*.png"):
            stored = read_image(asset)
            assert stored.shape[:2] == (160, 120)
            save(asset, stored, 1)
    assert found[0] == found[1]
    assert '"boxes"' in found[0][0]


def coloured(folder: Path, orientation: int) -> Path:
    """A red object above a blue one, with labels of the upright image, in YOLO's layout."""
    image = np.full((96, 64, 3), 128, np.uint8)
    image[10:30, 8:24], image[50:90, 30:60] = COLOURS[0][::-1], COLOURS[1][::-1]
    lines = [f"0 {16 / 64} {20 / 96} {16 / 64} {20 / 96}"]
    lines += [f"1 {45 / 64} {70 / 96} {30 / 64} {40 / 96}"]
    for split, shade in (("train", 0), ("val", 9)):
        save(folder / "images" / split / "a.png", image + np.uint8(shade), orientation)
        (folder / "labels" / split).mkdir(parents=True)
        (folder / "labels" / split / "a.txt").write_text("\n".join(lines))
    text = "train: images/train\nval: images/val\nnames: [red, blue]\n"
    (folder / "data.yaml").write_text(text)
    return folder


def assert_boxes_show_their_objects(index: DatasetIndex) -> None:
    """Check the colour within each box of a training sample."""
    still = Augmentation(**dict.fromkeys(Augmentation.__dataclass_fields__, 0.0))
    for cache in ("none", "ram"):
        config = LoaderConfig(image_size=96, batch_size=1, workers=0, cache=cache)
        (batch,) = training_loader(index, config, seed=0, augmentation=still)
        assert sorted(batch.targets[:, 1].tolist()) == [0, 1]
        for _, number, *box in batch.targets.tolist():
            x, y, width, height = (96 * value for value in box)
            part = batch.images[0, :, int(y - height / 2) + 2 : int(y + height / 2) - 1]
            part = part[:, :, int(x - width / 2) + 2 : int(x + width / 2) - 1]
            expected = np.array(COLOURS[int(number)]).reshape(3, 1, 1)
            assert np.abs(part.numpy().astype(int) - expected).max() < 20


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("form", ["", "ark", "voc", "coco"])
def test_boxes_of_a_training_lie_on_their_objects(
    tmp_path: Path, orientation: int, form: str
) -> None:
    """By hand on the upright image; in a task that `make_task` wrote on the stored one."""
    root = coloured(tmp_path / "data", orientation)
    if not form:
        ((index, report),) = read_splits(root / "data.yaml", ["train"], max_bad_fraction=0)
        assert report.turned == (orientation > 1)
        assert index.sizes.tolist() == [[96, 64]]
    else:
        write_task(read_source(root), tmp_path / "task", annotation_format=form)
        index = splits_of_task(tmp_path / "task", ("red", "blue"))[0]
        assert index.sizes.tolist() == [[64, 96] if orientation > 4 else [96, 64]]
    assert_boxes_show_their_objects(index)
