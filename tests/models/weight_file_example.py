"""Weight files written part by part, so that a test can change what torch.save would not."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from models.checkpoint import build_detector, load_checkpoint
from utils.errors import Code, TaskError


def refused(path: Path, words: str | None = None) -> str:
    """Return the one sentence that loading a file ends in, which has to match `words`."""
    with pytest.raises(TaskError, match=words) as caught:
        build_detector(load_checkpoint(path))
    assert caught.value.code is Code.MODEL
    sentence = caught.value.sentence
    assert "\n" not in sentence
    assert len(sentence) < 500
    return sentence


def own_content(**changes: object) -> dict[str, object]:
    """Return the content of a `.pt` file of this program, without tensors."""
    content = {"format": "ymir-yolov5", "version": 1, "layout": {"nc": 1}, "class_names": ["a"]}
    return {**content, "state": {}, "metadata": {}, **changes}


def write_zip(path: Path, pickled: bytes, storages: Mapping[str, bytes] | None = None) -> Path:
    """Write a file of `torch.save` with any pickle and any storages."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        for key, content in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", content)
        archive.writestr("archive/version", "3\n")
    return path


def change_pickle(path: Path, change: Callable[[bytes], bytes]) -> Path:
    """Rewrite a file in place with another pickle and the same storages."""
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            changed = change(content) if name.endswith("/data.pkl") else content
            archive.writestr(name, changed)
    return path


class _Written(bytes):
    """Instructions of a pickle that stand for a value."""


def name(module: str, name: str) -> object:
    """Return a name, for `pickled`."""
    return _Written(f"c{module}\n{name}\n".encode())


def call(module: str, function: str, *arguments: object) -> object:
    """Return a call, for `pickled`."""
    return _Written(_written(name(module, function)) + _written(arguments) + b"R")


def outside(identity: object) -> object:
    """Return a persistent id, for `pickled`."""
    return _Written(_written(identity) + b"Q")


def pickled(value: object) -> bytes:
    """A protocol 2 pickle of plain values, names, calls and persistent ids, written by hand."""
    return b"\x80\x02" + _written(value) + b"."


def _written(value: object) -> bytes:
    if isinstance(value, _Written):
        return bytes(value)
    if isinstance(value, tuple):
        return b"(" + b"".join(map(_written, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(_written, value)) + b"e"
    if isinstance(value, dict):
        pairs = (_written(key) + _written(item) for key, item in value.items())
        return b"}(" + b"".join(pairs) + b"u"
    # A plain value: without the protocol before and the end mark after it.
    return pickle.dumps(value, protocol=2)[2:-1]


def tensor(
    count: int, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0, kind: str = "Float"
) -> object:
    """A tensor on the storage "0" of `count` numbers, for `pickled`; nothing has to agree."""
    identity = ("storage", name("torch", f"{kind}Storage"), "0", "cpu", count)
    hooks = call("collections", "OrderedDict")
    return call(
        "torch._utils", "_rebuild_tensor_v2", outside(identity), offset, size, stride, False, hooks
    )
