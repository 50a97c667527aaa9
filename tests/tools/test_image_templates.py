"""The templates in docker/img-man are current, and mean the defaults."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from settings.parse import SECTIONS, parse_settings
from tools.image_templates import FOLDER, RESERVED, TRAINING_ONLY, template, templates


def test_the_files_are_what_the_settings_say() -> None:
    present = {
        str(path.relative_to(FOLDER)): path.read_text(encoding="utf-8")
        for path in FOLDER.rglob("*")
        if path.is_file()
    }
    assert present == templates(), "run python -m tools.image_templates"


@pytest.mark.parametrize("section", SECTIONS)
def test_a_template_gives_the_defaults_and_no_warning(section: str) -> None:
    kind = SECTIONS[section]
    content = yaml.safe_load(template(section, full=True))
    settings, warnings = parse_settings(kind, content)
    assert settings == kind()
    assert warnings == []
    assert all(
        line.startswith("#") or "  # " in line for line in template(section, full=True).splitlines()
    )


@pytest.mark.parametrize("section", SECTIONS)
def test_live_code_templates_leave_code_config_its_say(section: str) -> None:
    content = yaml.safe_load(template(section, full=False))
    assert content.keys() <= RESERVED.keys() | TRAINING_ONLY.keys()


def test_only_the_live_code_image_declares_live_code() -> None:
    def declared(image: str) -> object:
        return yaml.safe_load(Path(FOLDER / image / "manifest.yaml").read_text())["enable_livecode"]

    assert declared("live-code") is True
    assert declared("baked") is False
