"""The house has floors: a file imports only from lower ones, and nothing runs in circles."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Floor of every file; neighbours on one floor may import each other as long as no circle forms.
FLOORS: dict[int, str] = {
    0: """
        utils.allocator utils.atomic utils.board utils.bounded_yaml utils.boxes
        utils.by_product utils.claims utils.class_choice utils.clean_boxes utils.coco_json
        utils.coco_labels utils.colours utils.command_line utils.config utils.confusion
        utils.container utils.data_report utils.descendants utils.detection_files
        utils.detection_settings utils.device utils.distributed utils.drawing
        utils.early_stopping utils.errors utils.failures utils.first_error utils.flag_reader
        utils.html_page utils.hyp_file utils.images utils.index_cache utils.index_file
        utils.installed utils.json_lists utils.labelled_set utils.lanes utils.launch
        utils.letterbox utils.lettering utils.log_header utils.log_pace utils.lost_files
        utils.metrics utils.misses utils.nms utils.nms_kernel utils.option_names
        utils.optional utils.options utils.plain_values utils.predictions utils.progress
        utils.redaction utils.rendezvous utils.run_folder utils.saved_files utils.schedule
        utils.search_space utils.seeding utils.setting_layers utils.setting_options
        utils.shared_rules utils.single_class utils.svg utils.sync_batch_norm
        utils.termination utils.tiles utils.train_settings utils.trained_size utils.tta
        utils.v7_flags utils.version utils.voc_labels utils.weight_download
        utils.weight_files utils.workers
    """,
    1: """
        models.activation models.anchor_search models.anchors models.assign models.attention
        models.block_table models.blocks models.channel_rules models.checkpoint
        models.classic_blocks models.depthwise models.detect models.detector models.ghost
        models.joining models.layout models.loss models.official models.packed
        models.pickle_data models.rearrange models.safetensors_file models.summary
        models.torch_file models.torch_names models.transfer
    """,
    2: """
        utils.annotations utils.augment utils.batches utils.coco_metrics utils.data_table
        utils.dataloaders utils.evaluation utils.evaluation_loader utils.evaluation_shares
        utils.evaluation_tables utils.image_cache utils.image_parts utils.image_sources
        utils.image_stream utils.image_weights utils.infer_command utils.labels utils.mosaic
        utils.multi_scale utils.pixel_filters utils.quad utils.sampler utils.train_command
        utils.val_command utils.yolo_data
    """,
    3: """
        engines.agreement engines.choice engines.engine engines.looks engines.onnx_runtime
        engines.open_vino engines.sample engines.tensor_rt engines.trunk export
        exporting.after_training exporting.agreement exporting.command_line
        exporting.onnx_file exporting.onnx_suppression exporting.openvino_file
        exporting.options exporting.quiet exporting.torchscript_file exporting.weights_file
        infer train utils.autoanchor utils.autobatch utils.candidate_log
        utils.candidate_report utils.ema utils.evolution utils.freezing utils.keeper
        utils.label_plots utils.optimizer utils.plots utils.preparation utils.ranking_report
        utils.recipe utils.resume utils.run_record utils.run_state utils.section_parts
        utils.training_charts utils.training_job utils.training_page utils.training_pictures
        utils.training_report utils.view_boxes val
    """,
    4: """
        mining.algorithms mining.backbone_features mining.cald_reasons mining.candidate_task
        mining.class_balance mining.consistency mining.data_augment mining.explanations
        mining.farthest_first mining.going_on mining.groups mining.looking
        mining.mining_aldd mining.mining_cald mining.mining_diverse mining.mining_entropy
        mining.mining_misses mining.mining_random mining.scored mining.shards
        utils.ymir_monitor utils.ymir_results utils.ymir_task utils.ymir_weights
        utils.ymir_yolov5
    """,
    5: """
        evolve start tasks
    """,
}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names.split()}
PACKAGES = ("utils", "models", "mining", "exporting", "engines")
HOUSE = (
    *("start", "tasks", "evolve", "train", "infer", "val", "export"),
    *PACKAGES,
)

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
    "utils.voc_labels",
    "utils.clean_boxes",
    "utils.index_file",
    "utils.ymir_weights",
    "utils.ymir_yolov5",
    "utils.errors",
    "utils.atomic",
    "utils.container",
    "utils.descendants",
    "utils.first_error",
    "utils.termination",
    "utils.weight_files",
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


def test_every_module_is_listed_once_in_order() -> None:
    for names in FLOORS.values():
        assert names.split() == sorted(set(names.split()))
    assert sum(len(names.split()) for names in FLOORS.values()) == len(FLOOR_OF)


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
