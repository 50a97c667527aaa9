"""Digests and comparison of recorded results."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.same_numbers import (
    digest,
    digest_tensors,
    export_entries,
    file_entries,
    main,
    table_entries,
    write_data,
)

VOC = """<annotation><size><width>40</width><height>30</height></size><object><name>b</name>
<bndbox><xmin>10</xmin><ymin>5</ymin><xmax>30</xmax><ymax>20</ymax></bndbox></object></annotation>
"""


def test_a_digest_of_tensors_is_of_names_types_shapes_and_bits_but_not_of_their_order() -> None:
    assert digest("ab", b"c") == digest(b"ab", "c") != digest("a", "bc")
    one = {"a": torch.ones(2, 3), "b": torch.zeros(4, dtype=torch.int64)}
    assert digest_tensors(dict(reversed(one.items()))) == digest_tensors(one)
    changed = torch.ones(2, 3)
    changed[0, 0] = np.nextafter(np.float32(1), np.float32(2)).item()
    for other in (changed, torch.ones(3, 2), torch.ones(2, 3, dtype=torch.float64)):
        assert digest_tensors(one | {"a": other}) != digest_tensors(one)
    assert digest_tensors({"c": one["a"], "b": one["b"]}) != digest_tensors(one)


def test_a_table_is_compared_by_value_and_column() -> None:
    padded = table_entries("  epoch, loss\n      0, 0.50\n      1,  nan\n")
    assert json.dumps(padded) == '{"epoch": [0.0, 1.0], "loss": [0.5, NaN]}'
    first, second = (
        table_entries("a,b\n" + "".join(f"{row},{row + more}\n" for row in range(20)))
        for more in (0, 1)
    )
    assert first["a"] == second["a"]
    assert first["b"] != second["b"]


def test_files_are_read_without_the_folder_of_the_run_and_times(tmp_path: Path) -> None:
    read = []
    for number, name in enumerate(("one", "other")):
        work = tmp_path / name
        work.mkdir()
        (work / "result.tsv").write_text(f"{work}/a.jpg\t0.5\n", "utf-8")
        (work / "detections.json").write_text(json.dumps({f"{work}/a.jpg": [0.25]}), "utf-8")
        stages = f"{{best: {{mAP: 0.5, timestamp: {number}}}}}"
        (work / "result.yaml").write_text(f"{{mAP: 0.5, model_stages: {stages}}}", "utf-8")
        content = {"class_names": ["a"], "metadata": {"epoch": 1}, "state": {"w": torch.ones(2)}}
        torch.save({"version": number} | content, work / "best.pt")
        read.append([file_entries(path, work) for path in sorted(work.iterdir())])
    assert read[0] == read[1]
    (tmp_path / "other" / "result.tsv").write_text(f"{tmp_path}/other/a.jpg\t0.6\n", "utf-8")
    assert file_entries(tmp_path / "other" / "result.tsv", tmp_path / "other") != read[0][-1]


def test_an_exported_network_is_compared_by_what_it_computes(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((2, 3, 8, 8), np.float32)
    entries = []
    for number, scale in enumerate((2.0, 2.0, 2.5)):
        path = tmp_path / f"{number}.torchscript"
        module = torch.nn.BatchNorm2d(3).eval()
        torch.nn.init.constant_(module.weight, scale)
        torch.jit.trace(module, torch.zeros(1, 3, 8, 8)).save(path)
        entries.append(export_entries(path, images))
    assert entries[0] == entries[1] != entries[2]
    assert entries[0]["output 0"].startswith("(2, 3, 8, 8) ")


def test_a_comparison_names_what_differs_is_missing_or_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def compare(before: object, after: object) -> tuple[int, str]:
        files = [tmp_path / "before.json", tmp_path / "after.json"]
        for file, content in zip(files, (before, after), strict=True):
            file.write_text(json.dumps(content), "utf-8")
        return main(["compare", *map(str, files)]), capsys.readouterr().out

    record = {"train": {"loss": [0.5, float("nan")]}, "val": {"AP": 0.5, "AR": 1.0}}
    assert compare(record, record) == (0, "2 parts compared, 0 entries differ\n")
    status, text = compare(record, {**record, "val": {"AP": 0.5000000000000001, "AR": 1.0}})
    assert status == 1
    assert text.startswith("val  AP\n    0.5\n    0.5000000000000001\n2 parts compared, 1 ")
    status, text = compare(record, {"train": record["train"], "val": {"AP": 0.5}})
    assert status == 1
    assert "val  AR\n    1.0\n    (missing)" in text
    status, text = compare(record, {"val": record["val"]})
    assert status == 0
    assert "train  in one record only" in text
    failed = {"train": {"failed": "CalledProcessError"}}
    assert compare(failed, failed)[0] == 1
    assert compare(record, {})[0] == 1


def test_every_form_of_the_data_is_written_with_the_same_boxes(tmp_path: Path) -> None:
    voc, work = tmp_path / "voc", tmp_path / "work"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (voc / folder).mkdir(parents=True)
    for split, stems in (("train", "pq"), ("val", "r"), ("test", "stuvw")):
        (voc / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(stems), "utf-8")
        for stem in stems:
            (voc / "Annotations" / f"{stem}.xml").write_text(VOC, "utf-8")
            Image.new("RGB", (40, 30)).save(voc / "JPEGImages" / f"{stem}.jpg")
    write_data(voc, work, ("a", "b"))
    assert (work / "ark" / "val" / "r.txt").read_text("utf-8") == "1,10,5,30,20"
    label = (work / "yolo" / "labels" / "train" / "q.txt").read_text("utf-8")
    assert label == "1 0.500000 0.416667 0.500000 0.500000"
    coco = json.loads((work / "coco" / "train.json").read_text("utf-8"))
    assert [one["bbox"] for one in coco["annotations"]] == [[10, 5, 20, 15]] * 2
    candidates = [Path(line) for line in (work / "candidates.tsv").read_text("utf-8").splitlines()]
    assert [one.name for one in candidates] == [
        *("s.png", "t.jpg", "u.jpg", "v.jpg", "w.png", "broken.jpg"),
    ]
    shapes = [Image.open(path).size for path in candidates[:-1]]
    assert shapes == [(30, 40), *[(40, 30)] * 4]
