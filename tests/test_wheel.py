"""The wheel holds packages and programs below one name and runs away from the checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import setup as hook
from tests.test_floors import ALLOWED, PROGRAMS

ROOT = Path(__file__).resolve().parent.parent
NOT_SOURCES = (".*", "build", "runs", "*.egg-info", "__pycache__")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder into which the wheel is unpacked."""
    found = pytest.importorskip("setuptools")
    if int(found.__version__.partition(".")[0]) < 77:
        pytest.skip("setuptools 77 or later builds the wheel")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*NOT_SOURCES), symlinks=True)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder)]
    command = [sys.executable, "-m", "pip", "wheel", str(source), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("ymir_yolov5-*-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def test_the_hook_takes_every_package_and_program() -> None:
    assert (set(hook.PACKAGES), hook.PROGRAMS) == (set(ALLOWED), PROGRAMS)


def test_imports_of_our_modules_are_rewritten_and_nothing_else() -> None:
    source = '"""from data import x"""\nimport math\nfrom data.images import (\n    a,\n)\n'
    assert hook.nested(source, "m.py") == source.replace("from data.", "from ymir_yolov5.data.")
    with pytest.raises(ValueError, match=r"m.py:1: write `from ... import` for utils.seeding"):
        hook.nested("import utils.seeding\n", "m.py")


@pytest.mark.slow
def test_the_wheel_has_the_sources_and_their_data(installed: Path) -> None:
    top = {path.name for path in installed.iterdir()}
    assert {name.partition("-")[0] for name in top} == {"ymir_yolov5"}
    package = installed / "ymir_yolov5"
    for name in (*ALLOWED, "configs"):
        ours = {p.relative_to(ROOT) for p in (ROOT / name).rglob("*") if p.suffix != ".pyc"}
        theirs = {p.relative_to(package) for p in (package / name).rglob("*") if p.suffix != ".pyc"}
        assert {p for p in ours if "__pycache__" not in p.parts} == theirs
    assert {path.stem for path in package.glob("*.py")} == {"__init__", *PROGRAMS}
    metadata = next(installed.glob("*.dist-info/METADATA")).read_text(encoding="utf-8")
    for line in (ROOT / "extra-requirements.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            assert f"Requires-Dist: {line}" in metadata


@pytest.mark.slow
def test_it_runs_beside_packages_of_the_same_names(installed: Path, tmp_path: Path) -> None:
    for name in ("data", "models", "utils"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('not ours')\n")
    program = (
        "from ymir_yolov5.models.detector import Detector\n"
        "from ymir_yolov5.models.model_config import read_model_config\n"
        "from ymir_yolov5.settings.parse import read_hyp\n"
        "from ymir_yolov5 import detect, evolve, export, start, train, val\n"
        "print(type(Detector(read_model_config('yolov5n', 2))).__module__, *read_hyp('voc'))\n"
    )
    for command in (["-c", program], ["-m", "ymir_yolov5.detect", "--help"]):
        how = {"cwd": tmp_path, "env": {"PYTHONPATH": str(installed), "PATH": ""}}
        words = [sys.executable, *command]
        done = subprocess.run(words, capture_output=True, text=True, check=False, **how)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(("ymir_yolov5.models.detector lr0", "usage: "))
