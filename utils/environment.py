"""Environment variables, read and set here alone, the program's version, and packages it needs.

`python -m utils.environment` names missing packages. Only the standard library is imported here.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

VERSION = "0.2.0"
SHOWN = 12
"""Digits of a commit that are shown."""
REPOSITORY = Path(__file__).resolve().parent.parent
QUIET = {
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime 1.32, seconds after its import
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
}
"""What keeps packages from telling their makers of their use; read by their imports."""
os.environ.update(QUIET)

NEEDED = {
    "torch": "torch",
    "cv2": "opencv-python-headless",
    "numpy": "numpy",
    "yaml": "PyYAML",
    "tqdm": "tqdm",
    "matplotlib": "matplotlib",
    "pandas": "pandas",
    "jinja2": "jinja2",
    "PIL": "pillow",
    "defusedxml": "defusedxml",
    "msgspec": "msgspec",
}
"""Modules without which no program starts, and the package of each."""
RANK_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
CACHES = {
    "MPLCONFIGDIR": "matplotlib",
    "TORCH_HOME": "torch",
    "XDG_CACHE_HOME": "cache",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
}


def has_display() -> bool:
    """Return whether the user's session has a display for windows."""
    return any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))


def ranks() -> tuple[int, int, int, int]:
    """Return torchrun's (rank, world size, local rank, local world size); without it (0, 1, 0, 1).

    Raises ValueError if they are not whole numbers.
    """
    # A container may set one of these names for another purpose.
    if any(not os.environ.get(name) for name in (*RANK_VARIABLES, "MASTER_ADDR")):
        return 0, 1, 0, 1
    values = [int(os.environ[name]) for name in RANK_VARIABLES]
    return values[0], values[1], values[2], values[3]


def agent_store() -> tuple[str, int] | None:
    """Return host and port of the launcher's TCPStore, or None if it offers none."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    return os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])


def error_folder() -> Path | None:
    """Return the folder shared by the processes launched together, or None without a launcher."""
    # A file of this process in a folder of its own, beside the others'.
    own = os.environ.get("TORCHELASTIC_ERROR_FILE")
    return Path(own).parent.parent if own else None


def threads_are_set() -> bool:
    """Return whether the user chose a number of threads."""
    return "OMP_NUM_THREADS" in os.environ


def named_compiler(variable: str) -> str:
    """Return the compiler that CC or CXX names, '' if it does not."""
    return os.environ.get(variable, "")


def ymir_version() -> str:
    """Return the version of the platform that started the task, '' if unknown."""
    return os.environ.get("YMIR_VERSION", "")


def disable_update_checks() -> None:
    """Keep albumentations from asking the network for a newer version when it is imported."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


def provide_home() -> None:
    """Point HOME and the libraries' caches at a temporary folder if HOME cannot be written.

    Containers run with a bare uid: no passwd entry, HOME unset or `/`.
    """
    home = os.environ.get("HOME", "")
    if home not in ("", "/") and os.access(home, os.W_OK):
        return
    scratch = Path(tempfile.mkdtemp(prefix="ymir-yolov5-"))
    os.environ["HOME"] = str(scratch)
    os.environ.setdefault("USER", "ymir")  # getpass.getuser() fails without a passwd entry
    for name, folder in CACHES.items():
        os.environ.setdefault(name, str(scratch / folder))


def missing_packages(modules: Iterable[str] = tuple(NEEDED)) -> str:
    """Return one sentence that names the missing packages of `modules`, '' if none is."""
    missing = [NEEDED.get(module, module) for module in modules if find_spec(module) is None]
    if not missing:
        return ""
    return (
        f"{sys.executable} has no {', '.join(missing)}: install what this repository needs with "
        f"`{sys.executable} -m pip install -r extra-requirements.txt`, or start it with a Python "
        "that has it."
    )


def program(repository: Path = REPOSITORY) -> str:
    """Return name, version and, in a clone, the commit."""
    revision = commit(repository)
    return f"ymir-yolov5 {VERSION}" + (f" (commit {revision})" if revision else "")


def commit(repository: Path) -> str:
    """Return the commit that is checked out, shortened; '' if the folder is no clone.

    Read from the files below `.git`, without the program git: a branch has a file of its own or a
    line in `packed-refs`, a checked-out tag or commit is in HEAD itself.
    """
    folder = repository / ".git"
    try:
        found = (folder / "HEAD").read_text("utf-8").strip()
        if found.startswith("ref:"):
            branch = found.removeprefix("ref:").strip()
            if (folder / branch).is_file():
                found = (folder / branch).read_text("utf-8").strip()
            else:
                refs = (folder / "packed-refs").read_text("utf-8").splitlines()
                found = next((line for line in refs if line.endswith(f" {branch}")), "")
    except (OSError, UnicodeDecodeError):
        return ""
    digits = re.match(r"[0-9a-f]{40,64}\b", found)
    return digits[0][:SHOWN] if digits else ""


if __name__ == "__main__":
    sys.exit(missing_packages() or 0)
