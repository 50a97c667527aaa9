"""A page as a browser would take it apart: what it would fetch, show and run."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "img", "br", "hr", "input", "link"}
LOADING = {"src", "srcset", "poster", "data", "background", "action", "formaction", "xlink:href"}


@dataclass
class Reader(HTMLParser):
    """Tags, texts and addresses of one page; unbalanced tags are an error."""

    tags: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    handlers: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in LOADING or name == "href":
                (self.images if tag == "img" else self.addresses).append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read_page(text: str) -> Reader:
    """The page, after checking that it is whole and needs nothing from elsewhere."""
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open, f"never closed: {reader.open}"
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(reader.tags)
    assert not reader.handlers
    assert all(image.startswith(("data:image/png;base64,", "data:image/jpeg;base64,"))
               for image in reader.images)  # fmt: skip
    targets = {a.removeprefix("#") for a in reader.addresses}
    assert all(address.startswith("#") for address in reader.addresses)
    assert all(f'id="{target}"' in text for target in targets)
    assert not re.search(r"url\(|@import|javascript:", text)
    assert "default-src 'none'" in text
    return reader


def read_page_file(path: Path) -> Reader:
    return read_page(path.read_text(encoding="utf-8"))
