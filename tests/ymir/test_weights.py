"""Which weights a task gets: listed, named, of a folder or of the image; refusals with a code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from utils.errors import Code, TaskError
from ymir import weights as weight_files
from ymir.task import read_task
from ymir.weights import file_of_model

MakeTask = Callable[..., Path]


def refused(env_file: Path) -> TaskError:
    with pytest.raises(TaskError) as caught:
        read_task(env_file)
    return caught.value


def put(root: Path, *names: str) -> None:
    for name in names:
        path = root / "in" / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"weights")


@pytest.mark.parametrize(
    ("offered", "present", "expected"),
    [
        pytest.param(["s/best.pt"], ["s/best.pt"], ["s/best.pt"], id="relative"),
        pytest.param(["/in/models/a_stage/w.pt"], ["w.pt"], ["w.pt"], id="in-a-stage-but-flat"),
        pytest.param(["w.pt"], ["w.pt"], ["w.pt"], id="bare-name"),
        pytest.param("['w.pt', 'b.onnx']", ["w.pt"], ["w.pt"], id="list-as-text"),
        pytest.param(
            ["z.onnx", "a.pth", "b.safetensors", "epoch.pt", "last.pt", "my_best.pt", "best.pt"],
            ["z.onnx", "a.pth", "b.safetensors", "epoch.pt", "last.pt", "my_best.pt", "best.pt"],
            ["best.pt", "my_best.pt", "last.pt", "epoch.pt", "a.pth", "b.safetensors"],
            id="preference",
        ),
        pytest.param(["gone.pt", "last.pt"], ["last.pt"], ["last.pt"], id="one-of-two-there"),
    ],
)
@pytest.mark.parametrize("kind", ["training", "infer"])
def test_weights(
    make_task: MakeTask,
    tmp_path: Path,
    kind: str,
    offered: object,
    present: list[str],
    expected: list[str],
) -> None:
    models = tmp_path / "in" / "models"
    key = "pretrained_model_params" if kind == "training" else "model_params_path"
    env_file = make_task(kind, config={key: offered})
    (models / "best.pt").unlink()
    put(tmp_path, *present)
    task = read_task(env_file)
    assert [str(path.relative_to(models)) for path in task.weights] == expected


@pytest.mark.parametrize("kind", ["training", "mining", "infer"])
def test_a_list_without_usable_weights_is_refused_with_what_was_offered(
    make_task: MakeTask, tmp_path: Path, kind: str
) -> None:
    key = "pretrained_model_params" if kind == "training" else "model_params_path"
    env_file = make_task(kind, config={key: ["a.onnx", "m.yaml", "gone.pt"]})
    put(tmp_path, "a.onnx", "m.yaml")
    error = refused(env_file)
    assert error.code == Code.MODEL
    assert "a.onnx, m.yaml, gone.pt" in error.sentence


@pytest.mark.parametrize("value", [None, [], ""])
def test_no_weights_at_all(make_task: MakeTask, value: object) -> None:
    assert read_task(make_task(config={"pretrained_model_params": value})).weights == ()
    error = refused(make_task("infer", config={"model_params_path": value}))
    assert (error.code, "it lists nothing" in error.sentence) == (Code.MODEL, True)


def test_the_weights_setting_goes_before_what_is_handed_in(
    make_task: MakeTask, tmp_path: Path
) -> None:
    put(tmp_path, "mine.pt")
    mine = str(tmp_path / "in" / "models" / "mine.pt")
    task = read_task(make_task("infer", config={"weights": mine}))
    assert task.weights == (Path(mine),)
    error = refused(make_task(config={"weights": "yolov5s.pt"}))
    assert (error.code, "yolov5s.pt" in error.sentence) == (Code.MODEL, True)


@pytest.fixture
def image_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of the image's own /weights."""
    folder = tmp_path / "image"
    folder.mkdir()
    monkeypatch.setattr(weight_files, "IMAGE_FOLDER", folder)
    return folder


@pytest.mark.parametrize(
    ("config", "mine", "image", "expected", "warning"),
    [
        pytest.param({}, [], [], None, None, id="nothing anywhere"),
        pytest.param({}, [], ["yolov5s.pt"], "image/yolov5s.pt", "is used", id="of the image"),
        pytest.param({}, [], ["yolov5m.pt", "best.pt"], None, None, id="another model's"),
        pytest.param(
            {"model": "yolov5m6"}, [], ["yolov5m6.pt"], "image/yolov5m6.pt", "is used", id="m6"
        ),
        pytest.param(
            {"weights_dir": "mine"},
            ["yolov5s.pt"],
            ["yolov5s.pt"],
            "mine/yolov5s.pt",
            "is used",
            id="mine first",
        ),
        pytest.param(
            {"weights_dir": "mine"}, [], ["yolov5s.pt"], "image/yolov5s.pt", "is used", id="then it"
        ),
        pytest.param({"weights_dir": "mine"}, [], [], None, "has no yolov5s.pt", id="empty folder"),
        pytest.param(
            {"weights": "a.pt", "weights_dir": "mine"}, ["a.pt"], [], "mine/a.pt", None, id="named"
        ),
        pytest.param({"weights": "a.pt"}, [], ["a.pt"], "image/a.pt", None, id="named, of image"),
        pytest.param({"weights": "scratch"}, [], ["yolov5s.pt"], None, None, id="from scratch"),
    ],
)
def test_weights_that_lie_in_a_folder(
    make_task: MakeTask,
    tmp_path: Path,
    image_folder: Path,
    config: dict[str, str],
    mine: list[str],
    image: list[str],
    expected: str | None,
    warning: str | None,
) -> None:
    (tmp_path / "mine").mkdir()
    for folder, names in ((tmp_path / "mine", mine), (image_folder, image)):
        for name in names:
            (folder / name).write_bytes(b"weights")
    if "weights_dir" in config:
        config = {**config, "weights_dir": str(tmp_path / "mine")}
    task = read_task(make_task(config=config))
    assert task.weights == ((tmp_path / expected,) if expected else ())
    assert [text for text in task.warnings if warning and warning in text] == (
        list(task.warnings) if warning else []
    )


def test_what_the_platform_hands_in_goes_before_folders(
    make_task: MakeTask, tmp_path: Path, image_folder: Path
) -> None:
    (image_folder / "yolov5s.pt").write_bytes(b"weights")
    put(tmp_path, "mine.pt")
    task = read_task(make_task(config={"pretrained_model_params": ["mine.pt"]}))
    assert task.weights == (tmp_path / "in" / "models" / "mine.pt",)
    error = refused(make_task("infer", config={"model_params_path": []}))
    assert error.code == Code.MODEL


@pytest.mark.parametrize(
    ("config", "words"),
    [
        pytest.param({"weights_dir": "/no/such/folder"}, "must be a folder", id="no folder"),
        pytest.param({"download_weights": "true"}, "needs weights_sha256", id="no sum"),
        pytest.param(
            {"download_weights": "true", "weights_sha256": "a" * 65},
            "64 hexadecimal",
            id="too long",
        ),
        pytest.param(
            {"download_weights": "true", "weights_sha256": "g" * 64}, "64 hexadecimal", id="no hex"
        ),
        pytest.param(
            {"download_weights": "true", "weights_sha256": "a" * 64, "model": "my.yaml"},
            "no file for the model 'my.yaml'",
            id="model of one's own",
        ),
    ],
)
def test_folders_and_downloads_that_cannot_be(
    make_task: MakeTask, config: dict[str, str], words: str
) -> None:
    error = refused(make_task(config=config))
    assert error.code == Code.CONFIG
    assert words in error.sentence


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("s", "yolov5s.pt"),
        ("yolov5x6", "yolov5x6.pt"),
        ("models/yolov5n.yaml", "yolov5n.pt"),
        ("/data/mine.yaml", "mine.pt"),
        ("mine.yml", "mine.pt"),
    ],
)
def test_the_file_of_a_model(model: str, name: str) -> None:
    assert file_of_model(model) == name
