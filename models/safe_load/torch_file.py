"""A file that `torch.save` wrote, zip-based or older, read as tensors, plain values and stand-ins.

torch's own reader, even when asked for weights only, makes any amount of memory from a few bytes,
keeps its list of allowed names where every thread changes it, and cannot read the modules of files
older than torch 1.6. Here every size is held against the file before memory is taken.
"""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, BinaryIO, cast

import torch
from torch import Tensor

from models.safe_load.allowlist import Storage, known_names, refusal_of_name, storage_dtype
from models.safe_load.pickle_reader import Refused, read_pickle
from utils.errors import Code, TaskError

MOST_BYTES = 64 * 2**20
"""For the structure alone, without the tensors; real files have about one megabyte."""
MOST_MEMBERS = 100_000
ZIP_START = b"PK\x03\x04"
OLD_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How files of torch before 1.6 begin: their magic number, pickled."""
OLD_PROTOCOL = 1001


def read_torch_file(path: Path) -> object:
    """What a `torch.save` file holds: tensors on the CPU, plain values and stand-ins.

    Raises `TaskError` (model) for anything else, naming the file, what is wrong with it and, if
    it asks for a name outside the allow-list, that name. Nothing that the file names is run.
    """
    if not path.is_file():
        raise checkpoint_error(path, "does not exist")
    try:
        with path.open("rb") as file:
            return _content(file, path.stat().st_size)
    except Refused as error:
        raise checkpoint_error(path, str(error)) from error
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


def checkpoint_error(path: Path, reason: str) -> TaskError:
    """The refusal of a weight file: `reason` completes the sentence 'the file ...'."""
    return TaskError(
        Code.MODEL,
        f"The weight file {path} {reason}; give a checkpoint of this program or a YOLOv5 v5.0 to "
        "v7.0 detection .pt file.",
    )


def _content(file: BinaryIO, size: int) -> object:
    start = file.read(len(OLD_START))
    file.seek(0)
    if not start:
        raise Refused("is empty")
    if start == OLD_START:
        return _OldFile(file, size).content()
    if start.startswith(ZIP_START):
        with zipfile.ZipFile(file) as archive:
            return _Archive(archive, size).content()
    raise Refused("is not a PyTorch file")


class _Archive:
    """The zip of torch 1.6 and later: one pickle, and one member per storage."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self.archive = archive
        self.members = _checked_members(archive.infolist(), size)
        self.buffers: dict[str, bytearray] = {}

    def content(self) -> object:
        if "constants.pkl" in self.members:
            raise Refused("is a TorchScript archive")
        if "data.pkl" not in self.members:
            raise Refused("is a zip archive, but not a PyTorch file")
        if self._short("byteorder") == b"big":
            raise Refused("was written by a machine of the other byte order")
        if self.members["data.pkl"].file_size > MOST_BYTES:
            raise Refused(f"has a structure of more than {MOST_BYTES >> 20} MiB")
        pickled = io.BytesIO(self.archive.read(self.members["data.pkl"]))
        return read_pickle(pickled, known_names(), self._storage, refusal_of_name)

    def _short(self, member: str) -> bytes:
        found = self.members.get(member)
        return self.archive.read(found) if found and found.file_size < 16 else b""

    def _storage(self, identity: object) -> object:
        kind, key, count = _identity(identity)
        dtype = storage_dtype(kind)
        if key not in self.buffers:
            member = self.members.get(f"data/{key}")
            if member is None:
                raise Refused(f"lacks the numbers of the tensor {key!r}")
            self.buffers[key] = bytearray(member.file_size)
            with self.archive.open(member) as stored:
                _fill(stored, self.buffers[key])
                # The check sum is compared when the end is reached.
                stored.read(1)
        return Storage(_numbers(self.buffers[key], dtype, count))


class _OldFile:
    """The format before torch 1.6: pickles in a row, then the storages' numbers."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file = file
        self.free = size
        self.buffers: dict[str, tuple[bytearray, torch.dtype]] = {}

    def content(self) -> object:
        window = _Window(self.file, MOST_BYTES)
        self._read(window, _no_storage)
        if self._read(window, _no_storage) != OLD_PROTOCOL:
            raise Refused("has a format that no version of torch writes")
        system = self._read(window, _no_storage)
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise Refused("was written by a machine of the other byte order")
        content = self._read(window, self._storage)
        keys = self._read(window, _no_storage)
        if not isinstance(keys, list) or set(map(str, keys)) != self.buffers.keys():
            raise Refused("does not hold the numbers of all its tensors")
        for key in keys:
            buffer, dtype = self.buffers[str(key)]
            written = bytearray(8)
            _fill(self.file, written)
            count = int.from_bytes(written, "little")
            if count * dtype.itemsize != len(buffer):
                raise Refused(f"has another size for the tensor {key!r} than it says")
            _fill(self.file, buffer)
        return content

    def _read(self, window: _Window, persistent: Callable[[object], object]) -> object:
        return read_pickle(window, known_names(), persistent, refusal_of_name)

    def _storage(self, identity: object) -> object:
        if isinstance(identity, tuple) and identity[:1] == ("module",) and len(identity) == 4:
            # Class, its source file, its source text: the last two are nobody's business.
            return identity[1]
        kind, key, count = _identity(identity)
        dtype = storage_dtype(kind)
        if key not in self.buffers:
            self.free -= count * dtype.itemsize
            if self.free < 0:
                raise Refused("claims tensors that are larger than the file")
            self.buffers[key] = bytearray(count * dtype.itemsize), dtype
        buffer, first = self.buffers[key]
        if first != dtype:
            raise Refused(f"has two number formats for the tensor {key!r}")
        numbers = _numbers(buffer, dtype, count)
        view = identity[5] if isinstance(identity, tuple) and len(identity) > 5 else None
        return Storage(numbers if view is None else _part(numbers, view))


class _Window:
    """The first bytes of a file, and not one more than a limit."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self.file = file
        self.limit = limit

    def read(self, count: int, /) -> bytes:
        found = self.file.read(min(count, self.limit))
        self.limit -= len(found)
        return found

    def readline(self) -> bytes:
        found = self.file.readline(min(self.limit, 10_000))
        self.limit -= len(found)
        return found


def _checked_members(
    infos: Sequence[zipfile.ZipInfo], file_size: int
) -> dict[str, zipfile.ZipInfo]:
    """Members by their name below the archive's one folder, if they are what torch writes."""
    if len(infos) > MOST_MEMBERS:
        raise Refused(f"has more than {MOST_MEMBERS} parts")
    members: dict[str, zipfile.ZipInfo] = {}
    folders = set()
    for info in infos:
        shown = ascii(info.orig_filename[:100])
        folder, _, name = info.orig_filename.partition("/")
        if not folder or not name or "\\" in name or "\0" in name or ".." in name.split("/"):
            raise Refused(f"has a part named {shown}, as no weight file does")
        if folder == ".." or name.startswith("/"):
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


def _identity(identity: object) -> tuple[object, str, int]:
    """Storage class, key and count of a persistent id; anything but a storage is refused."""
    if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
        kind = identity[0] if isinstance(identity, tuple) and identity else identity
        shown = ascii(kind)[:60] if isinstance(kind, str) else type(kind).__name__
        raise Refused(f"refers to something outside ({shown}) that is not a tensor's storage")
    _, kind, key, _, count = identity[:5]
    if not isinstance(key, (str, int)) or type(count) is not int or not 0 <= count < 2**48:
        raise Refused("has a tensor of an impossible size")
    return kind, str(key), count


def _no_storage(identity: object) -> object:
    raise Refused("has a tensor where there is none")


def _numbers(buffer: bytearray, dtype: torch.dtype, count: int) -> Tensor:
    if count * dtype.itemsize > len(buffer):
        raise Refused("claims tensors that are larger than the numbers stored for them")
    if count == 0:
        return torch.empty(0, dtype=dtype)
    return torch.frombuffer(buffer, dtype=dtype, count=count)


def _part(numbers: Tensor, view: object) -> Tensor:
    """The stretch of a storage that old files call a view: (key, offset, count)."""
    if not isinstance(view, tuple) or len(view) != 3:
        raise Refused("has a part of a tensor that is not described")
    _, start, count = view
    if type(start) is not int or type(count) is not int or min(start, count) < 0:
        raise Refused("has a tensor of an impossible size")
    if start + count > numbers.numel():
        raise Refused("has a tensor that is larger than the numbers stored for it")
    return numbers[start : start + count]


def _fill(file: IO[bytes], buffer: bytearray) -> None:
    """Read exactly as many bytes as the buffer has; EOFError where the file ends before."""
    view = memoryview(buffer)
    done = 0
    while done < len(buffer):
        count = cast(io.BufferedIOBase, file).readinto(view[done:])
        if not count:
            raise EOFError("the file ends within a tensor")
        done += count
