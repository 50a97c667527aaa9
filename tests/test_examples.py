"""The examples for clusters, as far as they can be checked without one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch.distributed.run import get_args_parser

from cli.train import parse_train_command
from tests.conftest import ROOT
from tests.job_schema import MisfitError, built

SLURM = ROOT / "examples/slurm.sh"
JOB = ROOT / "examples/pytorchjob.yaml"
POD = ("spec", "pytorchReplicaSpecs", "Worker", "template", "spec")


def run_script(folder: Path, *, data: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """The Slurm script with stand-ins for Slurm's programs; and the words that srun was given."""
    stand_ins = {
        "scontrol": '#!/bin/sh\n[ "$3" = "node[1-2]" ] && printf "node1\\nnode2\\n"\n',
        "srun": f'#!/bin/sh\nprintf "%s\\n" "$@" > "{folder}/words"\n',
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
    words = folder / "words"
    return ended, words.read_text().splitlines() if words.exists() else []


def test_the_slurm_script_starts_one_training_on_both_machines(
    data_yaml: Path, tmp_path: Path
) -> None:
    """Its words are parsed by torchrun's own parser, and by that of train.py."""
    ended, words = run_script(tmp_path, data=str(data_yaml))
    assert ended.returncode == 0, ended.stderr
    options = get_args_parser().parse_args(words[words.index("torchrun") + 1 :])
    assert (options.nnodes, options.nproc_per_node, options.max_restarts) == ("2", "4", 3)
    assert (options.rdzv_endpoint, options.rdzv_id) == ("node1:29400", "77")
    assert options.training_script == "train.py"
    command = parse_train_command(options.training_script_args)
    assert command.settings.sync_bn
    assert command.settings.batch_size % 8 == 0
    assert "my run" in str(command.run.make())


def test_the_slurm_script_names_what_is_missing(tmp_path: Path) -> None:
    ended, words = run_script(tmp_path, data="")
    assert ended.returncode != 0
    assert "name the data.yaml" in ended.stderr
    assert not words


def test_the_slurm_script_is_sound() -> None:
    assert subprocess.run(["bash", "-n", str(SLURM)], check=False).returncode == 0
    lines = [line for line in SLURM.read_text().splitlines() if line.startswith("#SBATCH")]
    assert "#SBATCH --ntasks-per-node=1" in lines  # torchrun starts the processes of a machine


@pytest.fixture
def job() -> dict[str, Any]:
    return yaml.safe_load(JOB.read_text("utf-8"))


def test_the_job_has_the_shape_that_the_operator_reads(job: dict[str, Any]) -> None:
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "PyTorchJob")
    spec, elastic = job["spec"], job["spec"]["elasticPolicy"]
    worker = spec["pytorchReplicaSpecs"]["Worker"]
    assert elastic["minReplicas"] <= worker["replicas"] <= elastic["maxReplicas"]
    assert worker["restartPolicy"] in {"Always", "OnFailure", "Never", "ExitCode"}
    pod = worker["template"]["spec"]
    (container,) = pod["containers"]
    assert container["name"] == "pytorch"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == elastic["nProcPerNode"]
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(mounted) == {volume["name"] for volume in pod["volumes"]}
    assert set(mounted.values()) == {"/shared", "/dev/shm"}
    kinds = [set(volume) - {"name"} for volume in pod["volumes"]]
    assert kinds == [{"persistentVolumeClaim"}, {"emptyDir"}]


def test_the_job_fits_the_schema_of_its_operator(job: dict[str, Any]) -> None:
    made = built(job, "KubeflowOrgV1PyTorchJob")
    assert made.spec.elastic_policy.rdzv_backend == "c10d"
    assert made.spec.pytorch_replica_specs["Worker"].template.spec.volumes[1].empty_dir


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        pytest.param(("spec", "elasticPolicy", "maxRestart"), 3, "no maxRestart", id="unknown"),
        pytest.param(("spec", "elasticPolicy", "maxRestarts"), "3", "not int", id="a text"),
        pytest.param(("spec", "pytorchReplicaSpecs"), None, "not dict", id="nothing"),
        pytest.param(("spec",), {}, "must not be `None`", id="missing"),
        pytest.param((*POD, "containers", 0, "nam"), "x", "no nam", id="unknown in the pod"),
        pytest.param((*POD, "containers", 0), {}, "must not be `None`", id="missing in the pod"),
        pytest.param((*POD, "volumes", 0, "emptyDir"), [], "not dict", id="a list in the pod"),
    ],
)
def test_a_job_that_does_not_fit_would_be_noticed(
    job: dict[str, Any], path: tuple[str | int, ...], value: object, words: str
) -> None:
    inner: Any = job
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    with pytest.raises(MisfitError, match=words):
        built(job, "KubeflowOrgV1PyTorchJob")


def test_the_job_starts_a_training_that_all_can_share(job: dict[str, Any], data_yaml: Path) -> None:
    worker = job["spec"]["pytorchReplicaSpecs"]["Worker"]
    (container,) = worker["template"]["spec"]["containers"]
    assert container["command"] == ["torchrun"]
    options = get_args_parser().parse_args(container["args"])
    assert options.training_script == "train.py"
    words = [
        word.replace("/shared/data.yaml", str(data_yaml)) for word in options.training_script_args
    ]
    command = parse_train_command(words)
    processes = worker["replicas"] * job["spec"]["elasticPolicy"]["nProcPerNode"]
    assert command.settings.batch_size % processes == 0
    places = [word.partition("=")[2] for word in options.training_script_args if "=/" in word]
    assert all(place.startswith("/shared/") for place in [*places, container["workingDir"]])
