"""Two processes give the losses and the weights of one with the same batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from places import TESTS
from small_takes import PAPER, take

from twoview.config import FinetuneConfig
from twoview.progress import is_first
from twoview.training.distributed import launch, layout
from twoview.training.finetuning import finetune

NAMES = ("one", "two")

SCRIPT = """
import sys
from dataclasses import replace
sys.path[:0] = [{tests!r}, {root!r}]
from small_takes import PAPER, take
from twoview import finetune
finetune([take(), take("take2", seed=1)], replace(PAPER, weights={start!r}, epochs=2, batch=5), out={out!r})
"""


def test_two_processes_minimize_what_one_does(tmp_path, start):
    config = replace(PAPER, weights=str(start), epochs=2, batch=5)
    finetune([take(), take("take2", seed=1)], config, out=tmp_path / "one")
    script, tests = tmp_path / "script.py", TESTS
    script.write_text(
        SCRIPT.format(tests=str(tests), root=str(tests.parent), start=str(start), out=str(tmp_path / "two"))
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr
    rows = [[json.loads(line) for line in (tmp_path / n / "log.jsonl").read_text().splitlines()] for n in NAMES]
    assert [row["epoch"] for row in rows[1]] == [1, 2]
    for one, two in zip(*rows, strict=True):
        for name in set(one) - {"seconds"}:
            assert two[name] == pytest.approx(one[name], rel=1e-4), name
    one, two = (torch.load(tmp_path / n / "last.pt", weights_only=True)["lifter"] for n in NAMES)
    for key, value in one.items():
        np.testing.assert_allclose(two[key], value, atol=2e-5)


def test_one_process_in_a_batch_script_of_slurm_does_not_wait_for_others(monkeypatch, caplog):
    job = {"JOB_ID": "77", "NTASKS": "4", "PROCID": "0", "LOCALID": "0", "NODEID": "0", "NNODES": "1",
           "JOB_NAME": "train", "NODELIST": "localhost", "NTASKS_PER_NODE": "4"}  # fmt: skip
    for name, value in job.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    fabric = launch(FinetuneConfig(device="cpu"), "tcn")
    assert fabric.world_size == 1
    assert "srun twoview finetune" in caplog.text


def test_the_launcher_says_how_many(monkeypatch):
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    assert layout(1, 1) == (1, 1)
    assert layout(2, 3) == (2, 3)
    monkeypatch.setenv("SLURM_NTASKS", "8")
    monkeypatch.setenv("SLURM_NNODES", "2")
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    assert layout(1, 1) == (4, 2)
    assert not is_first()
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert layout(1, 1) == (2, 3)
