"""The command line of train.py: what becomes of flags, which forms there are, where a run lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from cli.options import RunName
from cli.train import DataSource, hyper_parameters, parse_train_command
from utils.errors import TaskError


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def parse(text: str):
    return parse_train_command(text.split())


def test_a_command_line_of_v7() -> None:
    command = parse(
        "--data data.yaml --weights best.pt --img 320 --batch-size 8 --epochs 3 --cfg yolov5n.yaml "
        "--hyp scratch-med --device cpu --project runs/mine --name night --cos-lr mosaic=0.5"
    )
    settings = command.settings
    assert (settings.img_size, settings.batch_size, settings.epochs) == (320, 8, 3)
    assert (settings.model, settings.schedule, settings.scale) == ("yolov5n.yaml", "cosine", 0.9)
    assert settings.mosaic == 0.5  # KEY=VALUE counts most
    assert command.data == DataSource(description=Path("data.yaml").absolute())
    assert command.weights == Path("best.pt")
    assert command.device == "cpu"
    assert command.run == RunName(Path("runs/mine"), "night")
    for stage in ("best", "last"):
        assert command.stage_folder(Path("a"), stage) == Path("a/weights")


@pytest.mark.parametrize(
    ("words", "folder"),
    [
        pytest.param("", "runs/train/exp2", id="the next number"),
        pytest.param("--exist-ok", "runs/train/exp", id="the same again"),
        pytest.param("--name cfg --cfg models/yolov5n.yaml", "runs/train/yolov5n", id="cfg"),
        pytest.param("--output here", "here", id="a folder for everything"),
    ],
)
def test_where_a_run_lies(words: str, folder: str) -> None:
    Path("runs/train/exp").mkdir(parents=True)
    assert parse(f"--data data.yaml {words}").run.make() == Path(folder)


def test_index_files_of_ymir() -> None:
    command = parse(
        "--train a/t.tsv --val a/v.tsv --class-names x y --output out --gpu-id 0 -- epochs=2"
    )
    assert command.data == DataSource(None, (Path("a/t.tsv"), Path("a/v.tsv")), ("x", "y"))
    assert (command.settings.epochs, command.device) == (2, "0")
    assert command.stage_folder(Path("out"), "best") == Path("out/best")


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("", id="no data"),
        pytest.param("--train a --val b", id="no class names"),
        pytest.param("--train a --class-names x", id="no validation"),
        pytest.param("--data d --train a --val b --class-names x", id="both forms"),
        pytest.param("--data d epochs", id="no equals sign"),
        pytest.param("--data d --no-such-flag", id="unknown flag"),
    ],
)
def test_a_wrong_form_ends_with_the_usage(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(words)
    assert "usage: train.py" in capsys.readouterr().err


def test_flags_without_meaning_are_named(caplog: pytest.LogCaptureFixture) -> None:
    parse("--data d --bucket b --entity me")
    assert [record.message.split()[1] for record in caplog.records] == ["--bucket", "--entity"]


def test_a_value_outside_its_rule_is_refused() -> None:
    with pytest.raises(TaskError, match="epochs is '0'"):
        parse("--data d --epochs 0")


def test_what_a_run_leaves_can_be_named_again() -> None:
    command = parse("--data data.yaml --epochs 3 --hyp voc --seed 5")
    command.write_options(command.run.make())
    hyper = yaml.safe_load(Path("runs/train/exp/hyp.yaml").read_text())
    assert tuple(hyper) == hyper_parameters()
    assert (hyper["box"], hyper["anchors"]) == (0.02, 3)
    again = parse("--data data.yaml --hyp runs/train/exp/hyp.yaml")
    assert again.settings.box == 0.02
    assert again.settings.epochs == 100


def stopped_run(name: str, epochs: int, written: int) -> Path:
    command = parse(f"--data data.yaml --name {name} --epochs {epochs} --hyp voc --img 96")
    folder = command.run.make()
    command.write_options(folder)
    last = folder / "weights" / "last.pt"
    last.parent.mkdir()
    last.write_text("")
    os.utime(last, (written, written))
    return folder


@pytest.mark.parametrize(
    ("words", "epochs"),
    [
        pytest.param("--resume", 8, id="the newest"),
        pytest.param("--resume runs/train/early/weights/last.pt", 5, id="one by name"),
        pytest.param("--resume --epochs 9", 9, id="other words count more"),
    ],
)
def test_resume_takes_a_run_with_its_settings(words: str, epochs: int) -> None:
    early, late = stopped_run("early", 5, 100), stopped_run("late", 8, 200)
    command = parse(words)
    assert command.run.make().resolve() == (early if "early" in words else late).resolve()
    assert (command.settings.epochs, command.settings.img_size) == (epochs, 96)
    assert command.settings.box == 0.02
    assert command.data.description == Path("data.yaml").absolute()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        pytest.param("--resume", "finds no stopped training", id="none"),
        pytest.param("--resume gone/last.pt", "which does not exist", id="gone"),
    ],
)
def test_nothing_to_resume_is_refused(words: str, sentence: str) -> None:
    with pytest.raises(TaskError, match=sentence):
        parse(words)


def test_a_run_without_its_settings_is_not_gone_on_with() -> None:
    folder = stopped_run("exp", 5, 100)
    (folder / "opt.yaml").unlink()
    with pytest.raises(TaskError, match=r"needs .*opt\.yaml cannot be read"):
        parse("--resume")


def test_a_data_yaml_is_read_by_split(data_yaml: Path) -> None:
    (train, validation), reports = DataSource(description=data_yaml).read(0.0)
    assert (len(train), len(validation)) == (reports[0].kept, reports[1].kept)
    assert train.class_names == ("red_cell", "white_cell", "platelet")
