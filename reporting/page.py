"""HTML pages from jinja2 templates: self-contained, every text escaped, no request to anywhere."""

from __future__ import annotations

import base64
import platform
import re
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path

import cv2
import jinja2
import numpy as np
import torch
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from data.images import encode_image
from reporting.charts import figure_svg
from reporting.drawing import LABEL_HEIGHT, Label, fit, text_colour_on
from utils.atomic import write_text
from utils.cpus import available_cpus
from utils.environment import program
from utils.language.catalogue import ENGLISH, catalogue, language_named

PAGE = "report.html"
SHEET_QUALITY = 90
"""JPEG quality of the pictures beside a page."""
LONGEST = 1600
"""Longest side of a photograph in a page, pixels."""
JPEG_QUALITY = 85
NOT_ALLOWED = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters and lone surrogates: not allowed in HTML, but possible in file names."""

PICTURE = re.compile("<figure.*?</figure>", re.DOTALL)
PICTURE_ID = re.compile('(?:id="|href="#)(?:picture|back)-')
"""What comes before the number of a picture; a text of the page has no quotation mark."""
SEPARATORS = re.compile(r"(?<=\w[_./-])(?=[^\W\d])")
"""Between words of a name."""
LONG_NAME = 12
"""Characters of a word that is never broken, such as the name of a file of weights."""


def write_page(path: Path, template: str, *, language: str = ENGLISH, **context: object) -> Path:
    """Replace the file `path` by a template of `templates/`, in one step."""
    html = page_environment(language).get_template(template).render(context)
    write_text(path, NOT_ALLOWED.sub("�", html))
    return path


def page_environment(language: str = ENGLISH) -> jinja2.Environment:
    """Return the environment of the templates: their filters, and `_`, which translates a text.

    The filters `told`, `told_rows` and `caption` translate what the program says.
    """
    environment = jinja2.Environment(
        extensions=["jinja2.ext.i18n", "jinja2.ext.do"],
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (breakable, image_uri, label_style, number, numeric_columns)
    environment.filters |= {function.__name__: function for function in filters}
    texts = catalogue(language, pages=True)

    def told(value: object) -> object:
        return texts.text(value) if isinstance(value, str) else value

    def caption(text: str) -> str:
        name, colon, words = text.partition(": ")
        return f"{name}{colon}{texts.phrases(words)}"

    def told_rows(rows: Iterable[Sequence[object]]) -> list[list[object]]:
        return [list(map(told, row)) for row in rows]

    def plural(one: str, several: str, number: int) -> str:
        text = texts.word(several)
        return one if text == several and number == 1 else text

    environment.filters |= {"told": told, "told_rows": told_rows, "caption": caption}
    environment.install_gettext_callables(texts.word, plural, newstyle=True)  # type: ignore[attr-defined]
    environment.globals["language"] = language_named(language)
    said: set[str] = set()

    def is_first(key: str) -> bool:
        """Whether this is the first time on this page that a template asks for `key`."""
        known = key in said
        said.add(key)
        return not known

    environment.globals["is_first"] = is_first
    environment.globals["next_number"] = count(1).__next__  # of the pictures of one page
    return environment


def number(value: object) -> object:
    """Format counts with commas between thousands, fractions with three digits."""
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else value


def breakable(value: object) -> object:
    """Let a long name break after _ - . and / in a narrow column."""
    if not isinstance(value, str):
        return value
    words = (SEPARATORS.split(w) if len(w) > LONG_NAME else [w] for w in value.split(" "))
    return Markup(" ").join(Markup("<wbr>").join(map(escape, parts)) for parts in words)


def numeric_columns(rows: Sequence[Sequence[object]]) -> list[bool]:
    """Return which columns hold numbers or nothing; all are False without a row."""
    columns = zip(*rows, strict=True)
    found = [all(isinstance(v, int | float) or v == "" for v in column) for column in columns]
    return found or [False] * 100


def label_style(label: Label, image: np.ndarray) -> Markup:
    """Return the CSS of a label over an image [h, w, 3]: above its corner, and inside the image."""
    height, width = image.shape[:2]
    left, top = 100 * label.corner[0] / width, 100 * label.corner[1] / height
    return Markup(
        f"left:max(0px,min({left:.1f}%,100% - {label.width:.1f}em));"
        f"top:max(0px,min({top:.1f}%,100%) - {LABEL_HEIGHT}em);"
        f"background:{label.colour};color:{text_colour_on(label.colour)}"
    )


def chart_uri(figure: Figure, language: str = ENGLISH) -> Markup:
    """Return a figure as a data URI that follows the dark mode of the reader's system."""
    return _data_uri("svg+xml", figure_svg(figure, language).encode())


def image_uri(image: np.ndarray) -> Markup:
    """Return a BGR image [h, w, 3] as a data URI, shrunk to `LONGEST` pixels a side."""
    return _data_uri("jpeg", encode_image(fit(image, LONGEST)[0], ".jpg", quality=JPEG_QUALITY))


def pictures_of(page: Path, gallery: str, most: int) -> list[Markup]:
    """Return the first pictures of a named gallery of a page, for another page.

    None where there is no such page or gallery.
    """
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    shown = text.partition(f"<!-- gallery {gallery} -->")[2].partition("<!-- /gallery -->")[0]
    return [
        Markup(PICTURE_ID.sub(rf"\g<0>{gallery}-", figure))
        for figure in PICTURE.findall(shown)[:most]
    ]


def _data_uri(kind: str, content: bytes) -> Markup:
    return Markup(f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}")


def environment() -> list[tuple[str, str]]:
    """Return hardware and versions."""
    rows = [
        ("program", program()),
        ("CPU cores", str(available_cpus())),
        ("torch", torch.__version__),
        ("CUDA", str(torch.version.cuda or "not in this build")),
        ("Python", platform.python_version()),
        ("NumPy", np.__version__),
        ("OpenCV", cv2.__version__),
        ("system", platform.platform()),
    ]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        most = torch.cuda.max_memory_allocated() / 2**30
        rows.append(("GPU memory, at most", f"{most:.2f} GiB"))
    return rows
