"""Links that are labelled as their originals are, and one whole measurement of a few."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.index import index_table, main, write_links
from data.read_dataset import read_dataset
from tools.draw_dataset import draw_dataset
from tools.sources import SourceDataset, read_source


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SourceDataset:
    folder = tmp_path_factory.mktemp("data")
    draw_dataset(folder, images=4, size_wh=(64, 48), seed=0)
    return read_source(folder)


@pytest.mark.parametrize("form", ["voc", "ark", "coco"])
def test_links_have_the_boxes_of_what_they_lead_to(
    source: SourceDataset, tmp_path: Path, form: str
) -> None:
    index_file = write_links(source, tmp_path, count=9, form=form)
    data, report = read_dataset(index_file, source.class_names, root=tmp_path, max_bad_fraction=0)
    assert (len(data), report.listed) == (9, 9)
    assert len(set(data.paths)) == 9
    for image in range(5):
        assert Path(data.paths[image]).resolve() == Path(data.paths[image + 4]).resolve()
        assert data.boxes_of(image).tolist() == data.boxes_of(image + 4).tolist()
    assert len(data.boxes)


def test_a_table_by_hand() -> None:
    first = {"seconds": [1.5], "processor_seconds": 2.0, "images": 3, "boxes": 7, "peak_mib": 99.6}
    again = {**first, "seconds": [0.25], "processor_seconds": 0.3}
    assert index_table({"voc": [first, again]}).splitlines()[2:] == [
        "| voc | first | 3 | 7 | 1.5 | 2.0 | 100 |",
        "| voc | again | 3 | 7 | 0.2 | 0.3 | 100 |",
    ]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_whole_run(
    source: SourceDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = source.splits["train"][0].path.parent.parent
    main(["--data", str(folder), "--images", "6", "--formats", "ark", "--out", str(tmp_path)])
    assert capsys.readouterr().out.count("| ark | ") == 2


def test_nothing_to_read_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--images", "0"])
    assert "must be at least 1" in capsys.readouterr().err
