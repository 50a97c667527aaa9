"""The table of algorithms is the list that the settings offer."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

import start
from mining.registry import ALGORITHMS
from settings.detect import MiningSettings
from tools.make_task import write_task
from tools.sources import SourceDataset


def test_table_and_setting_name_the_same() -> None:
    choices = next(f for f in fields(MiningSettings) if f.name == "mining_algorithm")
    assert set(choices.metadata["spec"].choices) == set(ALGORITHMS)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_settings_know_which_need_a_network(name: str) -> None:
    algorithm = ALGORITHMS[name]
    assert MiningSettings(mining_algorithm=name).needs_network == algorithm.needs_network


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_task_with_inference_ranks_as_one_without_and_repeats_itself(
    drawn: SourceDataset, weights: Path, tmp_path: Path, name: str
) -> None:
    written = []
    settings = {"mining_algorithm": name, "img_size": "64", "conf_thres": "0.001", "plots": "no"}
    for kinds in (("mining",), ("mining", "infer"), ("mining",)):
        task = tmp_path / "task"
        env_file = write_task(
            drawn, task, kinds=kinds, settings=settings, weights=[weights], overwrite=True
        )
        assert start.main(["--env", str(env_file)]) == 0
        written.append((task / "out" / "result.tsv").read_text())
        assert (task / "out" / "monitor.txt").read_text().split()[2] == "1.000000"
    assert written[0] == written[1] == written[2]
    scores = [float(line.split("\t")[1]) for line in written[0].splitlines()]
    assert scores == sorted(scores, reverse=True)
