"""Index files as the platform writes them: names with blanks, relative paths, lines given twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.index_file import read_candidates, read_index
from utils.errors import Code, TaskError


def test_index_rules(tmp_path: Path) -> None:
    """Blanks in names, CRLF, blank lines, trailing TAB, relative paths, byte order mark."""
    index_file = tmp_path / "index.tsv"
    index_file.write_bytes(
        b"\xef\xbb\xbf/in/a b.jpg\t/in/a b.txt\r\n\r\n  \nassets/c.jpg\t\n/in/d.jpg\n"
        b"/in/e\xe9\x85.jpg\tann/e.txt\tmore\n"
    )
    root = tmp_path / "root"
    records = read_index(index_file, root)
    assert [tuple(record) for record in records] == [
        ("/in/a b.jpg", "/in/a b.txt"),
        (f"{root}/assets/c.jpg", None),
        ("/in/d.jpg", None),
        ("/in/e\udce9\udc85.jpg", f"{root}/ann/e.txt"),
    ]


def test_candidates_keep_their_text_and_count_once(tmp_path: Path) -> None:
    index_file = tmp_path / "index.tsv"
    index_file.write_text("assets/b c.jpg\n/in/a.jpg\t\nassets/b c.jpg\r\n", encoding="utf-8")
    candidates, repeated = read_candidates(index_file, tmp_path)
    assert [tuple(candidate) for candidate in candidates] == [
        ("assets/b c.jpg", f"{tmp_path}/assets/b c.jpg"),
        ("/in/a.jpg", "/in/a.jpg"),
    ]
    assert repeated == 1


def test_paths_that_climb_out_are_refused(tmp_path: Path) -> None:
    (tmp_path / "index.tsv").write_bytes(b"../../etc/a.jpg\n")
    with pytest.raises(TaskError, match="leads out of") as caught:
        read_candidates(tmp_path / "index.tsv", tmp_path)
    assert caught.value.code == Code.DATASET
