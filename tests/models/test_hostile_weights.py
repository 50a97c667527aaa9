"""Hostile weight files: nothing they name is run, no memory is spent, and one sentence says why."""

from __future__ import annotations

import contextlib
import pickle
import resource
import stat
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from models.checkpoint import load_checkpoint
from models.safe_load import pickle_reader
from models.safe_load.torch_file import read_torch_file
from tests.models.weight_file_example import (
    call,
    change_pickle,
    name,
    outside,
    own_content,
    pickled,
    refused,
    tensor,
    write_zip,
)

SPARE = 1536 * 2**20
"""Address space that reading a hostile file may take beyond what the process has; a bomb that is
let off asks for far more, whether it touches the memory or not."""


@pytest.fixture(autouse=True)
def _little_memory() -> Iterator[None]:
    """Let any huge allocation fail, so that a test sees it."""
    if not sys.platform.startswith("linux"):
        yield
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + SPARE
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def raw(value: object) -> bytes:
    """Pickle instructions that put a value on the stack."""
    return pickled(value)[2:-1]


def mkdir(canary: Path) -> object:
    return call("posix", "mkdir", str(canary))


def program(canary: Path) -> str:
    return f"__import__('os').mkdir({str(canary)!r})"


def getattr_chain(canary: Path) -> bytes:
    found = b"cbuiltins\ngetattr\n" + raw((call("builtins", "__import__", "os"), "mkdir")) + b"R"
    return b"\x80\x02" + found + raw((str(canary),)) + b"R."


def stacked(canary: Path) -> bytes:
    path = str(canary).encode()
    return b"\x80\x04\x8c\x05posix\x8c\x05mkdir\x93\x8c" + bytes([len(path)]) + path + b"\x85R."


def setstate(canary: Path, path: bytes = b"argparse\nNamespace") -> bytes:
    """An instance whose own `__setstate__` is set by one BUILD and called by the next."""
    first = raw({"__setstate__": name("posix", "mkdir")}) + b"b"
    return b"\x80\x02c" + path + b"\n)\x81" + first + raw(str(canary)) + b"b."


def nested_pickle(canary: Path) -> bytes:
    inner = pickled(mkdir(canary)).decode("latin1")
    return pickled(call("pickle", "loads", call("_codecs", "encode", inner, "latin1")))


def in_a_hook(canary: Path) -> bytes:
    state = {"_modules": {}, "_forward_hooks": {0: mkdir(canary)}}
    made = b"ccollections\nOrderedDict\n)R" + raw(state) + b"b"
    return b"\x80\x02}(" + raw("model") + made + b"u."


def reconstructor(canary: Path) -> bytes:
    base = name("builtins", "object")
    return pickled([call("copy_reg", "_reconstructor", base, base, mkdir(canary))])


def mapped(canary: Path) -> bytes:
    lazy = call("builtins", "map", name("posix", "mkdir"), [str(canary)])
    return pickled([call("builtins", "list", lazy)])


def calling(module: str, function: str, *arguments: object) -> bytes:
    return pickled(call(module, function, *arguments))


# Attacks that Python's own reader carries out, and what the refusal has to name.
RUN_BY_PICKLE: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "os.system": (lambda c: calling("posix", "system", f"mkdir {c}"), "posix.system"),
    "os.mkdir": (lambda c: pickled(mkdir(c)), "posix.mkdir"),
    "eval": (lambda c: calling("builtins", "eval", program(c)), "builtins.eval"),
    "exec": (lambda c: calling("__builtin__", "exec", program(c)), "builtins.exec"),
    "getattr chain": (getattr_chain, "builtins.__import__"),
    "subprocess": (lambda c: calling("subprocess", "call", ["mkdir", str(c)]), "subprocess.call"),
    "name on the stack": (stacked, "posix.mkdir"),
    "old instance": (lambda c: b"(" + raw(str(c)) + b"iposix\nmkdir\n.", "posix.mkdir"),
    "old object": (lambda c: b"(cposix\nmkdir\n" + raw(str(c)) + b"o.", "posix.mkdir"),
    "__setstate__ set by BUILD": (setstate, "posix.mkdir"),
    "pickle in a pickle": (nested_pickle, "pickle.loads"),
    "hook of a module": (in_a_hook, "posix.mkdir"),
    "member of a set": (lambda c: calling("builtins", "set", [mkdir(c)]), "posix.mkdir"),
    "lazy map": (mapped, "builtins.map"),
    "numpy scalar": (
        lambda c: calling("numpy.core.multiarray", "scalar", mkdir(c), "x"),
        "posix.mkdir",
    ),
    "reconstructor": (reconstructor, "copy_reg._reconstructor"),
    "runpy": (lambda c: calling("runpy", "run_path", str(c.with_name("script.py"))), "run_path"),
    "key of a mapping": (lambda c: pickled({mkdir(c): 1}), "posix.mkdir"),
}


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A folder that is there only if an attack was carried out."""
    target = tmp_path / "canary"
    target.with_name("script.py").write_text(f"import os; os.mkdir({str(target)!r})")
    return target


@pytest.mark.parametrize("attack", RUN_BY_PICKLE)
def test_the_attacks_are_real(canary, attack):
    """Otherwise it would prove nothing that they fail."""
    make, _ = RUN_BY_PICKLE[attack]
    # The attack comes first, the nonsense after it.
    with contextlib.suppress(TypeError, AttributeError, pickle.UnpicklingError, ValueError):
        pickle.loads(make(canary))
    assert canary.is_dir()


@pytest.mark.parametrize("attack", RUN_BY_PICKLE)
def test_nothing_is_run(tmp_path, canary, attack):
    make, named = RUN_BY_PICKLE[attack]
    sentence = refused(write_zip(tmp_path / "evil.pt", make(canary)))
    assert not canary.exists()
    assert named in sentence
    assert "evil.pt" in sentence


def _official_with(extra: object) -> dict[str, object]:
    return {"epoch": -1, "model": None, "ema": None, "opt": extra}


def nested_file(canary: Path) -> tuple[object, ...]:
    return (str(write_zip(canary.with_name("inner.pt"), pickled(mkdir(canary)))),)


MKDIR = name("posix", "mkdir")
# Calls that the readers of torch and numpy would make, and what the refusal names instead.
NAMED: list[tuple[str, str, Callable[[Path], tuple[object, ...]], str]] = [
    ("torch.serialization", "load", nested_file, ""),
    ("torch.hub", "load", lambda c: (str(c.parent), "script", "local"), ""),
    ("torch.jit._serialization", "load", lambda c: (str(c),), ""),
    ("torch._tensor", "_rebuild_from_type_v2", lambda c: (MKDIR, None, (str(c),), None), ""),
    ("torch.storage", "UntypedStorage", lambda c: (2**40,), ""),
    ("builtins", "bytearray", lambda c: (2**40,), ""),
    ("torch", "Tensor", lambda c: (2**20, 2**20), ""),
    ("torch._utils", "_rebuild_sparse_tensor", lambda c: (0, ()), ""),
    ("numpy", "load", lambda c: (str(c), None, True), ""),
    ("numpy.testing._private.utils", "runstring", lambda c: (program(c), {}), ""),
    ("numpy.core.multiarray", "_reconstruct", lambda c: (MKDIR, (0,), "b"), "posix.mkdir"),
    ("torch._utils", "_rebuild_parameter", lambda c: (mkdir(c), False, {}), "posix.mkdir"),
    ("pathlib", "PosixPath.unlink", lambda c: (str(c),), ""),
    ("models.common", "Conv.__init__.__globals__", lambda c: (str(c),), ""),
]


@pytest.mark.parametrize(
    ("module", "function", "arguments", "named"), NAMED, ids=[f"{row[0]}.{row[1]}" for row in NAMED]
)
def test_what_torch_and_numpy_would_do_is_named_and_not_done(
    tmp_path, canary, module, function, arguments, named
):
    made = call(module, function, *arguments(canary))
    path = write_zip(tmp_path / "evil.pt", pickled(_official_with(made)))
    assert (named or f"{module}.{function}") in refused(path)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        pytest.param("posix.system", "outside", id="text"),
        pytest.param(7, "outside", id="number"),
        pytest.param(
            ("module", "Conv", "evil.py", "raise SystemExit"), "outside", id="with source"
        ),
        pytest.param((), "outside", id="empty"),
        pytest.param(("storage",) * 9, "outside", id="too long"),
        pytest.param(["storage"], "outside", id="list"),
        pytest.param(
            ("storage", name("builtins", "exec"), "0", "cpu", 1), "builtins.exec", id="class"
        ),
    ],
)
def test_persistent_identities_other_than_storages(tmp_path, identity, words):
    content = pickled(_official_with(outside(identity)))
    refused(write_zip(tmp_path / "evil.pt", content), words)


def test_the_state_of_a_stand_in_calls_nothing(tmp_path, canary):
    """What sets a method of an ordinary object is only data for a stand-in."""
    refused(
        write_zip(tmp_path / "evil.pt", setstate(canary, b"models.common\nConv")), "posix.mkdir"
    )
    tricks = ("__setstate__", "__class__", "__reduce__", "__getattr__", "attribute", "state")
    state = {trick: call("collections", "OrderedDict") for trick in tricks}
    made = b"cmodels.common\nConv\n)\x81" + raw(state) + b"b"
    read = read_torch_file(write_zip(tmp_path / "odd.pt", b"\x80\x02" + made + b"."))
    assert type(read).__name__ == "ModuleStandIn"
    assert read.attribute("__class__") == {}


def _members(path: Path, *members: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members:
            archive.writestr(member, content)
    return path


def _link(to: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(to)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


GOOD = pickled({"a": 1})


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("members", "words"),
    [
        pytest.param([("a/../../canary", b"x")], r"named 'a/\.\./\.\./canary'", id="upwards"),
        pytest.param([("../canary", b"x")], "a part named", id="upwards at once"),
        pytest.param([("/tmp/canary", b"x")], "a part named '/tmp/canary'", id="absolute"),
        pytest.param([("a//tmp/canary", b"x")], "a part named", id="absolute below"),
        pytest.param([("a\\..\\canary", b"x")], "a part named", id="backslashes"),
        pytest.param([("a/b\\..\\canary", b"x")], "a part named", id="backslashes below"),
        pytest.param([("a/data.pkl", GOOD)], r"part 'a/data\.pkl' twice", id="twice"),
        pytest.param([("b/data.pkl", GOOD)], "part .* twice", id="twice in two folders"),
        pytest.param([(_link("a/data/0"), b"/etc/passwd")], "a link 'a/data/0'", id="link"),
    ],
)
def test_tricks_with_the_parts_of_a_zip(tmp_path, members, words):
    refused(_members(tmp_path / "evil.pt", ("a/data.pkl", GOOD), *members), words)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["evil.pt"]


def test_a_zero_byte_in_a_name(tmp_path):
    path = _members(tmp_path / "evil.pt", ("a/data.pkl", GOOD), ("a/dataX0", b"x"))
    path.write_bytes(path.read_bytes().replace(b"a/dataX0", b"a/data\x000"))
    refused(path, r"a part named 'a/data\\x000'")


@pytest.mark.parametrize("member", ["a/data.pkl", "a/data/0"])
def test_a_bomb_of_packed_zeros(tmp_path, member):
    """64 megabytes that take less than one in the file."""
    path = tmp_path / "bomb.pt"
    packed = zipfile.ZipInfo(member)
    packed.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "w", compresslevel=1) as archive:
        archive.writestr("a/version", "3")
        with archive.open(packed, "w", force_zip64=True) as file:
            for _ in range(64):
                file.write(bytes(2**20))
    assert path.stat().st_size < 2**20
    refused(path, f"the part '{member}' compressed")


def test_parts_that_lie_over_each_other(tmp_path):
    """A directory of entries that all point at the same bytes."""
    path = _members(tmp_path / "bomb.pt", ("a/data.pkl", GOOD), ("a/data/0", bytes(100_000)))
    with zipfile.ZipFile(path) as archive:
        end = archive.start_dir
    content = path.read_bytes()
    entries = content[end : content.index(b"PK\x05\x06")]
    first = entries.index(b"PK\x01\x02", 4)
    copies = b"".join(
        entries[first:].replace(b"a/data/0", f"a/data/{digit}".encode()) for digit in range(1, 10)
    )
    directory = entries + copies
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 11, 11, len(directory), end, 0)
    path.write_bytes(content[:end] + directory + tail)
    refused(path, "parts that are larger than the file")


SIZES: dict[str, tuple[object, str]] = {
    "a petabyte claimed": (tensor(2**47, (1,), (1,)), "larger than"),
    "one number more than there is": (tensor(5, (5,), (1,)), "larger than"),
    "tensor beyond its storage": (tensor(4, (5,), (1,)), "larger than"),
    "stride beyond": (tensor(4, (2,), (4,)), "larger than"),
    "offset beyond": (tensor(4, (1,), (1,), offset=4), "larger than"),
    "negative offset": (tensor(4, (1,), (1,), offset=-1), "impossible size"),
    "negative stride": (tensor(4, (2,), (-1,)), "impossible size"),
    "negative count": (tensor(-4, (1,), (1,)), "impossible size"),
    "size beyond all numbers": (tensor(4, (2**70,), (0,)), "impossible size"),
    "sizes that overflow": (tensor(4, (2**40, 2**40), (0, 0)), "damaged|unfold"),
    "truth value for a size": (tensor(4, (True,), (1,)), "impossible size"),
    "a thousand axes": (tensor(4, (1,) * 1000, (1,) * 1000), "without a size"),
    "size and stride disagree": (tensor(4, (1, 1), (1,)), "disagree"),
    "wider numbers": (tensor(4, (4,), (1,), kind="Double"), "larger"),
    "unknown numbers": (tensor(4, (4,), (1,), kind="QInt8"), "QInt8"),
}


@pytest.mark.parametrize("claim", SIZES)
def test_claims_about_tensors(tmp_path, claim):
    """Taken at their word, some of these would be read from beyond the end of the numbers."""
    value, words = SIZES[claim]
    content = pickled(own_content(state={"w": value}))
    refused(write_zip(tmp_path / "evil.pt", content, {"0": bytes(16)}), words)


def test_weights_that_unfold_to_more_than_the_file(tmp_path):
    """One number, seen as a hundred billion of them."""
    wide = {"w": tensor(1, (10**6, 10**5), (0, 0))}
    many = {str(i): tensor(2**18, (2**18,), (1,)) for i in range(3000)}
    for state, size in ((wide, 4), (many, 2**20)):
        content = pickled(own_content(state=state))
        refused(write_zip(tmp_path / "evil.pt", content, {"0": bytes(size)}), "unfold to more")


def test_a_module_tree_that_contains_itself(official, tmp_path):
    model = official()
    model._modules["again"] = model
    torch.save({"model": model}, tmp_path / "evil.pt")
    refused(tmp_path / "evil.pt", "contains itself")


def test_a_deep_module_tree(official, tmp_path):
    model = official()
    inner = torch.nn.Sequential()
    for _ in range(150):
        inner = torch.nn.Sequential(inner)
    model._modules["deep"] = inner
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        torch.save({"model": model}, tmp_path / "evil.pt")
    finally:
        sys.setrecursionlimit(limit)
    refused(tmp_path / "evil.pt", "nested more than")


def _laughs(levels: int) -> list[object]:
    value: list[object] = ["ha"]
    for _ in range(levels):
        value = [value] * 10
    return value


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"\x80\x02" + b"]" * 300_000 + b".", "instructions", id="empty lists"),
        pytest.param(b"\x80\x02" + b"]" * 90_000 + b"a" * 89_999 + b".", "nested", id="nested"),
        pytest.param(b"\x80\x02" + b"(" * 90_000 + b"t" * 90_000 + b".", "instr|nest", id="tuples"),
        pytest.param(pickle.dumps(_laughs(30), protocol=2), "unfolds", id="shared lists"),
        pytest.param(b"\x80\x02]q\x00" + b"h\x00a" * 3 + b".", "contains itself", id="itself"),
        pytest.param(
            b"\x80\x02X\xff\xff\xff\x7f" + b"a" * 1000 + b".", "damaged", id="text of two gigabytes"
        ),
        pytest.param(b"\x80\x02" + b"r\xff\xff\xff\x7f" * 10 + b".", "damaged", id="memo index"),
        pytest.param(
            b"\x80\x02K\x00\x85q\x00" + b"h\x00h\x00\x86q\x00" * 60 + b"K\x01\x85\x86}h\x00K\x01s.",
            "a tuple as the key",
            id="key whose hash takes for ever",
        ),
        pytest.param(b"\x80\x02\x8b\xff\xff\xff\x7f1.", "damaged|instruction", id="endless number"),
    ],
)
def test_bombs(tmp_path, monkeypatch, content, words):
    # A tenth of the real limit, to save time; one test below has the real one.
    monkeypatch.setattr(pickle_reader, "MAX_INSTRUCTIONS", 200_000)
    refused(write_zip(tmp_path / "bomb.pt", content), words)


@pytest.mark.slow
def test_as_many_sets_as_are_allowed(tmp_path):
    """The most memory that instructions can take: two hundred bytes for each."""
    content = b"\x80\x04" + b"\x8f" * (pickle_reader.MAX_INSTRUCTIONS + 10) + b"."
    refused(write_zip(tmp_path / "bomb.pt", content), "instructions")


def test_a_structure_of_a_hundred_megabytes(tmp_path):
    content = b"\x80\x02X" + struct.pack("<I", 100 * 2**20) + b"a" * (100 * 2**20) + b"."
    refused(write_zip(tmp_path / "bomb.pt", content), "more than 64 MiB")


DEFINITIONS: dict[str, dict[str, object]] = {
    "a row repeated a billion times": {"row": [-1, 10**9, "Conv", [8, 1, 1]]},
    "bottlenecks a billion times": {"row": [-1, 10**9, "C3", [8]]},
    "a repeat count without end": {"row": [-1, 10**400, "C3", [8]]},
    "a depth without end": {"row": [-1, 3, "C3", [8]], "depth_multiple": 1e300},
    "a depth beyond all numbers": {"row": [-1, 10, "C3", [8]], "depth_multiple": 1e308},
    "a width without end": {"width_multiple": 1e300},
    "a wide network": {"width_multiple": 10_000.0},
    "a layer of a million channels": {"row": [-1, 1, "Conv", [10**6, 1, 1]]},
    "an image of a million channels": {"ch": 10**7},
    "a large window": {"row": [-1, 1, "Conv", [8, 100_001, 1]]},
}


@pytest.mark.parametrize("case", DEFINITIONS)
def test_definitions_that_would_fill_the_memory(tiny, tmp_path, case):
    """Weights of a small network with the definition of a huge one."""
    changes = dict(DEFINITIONS[case])
    detector = tiny()
    definition = dict(detector.config.definition)
    rows = definition["backbone"]
    definition["backbone"] = [*rows[:2], changes.pop("row", rows[2]), *rows[3:]]
    layout, state = {**definition, **changes}, dict(detector.state_dict())
    content = own_content(layout=layout, class_names=["a", "b", "c"], state=state)
    torch.save(content, tmp_path / "evil.pt")
    refused(tmp_path / "evil.pt", "model definition in the weight file")


def test_an_attack_hidden_in_an_honest_file(official, tmp_path, canary):
    """A real checkpoint, one of whose options calls."""
    path = tmp_path / "evil.pt"
    torch.save({"epoch": -1, "model": official(), "ema": None, "opt": "HERE"}, path)
    load_checkpoint(path)
    marker = raw("HERE").partition(b"q")[0]
    change_pickle(path, lambda content: content.replace(marker, raw(mkdir(canary))))
    refused(path, "posix.mkdir")
    assert not canary.exists()
