"""A page that needs nothing but itself: text escaped, pictures inside, no script, no address."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from data.images import encode_image, read_image
from reporting.colours import ACCENT, INK, LINE, MUTED
from reporting.drawing import Tile, fitted
from reporting.svg import Markup, clean
from utils.atomic import write_text

WIDEST = 1600
"""Longest side of a picture in a page, pixels."""
QUALITY = 85
BROAD = 2.0
"""Pictures of this many times their height or more are several side by side."""
LARGEST_PNG = 400_000
NARROW = 400
"""Pictures of as many pixels or fewer fit a small screen as they are."""

STYLE = f"""
:root {{ color-scheme: light; }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: #fff; color: {INK};
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }}
main {{ max-width: 1240px; margin: 0 auto; padding: 2rem 1.25rem 4rem; }}
h1 {{ font-size: 1.9rem; line-height: 1.2; margin: 0 0 .25rem; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.25rem; margin: 3rem 0 1rem; padding-top: 1rem; border-top: 1px solid {LINE}; }}
h3 {{ font-size: 1rem; margin: 1.75rem 0 .5rem; }}
p {{ max-width: 48rem; margin: .5rem 0 1rem; overflow-wrap: anywhere; }}
.lead, .note, figcaption {{ color: {MUTED}; }}
nav {{ display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: 1rem 0 0; }}
a {{ color: {ACCENT}; }}
.numbers {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr));
  gap: 1rem; margin: 1.75rem 0 0; }}
.numbers div {{ border-left: 3px solid {ACCENT}; padding: .1rem 0 .1rem .75rem; }}
.numbers b {{ display: block; font-size: 1.6rem; line-height: 1.25; font-weight: 600;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }}
.numbers span {{ color: {MUTED}; font-size: .875rem; }}
.scroll {{ overflow-x: auto; margin: .5rem 0 1rem; background:
  linear-gradient(90deg, #fff 50%, #fff0) 0 0 / 2rem 100% no-repeat local,
  linear-gradient(270deg, #fff 50%, #fff0) 100% 0 / 2rem 100% no-repeat local,
  linear-gradient(90deg, #0003, #0000) 0 0 / .75rem 100% no-repeat scroll,
  linear-gradient(270deg, #0003, #0000) 100% 0 / .75rem 100% no-repeat scroll; }}
table.full {{ width: 100%; }}
table {{ border-collapse: collapse; font-size: .9375rem; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; padding: .3rem 1.25rem .3rem 0; border-bottom: 1px solid {LINE};
  vertical-align: top; overflow-wrap: anywhere; }}
th {{ font-weight: 600; white-space: nowrap; }}
td.n, th.n {{ text-align: right; white-space: nowrap; }}
td:not(.n):not(.bar) {{ min-width: 7rem; unicode-bidi: isolate; }}
tr.sum td {{ font-weight: 600; }}
td.bar {{ width: 40%; min-width: 6rem; }}
td.bar i {{ display: block; height: .7rem; margin-top: .4rem; background: {ACCENT}; }}
details {{ margin: 1rem 0; }}
summary {{ cursor: pointer; color: {ACCENT}; }}
figure {{ margin: 1rem 0 1.5rem; }}
figcaption {{ font-size: .875rem; margin-top: .25rem; overflow-wrap: anywhere; }}
img {{ display: block; max-width: 100%; height: auto; }}
.charts {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr));
  gap: 1rem 2rem; }}
.charts.two {{ max-width: 56rem;
  grid-template-columns: repeat(auto-fill, minmax(min(24rem, 100%), 1fr)); }}
.chart {{ margin: 0; }} .chart svg {{ display: block; width: 100%; height: auto; }}
.legend {{ display: flex; flex-wrap: wrap; gap: .1rem 1rem; font-size: .8125rem; color: {MUTED};
  padding-left: 12.8%; }}
.legend span {{ overflow-wrap: anywhere; }}
.legend i {{ display: inline-block; width: 1rem; height: 3px; margin-right: .4rem;
  vertical-align: middle; }}
.gallery {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr));
  gap: 1rem; align-items: start; margin: 1rem 0; }}
.gallery.pairs {{ grid-template-columns: repeat(4, 1fr); }}
.gallery figure {{ margin: 0; }} .gallery img {{ width: 100%; }}
.key {{ display: inline-block; width: .9rem; height: .9rem; vertical-align: -.1rem;
  margin-right: .35rem; }}
@media (max-width: 1000px) {{ .gallery.pairs {{ grid-template-columns: repeat(2, 1fr); }} }}
@media (max-width: 640px) {{ main {{ padding-top: 1.25rem; }} h1 {{ font-size: 1.5rem; }}
  .gallery.pairs {{ grid-template-columns: 1fr; }}
  .wide img {{ max-width: none; width: 560px; }} .broad img {{ width: 1200px; }}
  .wide + figcaption::before {{ content: "Slide the picture sideways. "; }}
  table {{ font-size: .875rem; }} th, td {{ padding-right: .75rem; }}
  td:last-child:not(.n):not(.bar):not(:first-child) {{ min-width: 14rem; }} }}
@media print {{ nav {{ display: none; }} h2 {{ break-after: avoid; }}
  figure {{ break-inside: avoid; }} }}
"""

# The browser itself then refuses whatever is not in the file.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Page:
    """Sections of text, tables, charts and pictures, in the order they are added.

    Every text is foreign: it is escaped here and nowhere else.
    """

    def __init__(self, title: str, lead: str = "") -> None:
        self._title = title
        self._head: list[str] = [f"<h1>{clean(title)}</h1>"]
        if lead:
            self._head.append(f'<p class="lead">{clean(lead)}</p>')
        self._sections: list[str] = []
        self._body: list[str] = []

    def numbers(self, rows: Iterable[tuple[str, str]]) -> None:
        """The few figures (name, value) that a reader looks for first, in large type."""
        cells = "".join(f"<div><b>{clean(v)}</b><span>{clean(k)}</span></div>" for k, v in rows)
        self._head.append(f'<div class="numbers">{cells}</div>')

    def section(self, title: str) -> None:
        """Begin a part of the page that the list at its top leads to."""
        self._sections.append(title)
        self._body.append(f'<h2 id="s{len(self._sections)}">{clean(title)}</h2>')

    def heading(self, title: str) -> None:
        """Begin a smaller part."""
        self._body.append(f"<h3>{clean(title)}</h3>")

    def text(self, sentence: str) -> None:
        """A paragraph."""
        self._body.append(f"<p>{clean(sentence)}</p>")

    def key(self, colours: Iterable[tuple[str, str]]) -> None:
        """What the colours (#rrggbb, meaning) of a picture stand for."""
        items = " &nbsp; ".join(
            f'<span class="key" style="background:{colour}"></span>{clean(meaning)}'
            for colour, meaning in colours
        )
        self._body.append(f'<p class="note">{items}</p>')

    def table(
        self,
        header: Sequence[str],
        rows: Iterable[Sequence[object]],
        *,
        folded: str = "",
        total: bool = False,
    ) -> None:
        """Rows under `header`; columns of numbers are set to the right.

        `folded` is the line to click on where the table is long. `total`: the first row sums up.
        """
        content = [list(row) for row in rows]
        right = [
            bool(content)
            and all(isinstance(row[n], int | float) or row[n] == "" for row in content)
            for n in range(len(header))
        ]
        head = "".join(
            f'<th class="n">{clean(word)}</th>' if n else f"<th>{clean(word)}</th>"
            for word, n in zip(header, right, strict=True)
        )
        lines = []
        for number, row in enumerate(content):
            cells = "".join(
                f'<td class="n">{_number(value)}</td>' if n else f"<td>{clean(value)}</td>"
                for value, n in zip(row, right, strict=True)
            )
            lines.append(
                f'<tr class="sum">{cells}</tr>' if total and not number else f"<tr>{cells}</tr>"
            )
        table = (
            f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{''.join(lines)}</tbody></table></div>"
        )
        self._body.append(_folded(folded, table))

    def bars(
        self, header: Sequence[str], rows: Sequence[tuple[str, Sequence[int]]], *, folded: str = ""
    ) -> None:
        """Counts by name; the first count has a bar as long as its share of the largest.

        `folded` is the line to click on where they are many.
        """
        most = max((counts[0] for _, counts in rows), default=0) or 1
        head = "".join(f'<th class="n">{clean(word)}</th>' for word in header[1:])
        lines = "".join(
            f"<tr><td>{clean(name)}</td>"
            + "".join(f'<td class="n">{_number(count)}</td>' for count in counts)
            + f'<td class="bar"><i style="width:{100 * counts[0] / most:.1f}%"></i></td></tr>'
            for name, counts in rows
        )
        table = (
            f'<div class="scroll"><table class="full"><thead><tr><th>{clean(header[0])}</th>'
            f"{head}<th></th></tr></thead><tbody>{lines}</tbody></table></div>"
        )
        self._body.append(_folded(folded, table))

    def charts(self, charts: Iterable[Markup], *, large: bool = False) -> None:
        """Charts side by side, as many as the screen has room for; at most two `large` ones."""
        kind = "charts two" if large else "charts"
        self._body.append(f'<div class="{kind}">{"".join(charts)}</div>')

    def picture(self, path: Path, caption: str, *, wide: bool = True) -> None:
        """A picture file, put into the page; left out where the file does not exist.

        `wide`: on a small screen it keeps a legible size and is moved sideways.
        """
        if path.is_file():
            image = read_image(str(path))
            broad = image.shape[1] >= BROAD * image.shape[0]
            wide = wide and image.shape[1] > NARROW
            kind = ("scroll wide broad" if broad else "scroll wide") if wide else "scroll"
            source = _of_file(path, image)
            self._body.append(
                f'<figure><div class="{kind}"><img alt="{clean(caption)}" src="{source}">'
                f"</div><figcaption>{clean(caption)}</figcaption></figure>"
            )

    def gallery(self, tiles: Iterable[Tile], *, pairs: bool = False) -> None:
        """Photographs with their captions, as many side by side as the screen has room for.

        `pairs`: the first and the second belong together, and so on.
        """
        kind = "gallery pairs" if pairs else "gallery"
        items = "".join(
            f'<figure><img alt="{clean(one.caption)}" src="{_of_pixels(one.image)}">'
            f"<figcaption>{clean(one.caption)}</figcaption></figure>"
            for one in tiles
        )
        self._body.append(f'<div class="{kind}">{items}</div>')

    def render(self) -> str:
        """The whole page as HTML."""
        links = "".join(
            f'<a href="#s{number}">{clean(title)}</a>'
            for number, title in enumerate(self._sections, start=1)
        )
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{clean(self._title)}</title><style>{STYLE}</style></head>\n<body><main>\n"
            + "\n".join([*self._head, f"<nav>{links}</nav>" if links else "", *self._body])
            + "\n</main></body></html>\n"
        )

    def write(self, path: Path) -> Path:
        """Replace the file `path` by the page in one step."""
        write_text(path, self.render())
        return path


def _folded(title: str, content: str) -> str:
    """`content` behind a line to click on, or as it is without a title."""
    if not title:
        return content
    return f"<details><summary>{clean(title)}</summary>{content}</details>"


def _number(value: object) -> str:
    """Counts with thin spaces between thousands, fractions with three digits."""
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}".replace(",", "\u2009") if isinstance(value, int) else clean(value)


def _of_file(path: Path, image: np.ndarray) -> str:
    """A data URI of a picture file: the file itself, or a smaller copy of a large one."""
    kind = "png" if path.suffix == ".png" else "jpeg"
    small, scale = fitted(image, WIDEST)
    content = path.read_bytes()
    if scale == 1.0 and (kind == "jpeg" or len(content) <= LARGEST_PNG):
        return _data_uri(kind, content)
    if kind == "png":
        smaller = encode_image(small, ".png")
        if len(smaller) <= LARGEST_PNG:
            return _data_uri("png", smaller)
    return _of_pixels(small)


def _of_pixels(image: np.ndarray) -> str:
    return _data_uri("jpeg", encode_image(fitted(image, WIDEST)[0], ".jpg", quality=QUALITY))


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
