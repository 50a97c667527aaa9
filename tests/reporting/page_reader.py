"""A page as a browser would take it apart: what it shows, fetches and runs."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "img", "br", "hr", "input", "link", "wbr"}
LOADING = {"src", "srcset", "poster", "data", "background", "action", "formaction", "href"}


class Reader(HTMLParser):
    """Tags, texts and addresses of one page; unbalanced tags are an error."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.images: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.in_word = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.in_word = tag == "wbr"
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), name
            if name.rpartition(":")[2] in LOADING:
                (self.images if tag == "img" else self.addresses).append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self.in_word:
            self.words[-1] += data
        else:
            self.words.append(data)
        self.in_word = False

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read_page_file(path: Path) -> Reader:
    """The page, after checking that it is complete and needs nothing from elsewhere."""
    text, reader = path.read_text(encoding="utf-8"), Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open, f"never closed: {reader.open}"
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(reader.tags)
    assert all(
        re.match(r"data:image/(png|jpeg|svg\+xml);base64,", image) for image in reader.images
    )
    for address in reader.addresses:  # a place of the page, or a file beside it
        assert f'id="{address[1:]}"' in text or (path.parent / address).is_file(), address
    assert not re.search(r"url\(|@import|javascript:", text)
    assert "default-src 'none'" in text
    return reader
