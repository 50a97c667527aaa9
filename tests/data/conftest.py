"""A YMIR task directory in a temporary folder, for the tests of the bridge."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml


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
        drop = [key for key, value in environment.items() if value is None]
        for key in drop:
            del environment[key]
        (into / "env.yaml").write_text(yaml.safe_dump(environment), encoding="utf-8")
        (into / "config.yaml").write_text(yaml.safe_dump(options), encoding="utf-8")
        return into / "env.yaml"

    return make
