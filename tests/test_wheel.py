"""The wheel holds packages and programs below one name and runs away from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import setup as hook
from models.checkpoint import checkpoint_of, save_checkpoint
from models.detector import Detector as Network
from models.model_config import read_model_config
from tests.test_floors import ALLOWED, PROGRAMS
from ymir_yolov5 import USAGE

ROOT = Path(__file__).resolve().parent.parent
HERE = {**os.environ, "OMP_NUM_THREADS": "1"}
NOT_SOURCES = (".*", "build", "runs", "*.egg-info", "__pycache__")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder into which pip has installed the wheel, without what it depends on."""
    found = pytest.importorskip("setuptools")
    if int(found.__version__.partition(".")[0]) < 77:
        pytest.skip("setuptools 77 or later builds the wheel")
    folder = tmp_path_factory.mktemp("wheel")
    source, target = folder / "source", folder / "installed"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*NOT_SOURCES), symlinks=True)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    command = [sys.executable, "-m", "pip", "install", str(source), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.rmtree(source)
    return target


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
    assert {name.partition("-")[0] for name in top} == {"bin", "ymir_yolov5"}
    assert [path.name for path in (installed / "bin").glob("[!_]*")] == ["ymir-yolov5"]
    package = installed / "ymir_yolov5"
    for name in (*ALLOWED, "configs"):
        ours, theirs = (
            {p.relative_to(root) for p in (root / name).rglob("*.*") if "__pycache__" not in str(p)}
            for root in (ROOT, package)
        )
        assert ours == theirs != set()
    assert {path.stem for path in package.glob("*.py")} == {"__init__", *PROGRAMS}
    metadata = next(installed.glob("*.dist-info/METADATA")).read_text(encoding="utf-8")
    for line in (ROOT / "extra-requirements.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            assert f"Requires-Dist: {line}" in metadata


@pytest.mark.slow
def test_it_runs_beside_packages_of_the_same_names(installed: Path, tmp_path: Path) -> None:
    """A program's own `data`, `models` and `utils` are neither taken nor used."""
    for name in ("data", "models", "utils"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('not ours')\n")
    torch.manual_seed(0)
    network = Network(read_model_config("yolov5n", 2))
    save_checkpoint(tmp_path / "best.pt", checkpoint_of(network, ("a", "b")))
    (tmp_path / "pictures").mkdir()
    for name in ("1.png", "2.png"):
        cv2.imwrite(str(tmp_path / "pictures" / name), np.zeros((48, 64, 3), np.uint8))
    program = (
        "import sys\n"
        "from ymir_yolov5 import Detector, TaskError\n"
        "detector = Detector('best.pt', device='cpu', img_size=64, conf_thres=0, max_det=4)\n"
        "print(detector.__module__, [len(rows) for rows in detector('pictures').xyxy])\n"
        "print(len(detector.mine('pictures')))\n"
        "from ymir_yolov5 import detect, evolve, export, mine, start, train, val\n"
        "print({'data', 'models', 'utils'} & set(sys.modules))\n"
    )
    command = str(installed / "bin" / "ymir-yolov5")
    images = ["--weights", "best.pt", "--source", "pictures", "--device", "cpu"]
    said = {}
    for name, words in {
        "program": ["-c", program],
        "detect": [command, "detect", *images, "--imgsz", "64"],
        "task": [command, "task", "--env", "missing/env.yaml"],
        "help": [command, "--help"],
        "nothing": [command],
    }.items():
        how = {"cwd": tmp_path, "env": {**HERE, "PYTHONPATH": str(installed)}}
        done = subprocess.run(
            [sys.executable, *words], capture_output=True, text=True, check=False, **how
        )
        assert done.returncode == {"task": 1, "nothing": 2}.get(name, 0), done.stderr
        said[name] = done.stdout + done.stderr
    assert said["program"].startswith("ymir_yolov5.api.detector [4, 4]\n2\nset()\n")
    drawn = sorted(path.name for path in (tmp_path / "runs" / "detect" / "exp").glob("*.png"))
    assert drawn == ["1.png", "2.png"]
    assert "label first: ymir-yolov5 mine --weights" in said["detect"]
    assert "FAILED (300001): " in said["task"]
    assert said["help"] == said["nothing"] == f"{USAGE}\n"
