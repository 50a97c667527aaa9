"""Entry points of torch.hub, as in v7.0.

model = torch.hub.load(folder, "custom", path="best.pt", source="local")

The modules of the folder are imported below a name of their own, so that neither `utils` nor
`models` are taken from the program that loads them.
"""

import builtins
import functools
import importlib
import importlib.abc
import importlib.machinery
import pathlib
import sys
import types
import typing
import zlib

dependencies = ("torch", "torchvision", "numpy", "cv2", "PIL", "yaml", "matplotlib", "tqdm")

_ROOT = pathlib.Path(__file__).resolve().parent
_NAME = f"ymir_yolov5_{zlib.crc32(bytes(_ROOT)):08x}"
_OURS = {path.stem for path in _ROOT.iterdir() if (path / "__init__.py").is_file()}


def _import(
    name: str,
    globals: typing.Any = None,
    locals: typing.Any = None,
    fromlist: typing.Any = (),
    level: int = 0,
) -> typing.Any:
    """Import for our modules: `from utils.errors import …` is that of this folder."""
    ours = level == 0 and fromlist and name.partition(".")[0] in _OURS
    wanted = f"{_NAME}.{name}" if ours else name
    return builtins.__import__(wanted, globals, locals, fromlist, level)


class _Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: types.ModuleType) -> None:
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _import}
        super().exec_module(module)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: typing.Any, target: typing.Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not name.startswith(f"{_NAME}."):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(name, spec.origin)
        return spec


if _NAME not in sys.modules:
    _package = types.ModuleType(_NAME)
    _package.__path__ = [str(_ROOT)]
    sys.modules[_NAME] = _package
    sys.meta_path.insert(0, _Finder())

_hub = importlib.import_module(f"{_NAME}.api.hub")


def custom(
    path: str = "path/to/model.pt",
    autoshape: bool = True,
    _verbose: bool = True,
    device: typing.Any = None,
) -> typing.Any:
    """Return the detector of the weights `path`."""
    return _hub.load(path, autoshape=autoshape, device=device)


def _official(
    name: str,
    pretrained: bool = True,
    channels: int = 3,
    classes: int = 80,
    autoshape: bool = True,
    _verbose: bool = True,
    device: typing.Any = None,
) -> typing.Any:
    """Return the official detector of `<name>.pt`, which must lie in the working directory."""
    return _hub.load_official(
        name, pretrained, channels, classes, autoshape=autoshape, device=device
    )


yolov5n = functools.partial(_official, "yolov5n")
yolov5s = functools.partial(_official, "yolov5s")
yolov5m = functools.partial(_official, "yolov5m")
yolov5l = functools.partial(_official, "yolov5l")
yolov5x = functools.partial(_official, "yolov5x")
yolov5n6 = functools.partial(_official, "yolov5n6")
yolov5s6 = functools.partial(_official, "yolov5s6")
yolov5m6 = functools.partial(_official, "yolov5m6")
yolov5l6 = functools.partial(_official, "yolov5l6")
yolov5x6 = functools.partial(_official, "yolov5x6")
