"""COCO data sets as people keep them: documents, the images that they list, splits and classes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from data.formats.base import (
    SPLIT_NAMES,
    AnnotationError,
    AnnotationFormat,
    FoundDataset,
    Size,
    read_bytes,
    register,
)
from data.formats.coco import (
    CocoFile,
    CocoImage,
    CocoRecords,
    NotCocoError,
    file_parts,
    identity_of,
    read_records,
    stated_size,
)
from data.images import ImageError, image_size
from data.index_file import SPLITS, Record
from data.sources import files_under, images_under
from utils.errors import Code, TaskError

COCO_KEYS = (b'"images"', b'"annotations"', b'"categories"')


def find_folder(folder: Path, _class_names: Sequence[str]) -> FoundDataset | None:
    """Find the COCO documents of a folder, or the one given; classes in the order of their ids.

    The split of a document comes from its name, else from its folder's.
    """
    remarks: Counter[str] = Counter()
    documents = _documents(folder, remarks)
    if not documents:
        return None
    root = folder.parent if folder.is_file() else folder
    records: dict[str, list[Record]] = {}
    finder = _ImageFinder(root)
    listed: dict[Path, Path] = {}
    absent: list[str] = []
    for path, document in documents.items():
        found = records.setdefault(_split_of(path, root), [])
        seen: set[Path] = set()
        for image in document.images:
            file = finder.find(path, image)
            if file is None:
                absent.append(str(image.file_name))
                continue
            # One listed twice in a document is refused where its objects are read.
            if file not in seen and listed.setdefault(file, path) != path:
                raise TaskError(
                    Code.DATASET,
                    f"{file} is listed by {listed[file]} and by {path}: keep one of them.",
                )
            if file not in seen:
                found.append(Record(str(file), str(path)))
            seen.add(file)
    if orphans := sum(_orphans(document) for document in documents.values()):
        remarks["annotations of images that are not listed were left out"] += orphans
    if absent:
        said = f"listed images do not exist and were left out, such as {absent[0][:200]!r}"
        remarks[said] += len(absent)
    if not listed:
        hint = " (its backslashes were read as slashes)" if "\\" in "".join(absent[:1]) else ""
        raise TaskError(
            Code.DATASET,
            f"no image that {next(iter(documents))} lists exists ({len(absent):,} listed), for "
            f"example {absent[0][:200]!r}{hint}: put them beside it or in {root / 'images'}."
            if absent
            else f"{next(iter(documents))} lists no image.",
        )
    return FoundDataset("coco", records, _class_names_of(documents.values()), remarks)


def _orphans(document: CocoRecords) -> int:
    known = {identity_of(image.id) for image in document.images}
    return sum(identity_of(one.image_id) not in known for one in document.annotations or ())


def _class_names_of(documents: Collection[CocoRecords]) -> tuple[str, ...]:
    """Return category names in the order of their ids, without Roboflow's placeholder.

    Roboflow puts the project's name before the classes: id 0, supercategory none, no objects, and
    the supercategory of all others.
    """
    used = {identity_of(one.category_id) for each in documents for one in each.annotations or ()}
    names: dict[str, str] = {}
    for document in documents:
        categories = document.categories or []
        parents = {str(one.supercategory) for one in categories}
        for one in categories:
            key = identity_of(one.id)
            placeholder = one.supercategory == "none" and str(one.name) in parents
            if key is not None and one.name and not (placeholder and key not in used):
                names.setdefault(key, str(one.name).strip())
    return tuple(dict.fromkeys(names[key] for key in sorted(names, key=_in_order)))


def _in_order(identity: str) -> tuple[int, str]:
    return (int(identity) if identity.isdecimal() else -1, identity)


def _documents(folder: Path, remarks: Counter[str]) -> dict[Path, CocoRecords]:
    if folder.is_file():
        paths = [folder] if folder.suffix.lower() == ".json" else []
    else:
        paths = files_under(folder, (".json",), depth=3)
    found = {}
    for path in paths:
        try:
            content = read_bytes(str(path))
            records = read_records(content, str(path))
        except NotCocoError:
            continue
        except AnnotationError as error:
            # A file of another program is passed over, a damaged one of annotations is not.
            if folder.is_file() or any(word in content[:4096] for word in COCO_KEYS):
                raise TaskError(Code.DATASET, f"{error}.") from error
            remarks[f"{path.name} is no readable JSON and was passed over"] += 1
            continue
        if records.annotations is not None and records.categories is not None:
            found[path] = records
    # The official folder has key points and stuff of the same images beside the instances.
    official = [path.name.removeprefix("instances_") for path in found if _is_instances(path)]
    return {
        path: records
        for path, records in found.items()
        if _is_instances(path) or not any(path.name.endswith(f"_{name}") for name in official)
    }


def _is_instances(path: Path) -> bool:
    return path.name.startswith("instances_")


def _split_of(path: Path, root: Path) -> str:
    parts = [path.stem] if path.parent == root else [path.stem, path.parent.name]
    named = (split for part in parts for split in SPLITS if split in _splits_in(part))
    return next(named, "")


def _splits_in(name: str) -> set[str]:
    """Return the splits that the words of a name say: `val2017` is one, `valves` is none."""
    words = re.findall(r"[a-z]+", name.lower())
    return {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}


class _ImageFinder:
    """Finds the files that documents list, below the folder of the data set."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._by_name: dict[str, list[Path]] = {}
        for path in images_under(root):
            self._by_name.setdefault(path.name, []).append(path)

    def find(self, document: Path, image: CocoImage) -> Path | None:
        """Return the file of an image, or None; TaskError(DATASET) where several fit.

        Its path from the usual folders goes first; else a file of its name, which a name alone may
        have anywhere but in the folder of another split, and one with folders in the usual ones.
        Of several the size decides.
        """
        parts, root = file_parts(image.file_name), self._root
        usual = (document.parent, root, root / "images", document.parent / "images")
        for folder in usual:
            if (path := folder.joinpath(*parts)).is_file():
                return path
        split, stated = _split_of(document, root), stated_size(image)
        found = [
            path
            for path in self._by_name.get(parts[-1], ())
            if (path.parent in usual if len(parts) > 1 else self._fits(path, split))
        ]
        if len(found) > 1 and stated is not None:
            found = [path for path in found if _has_size(path, stated)]
        if len(found) > 1:
            there = " and ".join(str(path) for path in found[:2])
            raise TaskError(
                Code.DATASET,
                f"{document} lists {image.file_name}, which fits {there}: write its folder into "
                "file_name, or keep one of them.",
            )
        return found[0] if found else None

    def _fits(self, path: Path, split: str) -> bool:
        folders = path.relative_to(self._root).parts[:-1]
        said = set().union(*map(_splits_in, folders))
        return not said or not split or split in said


def _has_size(path: Path, stated: Size) -> bool:
    try:
        return stated in (image_size(path), image_size(path, upright=True))
    except ImageError:
        return True  # told where it is read


register(
    AnnotationFormat(
        "coco-folder",
        CocoFile,
        many_images=True,
        read_folder=find_folder,
        folder_rank=2,
        layout="COCO (a JSON file with images, annotations and categories)",
    )
)
