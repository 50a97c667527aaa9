"""The house has floors: a file imports only from lower ones, and nothing runs in circles."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Floor of every file; neighbours on one floor may import each other as long as no circle forms.
FLOORS: dict[int, str] = {
    0: """
        utils.allocator utils.atomic utils.boxes utils.coco_json utils.command_line utils.config
        utils.confusion utils.container utils.device
        utils.drawing utils.errors utils.failures utils.flag_reader utils.hyp_file
        utils.detection_files utils.images utils.lanes utils.letterbox
        utils.metrics utils.nms utils.option_names utils.options utils.progress utils.run_folder
        utils.schedule utils.search_space utils.seeding utils.setting_layers utils.setting_options
        utils.single_class utils.v7_flags utils.workers
    """,
    1: """
        models.anchor_search models.anchors models.assign models.blocks models.checkpoint
        models.detect models.detector models.layout models.loss models.official
    """,
    2: """
        utils.annotations utils.augment utils.dataloaders utils.image_cache utils.labels
        utils.image_sources utils.infer_command utils.mosaic utils.train_command utils.val_command
        utils.yolo_data
    """,
    3: """
        export infer train utils.autoanchor utils.ema utils.evolution utils.keeper utils.optimizer
        utils.plots utils.recipe utils.run_record val
    """,
    4: """
        mining.consistency mining.data_augment mining.mining_cald utils.ymir_monitor
        utils.ymir_results utils.ymir_task utils.ymir_yolov5
    """,
    5: "evolve start tasks",
}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names.split()}
PACKAGES = ("utils", "models", "mining")
HOUSE = ("start", "tasks", "evolve", "train", "infer", "val", "export", "utils", "models", "mining")

NO_TORCH = (
    "utils.config",
    "utils.setting_layers",
    "utils.v7_flags",
    "utils.flag_reader",
    "utils.yolo_data",
    "utils.hyp_file",
    "utils.progress",
    "utils.labels",
    "utils.annotations",
    "utils.ymir_yolov5",
    "utils.errors",
    "utils.atomic",
    "utils.container",
)
"""Rooms that must start and be tested without torch."""


def modules() -> dict[str, Path]:
    """Every module of the house by dotted name."""
    paths = [p for package in PACKAGES for p in (ROOT / package).rglob("*.py")]
    paths += [ROOT / f"{name}.py" for name in HOUSE if (ROOT / f"{name}.py").is_file()]
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in paths
        if path.name != "__init__.py"
    }


def imports_of(path: Path) -> set[str]:
    """Dotted names that a file imports, deferred imports included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def test_every_module_has_a_floor_and_every_floor_its_modules() -> None:
    assert set(modules()) == set(FLOOR_OF)


@pytest.mark.parametrize("name", sorted(FLOOR_OF))
def test_imports_never_go_up(name: str) -> None:
    ours = imports_of(modules()[name]) & set(FLOOR_OF)
    upward = {other for other in ours if FLOOR_OF[other] > FLOOR_OF[name]}
    assert not upward, f"{name} (floor {FLOOR_OF[name]}) imports {upward}"


def test_no_circles() -> None:
    graph = {name: imports_of(path) & set(FLOOR_OF) for name, path in modules().items()}
    finished: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in finished:
            for other in graph[name]:
                walk(other, (*trail, name))
            finished.add(name)

    for name in graph:
        walk(name, ())


def test_imports_stand_at_the_top() -> None:
    deferred = [
        f"{name}:{inner.lineno}"
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    ]
    assert not deferred


@pytest.mark.parametrize("name", NO_TORCH)
def test_the_bridge_knows_no_torch(name: str) -> None:
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        seen.add(current)
        found = imports_of(modules()[current])
        assert not any(other.split(".")[0] == "torch" for other in found), current
        waiting += [other for other in found & set(FLOOR_OF) if other not in seen]
