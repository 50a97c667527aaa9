"""Figures of a page as SVG, which follow the dark mode of the reader's system.

English letters are outlines. In another language the words are text in the browser's fonts: the
machine that draws need not have any.
"""

from __future__ import annotations

import io
import re
from html import escape, unescape

import matplotlib
from matplotlib.figure import Figure

from reporting.drawing import ACCENT, MUTED, TEXT
from utils.language.catalogue import ENGLISH, catalogue

PIXELS = 120
"""Pixels of a page for an inch of a figure."""
COLOURS = {
    "#ffffff": ("ground", "#14191e"),
    "#000000": ("ink", "#dde4ea"),
    TEXT: ("text", "#dde4ea"),
    MUTED: ("muted", "#9aa7b2"),
    ACCENT: ("accent", "#6cb6e6"),
}
"""Colour of a figure: its name, and the one of a dark page (templates/style.css). Others stay."""
# What is stored as pixels (heat maps, crowded points) has no names: its lightness is reversed.
STYLE = """<style>
:root {{ {light} fill: var(--ink); }}
@media (prefers-color-scheme: dark) {{
  :root {{ {dark} }}
  image {{ filter: invert(.92) hue-rotate(180deg); }}
}}
text {{ font-family: "DejaVu Sans", system-ui, sans-serif; white-space: pre; }}
</style>"""
WORDS = re.compile(r"(<text [^>]*>)([^<]*)(?=</text>)")
FONT = re.compile(r"font-family: [^;\"]*;? ?")
OWN_TICKS = frozenset({"missed (FN)", "false positives (FP)"})
"""Words on an axis; the others are names of classes, which are never translated."""
HEAD = re.compile(r'<svg [^>]*?width="([\d.]+)pt" height="([\d.]+)pt"[^>]*>')


def figure_svg(figure: Figure, language: str = ENGLISH) -> str:
    """Return the figure as SVG without a ground, in colours for a light and for a dark page."""
    text, texts = io.StringIO(), catalogue(language, pages=True)
    letters = "none" if texts.texts else "path"
    with matplotlib.rc_context({"svg.hashsalt": "figure", "svg.fonttype": letters}):
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", dpi=PIXELS, transparent=True, metadata=metadata)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    if texts.texts:
        ticks = [(*one.get_xticklabels(), *one.get_yticklabels()) for one in figure.axes]
        names = {tick.get_text() for own in ticks for tick in own} - OWN_TICKS

        def told(found: re.Match[str]) -> str:
            words = unescape(found[2])
            return FONT.sub("", found[1]) + escape(words if words in names else texts.text(words))

        svg = WORDS.sub(told, svg)
    for colour, (name, _) in COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    light = " ".join(f"--{name}: {colour};" for colour, (name, _) in COLOURS.items())
    dark = " ".join(f"--{name}: {colour};" for name, colour in COLOURS.values())
    style = STYLE.format(light=light, dark=dark)
    return HEAD.sub(lambda head: _in_pixels(head) + style, svg, count=1)


def _in_pixels(head: re.Match[str]) -> str:
    tag = head[0]
    for name, points in (("width", head[1]), ("height", head[2])):
        tag = tag.replace(f'{name}="{points}pt"', f'{name}="{float(points) / 72 * PIXELS:.0f}"')
    return tag
