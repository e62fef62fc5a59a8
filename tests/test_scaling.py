"""Starting on a cluster: the files can be read and their commands exist; the page's tables are the script's."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from torch.distributed.run import get_args_parser

from reparam.cli.app import app

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "examples" / "cluster"


@pytest.fixture(scope="module")
def scaling():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        return importlib.import_module("scaling")
    finally:
        sys.path.pop(0)


def is_shell(text):
    return subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False).stderr == ""


def torchrun(script):
    """What torchrun is given in a script, as its own parser reads it."""
    words = shlex.split(script.replace("\\\n", " "), comments=True)
    given = re.sub(r"^\$\w+$", "2", "\n".join(words[words.index("torchrun") + 1:]), flags=re.MULTILINE).split("\n")
    read = get_args_parser().parse_args(given)
    assert read.module and read.training_script == "reparam" and read.rdzv_backend == "c10d"
    app.parse_args(read.training_script_args, exit_on_error=False, print_error=False)
    return read


def test_the_batch_script_is_shell_and_starts_what_exists():
    script = (CLUSTER / "slurm.sbatch").read_text(encoding="utf-8")
    assert is_shell(script) and not is_shell(script + "if")
    assert torchrun(script).max_restarts == 3
    assert "#SBATCH --ntasks-per-node=1" in script  # one torchrun on each machine


def test_the_job_s_pods_find_one_another():
    service, job = yaml.safe_load_all((CLUSTER / "kubernetes.yaml").read_text(encoding="utf-8"))
    name, spec = job["metadata"]["name"], job["spec"]
    pod, (container,) = spec["template"]["spec"], spec["template"]["spec"]["containers"]
    assert service["spec"]["clusterIP"] == "None" and service["spec"]["selector"] == {"job-name": name}
    assert pod["subdomain"] == service["metadata"]["name"] and spec["completionMode"] == "Indexed"
    assert container["command"] == ["bash", "-c"] and is_shell(container["args"][0])
    read = torchrun(container["args"][0])
    assert read.rdzv_endpoint == f"{name}-0.{pod['subdomain']}:{container['ports'][0]['containerPort']}"
    assert int(read.nnodes) == spec["completions"] == spec["parallelism"]
    assert int(read.nproc_per_node) == container["resources"]["limits"]["nvidia.com/gpu"]
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}


def test_the_page_has_the_tables_of_the_script(scaling):
    page, found = scaling.PAGE.read_text(encoding="utf-8"), json.loads(scaling.RESULTS.read_text(encoding="utf-8"))
    assert scaling.filled(page, found) == page
    assert all(text in page for text in scaling.tables(found).values())


def test_the_model_of_a_step(scaling):
    """One process waits for nobody, two exchange gradients once, and a long backward pass hides all but the last bucket."""
    net = scaling.Network("wire", 1e9, 1e-3)
    assert scaling.step_of(0.1, 1e8, 1, net, backward=0.5, bucket=1e7, jitter=0.1) == 0.1
    assert scaling.all_reduce(1e9, 2, net) == pytest.approx(1.001)
    assert scaling.all_reduce(1e9, 1000, net) == pytest.approx(1.001 + 0.998)
    assert scaling.exposed(1e8, 2, net, 10.0, 1e7) == pytest.approx(0.011)
    assert scaling.exposed(1e8, 2, net, 0.0, 1e7) == pytest.approx(0.11)
    assert scaling.exposed(5e6, 2, net, 10.0, 1e7) == pytest.approx(0.006)
    steps = [scaling.step_of(0.1, 1e8, n, net, backward=0.5, bucket=1e7, jitter=0.1) for n in (2, 8, 64, 1024)]
    assert steps == sorted(steps) and steps[0] > 0.111
    fast, slow = scaling.network("infiniband", 64), scaling.network("ethernet", 64)
    assert slow.latency > fast.latency > scaling.network("infiniband", 8).latency and fast.bandwidth > slow.bandwidth
