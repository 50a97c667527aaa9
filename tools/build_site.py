"""Build the documentation site of the pages of this repository, with search and a language switch.

python -m tools.build_site [--out build/site]

The pages are copied as they lie, so links between them are the same as on a code host. What else a
page links to (a source file, a folder) becomes a page of the site that shows it. Needs
mkdocs-material, one of the development requirements.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import yaml

from tools import command_parser
from utils.command import run_command
from utils.errors import Code, TaskError

ROOT = Path(__file__).resolve().parent.parent
PLACES = ("*.md", "docs/*.md", "docs/zh/*.md", "docker/*.md", "template/*.md", "examples/*.md")
PICTURES = (".png", ".jpg")
LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")
DIAGRAM = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NODE, EDGE = re.compile(r'(\w+)\["(.*?)"\]'), re.compile(r"[\w &]+(?:-->[\w &]+)+")
KIND = re.compile(r"^(```\w+) \w+$", re.MULTILINE)
"""What a block of settings is for, which the site's Markdown does not know."""

ZH = {"README.md": "README_zh-CN.md"}
"""Pages whose Chinese twin does not lie in docs/zh under the same name."""


def pages() -> list[Path]:
    """Return the pages of the site, relative to the root."""
    return [path.relative_to(ROOT) for place in PLACES for path in sorted(ROOT.glob(place))]


def twins() -> dict[Path, Path]:
    """Return the pages that exist in both languages, each with the other."""
    found: dict[Path, Path] = {}
    for page in pages():
        inside = page.parent.name if page.name == "README.md" and page.parent.name else page.stem
        other = Path(ZH.get(page.as_posix(), f"docs/zh/{inside}.md"))
        if "zh" not in page.parts and other != page and (ROOT / other).is_file():
            found |= {page: other, other: page}
    return found


def gather(folder: Path) -> list[str]:
    """Copy pages and what they show or link to into an empty folder.

    Returns the pages that are not in the navigation: each shows a file or a folder.
    """
    others, shown = twins(), set[Path]()
    for page in pages():
        text = (ROOT / page).read_text(encoding="utf-8")
        targets = {match[2] for match in LINK.finditer(text)}
        for target in targets:
            path = (ROOT / page.parent / target).resolve().relative_to(ROOT)
            if path.suffix in PICTURES:
                _write(folder / path, (ROOT / path).read_bytes())
            elif path.suffix != ".md":
                shown.add(path)
        text = KIND.sub(r"\1", LINK.sub(_to_shown, DIAGRAM.sub(_as_table, text)))
        _write(folder / page, (_head(page, others) + text).encode())
    for path in shown:
        _write(folder / f"{path}.md", _shown(ROOT / path).encode())
    return [f"/{path.as_posix()}.md" for path in sorted(shown)]


def build(out: Path) -> None:
    """Write the site into `out`/html; TaskError(CONFIG) for a broken link or a missing package."""
    pages_of, html = out / "pages", out / "html"
    shutil.rmtree(pages_of, ignore_errors=True)
    beside = gather(pages_of)
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for name, value in (
        ("docs_dir", pages_of), ("site_dir", html), ("  custom_dir", ROOT / "docs/theme")
    ):  # fmt: skip
        was = re.search(rf"^{name}: .*$", config, re.MULTILINE)
        assert was, name
        config = config.replace(was[0], f"{name}: {json.dumps(str(value.resolve()))}")
    config += _rest_of_nav(re.findall(r"^ +- (\S+\.md)$", config, re.MULTILINE))
    config += yaml.safe_dump({"not_in_nav": "\n".join(beside)})
    _write(out / "mkdocs.yml", config.encode())
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--clean"]
    ended = subprocess.run(
        [*command, "--config-file", str(out / "mkdocs.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        lines = (ended.stdout + ended.stderr).splitlines()
        said = "\n".join(line for line in lines if not line.startswith("INFO"))
        raise TaskError(
            Code.CONFIG,
            f"the site was not built:\n{said}\nCorrect the pages; if there is no mkdocs or theme, "
            "install requirements-dev.txt.",
        )


def _rest_of_nav(listed: Sequence[str]) -> str:
    """Return entries of the navigation for the Chinese pages, in the order of the English ones."""
    others = twins()
    chinese = [others[Path(name)].as_posix() for name in listed if Path(name) in others]
    names = [page.as_posix() for page in pages()]
    known = {*listed, *chinese}
    more = [name for name in names if name not in known and "zh" not in Path(name).parts]
    chinese += [name for name in names if name not in {*known, *more}]
    lines = [f"      - {name}\n" for name in chinese]
    if more:
        lines += ["  - More:\n", *(f"      - {name}\n" for name in more)]
    return "".join(["  - 中文:\n", *lines])


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _head(page: Path, others: dict[Path, Path]) -> str:
    """Return what the theme is to know of a page: its language and its twin."""
    chinese = "zh" in page.parts or page.name == "README_zh-CN.md"
    values = {"lang": "zh" if chinese else "en"}
    if page in others:
        twin = others[page].as_posix()
        values["twin"] = re.sub(
            r"(README)?\.md$", lambda m: "index.html" if m[1] else ".html", twin
        )
    return f"---\n{yaml.safe_dump(values)}---\n\n"


def _to_shown(link: re.Match[str]) -> str:
    """Return a link, to the page that shows its target where that is no page and no picture."""
    suffix = Path(link[2]).suffix
    return link[0] if suffix in (".md", *PICTURES) else f"{link[1]}{link[2]}.md{link[3]}"


def _shown(path: Path) -> str:
    """Return a page with the text of a file, or with the names in a folder."""
    name = path.relative_to(ROOT).as_posix()
    head = f"---\nsearch: {{exclude: true}}\n---\n\n# {name}\n\n"
    if path.is_dir():
        return head + "".join(f"- `{item.name}`\n" for item in sorted(path.iterdir()))
    if path.suffix == ".ipynb":
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
        return head + "\n\n".join(
            f"```python\n{text}\n```" if kind == "code" else text.lstrip("# ")
            for kind, text in texts
        )
    return f"{head}````{path.suffix[1:] or 'text'}\n{path.read_text(encoding='utf-8')}\n````\n"


def _as_table(diagram: re.Match[str]) -> str:
    """Return a table of a diagram's nodes and of those that each leads to.

    The theme would draw the diagram with a script from another server.
    """
    texts = {
        name: text.removeprefix(f"{name}<br/>").replace("<br/>", " ")
        for name, text in NODE.findall(diagram[1])
    }
    uses: dict[str, list[str]] = {name: [] for name in texts}
    for chain in EDGE.findall(diagram[1]):
        for one, several in _pairs(chain):
            uses[one] += [other for other in several if other not in uses[one]]
    rows = [f"| {name} | {text} | {', '.join(uses[name])} |" for name, text in texts.items()]
    return "\n".join(["| package | what it holds | imports |", "|---|---|---|", *rows, ""])


def _pairs(chain: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each node of `a & b --> c --> d` with those that it leads to."""
    steps = [[name.strip() for name in step.split("&")] for step in chain.split("-->")]
    for left, right in pairwise(steps):
        for one in left:
            yield one, right


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the site and print where it begins."""
    parser = command_parser("tools.build_site", __doc__)
    parser.add_argument("--out", type=Path, default=Path("build/site"), help="folder to write")
    options = parser.parse_args(arguments)
    build(options.out)
    print(f"{options.out / 'html' / 'index.html'}: {len(pages())} pages")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_command(main))
