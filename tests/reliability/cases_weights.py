"""Weight files that are cut, of another kind, hostile, or hold numbers that are none."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from models.checkpoint import build_detector, checkpoint_of, load_checkpoint, save_checkpoint
from models.detector import Detector
from models.model_config import read_model_config
from tests.models.weight_file_example import call, pickled, write_zip
from tests.reliability import case
from tests.reliability.case import Case, Ending, Fate, Meet, taken
from utils.errors import Code, TaskError


def weights(write: Callable[[Path], object]) -> Meet:
    """A weight file that `write` makes, loaded as a network."""

    def meet(folder: Path) -> Ending:
        path = folder / "case.pt"
        write(path)
        try:
            network = build_detector(load_checkpoint(path))
        except TaskError as error:
            return Ending(Fate.REFUSED, error.sentence, error.code)
        return Ending(Fate.TAKEN, "", facts={"classes": network.nc})

    return meet


def content(data: bytes) -> Meet:
    """A file of these bytes."""
    return weights(lambda path: path.write_bytes(data))


def good(path: Path, *, half: bool = False) -> None:
    """The weights of a small network of two classes."""
    network = Detector(read_model_config("yolov5n", 2))
    save_checkpoint(path, checkpoint_of(network, ("helmet", "vest")), half=half)


def changed(change: Callable[[dict[str, Any]], object]) -> Meet:
    """Good weights with one thing changed."""

    def write(path: Path) -> None:
        good(path)
        stored = torch.load(path, weights_only=True)
        change(stored)
        torch.save(stored, path)

    return weights(write)


def cut(share: float) -> Meet:
    """Only the first part of good weights."""

    def write(path: Path) -> None:
        good(path)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * share)])

    return weights(write)


def one_number(value: float) -> Meet:
    """Good weights with another value in one place."""

    def change(stored: dict[str, Any]) -> None:
        stored["state"]["model.0.conv.weight"][0, 0, 0, 0] = value

    return changed(change)


def flipped(path: Path) -> None:
    """Good weights with noise where a tensor's numbers are."""
    good(path)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(b ^ 0xFF for b in data[middle : middle + 64])
    path.write_bytes(bytes(data))


def saved(content: object) -> Meet:
    """What torch has saved of something else."""
    return weights(lambda path: torch.save(content, path))


def width(multiple: float) -> Meet:
    """Good weights whose definition is of another width."""
    return changed(lambda stored: stored["layout"].update(width_multiple=multiple))


def packed(path: Path) -> None:
    """A zip archive of something else."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme/readme.txt", "hello")


HOSTILE = pickled(call("posix", "system", "touch /tmp/never"))
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4000000\n"

refused = partial(case.refused, code=Code.MODEL)

CASES: tuple[Case, ...] = (
    taken("good ones", weights(good), classes=2),
    taken("good ones of half precision", weights(lambda path: good(path, half=True)), classes=2),
    taken("one number is infinite, as float16 may hold", one_number(float("inf")), classes=2),
    refused("one number is NaN", one_number(float("nan")), "not numbers (NaN)"),
    refused("missing", weights(lambda path: None), "does not exist"),
    refused("a folder", weights(Path.mkdir), "is a folder"),
    refused("zero bytes", content(b""), "is empty"),
    refused("a web page", content(b"<!DOCTYPE html>"), "is a web page"),
    refused("a pointer of Git LFS", content(LFS), "git lfs pull"),
    refused("cut in the middle", cut(0.5), "is damaged or cut short"),
    refused("cut near the end", cut(0.999), "is damaged or cut short"),
    refused("noise within", weights(flipped), "is damaged or cut short"),
    refused("another zip archive", weights(packed), "but not a PyTorch file"),
    refused(
        "a pickle that runs a program",
        weights(lambda path: write_zip(path, HOSTILE)),
        "posix.system",
    ),
    refused("a tensor alone", saved(torch.zeros(3)), "not a detector's checkpoint"),
    refused("a state dict alone", saved({"weight": torch.zeros(3)}), "is a state dict"),
    refused("a later format", changed(lambda c: c.update(version=9)), "version 9"),
    refused("names missing", changed(lambda c: c.pop("class_names")), "makes no sense"),
    refused(
        "three names for two classes",
        changed(lambda c: c["class_names"].append("third")),
        "names 3 classes but has outputs for 2",
    ),
    refused(
        "a tensor missing",
        changed(lambda c: c["state"].pop("model.0.conv.weight")),
        "1 tensors of the weight file do not fit",
    ),
    refused("a definition of another network", width(0.5), "file is not a complete"),
    refused(
        "a definition that would fill the memory",
        width(5000.0),
        "a much larger network than its weights",
    ),
)
