"""Index files that are empty, odd, damaged, or lead elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from data.index_file import read_index
from tests.reliability import case
from tests.reliability.case import Ending, Fate, Meet, skipped, taken
from tests.reliability.reading import read, write_good
from utils.errors import Code, TaskError

GOOD = b"a.png\ta.txt\n"


def index(content: bytes) -> Meet:
    """An index over some good images: a, b, 'c d', sub/a, and names beyond ASCII and UTF-8."""

    def meet(folder: Path) -> Ending:
        for name in ("a", "b", "c d", "sub/a", "图片", os.fsdecode(b"caf\xe9")):
            write_good(folder, name)
        (folder / "empty.txt").write_bytes(b"")
        os.mkfifo(folder / "pipe.txt")
        return read(folder, content)

    return meet


def in_place(make: Callable[[Path], object]) -> Meet:
    """Something else in the place of the index file."""

    def meet(folder: Path) -> Ending:
        make(folder / "index.tsv")
        try:
            records = read_index(folder / "index.tsv", folder)
        except TaskError as error:
            return Ending(Fate.REFUSED, error.sentence, error.code)
        return Ending(Fate.TAKEN, "", facts={"images": len(records)})

    return meet


refused = partial(case.refused, code=Code.DATASET)

CASES = (
    refused("no file", in_place(lambda path: None), "cannot be read (No such file"),
    refused("a folder in its place", in_place(Path.mkdir), "(not a file)"),
    refused("a pipe in its place", in_place(os.mkfifo), "(not a file)"),
    refused("an empty file", index(b""), "lists no image"),
    refused("blank lines only", index(b"\n  \r\n\n"), "lists no image"),
    taken("blank lines between the others", index(b"\n" + GOOD + b"  \n\nb.png\tb.txt"), images=2),
    taken("CRLF line ends", index(b"a.png\ta.txt\r\nb.png\tb.txt\r\n"), images=2, boxes=2),
    taken("a byte order mark", index(b"\xef\xbb\xbf" + GOOD), images=1, boxes=1),
    taken("a trailing tab: a background", index(GOOD + b"b.png\t\n"), backgrounds=1),
    taken("one column: a background", index(GOOD + b"b.png\n"), backgrounds=1),
    taken("a third column", index(b"a.png\ta.txt\tmore\n"), images=1, boxes=1),
    taken(
        "an empty annotation file: a background", index(GOOD + b"b.png\tempty.txt\n"), backgrounds=1
    ),
    taken("spaces in paths", index(b"c d.png\tc d.txt\n"), images=1, boxes=1),
    taken("relative paths", index(b"sub/a.png\tsub/a.txt\n"), images=1, boxes=1),
    taken("relative paths with `./` and inner `..`", index(b"./sub/../a.png\t./a.txt\n"), boxes=1),
    taken("absolute paths", index(b"{in}/a.png\t{in}/a.txt\n"), images=1, boxes=1),
    taken("a name in another script", index("图片.png\t图片.txt\n".encode()), boxes=1),
    taken("a name that is not UTF-8", index(b"caf\xe9.png\tcaf\xe9.txt\n"), images=1, boxes=1),
    refused(
        "a relative path that leaves `/in`",
        index(GOOD + b"../secret.png\ta.txt\n"),
        "lists '../secret.png', which leads out of",
    ),
    refused(
        "an absolute path that leaves `/in` by `..`",
        index(b"a.png\t{in}/../../etc/passwd\n"),
        "which leads out of",
    ),
    skipped(
        "an absolute path elsewhere that is no annotation",
        index(GOOD + b"b.png\t/etc/hostname\n"),
        *("1 with an unusable annotation skipped", "/etc/hostname"),
        images=1,
    ),
    skipped("a device", index(GOOD + b"b.png\t/dev/zero\n"), "/dev/zero: not a file", images=1),
    skipped("a pipe", index(GOOD + b"b.png\tpipe.txt\n"), "pipe.txt: not a file", images=1),
    skipped("a folder", index(GOOD + b"sub\tb.txt\n"), "is a directory", images=1),
    skipped("an image that is missing", index(GOOD + b"no.png\ta.txt\n"), "no.png: file not found"),
    skipped(
        "an annotation that is missing",
        index(GOOD + b"b.png\tno.txt\n"),
        "no.txt: No such file",
        images=1,
    ),
    skipped(
        "a zero byte in a path", index(GOOD + b"b.png\tb\0.txt\n"), "1 with an unusable annotation"
    ),
    taken(
        "the same image twice: once",
        index(GOOD + GOOD),
        "1 image listed twice, taken once",
        images=1,
        duplicate_images=1,
    ),
    taken(
        "the same base name in two folders: two images",
        index(GOOD + b"sub/a.png\tsub/a.txt\n"),
        images=2,
        boxes=2,
    ),
    refused(
        "nothing that exists",
        index(b"x.png\tx.txt\ny.png\ty.txt\n"),
        ": 2 of 2, for example",
        "file not found",
    ),
    refused("not an index at all", index(bytes(range(1, 256)) * 4), "unusable images of"),
)
