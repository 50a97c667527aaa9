"""The table of earlier implementations' defects: whole, and every test that it names is there."""

from __future__ import annotations

import ast
import re

import pytest
import torch

from ops.nms import NmsConfig, non_max_suppression
from settings.detect import InferSettings, MiningSettings
from tests.conftest import ROOT

PAGE = (ROOT / "docs/mining.md").read_text("utf-8")
ROWS = re.findall(r"^\| (\d+(?:, \d+)*) \| [^|]+ \| ([^|]+) \|$", PAGE, re.MULTILINE)


def test_no_defect_is_left_out() -> None:
    assert [int(number) for numbers, _ in ROWS for number in numbers.split(", ")] == [*range(1, 40)]


@pytest.mark.parametrize(("numbers", "tests"), ROWS)
def test_every_row_names_tests_that_exist(numbers: str, tests: str) -> None:
    """`file::test`, `::test` of the same file, or a file alone."""
    named = re.findall(r"`([\w/]*\.py)?(?:::(\w+))?`", tests)
    assert named, numbers
    file = ""
    for own_file, function in named:
        if own_file:
            file = own_file if "/" in own_file else f"tests/mining/{own_file}"
        tree = ast.parse((ROOT / file).read_text("utf-8"))
        defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert not function or function in defined, f"{file}::{function}"


@pytest.mark.parametrize("settings", [InferSettings(), MiningSettings()])
def test_more_than_a_hundred_objects(settings: InferSettings | MiningSettings) -> None:
    """250 objects that stand apart are all found with the settings as they are."""
    centres = torch.cartesian_prod(torch.arange(25), torch.arange(10)) * 20.0 + 10
    rows = torch.cat((centres, torch.full((250, 2), 10.0), torch.full((250, 2), 0.9)), 1)
    (kept,) = non_max_suppression(
        rows[None],
        NmsConfig(settings.conf_thres, settings.iou_thres, settings.max_det),
    )
    assert len(kept.rows) == 250
