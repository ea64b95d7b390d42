"""The devices of a run: accelerate, set up so that nothing in the environment changes what the recipe says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

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


def accelerator(device: str = "auto", unused: bool = False) -> Accelerator:
    """The devices of this process.

    Where to run (ACCELERATE_USE_CPU, the ranks of the launcher) comes from the environment, and nothing else.
    device: "auto" is what accelerate finds, "cpu" the CPU even if there is a GPU; another name is taken literally.
    unused: whether some parameters never get a gradient.
    Raises ArdmError where the launcher asks for another way to train (such as DeepSpeed), or the environment for a
    device that does not work here; for a device that does not, and for one that differs from what this process has used.
    """
    if DEVICE in os.environ:
        _refuse_device(os.environ[DEVICE], DEVICE)
    if device not in ("auto", "cpu"):
        _refuse_device(device, "the device")
    kinds = {**{name: kind.value for name, kind in FOREIGN.items()}, PARALLEL: "PARALLELISM_CONFIG"}
    for name, kind in kinds.items():
        if os.environ.get(name, "").lower() == "true":
            _refuse_launch(kind)
    try:
        with _asking_for(device):
            made = Accelerator(
                cpu=device == "cpu",
                mixed_precision="no",  # the trainer casts by itself
                dynamo_backend="no",
                gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),  # a number yields to a variable
                kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=unused)],
            )
    except ValueError as error:  # this process has chosen another precision or device before
        raise ArdmError(f"accelerate cannot be set up as the recipe needs it: {' '.join(str(error).split())}") from None
    if device not in ("auto", "cpu") and made.device.type != torch.device(device).type:
        raise ArdmError(f"this process trains on {made.device} already; train on {device} in a process of its own")
    if made.distributed_type in FOREIGN.values():
        _refuse_launch(made.distributed_type.value)
    return made


@contextmanager
def _asking_for(device: str) -> Iterator[None]:
    """Name a device to accelerate, which takes one from the environment only."""
    before = os.environ.get(DEVICE)
    try:
        if device not in ("auto", "cpu"):
            os.environ[DEVICE] = device
        yield
    finally:
        if before is None:
            os.environ.pop(DEVICE, None)
        else:
            os.environ[DEVICE] = before


def _refuse_launch(kind: str) -> None:
    raise ArdmError(
        f"training was launched with accelerate's {kind}: launch it without, "
        "and set train.shard=true to split parameters over the processes"
    )


def _refuse_device(name: str, what: str) -> None:
    """Raise ArdmError for a device that cannot hold a number."""
    try:
        float(torch.zeros((), device=name))
    except (RuntimeError, AssertionError) as error:
        if out_of_memory(error):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise ArdmError(
            f"{what} is {name!r}, on which nothing can be trained here ({reason}): "
            "name another device, such as cpu, or none"
        ) from None
