"""Draw a data set, train, mine and infer without what Python lacks on Windows.

python windows_example.py FOLDER

The libraries are loaded first: on Windows they do not ask for it.
"""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import matplotlib.figure
import onnx
import torch.distributed.launcher.api
import torch.utils.data
import torch.utils.tensorboard

ABSENT = {
    signal: ("SIGHUP", "SIGQUIT", "SIGKILL", "SIGSTOP", "SIGALRM", "SIGUSR1", "SIGCHLD"),
    os: ("register_at_fork", "fork", "sched_getaffinity", "posix_fallocate", "getuid", "killpg"),
}
LOADED = (matplotlib.figure, onnx, torch)
SETTINGS = ("model=yolov5n", "img_size=64", "epochs=1", "batch_size=4", "onnx=false", "plots=false")


def refuse_link(self: Path, target: object, target_is_directory: bool = False) -> None:
    raise OSError(1314, "A required privilege is not held by the client", str(self))


def main(folder: Path) -> None:
    """Run the commands of docs/windows.md on small data."""
    for module, names in ABSENT.items():
        for name in names:
            delattr(module, name)
    for name in ("fcntl", "resource", "pwd", "grp", "termios"):
        sys.modules[name] = None  # type: ignore[assignment]
    Path.symlink_to = refuse_link  # type: ignore[method-assign]

    import start
    from tools import check_out, draw_dataset, make_task

    data, task, candidates = (str(folder / name) for name in ("data", "task", "candidates"))
    assert draw_dataset.main([data, "--images", "9", "--size", "96", "96"]) == 0
    settings = [word for one in SETTINGS for word in ("--set", one)]
    assert make_task.main([data, task, *settings]) == 0
    assert start.main(["--env", f"{task}/in/env.yaml"]) == 0
    weights = ["--weights", f"{task}/out/models/best/best.pt", "--set", "img_size=64"]
    assert make_task.main([data, candidates, "--kind", "mining+infer", *weights]) == 0
    assert start.main(["--env", f"{candidates}/in/env.yaml"]) == 0
    assert check_out.main([task]) == check_out.main([candidates]) == 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
