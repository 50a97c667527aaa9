"""What it costs to read 100,000 labelled images: headers and annotations, no pixel decoded.

    python -m bench.index --data path/to/bccd --images 100000 --formats voc ark coco

The images are links to those of the data set, in folders such as the platform makes; so are the
annotation files, and a COCO document lists every link. Of each format the seconds, the processor
time and the largest memory of a process that has loaded torch, as a task has: the first time, and
once more with what the first left behind. Linux only (/proc).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.material import BUILD, find_data
from bench.pairs import run_ours
from tools.make_task import FORMATS, write_task
from tools.source_formats import SPLITS
from tools.sources import SourceDataset

HEAD = (
    "| annotations | time | images | boxes | seconds | processor seconds | MiB at most |\n"
    "|---|---|---|---|---|---|---|"
)
PASSES = ("first", "again")


def write_links(source: SourceDataset, folder: Path, *, count: int, form: str) -> Path:
    """`count` labelled images as links to those of `source`, in turn; the index file of them."""
    shutil.rmtree(folder, ignore_errors=True)
    write_task(source, folder / "task", annotation_format=form)
    originals = _originals(folder / "task" / "in")
    coco, lines = _Coco(originals[0][1]) if form == "coco" else None, []
    for number in range(count):
        image, annotation = originals[number % len(originals)]
        place = folder / "links" / f"{number % 256:02x}"
        place.mkdir(parents=True, exist_ok=True)
        link = place / f"{number:040x}{image.suffix}"
        os.symlink(os.path.realpath(image), link)
        if coco is None:
            label = link.with_suffix(annotation.suffix)
            os.symlink(annotation, label)
        else:
            label = folder / "coco.json"
            coco.add(link.name, image.name)
        lines.append(f"{link}\t{label}\n")
    if coco is not None:
        (folder / "coco.json").write_text(json.dumps(coco.document), encoding="utf-8")
    index_file = folder / "index.tsv"
    index_file.write_text("".join(lines), encoding="utf-8")
    return index_file


class _Coco:
    """A COCO document that lists images of another one again under new names."""

    def __init__(self, path: Path) -> None:
        given = json.loads(path.read_text("utf-8"))
        self._ids = {image["file_name"]: image["id"] for image in given["images"]}
        self._boxes: dict[int, list[dict[str, object]]] = {}
        for box in given["annotations"]:
            self._boxes.setdefault(box["image_id"], []).append(box)
        self._images: list[dict[str, object]] = []
        self._annotations: list[dict[str, object]] = []
        self.document = {
            "images": self._images,
            "annotations": self._annotations,
            "categories": given["categories"],
        }

    def add(self, name: str, original: str) -> None:
        number = len(self._images) + 1
        self._images.append({"id": number, "file_name": name})
        for box in self._boxes.get(self._ids[original], []):
            own = {"id": len(self._annotations) + 1, "image_id": number}
            self._annotations.append({**box, **own})


def _originals(folder: Path) -> list[tuple[Path, Path]]:
    files = [folder / f"{split}-index.tsv" for split in SPLITS]
    rows = [line.split("\t") for file in files for line in file.read_text("utf-8").splitlines()]
    return [(Path(image), Path(annotation)) for image, annotation in rows]


def measure(
    source: SourceDataset, folder: Path, *, count: int, formats: Sequence[str]
) -> dict[str, list[Mapping[str, object]]]:
    """The results of both passes over each format; raises SystemExit where they differ."""
    found: dict[str, list[Mapping[str, object]]] = {}
    for form in formats:
        place = (folder / form).absolute()
        index_file = write_links(source, place, count=count, form=form)
        job = {"kind": "index", "index": str(index_file), "class_names": source.class_names}
        (place / "job.json").write_text(
            json.dumps({**job, "threads": 1, "precision": "float32"}), encoding="utf-8"
        )
        (place / "temporary").mkdir()
        variables = {"TMPDIR": str(place / "temporary")}
        found[form] = [run_ours(place / "job.json", variables) for _ in PASSES]
        if found[form][0]["digest"] != found[form][1]["digest"]:
            raise SystemExit(f"{form}: the second reading differs from the first")
    return found


def index_table(found: Mapping[str, Sequence[Mapping[str, object]]]) -> str:
    """The results in Markdown."""
    lines = [HEAD]
    for form, results in found.items():
        for name, result in zip(PASSES, results, strict=True):
            seconds, processor = result["seconds"], result["processor_seconds"]
            assert isinstance(seconds, list)
            lines.append(
                f"| {form} | {name} | {result['images']} | {result['boxes']} | {seconds[0]:.1f} "
                f"| {processor:.1f} | {result['peak_mib']:.0f} |"
            )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="a VOC, COCO or YOLO folder; default: drawn")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--out", type=Path, default=BUILD / "index")
    options = parser.parse_args(arguments)
    if options.images < 1:
        parser.error("--images must be at least 1")
    source = find_data(options.data)
    found = measure(source, options.out, count=options.images, formats=options.formats)
    print(index_table(found), flush=True)


if __name__ == "__main__":
    main()
