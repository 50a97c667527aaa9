"""Bridge to YMIR: read a task directory into a `Task`, and open its monitor, without torch.

Of the package `ymir_exc` only the place of `env.yaml` is used. Its three incompatible generations
drop keys that are needed here (`protocol_version`) and do not write atomically, while `env.yaml`
and `config.yaml` are the contract itself: read directly, every generation gives the same task.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from settings.convert import absent, config_error, to_bool, to_int, to_list
from settings.detect import InferSettings, MiningSettings
from settings.parse import SECTIONS, Settings, flatten_sections, parse_settings, read_mapping
from settings.train import TrainSettings
from utils.environment import ymir_version
from utils.errors import Code, TaskError
from utils.language.catalogue import ENGLISH, SETTING, language_named
from ymir.monitor import Monitor
from ymir.results import SavedFiles
from ymir.task_types import STAGES, OutputPaths, Task
from ymir.weights import weights_of_task

try:
    from ymir_exc import settings as sdk_settings
except ImportError:  # the package is the platform's; the place is the protocol's
    sdk_settings = None


DEFAULT_ENV_FILE = Path(getattr(sdk_settings, "DEFAULT_ENV_FILE_PATH", "/in/env.yaml"))
DEFAULT_TASK_ID = "default-task"
REPOSITORY = Path(__file__).resolve().parent.parent
NO_TASK = (
    ": YMIR leaves it in /in; without YMIR, `python -m tools.make_task` writes a task, and --env "
    "names its env.yaml"
)
DETECTION = 2
ANNOTATION_FORMATS = frozenset({"ark", "voc", "coco", "seg-coco"})
"""What `export_format` may have before its colon, `det-` aside; for another word the platform
writes empty indices."""
IMAGE_FORMATS = frozenset({"raw", ""})
"""What it may have after the colon: image files, no database."""


def read_task(env_file: Path = DEFAULT_ENV_FILE, *, repository: Path = REPOSITORY) -> Task:
    """Read and validate the task that `env_file` describes, without reading its data.

    Paths in the file may be relative to the `root_dir` of their section, and a relative `root_dir`
    to the file's own folder, so a task directory may lie anywhere. Settings are the defaults,
    overridden by the file in `repository` that `code_config` names, overridden by the task's own
    keys. Raise TaskError: CONFIG for files and values, MODEL for weights, OBJECT_TYPE for a task
    that is not detection.
    """
    env_file = Path(env_file)
    env = read_mapping(env_file, "the task's environment file", advice=NO_TASK)
    folders = _Folders.of(env, env_file)
    config = read_mapping(folders.config_file, "the task's configuration file", words="class_names")
    warnings: list[str] = []
    training, mining, infer = _what_to_run(env, warnings)
    _refuse_other_object_types(config)
    if training:
        _refuse_export_format(config)
    shared = _read_code_config(config, repository)
    train_settings = mining_settings = infer_settings = None
    if training:
        train_settings = _settings(TrainSettings, "training", shared, config, warnings)
        SavedFiles(train_settings.ymir_saved_file_patterns)  # refused now, not after the training
    if mining:
        mining_settings = _settings(MiningSettings, "mining", shared, config, warnings)
    if infer:
        infer_settings = _settings(InferSettings, "infer", shared, config, warnings)
    settings = train_settings or mining_settings or infer_settings
    assert settings is not None
    return Task(
        task_id=_task_id(env, config),
        protocol=_protocol(env.get("protocol_version"), ymir_version()),
        run_training=training,
        run_mining=mining,
        run_infer=infer,
        class_names=_class_names(config, required=training),
        gpu_ids=_gpu_ids(config),
        root_in=folders.root_in,
        models_in=folders.models_in,
        train_index=folders.index("training_index_file", "train-index.tsv") if training else None,
        val_index=folders.index("val_index_file", "val-index.tsv") if training else None,
        candidate_index=(
            None if training else folders.index("candidate_index_file", "candidate-index.tsv")
        ),
        out=folders.out,
        weights=(
            weights_of_task(config, settings, folders.models_in, warnings)
            if infer or mining_settings is None or mining_settings.needs_network
            else ()
        ),
        train=train_settings,
        mining=mining_settings,
        infer=infer_settings,
        warnings=tuple(dict.fromkeys(warnings)),
    )


def fallback_monitor_path(env_file: Path) -> Path:
    """Return the monitor file of a task whose `env_file` cannot be read.

    That is `out/monitor.txt` beside the folder `in` of `env_file`, else `/out/monitor.txt`.
    """
    folder = Path(os.path.abspath(env_file)).parent
    return (folder.parent if folder.name == "in" else Path("/")) / "out" / "monitor.txt"


def open_monitor(env_file: Path = DEFAULT_ENV_FILE) -> Monitor:
    """Return the monitor of a task, before anything else is validated; never raises.

    Take path and task id from `env_file` where it can be read, the fallbacks where not.
    """
    try:
        env = read_mapping(Path(env_file), "the task's environment file")
        folders = _Folders.of(env, Path(env_file))
    except TaskError:
        return Monitor(fallback_monitor_path(env_file), DEFAULT_TASK_ID)
    try:
        task_id = _task_id(env, {})
    except TaskError:
        task_id = DEFAULT_TASK_ID
    return Monitor(folders.out.monitor, task_id)


def task_language(env_file: Path = DEFAULT_ENV_FILE, *, repository: Path = REPOSITORY) -> str:
    """Return the language that a task asks for, before anything else is validated; never raises.

    English where its files cannot be read. Of the file that `code_config` names any section counts.
    """
    try:
        env = read_mapping(Path(env_file), "the task's environment file")
        config = read_mapping(_Folders.of(env, Path(env_file)).config_file, "")
    except TaskError:
        return ENGLISH
    try:
        shared = _read_code_config(config, repository)
        layers = [shared, *(flatten_sections(shared, section) for section in SECTIONS), config]
    except TaskError:
        layers = [config]
    named = [layer[SETTING] for layer in layers if not absent(layer.get(SETTING))]
    return language_named(named[-1] if named else ENGLISH)


@dataclass(frozen=True)
class _Folders:
    """Absolute paths that `env.yaml` names, with the platform's defaults for missing ones."""

    root_in: Path
    models_in: Path
    config_file: Path
    indices: Mapping[str, object]
    out: OutputPaths

    @classmethod
    def of(cls, env: Mapping[str, object], env_file: Path) -> _Folders:
        source, target = _section(env, "input", env_file), _section(env, "output", env_file)
        base = Path(os.path.abspath(env_file)).parent
        root_in = Path(os.path.normpath(base / _path_text(source, "root_dir", "/in")))
        root_out = Path(os.path.normpath(base / _path_text(target, "root_dir", "/out")))
        models_out = root_out / _path_text(target, "models_dir", "models")
        return cls(
            root_in=root_in,
            models_in=root_in / _path_text(source, "models_dir", "models"),
            config_file=root_in / _path_text(source, "config_file", "config.yaml"),
            indices=source,
            out=OutputPaths(
                root=root_out,
                models=models_out,
                tensorboard=root_out / _path_text(target, "tensorboard_dir", "tensorboard"),
                training_result=root_out
                / _path_text(target, "training_result_file", str(models_out / "result.yaml")),
                mining_result=root_out / _path_text(target, "mining_result_file", "result.tsv"),
                infer_result=root_out
                / _path_text(target, "infer_result_file", "infer-result.json"),
                monitor=root_out / _path_text(target, "monitor_file", "monitor.txt"),
            ),
        )

    def index(self, key: str, default: str) -> Path:
        return self.root_in / _path_text(self.indices, key, default)


def _section(env: Mapping[str, object], name: str, env_file: Path) -> Mapping[str, object]:
    section = env.get(name)
    if section is None:
        return {}
    if not isinstance(section, Mapping):
        raise TaskError(Code.CONFIG, f"the section {name} of {env_file} must be a mapping.")
    return section


def _path_text(section: Mapping[str, object], key: str, default: str) -> str:
    value = section.get(key)
    if value is None or value == "":
        return default
    if not isinstance(value, str) or "\0" in value:
        raise config_error(key, value, "a path")
    return value


def _what_to_run(env: Mapping[str, object], warnings: list[str]) -> tuple[bool, bool, bool]:
    training, mining, infer = (
        not absent(env.get(key)) and to_bool(key, env[key])
        for key in ("run_training", "run_mining", "run_infer")
    )
    if not (training or mining or infer):
        raise TaskError(
            Code.CONFIG,
            "the task has nothing to run: none of run_training, run_mining and run_infer is true.",
        )
    if training and (mining or infer):
        warnings.append("training was asked for together with mining or inference: only training")
        mining = infer = False
    return training, mining, infer


def _task_id(env: Mapping[str, object], config: Mapping[str, object]) -> str:
    value = env.get("task_id") or config.get("task_id") or DEFAULT_TASK_ID
    if not re.fullmatch(r"[\w.\-]+", str(value)):
        raise config_error("task_id", value, "letters, digits and _")
    return str(value)


def _protocol(stated: object, platform_version: str) -> tuple[int, int, int]:
    if absent(stated):
        # Platforms 1.2.x understand stages but state no protocol; some set this variable.
        release = re.match(r"(\d+)\.(\d+)", platform_version.strip())
        understands_stages = release is not None and tuple(map(int, release.groups())) >= (1, 2)
        return STAGES if understands_stages else (0, 0, 0)
    numbers = re.fullmatch(r"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?.*", str(stated).strip())
    if numbers is None:
        raise config_error("protocol_version", stated, "a version such as 1.1.0")
    major, minor, patch = (int(number or 0) for number in numbers.groups())
    return major, minor, patch


def _refuse_other_object_types(config: Mapping[str, object]) -> None:
    value = config.get("object_type")
    if not absent(value) and to_int("object_type", value) != DETECTION:
        raise TaskError(
            Code.OBJECT_TYPE,
            f"object_type is {value}, but this executor does detection only (2); "
            "choose a detection project, or another image.",
        )


def _refuse_export_format(config: Mapping[str, object]) -> None:
    """Refuse a value for which no labels or no image files come; without one YMIR chooses."""
    value = config.get("export_format")
    if absent(value):
        return
    annotations, _, images = str(value).strip().lower().partition(":")
    readable = annotations.strip().removeprefix("det-") in ANNOTATION_FORMATS
    if not readable or images.strip() not in IMAGE_FORMATS:
        raise TaskError(
            Code.CONFIG,
            f"export_format {value} cannot be trained from; choose ark:raw or voc:raw (on the "
            "screen raw/ark or raw/voc), or coco:raw with YMIR 2.5.",
        )


def _read_code_config(config: Mapping[str, object], repository: Path) -> dict[str, object]:
    value = config.get("code_config")
    if absent(value):
        return {}
    root, text = repository.resolve(), str(value)
    path = Path(os.path.realpath(root / text)) if "\0" not in text else Path()
    if not path.is_relative_to(root):
        raise config_error("code_config", value, "a file inside the repository")
    return read_mapping(path, "the settings file that code_config names,")


def _settings(
    kind: type[Settings],
    section: str,
    shared: Mapping[str, object],
    config: Mapping[str, object],
    warnings: list[str],
) -> Settings:
    settings, notes = parse_settings(kind, flatten_sections(shared, section), config)
    warnings += notes
    return settings


def _class_names(config: Mapping[str, object], *, required: bool) -> tuple[str, ...]:
    value = config.get("class_names")
    listed = [] if absent(value) else to_list("class_names", value)
    names = []
    for item in listed:
        if isinstance(item, bool) or not isinstance(item, str | int | float):
            raise config_error("class_names", value, f"a list of names; put {item!r} in quotes")
        names.append(str(item).strip())
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise config_error("class_names", value, f"without repeated names ({', '.join(repeated)})")
    if "" in names or (required and not names):
        raise config_error("class_names", value, "a list of one or more names, none of them empty")
    return tuple(names)


def _gpu_ids(config: Mapping[str, object]) -> tuple[int, ...]:
    count, value = config.get("gpu_count"), config.get("gpu_id")
    if not absent(count) and to_int("gpu_count", count) == 0:
        return ()
    if absent(value) or str(value).strip().lower() == "cpu":
        return ()
    wanted = "GPU numbers such as '0' or '0,1', or '' for the CPU"
    listed = to_list("gpu_id", value) if isinstance(value, str | list) else [value]
    ids = [to_int("gpu_id", item, wanted) for item in listed]
    if any(number < 0 for number in ids):
        raise config_error("gpu_id", value, wanted)
    return tuple(dict.fromkeys(ids))
