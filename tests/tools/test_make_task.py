"""A task directory holds the same boxes whichever source layout and annotation format is used."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image, ImageOps

from data.read_dataset import read_dataset
from tools.make_task import main, write_task
from tools.parsers import FORMATS
from tools.sources import SourceDataset, SourceImage, read_source
from utils.errors import TaskError

NAMES = ("cat", "dog bowl")
BOXES = {"one": [(0, 2, 3, 10, 20), (1, 30, 5, 63, 47)], "two": [], "three": [(1, 0, 0, 1, 1)]}
SPLIT = {"one": "train", "two": "train", "three": "val"}
WIDTH, HEIGHT = 64, 48


def save_image(path: Path, shade: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((HEIGHT, WIDTH, 3), shade, np.uint8))
    return path


def voc_object(index: int, x1: float, y1: float, x2: float, y2: float) -> str:
    return (
        f"<object><name>{NAMES[index]}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
    )


def make_voc(root: Path, *, splits: bool = True) -> Path:
    for shade, (stem, rows) in enumerate(BOXES.items()):
        save_image(root / "JPEGImages" / f"{stem}.jpg", 40 * shade)
        (root / "Annotations").mkdir(exist_ok=True)
        objects = "".join(voc_object(*row) for row in rows)
        (root / "Annotations" / f"{stem}.xml").write_text(f"<annotation>{objects}</annotation>")
    if splits:
        folder = root / "ImageSets" / "Main"
        folder.mkdir(parents=True)
        for split in ("train", "val"):
            stems = [stem for stem, part in SPLIT.items() if part == split]
            (folder / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in stems))
    (root / "classes.txt").write_text("\n".join(NAMES))
    return root


def test_files_are_written_in_the_platforms_words(tmp_path: Path) -> None:
    source = read_source(make_voc(tmp_path / "data"))
    env_file = write_task(source, tmp_path / "task", settings={"epochs": 3, "lr0": "1e-3"})
    root = env_file.parent
    config = yaml.safe_load((root / "config.yaml").read_text())
    env = yaml.safe_load(env_file.read_text())
    expected = {"epochs": "3", "lr0": "1e-3", "class_names": list(NAMES), "gpu_id": ""}
    expected |= {"gpu_count": 0, "export_format": "ark:raw"}
    assert {key: config[key] for key in expected} == expected
    assert "pretrained_model_params" not in config
    assert env["protocol_version"] == "1.1.0"
    assert env["task_id"] == config["task_id"]
    assert env["run_training"] is True
    assert env["input"]["candidate_index_file"] == ""
    image, annotation = (root / "train-index.tsv").read_text().splitlines()[0].split("\t")
    assert Path(image).parent.name == Path(image).stem[-2:]
    assert len(Path(image).stem) == 40
    assert Path(annotation).read_text() == (
        "0, 2, 3, 9, 19, -1.0, 0.0\n1, 30, 5, 62, 46, -1.0, 0.0\n"
    )
    empty = (root / "train-index.tsv").read_text().splitlines()[1].split("\t")[1]
    assert Path(empty).read_text() == ""
    assert (root.parent / "out" / "tensorboard").is_dir()


def test_a_task_of_an_old_platform(tmp_path: Path) -> None:
    source = read_source(make_voc(tmp_path / "data"))
    env_file = write_task(source, tmp_path / "task", protocol=None)
    assert "protocol_version" not in yaml.safe_load(env_file.read_text())
    line = (env_file.parent / "train-index.tsv").read_text().splitlines()[0]
    assert Path(line.split("\t")[1]).read_text().splitlines()[0] == "0, 2, 3, 9, 19"


def test_mining_and_inference_with_weights(tmp_path: Path) -> None:
    source = read_source(make_voc(tmp_path / "data"))
    weights = tmp_path / "best" / "best.pt"
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    more = {"kinds": ("mining", "infer"), "weights": [weights], "gpu_id": "0,1", "copy": True}
    env_file = write_task(source, tmp_path / "task", **more)
    config = yaml.safe_load((env_file.parent / "config.yaml").read_text())
    assert (config["run_mining"], config["run_infer"], config["gpu_count"]) == (True, True, 2)
    assert config["model_params_path"] == ["best/best.pt"]
    assert (env_file.parent / "models/best/best.pt").read_bytes() == b"weights"
    candidates = (env_file.parent / "candidate-index.tsv").read_text().splitlines()
    assert len(candidates) == 1, "no test part: the validation part is mined"
    assert (env_file.parent / candidates[0]).is_file()
    assert not (env_file.parent / candidates[0]).is_symlink()
    texts = [path.read_text() for path in env_file.parent.glob("*.*")]
    assert not any(str(tmp_path) in text for text in texts), "it may be moved"


def test_boxes_are_rounded_for_ark_and_kept_for_coco(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = save_image(tmp_path / "a.png", 9)
    boxes = np.array([[1.4, 2.0, 9.6, 8.0], [5.0, 5.0, 5.2, 9.0], [3.0, 3.0, 3.0, 4.0]])
    image = SourceImage(path, boxes, np.array([0, 1, 0]))
    source = SourceDataset("voc", NAMES, {"train": (image,), "val": (), "test": ()}, ())
    with caplog.at_level("INFO"):
        ark = write_task(source, tmp_path / "ark", annotation_format="ark").parent
    assert "2 × boxes were rounded to whole pixels" in caplog.messages
    assert "2 × boxes without area were dropped" in caplog.messages
    (annotation,) = (ark / "annotations").rglob("*.txt")
    assert annotation.read_text() == "0, 1, 2, 9, 7, -1.0, 0.0\n"
    coco = write_task(source, tmp_path / "coco", annotation_format="coco").parent
    content = json.loads((coco / "annotations" / "coco-annotations.json").read_text())
    assert [a["category_id"] for a in content["annotations"]] == [0, 1]
    np.testing.assert_allclose(content["annotations"][0]["bbox"], [1.4, 2.0, 8.2, 6.0])
    assert [c["id"] for c in content["categories"]] == [0, 1]


def test_splits_are_drawn_alike_every_time(tmp_path: Path) -> None:
    source = read_source(make_voc(tmp_path, splits=False))
    again = read_source(tmp_path)
    names = [[i.path.stem for i in images] for images in source.splits.values()]
    assert names == [[i.path.stem for i in images] for images in again.splits.values()]
    assert source.splits["train"]
    assert source.splits["val"]
    assert "divided 70/15/15" in " ".join(source.notes)


def test_chosen_classes_keep_their_order(tmp_path: Path) -> None:
    source = read_source(make_voc(tmp_path), ["Dog Bowl"])
    assert source.class_names == ("Dog Bowl",)
    assert [len(image.boxes) for image in source.splits["train"]] == [1, 0]
    assert "1 box of another class left out: cat (1)" in source.notes


def test_same_content_is_one_asset(tmp_path: Path) -> None:
    none = np.zeros((0, 4))
    paths = [save_image(tmp_path / f"{n}.png", 7) for n in range(2)]
    images = tuple(SourceImage(path, none, np.zeros(0, np.int64)) for path in paths)
    source = SourceDataset("voc", NAMES, {"train": images, "val": images[:1], "test": ()}, ())
    root = write_task(source, tmp_path / "task").parent
    assert len((root / "train-index.tsv").read_text().splitlines()) == 1
    assert (root / "val-index.tsv").read_text() == (root / "train-index.tsv").read_text()


def labelled(path: Path, *boxes: tuple[float, ...]) -> SourceImage:
    return SourceImage(path, np.array(boxes).reshape(-1, 4), np.zeros(len(boxes), np.int64))


@pytest.mark.parametrize("places", [("train", "train"), ("train", "val")])
@pytest.mark.parametrize(
    ("boxes", "kept", "why"),
    [
        (([], [(1, 2, 5, 7)]), 1, "the other has none"),
        (([(1, 2, 5, 7)], []), 0, "the other has none"),
        (([(1, 2, 5, 7)], [(1, 2, 5, 8), (2, 2, 4, 4)]), 0, "it came first"),
    ],
    ids=["unlabelled first", "labelled first", "both labelled"],
)
def test_equal_pictures_with_other_labels_are_told_by_name(
    places: tuple[str, str],
    boxes: tuple[list, list],
    kept: int,
    why: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In one split, and as a leak from one to the other."""
    paths = [save_image(tmp_path / f"{n}.png", 7) for n in range(2)]
    images = [labelled(path, *own) for path, own in zip(paths, boxes, strict=True)]
    splits: dict[str, tuple[SourceImage, ...]] = {"train": (), "val": (), "test": ()}
    for place, one in zip(places, images, strict=True):
        splits[place] += (one,)
    with caplog.at_level("INFO"):
        root = write_task(SourceDataset("voc", NAMES, splits, ()), tmp_path / "task").parent
    won, lost = images[kept], images[1 - kept]
    assert (
        f"{lost.path} ({len(lost.boxes)} boxes) is the same picture as {won.path} "
        f"({len(won.boxes)} boxes), whose labels were kept because {why}"
    ) in caplog.messages
    leak = (
        f"1 × pictures of val are in train too, such as {paths[0]} and {paths[1]}: figures of val"
    )
    assert (leak in caplog.text) == (len(set(places)) == 2)
    for place in set(places):
        (line,) = (root / f"{place}-index.tsv").read_text().splitlines()
        rows = (root / line.split("\t")[1]).read_text().splitlines()
        corners = [[int(word) for word in row.split(",")[1:5]] for row in rows]
        assert corners == (won.boxes - (0, 0, 1, 1)).tolist()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", FORMATS)
def test_boxes_of_turned_photographs_lie_on_the_stored_pixels(
    orientation: int, form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Labelled as shown by an image viewer (Pillow's turning); a task counts stored pixels."""
    stored = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    left, top, right, bottom = 8, 16, 24, 24
    stored[top:bottom, left:right] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "data" / "a.jpg"
    path.parent.mkdir()
    Image.fromarray(stored).save(path, exif=exif, quality=100)
    with Image.open(path) as image:
        ys, xs = np.nonzero(np.asarray(ImageOps.exif_transpose(image))[..., 0] > 127)
    shown = voc_object(0, xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    (path.parent / "a.xml").write_text(f"<annotation>{shown}</annotation>")
    with caplog.at_level("INFO"):
        root = write_task(
            read_source(path.parent), tmp_path / "task", annotation_format=form
        ).parent
    index, report = read_dataset(root / "train-index.tsv", NAMES, root=root, max_bad_fraction=0)
    assert index.boxes.tolist() == [[left, top, right, bottom]]
    assert index.sizes.tolist() == [[HEIGHT, WIDTH]]
    assert not report.other_sizes.count
    turned = "1 × images are turned by EXIF; their boxes were turned back"
    assert (turned in caplog.messages) == (orientation > 1)


@pytest.mark.parametrize("kinds", [("mining",), ("infer",), ("mining", "infer")], ids="+".join)
def test_a_folder_of_unlabelled_images_is_mined_and_inferred_whole(
    kinds: tuple[str, ...], tmp_path: Path
) -> None:
    names = ("a.jpg", "deep/er/b.png", "deep/a.jpg", "c.bmp")
    for shade, name in enumerate(names):
        save_image(tmp_path / "data" / name, 40 * shade)
    (tmp_path / "data" / "notes.txt").write_text("no labels")
    source = read_source(tmp_path / "data", labelled=False)
    root = write_task(source, tmp_path / "task", kinds=kinds).parent
    lines = (root / "candidate-index.tsv").read_text().splitlines()
    targets = {Path(line).resolve() for line in lines}
    assert targets == {(tmp_path / "data" / name).resolve() for name in names}
    with pytest.raises(TaskError, match="is no data set that can be read"):
        read_source(tmp_path / "data")


@pytest.mark.parametrize("form", FORMATS)
def test_crowd_regions_stay_regions_in_coco_and_are_told_elsewhere(
    form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "data"
    save_image(data / "train" / "a.png", 9)
    shapes = [{"bbox": [1, 2, 8, 6], "iscrowd": 0}, {"bbox": [20, 5, 30, 20], "iscrowd": 1}]
    (data / "train" / "a.json").write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "a.png"}],
                "categories": [{"id": c, "name": name} for c, name in enumerate(NAMES)],
                "annotations": [
                    {**one, "id": c, "image_id": 1, "category_id": c}
                    for c, one in enumerate(shapes)
                ],
            }
        )
    )
    with caplog.at_level("INFO"):
        root = write_task(read_source(data), tmp_path / "task", annotation_format=form).parent
    index, report = read_dataset(root / "train-index.tsv", NAMES, root=root, max_bad_fraction=0)
    assert (index.boxes.tolist(), index.classes.tolist()) == ([[1, 2, 9, 8]], [0])
    kept = form == "coco"
    assert report.crowds == kept
    assert index.crowds.boxes.tolist() == [[20, 5, 50, 25]] * kept
    assert index.crowds.classes.tolist() == [1] * kept
    said = "1 × crowd regions (iscrowd) were left out: only --format coco holds them"
    assert (said in caplog.messages) != kept


def test_a_folder_without_labels_or_a_class_named_twice_is_refused(tmp_path: Path) -> None:
    make_voc(tmp_path / "data")
    for folder, names, words in (
        (tmp_path / "none", None, "There is no data set"),
        (tmp_path / "data" / "JPEGImages", None, "is no data set that can be read"),
        (tmp_path / "data", ["cat", "cat"], "are not unique"),
    ):
        with pytest.raises(TaskError) as caught:
            read_source(folder, names)
        assert words in caught.value.sentence


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        pytest.param({"kinds": ("training", "infer")}, "cannot be training+infer", id="kinds"),
        pytest.param({"annotation_format": "csv"}, "no annotation format", id="format"),
        pytest.param({"candidates": "all"}, "is no split", id="split"),
        pytest.param({"limit": 0}, "The limit is 0", id="limit"),
        pytest.param({"protocol": "x.y"}, "no protocol", id="protocol"),
        pytest.param(
            {"kinds": ("mining",), "candidates": "test"}, "no image in test", id="empty split"
        ),
        pytest.param(
            {"weights": [Path("nowhere.pt")]}, "weight file nowhere.pt does not exist", id="weights"
        ),
    ],
)
def test_bad_requests_are_refused(request_: dict, words: str, tmp_path: Path) -> None:
    source = read_source(make_voc(tmp_path / "data"))
    with pytest.raises(TaskError) as caught:
        write_task(source, tmp_path / "task", **request_)
    assert words in caught.value.sentence


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_voc(tmp_path / "data")
    line = [str(tmp_path / "data"), str(tmp_path / "task"), "--set", "a=b=c", "--format", "voc"]
    assert main([*line, "--limit", "1", "--protocol", "none"]) == 0
    env_file = Path(capsys.readouterr().out.strip())
    assert yaml.safe_load((env_file.parent / "config.yaml").read_text())["a"] == "b=c"
    assert len((env_file.parent / "train-index.tsv").read_text().splitlines()) == 1
    assert main(line) == 1, "an existing task is not overwritten unasked"
    assert main([*line, "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(["--kind", "training"], False, id="training"),
        pytest.param(["--kind", "mining"], True, id="mining"),
        pytest.param(["--kind", "mining+infer", "--set", "weights=a.pt"], False, id="a setting"),
    ],
)
def test_a_task_without_a_model_is_said(
    options: list[str], said: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_voc(tmp_path / "data")
    caplog.set_level("INFO")
    assert main([str(tmp_path / "data"), str(tmp_path / "task"), *options]) == 0
    assert ("note: no --weights" in caplog.text) == said


def test_real_photographs(shared: Path) -> None:
    """BCCD as the reference results count it; one of the 1138 boxes for validation comes twice."""
    source = read_source(shared / "data" / "bccd")
    assert source.class_names == ("WBC", "RBC", "Platelets")
    counts = [(len(s), sum(len(image.boxes) for image in s)) for s in source.splits.values()]
    assert [images for images, _ in counts] == [205, 87, 72]
    assert [boxes for _, boxes in counts[1:]] == [1137, 945]
