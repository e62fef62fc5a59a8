"""Two processes under torchrun's agent train a run, of which one is killed, and then one that is left alone.

    python tests/killed_process.py FOLDER

The agent forks its processes, so that all is imported once.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from reparam.data.open import open_images
from reparam.parts.presets import find
from reparam.runs import finish
from reparam.runs import train as runs
from reparam.runs.journal import Journal
from reparam.trainer.assembly import Assembly
from reparam.trainer.loop import _Loop

RECIPE = {"preset": "mlp", "encoder": "mlp(hidden=(16,))", "decoder": "mlp(hidden=(16,))", "steps": 24, "batch_size": 16}


def work(folder):
    runs.SAVE_EVERY = 0.0
    Journal.note = Journal.close = finish.finish = lambda *_, **__: None
    step = _Loop.step

    def stepping(loop, *batch):
        run = folder / "killed"
        with (folder / f"steps{os.environ['RANK']}").open("a") as file:
            file.write(f"{loop.state.step}\n")
        if os.environ["RANK"] == "1" and loop.state.step >= 8 and (run / "state" / "training.safetensors").exists() \
                and not (folder / "dead").exists():
            (folder / "dead").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        step(loop, *batch)

    _Loop.step = stepping
    runs.train("digits", out=folder / "killed", **RECIPE)
    runs.train("digits", out=folder / "whole", **RECIPE)


def main(folder):
    torch.set_num_threads(1)
    Assembly(find("mlp").recipe, (1, 8, 8)).check()  # loads what optimizers load when they are made
    open_images("digits")
    config = LaunchConfig(1, 1, 2, run_id="job", rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=1,
                          start_method="fork", monitor_interval=0.1)
    elastic_launch(config, work)(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
