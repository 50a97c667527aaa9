"""Strategies by name, the starting set, and what each kind of strategy chooses."""

from __future__ import annotations

from collections import Counter

import pytest

from bench.label_choice import (
    first_of_ranking,
    parse_pairs,
    parse_strategies,
    parse_strategy,
    random_choice,
    start_set,
)
from mining.registry import ALGORITHMS
from utils.errors import Code, TaskError

IMAGES = [f"{number:02}.jpg" for number in range(12)]


@pytest.mark.parametrize(
    ("name", "common", "settings"),
    [
        pytest.param("random", {"img_size": "64"}, {}, id="random has no settings"),
        pytest.param("cald", {}, {"mining_algorithm": "cald"}, id="plain"),
        pytest.param(
            "cald:empty_images=first:views=[flip,rotate]",
            {"img_size": "64", "empty_images": "last"},
            {
                "img_size": "64",
                "empty_images": "first",
                "views": "[flip,rotate]",
                "mining_algorithm": "cald",
            },
            id="its own settings over the common ones",
        ),
    ],
)
def test_strategies(name: str, common: dict[str, str], settings: dict[str, str]) -> None:
    assert parse_strategy(name, common).settings == settings


@pytest.mark.parametrize("name", sorted(set(ALGORITHMS) - {"random"}))
def test_every_mining_algorithm_is_a_strategy(name: str) -> None:
    own = parse_strategy(f"{name}:diverse_window=40", {"img_size": "64"})
    assert own.settings == {"img_size": "64", "diverse_window": "40", "mining_algorithm": name}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        pytest.param(["dice"], "cald", id="unknown algorithm names those there are"),
        pytest.param(["cald:empty_images=never"], "first", id="value outside its choices"),
        pytest.param(["cald:empty_imags=last"], "did you mean empty_images", id="mistyped key"),
        pytest.param(["cald:flip"], "'flip' is no setting", id="no pair"),
        pytest.param(["random:seed=1"], "random has none", id="random with settings"),
        pytest.param(["cald", "random", "cald"], "name cald twice", id="twice"),
    ],
)
def test_strategies_that_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        parse_strategies(names, {})
    assert caught.value.code is Code.CONFIG


def test_pairs() -> None:
    assert parse_pairs(["a=1", "b=x=y"], "--set") == {"a": "1", "b": "x=y"}
    with pytest.raises(TaskError, match="--set: 'a' is no setting"):
        parse_pairs(["a"], "--set")


def test_names_that_differ_have_folders_that_differ() -> None:
    names = ["cald", "cald:views=flip", "cald:views=[flip]", "cald:conf_thres=0.1"]
    folders = [strategy.folder for strategy in parse_strategies(names, {})]
    assert len(set(folders)) == len(names)
    assert folders[0] == "cald"
    assert not any(set(folder) & set(":/[]") for folder in folders)


def test_the_starting_set_depends_on_the_seed_and_not_on_the_order() -> None:
    first = start_set(IMAGES, 5, seed=3)
    assert first == start_set(IMAGES[::-1], 5, seed=3)
    assert len(set(first)) == 5
    assert len({tuple(start_set(IMAGES, 5, seed=seed)) for seed in range(10)}) > 5


def test_random_choice_is_even_and_another_each_round() -> None:
    chosen = random_choice(IMAGES, 4, seed=0, round_number=1)
    assert chosen == random_choice(IMAGES[::-1], 4, seed=0, round_number=1)
    assert chosen != random_choice(IMAGES, 4, seed=0, round_number=2)
    # Each of 12 images is among the 4 with probability 1/3: 300 of 900 draws, deviation 14.
    counts = Counter(
        image
        for number in range(900)
        for image in random_choice(IMAGES, 4, seed=number, round_number=1)
    )
    assert all(230 < counts[image] < 370 for image in IMAGES)


def test_fewer_images_than_asked_for_are_all() -> None:
    assert sorted(random_choice(IMAGES[:3], 5, seed=0, round_number=1)) == IMAGES[:3]


def test_a_ranking_is_taken_from_the_top() -> None:
    assert first_of_ranking(["c", "a", "b"], ["a", "b", "c"], 2) == ["c", "a"]


@pytest.mark.parametrize(
    ("ranking", "message"),
    [
        pytest.param(["a", "b"], r"missing \['c'\]", id="one missing"),
        pytest.param(["a", "b", "c", "d"], r"not asked for \['d'\]", id="one too many"),
        pytest.param(["a", "b", "c", "c"], "4 lines for 3", id="one twice"),
    ],
)
def test_a_ranking_of_other_images_is_refused(ranking: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        first_of_ranking(ranking, ["a", "b", "c"], 2)
