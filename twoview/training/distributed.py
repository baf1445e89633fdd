"""Training on several processes, GPUs or machines, by Lightning Fabric.

Each process runs the lifter on its share of a batch, and all get all answers. The losses are then those of the whole
batch in every process, whatever they average over, so that a run on eight GPUs minimizes exactly what a run on one
does. Under `torchrun` or Slurm the number of processes is read from them.
"""

from __future__ import annotations

import logging
import os
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor, distributed, nn

from twoview.config import FinetuneConfig
from twoview.errors import TrainingError
from twoview.machine import precision_of, torch_device

logging.getLogger("lightning.fabric").setLevel(logging.ERROR)  # the library is silent
logging.getLogger("lightning_fabric").setLevel(logging.ERROR)


_log = logging.getLogger(__name__)
_FABRIC = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}  # our precision -> Fabric's


def launch(config: FinetuneConfig, lifter: str) -> Fabric:
    """Start the processes that the settings ask for, to train a lifter of this name in the lifter table.

    Raises TrainingError for a device that is not there.
    """
    torch_device(config.device, TrainingError)
    devices, nodes = layout(config.devices, config.nodes)
    precision = cast(Any, _FABRIC[precision_of(config.precision, config.device, lifter)])
    try:
        # Left alone, Fabric would take Slurm's variables for processes that wait for each other.
        plugins: list[Any] = [LightningEnvironment()] if _alone_under_slurm() else []
        fabric = Fabric(
            accelerator=config.device, devices=devices, num_nodes=nodes, precision=precision, plugins=plugins
        )
        fabric.launch()
    except (RuntimeError, ValueError, TypeError) as error:
        raise TrainingError(
            f"cannot train on {devices} x {config.device} on each of {nodes} machines: {str(error).splitlines()[0]}",
            hint="set the numbers by --devices and --nodes, the kind by --device cpu or cuda",
        ) from error
    return fabric


def layout(devices: int, nodes: int) -> tuple[int, int]:
    """Processes per machine, and machines: as asked for; where nothing was, as torchrun or Slurm started them."""
    if (devices, nodes) != (1, 1):
        return devices, nodes
    if "TORCHELASTIC_RUN_ID" in os.environ:
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        return local, int(os.environ["WORLD_SIZE"]) // local
    tasks = int(os.environ.get("SLURM_NTASKS", "1"))
    if _alone_under_slurm():
        _log.warning(
            "Slurm gave %d tasks, and this process was not started by srun, so that the others would never come: "
            "training with this one alone. To use all: `srun twoview finetune ...` in the batch script",
            tasks,
        )
    elif tasks > 1 and "SLURM_PROCID" in os.environ:
        nodes = int(os.environ.get("SLURM_NNODES", "1"))
        return tasks // nodes, nodes
    return 1, 1


def _alone_under_slurm() -> bool:
    """Whether Slurm has several tasks for this job, of which this process is none: it was started without srun."""
    several = int(os.environ.get("SLURM_NTASKS", "1")) > 1
    return several and "SLURM_STEP_NUM_TASKS" not in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ


class Shared(nn.Module):
    """A lifter whose batch is divided among all processes; each process gets the whole answer, with its gradient.

    The loss of the whole batch is the same in every process, and Fabric averages the gradients over processes: the
    result is the gradient of that loss.
    """

    def __init__(self, lifter: nn.Module, fabric: Fabric) -> None:
        super().__init__()
        self.lifter, self.fabric = lifter, fabric

    def forward(self, x: Tensor) -> Tensor:
        """As the lifter's: (B, T, J, 3) -> (B, T, J, 3)."""
        world = self.fabric.world_size
        if world == 1:
            return cast(Tensor, self.lifter(x))
        share = -(-len(x) // world)
        padded = x[torch.arange(share * world, device=x.device) % len(x)]
        own = self.lifter(padded[self.fabric.global_rank * share :][:share])
        gathered: Tensor = _Gather.apply(own)  # type: ignore[no-untyped-call]
        return gathered.flatten(0, 1)[: len(x)]


class _Gather(torch.autograd.Function):
    """The answers of all processes (W, ...) in each; backward sums the gradients of all processes."""

    @staticmethod
    def forward(_: Any, own: Tensor) -> Tensor:
        parts = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, own.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous()
        distributed.all_reduce(total)
        return total[distributed.get_rank()]
