"""Reader of `torch.save` files: tensors, plain values and stand-ins, without running anything.

torch's own reader, even with `weights_only`, makes any amount of memory from a few bytes and keeps
its list of allowed names where every thread changes it. Here every size is checked against the file
before memory is taken. Only the zip format of torch 1.6 and later is read.
"""

from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch

from models.safe_load.allowlist import Storage, known_names, storage_dtype, unknown_name
from models.safe_load.pickle_reader import Refused, read_pickle
from utils.errors import Code, TaskError
from utils.official_weights import missing_weights

MAX_STRUCTURE_BYTES = 64 * 2**20
"""For the structure alone, without the tensors; real files have about one megabyte."""
MAX_MEMBERS = 100_000
ZIP_START = b"PK\x03\x04"
OLD_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How files of torch before 1.6 begin: their magic number, pickled."""
GIVE_ANOTHER = "give a checkpoint of this program or a YOLOv5 v5.0 to v7.0 detection .pt file"
EXPORTED = "give the .pt file that it was exported from"
FOREIGN_STARTS = {
    "an ONNX file": b"\x12\x07pytorch",
    "a TFLite file": b"TFL3",
    "an HDF5 file (Keras)": b"\x89HDF",
}
FOREIGN_ENDINGS = {
    ".onnx": "an ONNX file",
    ".tflite": "a TFLite file",
    ".engine": "a TensorRT file",
    ".xml": "an OpenVINO file",
    ".bin": "an OpenVINO file",
    ".pb": "a TensorFlow file",
    ".mlmodel": "a Core ML file",
    ".weights": "a Darknet file",
}
"""Kinds of files by their ending that have no certain first bytes."""


def read_torch_file(path: Path) -> object:
    """Return what a `torch.save` file holds: tensors on the CPU, plain values and stand-ins.

    Raises `TaskError` (model) for anything else, naming the file, what is wrong with it and, if
    it asks for a name outside the allow-list, that name.
    """
    if not path.is_file():
        raise missing_weights(path)
    try:
        with path.open("rb") as file:
            start = file.read(len(OLD_START))
            if not start:
                raise Refused("is empty")
            if start == OLD_START:
                raise Refused(
                    "is in the format of PyTorch before 1.6, which is not a zip archive: open it "
                    "once with the code that wrote it and save it again with PyTorch 1.6 or later"
                )
            if not start.startswith(ZIP_START):
                raise refusal_of_foreign(path, start + file.read(1024))
            with zipfile.ZipFile(file) as archive:
                return _Archive(archive, path.stat().st_size).content()
    except Refused as error:
        raise checkpoint_error(path, str(error), error.remedy) from error
    except zipfile.BadZipFile as error:
        raise checkpoint_error(path, "is damaged or cut short") from error
    except OSError as error:
        raise checkpoint_error(path, f"cannot be read ({error.strerror or error})") from error
    # What decoding a damaged or crafted file comes to.
    except (
        *(ValueError, TypeError, LookupError, EOFError, OverflowError, RuntimeError),
        *(AttributeError, AssertionError, struct.error, NotImplementedError),
    ) as error:
        raise checkpoint_error(path, "is damaged or cut short") from error


def checkpoint_error(path: Path, reason: str, remedy: str = "") -> TaskError:
    """Return the refusal of a weight file; `reason` completes the sentence 'the file ...'.

    `remedy` says what to do about it, '' to give another file.
    """
    return TaskError(Code.MODEL, f"The weight file {path} {reason}; {remedy or GIVE_ANOTHER}.")


def refusal_of_foreign(path: Path, start: bytes) -> Refused:
    """Return the refusal of a file that is no zip archive, by its first bytes and its ending."""
    if start.startswith(b"version https://git-lfs"):
        return Refused(
            "is a Git LFS pointer, a few lines of text that stand for the weights",
            "fetch them with «git lfs pull» in the repository that it comes from",
        )
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return Refused("is a web page, not the weights", "download the file itself again")
    kind = next((k for k, mark in FOREIGN_STARTS.items() if mark in start[:16]), "")
    kind = kind or FOREIGN_ENDINGS.get(path.suffix.lower(), "")
    return Refused(f"is {kind}: an export" if kind else "is not a PyTorch file", kind and EXPORTED)


class _Archive:
    """The zip of torch 1.6 and later: one pickle, and one member per storage."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self.archive = archive
        # These are compressed in part, so they come before the checks.
        if any(name.endswith("/constants.pkl") for name in archive.namelist()):
            raise Refused("is a TorchScript archive: an export", EXPORTED)
        self.members = _checked_members(archive.infolist(), size)
        self.buffers: dict[str, bytearray] = {}

    def content(self) -> object:
        if "data.pkl" not in self.members:
            raise Refused("is a zip archive, but not a PyTorch file")
        order = self.members.get("byteorder")
        if order and order.file_size < 16 and self.archive.read(order) == b"big":
            raise Refused("was written by a machine of the other byte order")
        if self.members["data.pkl"].file_size > MAX_STRUCTURE_BYTES:
            raise Refused(f"has a structure of more than {MAX_STRUCTURE_BYTES >> 20} MiB")
        pickled = self.archive.read(self.members["data.pkl"])
        return read_pickle(pickled, known_names(), self._storage, unknown_name)

    def _storage(self, identity: object) -> Storage:
        """Return the storage that a persistent id stands for."""
        kind, key, count = _storage_identity(identity)
        dtype = storage_dtype(kind)
        if key not in self.buffers:
            member = self.members.get(f"data/{key}")
            if member is None:
                raise Refused(f"lacks the numbers of the tensor {key!r}")
            self.buffers[key] = bytearray(self.archive.read(member))
        if count * dtype.itemsize > len(self.buffers[key]):
            raise Refused("claims tensors that are larger than the numbers stored for them")
        if count == 0:
            return Storage(torch.empty(0, dtype=dtype))
        return Storage(torch.frombuffer(self.buffers[key], dtype=dtype, count=count))


def _checked_members(
    infos: Sequence[zipfile.ZipInfo], file_size: int
) -> dict[str, zipfile.ZipInfo]:
    """Return members by name below the archive's one folder; refuse what torch never writes."""
    if len(infos) > MAX_MEMBERS:
        raise Refused(f"has more than {MAX_MEMBERS} parts")
    members: dict[str, zipfile.ZipInfo] = {}
    folders = set()
    for info in infos:
        shown = ascii(info.orig_filename[:100])
        folder, _, name = info.orig_filename.partition("/")
        if (
            not name
            or folder in ("", "..")
            or name.startswith("/")
            or "\\" in name
            or "\0" in name
            or ".." in name.split("/")
        ):
            raise Refused(f"has a part named {shown}, as no weight file does")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise Refused(f"has a link {shown} in it")
        if name in members:
            raise Refused(f"has the part {shown} twice")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise Refused(f"has the part {shown} compressed or encrypted, as torch.save never does")
        members[name] = info
        folders.add(folder)
    if len(folders) > 1:
        raise Refused(f"is a zip archive of {len(folders)} folders, but not a PyTorch file")
    if sum(info.file_size for info in infos) > file_size:
        raise Refused("claims parts that are larger than the file")
    return members


def _storage_identity(identity: object) -> tuple[object, str, int]:
    """Return storage class, key and count of a persistent id; refuse anything but a storage."""
    if not isinstance(identity, tuple) or len(identity) != 5 or identity[0] != "storage":
        kind = identity[0] if isinstance(identity, tuple) and identity else identity
        shown = ascii(kind)[:60] if isinstance(kind, str) else type(kind).__name__
        raise Refused(f"refers to something outside ({shown}) that is not a tensor's storage")
    _, kind, key, _, count = identity
    if not isinstance(key, (str, int)) or type(count) is not int or not 0 <= count < 2**48:
        raise Refused("has a tensor of an impossible size")
    return kind, str(key), count
