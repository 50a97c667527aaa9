"""An environment of its own for the program that ours is measured against.

    python -m bench.peer_environment

Makes build/peer-venv with yolov5 7.0.14 and the torch that is installed here, or takes the
interpreter that --peer or the environment variable PEER names. The peer runs as it is, from
outside, through its public entry points.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

FOLDER = Path("build/peer-venv")
PEER = "yolov5==7.0.14"


def requirements() -> list[str]:
    """What the peer's environment holds: the same torch as ours, so that only programs differ."""
    same = [f"{name}=={version(name).partition('+')[0]}" for name in ("torch", "torchvision")]
    # The peer asks for pkg_resources, which setuptools 81 no longer brings.
    return [*same, PEER, "setuptools<81"]


def peer_interpreter(given: str = "", folder: Path = FOLDER) -> Path:
    """The peer's Python: `given`, else $PEER, else that of `folder`, made now if missing."""
    named = given or os.environ.get("PEER", "")
    if named:
        # Not resolved: an environment's Python is a link, and is known by where the link lies.
        interpreter = Path(named).expanduser().absolute()
        if not interpreter.is_file():
            raise SystemExit(f"there is no interpreter at {interpreter}: correct --peer or PEER")
        return interpreter
    interpreter, ready = (folder / "bin" / "python").absolute(), folder / ".ready"
    if not ready.is_file():
        print(f"installing {PEER} into {folder} (once)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [str(interpreter), "-m", "pip", "install", "--quiet", *requirements()]
        subprocess.run(install, check=True)
        ready.touch()
    return interpreter


def peer_variables(config_folder: Path, surroundings: Mapping[str, str]) -> dict[str, str]:
    """Environment variables the peer needs beside today's torch, and to leave the network alone.

    `config_folder` is where it looks for its own settings and its font.
    """
    return {
        **surroundings,
        "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1",
        "YOLOV5_CONFIG_DIR": str(config_folder),
        "PYTHONWARNINGS": "ignore",
        "WANDB_MODE": "disabled",
        "COMET_MODE": "disabled",
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the environment if it is missing; print its interpreter."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", default="", help="a Python that has the peer already")
    print(peer_interpreter(parser.parse_args(arguments).peer))


if __name__ == "__main__":
    main()
