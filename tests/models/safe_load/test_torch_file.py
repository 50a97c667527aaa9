"""Files of torch.save: read as torch reads them where sound, refused where they are not."""

from __future__ import annotations

import pathlib
import pickle
import random
import string
import zipfile

import pytest
import torch
from torch import serialization

from models.safe_load.torch_file import read_torch_file
from tests.models.weight_file_example import pickled, tensor, write_zip
from utils.errors import Code, TaskError

DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)


def _content() -> dict[str, object]:
    base = torch.arange(24).view(4, 6)
    return {
        **{str(dtype): torch.arange(7).to(dtype) for dtype in DTYPES},
        "rows": base[1:3],
        "columns": base[:, ::2],
        "turned": base.T,
        "expanded": torch.ones(1, 3).expand(2, 3),
        "channels last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "single": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
        "parameter": torch.nn.Parameter(torch.rand(3)),
        "plain": [1, -(2**40), 0.5, "ä", None, True, (1, 2), {3: {4}}, torch.Size([5])],
    }


def _same(found: object, expected: object) -> bool:
    if isinstance(expected, torch.Tensor):
        assert isinstance(found, torch.Tensor)
        assert found.dtype == expected.dtype
        assert found.stride() == expected.stride()
        return torch.equal(found, expected.data)
    return found == expected


def test_it_reads_what_torch_reads(tmp_path):
    path = tmp_path / "any.pt"
    content = _content()
    torch.save(content, path)
    found = read_torch_file(path)
    try:
        reference = torch.load(path, weights_only=True)
    except pickle.UnpicklingError:  # the safe reader of torch 2.4 knows no sets
        reference = content
    assert isinstance(found, dict)
    assert list(found) == list(reference)
    for key, value in reference.items():
        assert _same(found[key], value), key


def test_names_allowed_by_other_libraries_are_refused_and_theirs_are_left_alone(tmp_path):
    path = tmp_path / "best.pt"
    torch.save(string.Formatter(), path)
    before = serialization.get_safe_globals()
    serialization.add_safe_globals([string.Formatter])
    try:
        with pytest.raises(TaskError, match=r"string\.Formatter"):
            read_torch_file(path)
        assert string.Formatter in serialization.get_safe_globals()
    finally:
        serialization.clear_safe_globals()
        serialization.add_safe_globals(before)


def _zip(path: pathlib.Path, *members: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, b"x")


def _cut_short(path: pathlib.Path, kept: float) -> None:
    torch.save(_content(), path)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])


def _flip_a_bit(path: pathlib.Path) -> None:
    weights = torch.arange(1000.0)
    torch.save(weights, path)
    content = bytearray(path.read_bytes())
    content[content.index(weights.numpy().tobytes()) + 2000] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(lambda p: None, "does not exist", id="missing"),
        pytest.param(lambda p: p.mkdir(), "is a folder", id="folder"),
        pytest.param(lambda p: p.write_bytes(b""), "is empty", id="empty"),
        pytest.param(lambda p: p.write_text("<html>"), "is a web page", id="web page"),
        pytest.param(
            lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
            "Git LFS pointer.*git lfs pull",
            id="Git LFS",
        ),
        pytest.param(lambda p: p.write_bytes(b"\x1c\0\0\0TFL3" + bytes(50)), "TFLite", id="TFLite"),
        pytest.param(lambda p: _cut_short(p, 0.3), "damaged or cut short", id="a third"),
        pytest.param(lambda p: _cut_short(p, 0.99), "damaged or cut short", id="cut short"),
        pytest.param(_flip_a_bit, "damaged", id="a flipped bit among the weights"),
        pytest.param(lambda p: _zip(p, "a/b.txt"), "not a PyTorch file", id="other zip"),
        pytest.param(lambda p: _zip(p, "a/1", "b/2"), "archive of 2 folders", id="two folders"),
        pytest.param(
            lambda p: torch.jit.script(torch.nn.ReLU()).save(str(p)),
            "is a TorchScript archive: an export; give the .pt",
            id="TorchScript",
        ),
        pytest.param(
            lambda p: p.write_bytes(b"\x08\x08\x12\x07pytorch\x1a"), "is an ONNX file", id="ONNX"
        ),
        pytest.param(lambda p: _zip(p, "a/data.pkl"), "damaged", id="nonsense inside"),
        pytest.param(lambda p: p.write_bytes(pickle.dumps({"a": 1})), "not a PyTorch", id="pickle"),
        pytest.param(
            lambda p: torch.save({"a": 1}, p, _use_new_zipfile_serialization=False),
            "PyTorch before 1.6, .* save it again with PyTorch 1.6 or later",
            id="before torch 1.6",
        ),
    ],
)
def test_files_that_are_no_weights(tmp_path, make, words):
    path = tmp_path / "best.pt"
    make(path)
    with pytest.raises(TaskError, match=words) as caught:
        read_torch_file(path)
    assert caught.value.code is Code.MODEL
    assert str(path) in caught.value.sentence


def test_exports_are_called_by_their_ending(tmp_path):
    path = tmp_path / "best.onnx"
    path.write_bytes(b"\x08\x08\x12\x07pytorch")
    with pytest.raises(TaskError, match=r"is an ONNX file: an export; give the \.pt file"):
        read_torch_file(path)


def test_damage_anywhere_is_one_sentence(tmp_path):
    """Random bytes at random places: read as something, or refused; never another exception."""
    path = tmp_path / "best.pt"
    torch.save(_content(), path)
    whole, chance = path.read_bytes(), random.Random(0)
    codes = []
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(chance.choice((1, 1, 3, 10))):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(bytes(content))
        try:
            read_torch_file(path)
        except TaskError as error:
            codes.append(error.code)
    assert set(codes) == {Code.MODEL}
    assert len(codes) > 30


def test_files_written_by_hand(tmp_path):
    """The example writer of the tests makes sound files, so that a refusal is not its fault."""
    content = pickled(tensor(3, (3,), (1,)))
    numbers = torch.tensor([1.0, 2.0, 3.0]).numpy().tobytes()
    found = read_torch_file(write_zip(tmp_path / "b.pt", content, {"0": numbers}))
    assert found.tolist() == [1, 2, 3]
