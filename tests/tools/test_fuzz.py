"""Every parser under broken input, driven by Hypothesis: a value or a TaskError, within bounds."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tools.fuzz import Target, bounded_memory, failure_of, main, mutate, targets
from utils.errors import Code, TaskError

NAMES = (
    *("settings", "env", "hyp", "model file", "args_options", "index", "ark", "voc", "coco"),
    *("folders", "checkpoint", "checkpoint structure", "safetensors header"),
)


@pytest.fixture(scope="module")
def every_target(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    """The parsers that are fed broken input, by name."""
    return targets(tmp_path_factory.mktemp("fuzz"))


def test_every_parser_reads_the_sound_documents(every_target: dict[str, Target]) -> None:
    """Otherwise every broken one would fail for a reason that is not its own."""
    assert tuple(every_target) == NAMES
    for name, target in every_target.items():
        assert target.seeds, name
        assert all(target.parse(seed) is not None for seed in target.seeds), name


def test_whatever_happens_to_a_folder(every_target: dict[str, Target]) -> None:
    """Each command reads the true boxes or refuses it; it takes longer than a document."""
    for number in range(25):
        assert failure_of(every_target["folders"], b"%d" % number) == ""


@pytest.mark.parametrize("name", [name for name in NAMES if name != "folders"])
def test_whatever_the_bytes(every_target: dict[str, Target], name: str) -> None:
    target = every_target[name]

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.one_of(st.randoms(use_true_random=False), st.binary(max_size=200)))
    def check(source: random.Random | bytes) -> None:
        content = source if isinstance(source, bytes) else mutate(target, source)
        assert failure_of(target, content) == ""

    with bounded_memory():
        check()


def raises(error: Exception) -> Target:
    def parse(content: bytes) -> object:
        raise error

    return Target(parse, (b"a",))


def test_other_exceptions_and_too_much_memory_are_failures() -> None:
    assert failure_of(raises(KeyError("k")), b"") == "KeyError: \"'k'\""
    assert failure_of(raises(TaskError(Code.CONFIG, "no")), b"") == ""
    with bounded_memory(2**28):
        assert failure_of(Target(lambda content: bytearray(2**30), (b"",)), b"").startswith(
            "MemoryError"
        )


def test_the_command_counts(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--minutes", "0.01", "--only", "ark", "--keep", str(tmp_path)]) == 0
    row = capsys.readouterr().out.splitlines()[2].split("|")
    assert row[1].strip() == "ark"
    assert int(row[2]) > 0
    assert row[3].strip() == "0"


FOUND = (
    pytest.param("hyp", b"[" * 3000, id="deep-yaml"),
    pytest.param("args_options", b"--hyp " + b"9" * 5000, id="name-too-long"),
    pytest.param("args_options", b"--weights " + b"9" * 5000, id="weights-name-too-long"),
    pytest.param("index", b"a.png\ta\0.txt\n", id="zero-byte-in-a-path"),
    pytest.param(
        "settings", b'code_config: "\\0"\nclass_names: [cat]\n', id="zero-byte-in-a-setting"
    ),
    pytest.param("settings", b"class_names: [cat]\nfreeze: '[2021-13-45]'\n", id="date-in-a-list"),
    pytest.param("settings", b"class_names: [cat]\nlr0: 0x" + b"f" * 5000, id="number-without-end"),
    pytest.param(
        "coco",
        b'{"images":[{"id":1,"file_name":"a.png"}],"annotations":[{"image_id":1,"category_id":'
        + b"9" * 400
        + b',"bbox":[1,1,1,1]}]}',
        id="category-beyond-floats",
    ),
)


@pytest.mark.parametrize(("name", "content"), FOUND)
def test_what_was_found_stays_mended(
    every_target: dict[str, Target], name: str, content: bytes
) -> None:
    assert failure_of(every_target[name], content) == ""
