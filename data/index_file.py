"""Read index files: images with their annotations, or candidate images."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NamedTuple

from utils.errors import Code, TaskError

SPLITS = ("train", "val", "test")
"""Of a data set."""
ORIGINAL_NAMES = "original-names.tsv"
"""Beside the index files, where a tool renamed images: index text<TAB>the name people know."""


class Record(NamedTuple):
    """One line of a training index: image path, and annotation path or None without one."""

    image: str
    annotation: str | None


class Candidate(NamedTuple):
    """One line of a candidate index: the text as it stands in the file, and the path to open."""

    text: str
    path: str


def read_index(index_file: Path, root: Path) -> list[Record]:
    """Read the lines `image<TAB>annotation` of an index file; relative paths start at `root`.

    Blanks belong to names, blank lines are skipped, a trailing TAB, CRLF and a byte order mark are
    accepted. Raises TaskError(DATASET) when the file is missing or lists nothing, or when a path
    climbs out of `root` by `..`.
    """
    records = []
    for columns in _columns(index_file):
        annotation = columns[1] if len(columns) > 1 and columns[1].strip() else None
        image = _place(root, columns[0], index_file)
        records.append(Record(image, annotation and _place(root, annotation, index_file)))
    return records


def read_candidates(index_file: Path, root: Path) -> tuple[list[Candidate], int]:
    """Read candidate images in file order; return them and the number of repeated lines.

    Raises TaskError as `read_index`.
    """
    texts = [columns[0] for columns in _columns(index_file)]
    unique = dict.fromkeys(texts)
    candidates = [Candidate(text, _place(root, text, index_file)) for text in unique]
    return candidates, len(texts) - len(candidates)


def read_original_names(root: Path) -> dict[str, str]:
    """Return the original name of each image by its path; none without a table in `root`."""
    table = root / ORIGINAL_NAMES
    if not table.is_file():  # the platform writes none
        return {}
    with open(table, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        pairs = (line.rstrip("\r\n").partition("\t") for line in file)
        return {os.path.join(root, text): name for text, _, name in pairs if name}


def _place(root: Path, text: str, index_file: Path) -> str:
    """Return the path that an index line names; an absolute one is taken as it is."""
    path = os.path.join(root, text)
    if ".." in text.split("/") and not Path(os.path.normpath(path)).is_relative_to(
        os.path.normpath(root)
    ):
        raise TaskError(
            Code.DATASET,
            f"the index file {index_file} lists {text[:200]!r}, which leads out of {root}; "
            "list files below it, or absolute paths without '..'.",
        )
    return path


def _columns(index_file: Path) -> list[list[str]]:
    try:
        # A pipe would never end, and reading it would wait for ever.
        if index_file.exists() and not index_file.is_file():
            raise OSError(errno.EINVAL, "not a file")
        # surrogateescape: a file name in another encoding must come out as it went in.
        with open(index_file, encoding="utf-8-sig", errors="surrogateescape", newline="\n") as file:
            lines = [line.rstrip("\r\n") for line in file]
    except (OSError, ValueError) as error:
        raise TaskError(
            Code.DATASET,
            f"the index file {index_file} cannot be read "
            f"({getattr(error, 'strerror', None) or error}); "
            "it must list one image per line.",
        ) from None
    columns = [line.split("\t") for line in lines if line.strip()]
    if not columns:
        raise TaskError(
            Code.DATASET,
            f"the index file {index_file} lists no image; choose a data set that is not empty "
            "and an export format with annotations, such as ark:raw.",
        )
    return columns
