"""Examples for clusters, as far as they can be checked without one."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from torch.distributed.run import get_args_parser

from cli.train import parse_train_command
from tests.conftest import ROOT

SLURM = ROOT / "examples/slurm.sh"
JOB = ROOT / "examples/pytorchjob.yaml"


def run_script(folder: Path, *, data: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run the Slurm script with stand-ins for Slurm's programs; return the arguments of srun."""
    stand_ins = {
        "scontrol": '#!/bin/sh\n[ "$3" = "node[1-2]" ] && printf "node1\\nnode2\\n"\n',
        "srun": f'#!/bin/sh\nprintf "%s\\n" "$@" > "{folder}/arguments"\n',
    }
    for name, text in stand_ins.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    slurm = {"JOB_NODELIST": "node[1-2]", "NNODES": "2", "GPUS_ON_NODE": "4", "JOB_ID": "77"}
    ended = subprocess.run(
        ["bash", str(SLURM)],
        env={
            "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
            "DATA": data,
            "OUTPUT": str(folder / "my run"),
            **{f"SLURM_{name}": value for name, value in slurm.items()},
        },
        capture_output=True,
        text=True,
        check=False,
    )
    arguments = folder / "arguments"
    return ended, arguments.read_text().splitlines() if arguments.exists() else []


def test_the_slurm_script_starts_one_training_on_both_machines(
    data_yaml: Path, tmp_path: Path
) -> None:
    ended, arguments = run_script(tmp_path, data=str(data_yaml))
    assert ended.returncode == 0, ended.stderr
    options = get_args_parser().parse_args(arguments[arguments.index("torchrun") + 1 :])
    assert (options.nnodes, options.nproc_per_node, options.max_restarts) == ("2", "4", 3)
    assert (options.rdzv_endpoint, options.rdzv_id) == ("node1:29400", "77")
    assert options.training_script == "train.py"
    command = parse_train_command(options.training_script_args)
    assert command.settings.sync_bn
    assert command.settings.batch_size % 8 == 0
    assert "my run" in str(command.run.make())
    # torchrun, not Slurm, starts the processes of a machine.
    assert "\n#SBATCH --ntasks-per-node=1\n" in SLURM.read_text()


def test_the_slurm_script_names_what_is_missing(tmp_path: Path) -> None:
    ended, arguments = run_script(tmp_path, data="")
    assert ended.returncode != 0
    assert "name the data.yaml" in ended.stderr
    assert not arguments


@pytest.fixture
def job() -> dict[str, Any]:
    return yaml.safe_load(JOB.read_text("utf-8"))


def read_and_written(job: dict[str, Any]) -> dict[str, Any]:
    """The job as its operator's own client gives it back: without fields that it does not know,
    and values in their types. Raises ValueError where a field is missing that must be there.
    """
    client = pytest.importorskip("kubeflow.training.api_client").ApiClient()
    response = SimpleNamespace(data=json.dumps(job))
    found = client.deserialize(response, "KubeflowOrgV1PyTorchJob")
    return client.sanitize_for_serialization(found)


def test_the_job_fits_the_schema_of_its_operator(job: dict[str, Any]) -> None:
    assert read_and_written(job) == job
    elastic, worker = job["spec"]["elasticPolicy"], job["spec"]["pytorchReplicaSpecs"]["Worker"]
    assert elastic["minReplicas"] <= worker["replicas"] <= elastic["maxReplicas"]
    pod = worker["template"]["spec"]
    (container,) = pod["containers"]
    assert container["name"] == "pytorch"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == str(elastic["nProcPerNode"])
    mounted = {one["name"] for one in container["volumeMounts"]}
    assert mounted == {one["name"] for one in pod["volumes"]}


def test_a_job_that_does_not_fit_is_noticed(job: dict[str, Any]) -> None:
    job["spec"]["elasticPolicy"]["maxRestarts"] = "3"  # a text
    assert read_and_written(job)["spec"]["elasticPolicy"]["maxRestarts"] == 3
    pod = job["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]
    pod["nam"] = "x"
    assert "nam" not in str(read_and_written(job)["spec"]["pytorchReplicaSpecs"]).split("'")
    pod["containers"][0] = {}
    with pytest.raises(ValueError, match="must not be `None`"):
        read_and_written(job)


def test_the_job_starts_a_training_that_all_ranks_share(
    job: dict[str, Any], data_yaml: Path
) -> None:
    worker = job["spec"]["pytorchReplicaSpecs"]["Worker"]
    (container,) = worker["template"]["spec"]["containers"]
    assert container["command"] == ["torchrun"]
    options = get_args_parser().parse_args(container["args"])
    assert options.training_script == "train.py"
    arguments = options.training_script_args
    command = parse_train_command(
        [word.replace("/shared/data.yaml", str(data_yaml)) for word in arguments]
    )
    ranks = worker["replicas"] * job["spec"]["elasticPolicy"]["nProcPerNode"]
    assert command.settings.batch_size % ranks == 0
    places = [word.partition("=")[2] for word in arguments if "=/" in word]
    assert all(place.startswith("/shared/") for place in [*places, container["workingDir"]])
