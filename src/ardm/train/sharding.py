"""Sharding: parameters, gradients, moments and averages in shares, one a process (FSDP), and their full tensors again.

Between steps a process holds its share of every tensor, along one axis.  A block of a network is gathered just
before it is evaluated and let go after it; what lies outside of blocks stays gathered from forward to backward.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

CONTAINERS = (nn.ModuleList, nn.ModuleDict)
"""Modules that are never called, so that nothing would gather their parameters: their children are."""


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The modules with parameters that lists inside `module` hold: the layers of its network, one by one."""
    for child in module.children():
        if isinstance(child, CONTAINERS):
            yield from _members(child)
        else:
            yield from blocks(child)


def _members(container: nn.Module) -> Iterator[nn.Module]:
    for child in container.children():
        if isinstance(child, CONTAINERS):
            yield from _members(child)
        elif next(child.parameters(), None) is not None:
            yield child


def shard(module: nn.Module, device: torch.device, processes: int) -> None:
    """Share the parameters of `module` out over all processes, in place; all must hold the same and call this.

    An optimiser is made afterwards, of the new parameters.  Gradients come out as means over the processes.
    """
    module.to(device)
    mesh = init_device_mesh(device.type, (processes,))

    def along(parameter: nn.Parameter) -> Shard:
        return Shard(axis(tuple(parameter.shape), processes))

    for block in list(blocks(module)):
        fully_shard(block, mesh=mesh, shard_placement_fn=along)
    fully_shard(module, mesh=mesh, shard_placement_fn=along)


def axis(shape: tuple[int, ...], processes: int) -> int:
    """The axis to divide: the first, unless it is shorter than the processes are many and a longer one divides evenly."""
    if shape[0] >= processes:
        return 0
    even = [i for i, n in enumerate(shape) if n % processes == 0]
    return max(even, key=lambda i: shape[i], default=0)


def share(full: Tensor, like: Tensor) -> Tensor:
    """The share of a full tensor that this process has of `like`; without communication, and `full` itself of others."""
    if not isinstance(like, DTensor):
        return full
    return distribute_tensor(full.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def whole(tensor: Tensor) -> Tensor:
    """The full tensor, of which each process has a share: all must call this, in one order.  Others as they are."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gathered(tensors: Mapping[str, Tensor], keep: bool = True) -> dict[str, Tensor]:
    """Full tensors in memory, one after the other through the device; nothing where they are not to be kept.

    All processes must call this, in one order.
    """
    kept = {}
    for name, tensor in tensors.items():
        full = whole(tensor.detach())
        if keep:
            kept[name] = full.cpu().contiguous()
    return kept


def own(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: changing it changes the tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
