"""Which files of a stage are listed, by the patterns that older YMIR repositories know."""

from __future__ import annotations

import pytest

from utils.errors import Code, TaskError
from ymir.saved_files import SavedFiles

FILES = ("best.pt", "best.onnx", "best.torchscript", "best_openvino.xml")


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        pytest.param("", FILES, id="none: all"),
        pytest.param(" , ", FILES, id="blanks: all"),
        pytest.param(r".*\.onnx", ("best.pt", "best.onnx"), id="weights always"),
        pytest.param(r".*\.pt$", ("best.pt",), id="weights alone"),
        pytest.param(r"best_, .*\.torch", ("best.pt", "best.torchscript", "best_openvino.xml"),
                     id="two"),
        pytest.param("onnx", ("best.pt",), id="from the beginning of the name"),
    ],
)  # fmt: skip
def test_patterns(patterns: str, expected: tuple[str, ...]) -> None:
    assert SavedFiles(patterns).of(FILES) == expected


def test_an_expression_that_is_none_is_refused() -> None:
    with pytest.raises(TaskError, match="ymir_saved_file_patterns") as caught:
        SavedFiles("best.(pt")
    assert caught.value.code == Code.CONFIG
