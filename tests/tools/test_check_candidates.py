"""Mining and inference results are accepted when sound, and each fault in them is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tools.task_example import NAMES, Example, build, only_finding
from tools.check_out import check_out


@pytest.fixture
def looking(tmp_path: Path) -> Example:
    return build(tmp_path, training=False)


MINING = [
    pytest.param(
        lambda c: [(c[0], 0.1), (c[1], 0.2), (c[2], 0)], "tsv.order", "row 2", id="rising"
    ),
    pytest.param(lambda c: [(x, "nan") for x in c], "tsv.finite", "3 scores", id="nan"),
    pytest.param(lambda c: [(c[0], 0.1), (c[1], 0.1)], "tsv.missing", "lacks 1 of 3", id="missing"),
    pytest.param(lambda c: [(x, 0.1) for x in [*c, c[1]]], "tsv.duplicate", "cd 34", id="twice"),
    pytest.param(lambda c: [(x, "high") for x in c], "tsv.line", "'", id="word"),
    pytest.param(lambda c: [(f"{x}\t", 1) for x in c], "tsv.line", ":1:", id="two tabs"),
    pytest.param(
        lambda c: [(Path(x).name, 0.1) for x in c], "tsv.unknown", "in these words", id="base names"
    ),
]


@pytest.mark.parametrize(("rows", "rule", "words"), MINING)
def test_mining(
    rows: Callable[[list[str]], list[tuple[str, object]]], rule: str, words: str, looking: Example
) -> None:
    looking.mining(rows(looking.candidates))
    only_finding(looking.root, rule, words)


def test_unreadable_images_come_last(looking: Example) -> None:
    Path(looking.candidates[0]).write_bytes(b"no image")
    looking.infer(lambda c: c["detection"][NAMES[0]].update(boxes=[], annotations=[]))
    only_finding(looking.root, "tsv.unreadable_first", "belongs at the end")


def entry(content: dict) -> dict:
    content["detection"][NAMES[0]].pop("annotations")
    return content["detection"][NAMES[0]]["boxes"][0]


def key_by_path(content: dict) -> None:
    images = content["detection"]
    content["detection"] = {f"/in/{name}": record for name, record in images.items()}


INFER = [
    pytest.param(lambda c: c.pop("detection"), "json.detection", "under the key detection"),
    pytest.param(lambda c: c["detection"].pop(NAMES[1]), "json.missing", "cd 34.jpg"),
    pytest.param(lambda c: c["detection"].update(x=[]), ["json.unknown", "json.record"], "'x'"),
    pytest.param(key_by_path, ["json.missing", "json.unknown"], "lacks 3 of 3"),
    pytest.param(lambda c: c["detection"][NAMES[1]].pop("boxes"), "json.list", "no list boxes"),
    pytest.param(lambda c: c["detection"][NAMES[0]]["boxes"].clear(), "json.twins", "differ"),
    pytest.param(lambda c: entry(c).pop("box"), "box.keys", "but is None"),
    pytest.param(lambda c: entry(c)["box"].pop("w"), "box.keys", "x, y, w and h"),
    pytest.param(lambda c: entry(c)["box"].update(z=1), "box.keys", "'z'"),
    pytest.param(lambda c: entry(c)["box"].update(rotate_angle="0"), "box.angle", "'0'"),
    pytest.param(lambda c: entry(c)["box"].update(x=12.0), "box.integer", "12.0"),
    pytest.param(lambda c: entry(c)["box"].update(h=True), "box.integer", "True"),
    pytest.param(lambda c: entry(c)["box"].update(w=0), "box.size", "at least 1"),
    pytest.param(lambda c: entry(c)["box"].update(x=45), "box.outside", "64 x 48"),
    pytest.param(lambda c: entry(c)["box"].update(y=-1), "box.outside", "leaves the image"),
    pytest.param(lambda c: entry(c).update(score=1.1), "box.score", "not 1.1"),
    pytest.param(lambda c: entry(c).pop("score"), "box.score", "not None"),
    pytest.param(lambda c: entry(c).update(class_name="Cat"), "box.class_name", "'Cat' is none"),
]


@pytest.mark.parametrize(
    ("change", "rule", "words"), INFER, ids=[str(row.values[1:]) for row in INFER]
)
def test_infer(
    change: Callable[[dict], object], rule: str | list[str], words: str, looking: Example
) -> None:
    looking.infer(change)
    findings = check_out(looking.root)
    assert [finding.rule for finding in findings] == ([rule] if isinstance(rule, str) else rule)
    assert words in findings[0].sentence


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param('{"detection": {"a": NaN}}', "NaN", id="nan"),
        pytest.param('{"detection": {}', "no plain JSON", id="cut off"),
        pytest.param('{"detection": {}, "detection": {}}', "stands in it twice", id="double key"),
    ],
)
def test_infer_unreadable(text: str, words: str, looking: Example) -> None:
    (looking.out / "infer-result.json").write_text(text)
    only_finding(looking.root, "json.unreadable", words)


def test_without_a_version_annotations_are_read(tmp_path: Path) -> None:
    example = build(tmp_path, training=False, protocol=None)
    assert check_out(tmp_path) == []
    example.infer(lambda c: [record.pop("annotations") for record in c["detection"].values()])
    assert {finding.rule for finding in check_out(tmp_path)} == {"json.list"}


def test_results_missing(looking: Example) -> None:
    for name in ("result.tsv", "infer-result.json"):
        (looking.out / name).unlink()
    rules = [finding.rule for finding in check_out(looking.root)]
    assert rules == ["result.missing", "result.missing"]


@pytest.mark.parametrize("name", ["result.tsv", "infer-result.json"])
def test_results_in_another_encoding(looking: Example, name: str) -> None:
    (looking.out / name).write_bytes(b"K\xf6ln")
    only_finding(looking.root, "result.encoding", f"{name} is not UTF-8")
