"""Fixtures that every test may ask for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import start
from bench.material import write_data_yaml, write_yolo_image
from bench.training import read_splits
from data.dataset_index import DatasetIndex
from data.index_file import SPLITS
from tests.gpu_counts import write_counts
from tests.pretend_cuda import let_autograd_run
from tests.pretend_gpu import PretendGpu, supported
from tools.draw_dataset import draw_dataset
from tools.make_task import write_task
from tools.sources import SourceDataset, read_source

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"

TINY_TRAINING = {
    "model": "yolov5n",
    "img_size": "96",
    "batch_size": "4",
    "epochs": "2",
    "nominal_batch_size": "4",
    "opset": "17",
}
NAMES = ("red_cell", "white_cell", "platelet")
needs_gpu = pytest.mark.gpu
"""Runs on a GPU, or on a pretended one."""
needs_real_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
if supported() and not torch.cuda.is_available():
    let_autograd_run()
DEVICES = ["cpu", pytest.param("cuda", marks=needs_gpu)]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Say how a test process ended that is gone: pytest-xdist tells of its test only."""
    if error:
        process = getattr(getattr(node.gateway, "_io", None), "popen", None)
        ended = process.wait(10) if process else "unknown"
        print(f"\n{node.gateway.id} is gone, exit status {ended} (-9: killed)", flush=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that writes a table of docs/."""
    parser.addoption("--counts", type=Path, help="page for the table of tests/gpu_counts.py")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write what the budget tests have counted."""
    if page := session.config.getoption("counts"):
        write_counts(page)


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Path]:
    """Path of a reference file: the extract in tests/golden, else the full one in ../shared."""

    def find(name: str) -> Path:
        for folder in (ROOT / "tests" / "golden", SHARED / "golden"):
            if (folder / name).is_file():
                return folder / name
        pytest.skip(f"reference file {name} is neither in tests/golden nor in ../shared/golden")

    return find


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder ../shared with the real data set and the trained reference checkpoint."""
    if not (SHARED / "data" / "bccd").is_dir():
        pytest.skip("../shared is not beside this checkout")
    return SHARED


def draw(folder: Path, *, images: int, seed: int) -> SourceDataset:
    draw_dataset(folder, images=images, size_wh=(160, 120), seed=seed)
    return read_source(folder)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> SourceDataset:
    """A drawn data set of a few small pictures."""
    return draw(tmp_path_factory.mktemp("drawn"), images=24, seed=1)


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> SourceDataset:
    """More of them, for tasks that are shared out: 40 in the split train."""
    return draw(tmp_path_factory.mktemp("many"), images=60, seed=2)


@pytest.fixture(scope="session")
def data_yaml(drawn: SourceDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn data set in YOLO's layout."""
    folder = tmp_path_factory.mktemp("yolo")
    for split, images in drawn.splits.items():
        for image in images:
            write_yolo_image(folder, split, image, image.path.stem)
    return Path(write_data_yaml(folder, dict(zip(SPLITS, SPLITS, strict=True)), NAMES))


@pytest.fixture(scope="session")
def trained(drawn: SourceDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task directory in which `start.py` has trained a tiny detector for two epochs."""
    task = tmp_path_factory.mktemp("trained") / "task"
    env_file = write_task(drawn, task, kinds=("training",), settings=TINY_TRAINING)
    assert start.main(["--env", str(env_file)]) == 0
    return task


@pytest.fixture(scope="session")
def splits(trained: Path) -> tuple[DatasetIndex, DatasetIndex]:
    """Training and validation split of that task."""
    return read_splits(trained, NAMES)


@pytest.fixture(scope="session")
def weights(trained: Path) -> Path:
    """The best weights of that training."""
    return trained / "out" / "models" / "best" / "best.pt"


@pytest.fixture(autouse=True)
def _same_start() -> Iterator[None]:
    """Every test meets the same random state, and leaves no log handler on a closed stream."""
    torch.manual_seed(0)
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    root.handlers[:] = before


@pytest.fixture
def pretend_gpu() -> Iterator[PretendGpu]:
    """A machine with one pretended GPU."""
    if torch.cuda.is_available():
        pytest.skip("there is a real GPU")
    if not supported():
        pytest.skip("a GPU is pretended to the CUDA builds of torch 2.14 and later")
    with PretendGpu(memory=1 << 29) as gpu:
        yield gpu


@pytest.fixture(autouse=True)
def _gpu_where_one_is_needed(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("gpu") and not torch.cuda.is_available():
        request.getfixturevalue("pretend_gpu")


@pytest.fixture
def make_task(tmp_path: Path) -> Callable[..., Path]:
    """Write in/ and out/ below the test's folder; returns env.yaml. `env` and `config` override."""

    def make(
        kind: str = "training",
        *,
        env: dict[str, object] | None = None,
        config: dict[str, object] | None = None,
    ) -> Path:
        into, out = tmp_path / "in", tmp_path / "out"
        for folder in (into / "assets", into / "models", out / "models", out / "tensorboard"):
            folder.mkdir(parents=True, exist_ok=True)
        (into / "models" / "best.pt").write_bytes(b"weights")
        environment: dict[str, object] = {
            "protocol_version": "1.1.0",
            "task_id": "t0001",
            "run_training": kind == "training",
            "run_mining": "mining" in kind,
            "run_infer": "infer" in kind,
            "input": {"root_dir": str(into), "config_file": str(into / "config.yaml")},
            "output": {"root_dir": str(out)},
        }
        options: dict[str, object] = {"class_names": ["helmet", "vest"], "gpu_id": ""}
        if kind != "training":
            options["model_params_path"] = ["best.pt"]
        environment.update(env or {})
        options.update(config or {})
        given = {key: value for key, value in environment.items() if value is not None}
        (into / "env.yaml").write_text(yaml.safe_dump(given), encoding="utf-8")
        (into / "config.yaml").write_text(yaml.safe_dump(options), encoding="utf-8")
        return into / "env.yaml"

    return make
