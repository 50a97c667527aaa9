"""Transfer of a checkpoint to other classes, other anchors, another head."""

from __future__ import annotations

import pytest
import torch

from models.checkpoint import checkpoint_of
from models.detector import Detector
from models.model_config import parse_model_config
from models.transfer import class_pairs, transfer

NAMES = ("cat", "dog", "owl")
BOTH = pytest.mark.parametrize("names", [NAMES, ("owl", "emu")], ids=["same", "other classes"])


@pytest.mark.parametrize(
    ("new", "old", "pairs"),
    [
        pytest.param(("a", "b"), ("a", "b"), {0: 0, 1: 1}, id="same"),
        pytest.param(("b", "a"), ("a", "b"), {0: 1, 1: 0}, id="another order"),
        pytest.param(("c", "a"), ("a", "b"), {1: 0}, id="one new"),
        pytest.param(("A ", "b"), ("a", "b"), {0: 0, 1: 1}, id="case and blanks"),
        pytest.param(("Straße",), ("STRASSE",), {0: 0}, id="case folded"),
        pytest.param(("A", "a"), ("a",), {1: 0}, id="exact goes first"),
        pytest.param(("A", " a"), ("a",), {}, id="two would like one"),
        pytest.param(("a",), ("A", " a"), {}, id="one would fit two"),
        pytest.param(("a", "A"), ("A", "a"), {0: 1, 1: 0}, id="names that differ in case only"),
        pytest.param(("x",), (), {}, id="nothing known"),
    ],
)
def test_classes_are_matched_by_name(new, old, pairs):
    assert class_pairs(new, old) == pairs


def rows_of(detector: Detector, level: int) -> torch.Tensor:
    """Head weights and biases of a level [anchors, outputs, channels + 1]."""
    convolution = detector.head.m[level]
    whole = torch.cat([convolution.weight.flatten(1), convolution.bias[:, None]], 1).detach()
    return whole.unflatten(0, (detector.anchors.shape[1], -1)).clone()


@pytest.mark.parametrize(
    ("old", "names", "origins", "dropped", "words"),
    [
        pytest.param(NAMES, NAMES, (0, 1, 2), (), "whole network", id="same"),
        pytest.param(NAMES, ("cat", "owl", "dog"), (0, 2, 1), (), "3 of the 3", id="order"),
        pytest.param(NAMES, ("Cat ", "DOG", "owl"), (0, 1, 2), (), "3 of the 3", id="spelling"),
        pytest.param(NAMES, ("a", "b", "c"), (None,) * 3, NAMES, "0 of the 3", id="all new"),
        pytest.param(NAMES, ("owl", "emu"), (2, None), ("cat", "dog"), "1 of the 2", id="fewer"),
        pytest.param(
            NAMES, ("emu", "dog", "b"), (None, 1, None), ("cat", "owl"), "1 of the 3", id="some"
        ),
        # One class has no class loss: its row means nothing.
        pytest.param(NAMES, ("dog",), (None,), NAMES, "0 of the 1", id="to a single class"),
        pytest.param(("cat",), NAMES, (None,) * 3, ("cat",), "0 of the 3", id="from one"),
    ],
)
def test_the_head_class_by_class(tiny, old, names, origins, dropped, words):
    source, target = tiny(nc=len(old), seed=0), tiny(nc=len(names), seed=1)
    checkpoint = checkpoint_of(source, old)
    fresh = [rows_of(target, level) for level in range(2)]
    report = transfer(target, checkpoint, names)
    for level in range(2):
        new, known = rows_of(target, level), rows_of(source, level)
        assert torch.equal(new[:, :5], known[:, :5])
        for index, origin in enumerate(origins):
            expected = fresh[level][:, 5 + index] if origin is None else known[:, 5 + origin]
            assert torch.equal(new[:, 5 + index], expected), (names[index], level)
    body = {k: v for k, v in target.state_dict().items() if ".9.m." not in k}
    assert all(torch.equal(value, checkpoint.state[key]) for key, value in body.items())
    assert report.classes == tuple(
        (name, None if origin is None else old[origin])
        for name, origin in zip(names, origins, strict=True)
    )
    assert report.dropped == dropped
    assert words in report.note
    assert report.copied == report.total
    assert (report.parts["head"][1:] == (0, 0)) is (names == old)
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.add_(1)
    assert all(torch.equal(checkpoint.state[k], v) for k, v in source.state_dict().items())


def with_anchors(definition: dict[str, object], anchors: object, nc: int) -> Detector:
    torch.manual_seed(1)
    return Detector(parse_model_config({**definition, "anchors": anchors}, nc))


@pytest.mark.parametrize(
    ("keep", "words"), [(False, "those of the weights"), (True, "those that the task sets")]
)
@BOTH
def test_other_anchors(tiny, tiny_definition, keep, words, names):
    source = tiny(seed=0)
    target = with_anchors(tiny_definition, [[5, 6, 7, 8], [20, 25, 30, 35]], len(names))
    own = target.anchors.clone()
    report = transfer(target, checkpoint_of(source, NAMES), names, keep_anchors=keep)
    assert torch.equal(target.anchors, own if keep else source.anchors)
    assert words in report.anchors
    # The boxes' rows are copied either way.
    assert torch.equal(rows_of(target, 0)[:, :5], rows_of(source, 0)[:, :5])


@BOTH
def test_another_number_of_anchors(tiny, tiny_definition, names):
    three = [[5, 6, 7, 8, 9, 9], [20, 25, 30, 35, 40, 40]]
    target = with_anchors(tiny_definition, three, len(names))
    before = {k: v.clone() for k, v in target.state_dict().items() if ".9." in k}
    report = transfer(target, checkpoint_of(tiny(seed=0), NAMES), names)
    state = target.state_dict()
    assert all(torch.equal(state[key], value) for key, value in before.items())
    assert "another number of them" in report.anchors
    assert "keeps its initial weights" in report.note
    assert all(origin is None for _, origin in report.classes)
    assert report.parts["head"][:2] == (0, 0)


@BOTH
def test_a_head_of_which_a_level_is_missing(tiny, names):
    source, target = tiny(seed=0), tiny(nc=len(names), seed=1)
    checkpoint = checkpoint_of(source, NAMES)
    for key in ("model.9.m.1.weight", "model.9.m.1.bias"):
        del checkpoint.state[key]
    fresh = rows_of(target, 1)
    report = transfer(target, checkpoint, names)
    assert torch.equal(rows_of(target, 0)[:, :5], rows_of(source, 0)[:, :5])
    assert torch.equal(rows_of(target, 1), fresh)
    assert report.total - report.copied == 2
    assert "1 of the 2 levels" in report.note


def test_the_table_in_the_log(tiny):
    target = tiny(nc=3, seed=1)
    lines = transfer(target, checkpoint_of(tiny(), NAMES), ("owl", "emu", "Dog")).lines()
    table = [line.split() for line in lines]
    assert table[0] == ["part", "taken", "by", "class", "fresh"]
    counts = {row[0]: [int(number) for number in row[1:]] for row in table[1:4]}
    keys = target.state_dict()
    assert counts["head"] == [1, 4, 0]
    assert sum(map(sum, counts.values())) == len(keys)
    assert counts["backbone"][0] == sum(int(key.split(".")[1]) < 5 for key in keys)
    assert table[4:8] == [
        *(["class", "owl", "<-", "owl"], ["class", "emu", "<-", "(fresh)"]),
        *(["class", "Dog", "<-", "dog"], ["left", "behind:", "cat"]),
    ]
    many, old = (tuple(f"{letter}{i}" for i in range(90)) for letter in "no")
    lines = transfer(tiny(nc=90), checkpoint_of(tiny(nc=90), old), many).lines()
    assert "... and 50 more classes" in lines
    assert any(line.startswith("left behind: o0, ") and "and 50 more" in line for line in lines)
    assert len(lines) < 60


def test_another_architecture_takes_what_fits(tiny):
    wide, narrow = tiny(width=2.0), tiny(seed=1)
    before = {key: value.clone() for key, value in wide.state_dict().items()}
    report = transfer(wide, checkpoint_of(narrow, NAMES), NAMES)
    theirs = narrow.state_dict()
    taken = {key for key, value in before.items() if value.shape == theirs[key].shape}
    # Anchors and biases belong to a head of which no weight fits.
    taken -= {"model.9.anchors", "model.9.m.0.bias", "model.9.m.1.bias"}
    for key, value in wide.state_dict().items():
        assert torch.equal(value, theirs[key] if key in taken else before[key]), key
    assert (report.copied, report.total) == (len(taken), len(before))
    assert "those of the model, because the head of the weights" in report.anchors
