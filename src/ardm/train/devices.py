"""The devices of a run: accelerate, set up so that nothing in the environment changes what the recipe says."""

from __future__ import annotations

import os

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, DistributedType
from accelerate.utils import GradientAccumulationPlugin

from ardm.errors import ArdmError, out_of_memory

FOREIGN = {
    "ACCELERATE_USE_FSDP": DistributedType.FSDP,
    "ACCELERATE_USE_DEEPSPEED": DistributedType.DEEPSPEED,
    "ACCELERATE_USE_MEGATRON_LM": DistributedType.MEGATRON_LM,
}
"""Environment variables that make accelerate wrap the network and store its parameters in its own way."""
PARALLEL = "ACCELERATE_USE_PARALLELISM_CONFIG"
DEVICE = "ACCELERATE_TORCH_DEVICE"


def accelerator(cpu: bool, unused: bool = False) -> Accelerator:
    """The devices of this process.

    Where to run (ACCELERATE_USE_CPU, the ranks of the launcher) comes from the environment, and nothing else.
    cpu: use the CPU even if there is a GPU.  unused: whether some parameters never get a gradient.
    Raises ArdmError where the launcher asks for another way to train (such as DeepSpeed), or the environment for a
    device that does not work here.
    """
    if DEVICE in os.environ:
        _refuse_device(os.environ[DEVICE])
    kinds = {**{name: kind.value for name, kind in FOREIGN.items()}, PARALLEL: "PARALLELISM_CONFIG"}
    for name, kind in kinds.items():
        if os.environ.get(name, "").lower() == "true":
            _refuse_launch(kind)
    try:
        made = Accelerator(
            cpu=cpu,
            mixed_precision="no",  # the trainer casts by itself
            dynamo_backend="no",
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),  # a plain number yields to a variable
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=unused)],
        )
    except ValueError as error:  # this process has chosen another precision or device before
        raise ArdmError(f"accelerate cannot be set up as the recipe needs it: {' '.join(str(error).split())}") from None
    if made.distributed_type in FOREIGN.values():
        _refuse_launch(made.distributed_type.value)
    return made


def _refuse_launch(kind: str) -> None:
    raise ArdmError(
        f"training was launched with accelerate's {kind}: launch it without, "
        "and set train.shard=true to split parameters over the processes"
    )


def _refuse_device(name: str) -> None:
    """Raise ArdmError for a device that cannot hold a number."""
    try:
        float(torch.zeros((), device=name))
    except (RuntimeError, AssertionError) as error:
        if out_of_memory(error):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise ArdmError(
            f"{DEVICE} is {name!r}, on which nothing can be trained here ({reason}): "
            "set it to another device, such as cpu, or leave it unset"
        ) from None
