"""The command line of export.py: files, output, exit status."""

from __future__ import annotations

import dataclasses

import pytest

import export as exports
from exporting.export import FORMATS
from models.checkpoint import checkpoint_of, load_checkpoint, save_checkpoint
from tests.exporting.conftest import NAMES, narrow
from utils.errors import Code, TaskError


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "best.pt"
    save_checkpoint(path, checkpoint_of(narrow(0), NAMES))
    return path


@pytest.mark.slow
def test_command_line(weights, capfd):
    arguments = ["--weights", str(weights), "--img-size", "320", "--include"]
    assert exports.main([*arguments, "onnx", "state_dict", "safetensors"]) == 0
    assert load_checkpoint(weights.with_suffix(".safetensors")).class_names == NAMES
    out, err = capfd.readouterr()
    names = [line.partition(":")[0].rpartition("/")[2] for line in out.splitlines()]
    assert names == ["best.onnx", "best.state_dict", "best.safetensors"]
    assert all("3 classes, largest difference" in line for line in out.splitlines())
    assert err == ""


@pytest.mark.slow
def test_a_format_that_fails_does_not_stop_the_others(weights, tmp_path, capsys, monkeypatch):
    def refuse(*_):
        raise TaskError(Code.CONFIG, "openvino is missing.")

    broken = dataclasses.replace(FORMATS["openvino"], write=refuse)
    monkeypatch.setitem(FORMATS, "openvino", broken)
    copy = tmp_path / "best.pt"
    copy.write_bytes(weights.read_bytes())
    assert exports.main(["--weights", str(copy), "--include", "openvino", "safetensors"]) == 1
    assert capsys.readouterr().err == "openvino is missing.\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "best.safetensors"]


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        pytest.param("none.pt", [], "does not exist", id="no weights"),
        pytest.param("best.pt", ["--include", "engine"], "trtexec", id="a format not written"),
        pytest.param("best.pt", ["--output", "best.pt"], "weight file itself", id="onto itself"),
    ],
)
def test_command_line_refusals(name, arguments, words, weights, capsys, monkeypatch):
    monkeypatch.chdir(weights.parent)
    assert exports.main(["--weights", name, *arguments]) == 1
    out, err = capsys.readouterr()
    assert words in err
    assert len(err.splitlines()) == 1
    assert out == ""
