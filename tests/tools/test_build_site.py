"""The site is built without a broken link, in two languages, and loads nothing from elsewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.documents import PAGES, ROOT
from tools import build_site
from tools.build_site import build, gather, pages, twins
from utils.errors import TaskError


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material")
    out = tmp_path_factory.mktemp("site")
    build(out)
    return out / "html"


@pytest.mark.slow
def test_every_page_is_there_and_found(site: Path) -> None:
    assert {ROOT / page for page in pages()} == set(PAGES)
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    found = {entry["location"].partition("#")[0] or "index.html" for entry in index["docs"]}
    for page in pages():
        name = page.parent / "index.html" if page.name == "README.md" else page.with_suffix(".html")
        assert (site / name).is_file(), page
        assert name.as_posix() in found, page


@pytest.mark.slow
def test_the_switch_leads_to_the_twin(site: Path) -> None:
    for here, there in (("local.html", "zh/local.html"), ("zh/local.html", "../local.html")):
        text = (site / "docs" / here).read_text(encoding="utf-8")
        (switch,) = re.findall(r'<a href="([^"]+)" class="md-header__button"[^>]* hreflang', text)
        assert (site / "docs" / here).parent.joinpath(switch).resolve() == (
            (site / "docs" / here).parent / there
        ).resolve()
        assert f'<html lang="{"zh" if "zh" in here else "en"}"' in text


@pytest.mark.slow
def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r'(?:<link|<script|<img)[^>]*(?:src|href)="https?:', text), path
        assert "mermaid" not in text, path


@pytest.mark.slow
def test_every_page_is_in_the_navigation(site: Path) -> None:
    text = (site / "index.html").read_text(encoding="utf-8")
    linked = set(re.findall(r'<a href="([^"]+)" class="md-nav__link', text))
    for page in pages():
        if page.name != "README.md" or page.parent.name:
            assert re.sub(r"README\.md$|\.md$", "", page.as_posix()) in {
                re.sub(r"index\.html$|\.html$", "", link) for link in linked
            }


def test_chinese_pages_have_twins() -> None:
    alone = [page for page in pages() if "zh" in page.parts and page not in twins()]
    assert alone == []


def test_what_a_page_links_to_becomes_a_page(tmp_path: Path) -> None:
    gather(tmp_path)
    text = (tmp_path / "docs" / "compatibility.md").read_text(encoding="utf-8")
    assert "](../configs/default.yaml.md)" in text
    assert "](../configs/hyps.md)" in text
    assert "- `scratch-low.yaml`" in (tmp_path / "configs" / "hyps.md").read_text("utf-8")
    assert "img_size" in (tmp_path / "configs" / "default.yaml.md").read_text("utf-8")
    table = (tmp_path / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert "| ops | boxes, NMS, letterbox, tiling | utils |" in table


@pytest.mark.slow
def test_a_broken_link_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("material")

    def gather_broken(folder: Path) -> list[str]:
        folder.mkdir(parents=True)
        text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
        for name in re.findall(r"^ +- (\S+\.md)$", text, re.MULTILINE):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("# Page\n", encoding="utf-8")
        (folder / "README.md").write_text("# Page\n\n[gone](gone.md)\n", encoding="utf-8")
        return []

    monkeypatch.setattr(build_site, "gather", gather_broken)
    with pytest.raises(TaskError, match=r"gone\.md"):
        build(tmp_path)
