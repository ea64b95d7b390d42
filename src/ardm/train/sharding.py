"""Sharding: parameters, gradients, moments and averages split over the processes (FSDP), and gathered again.

Between steps a process holds its shard of every tensor, cut along one axis.  A block of the network is gathered just
before it is evaluated and freed afterwards; what lies outside of blocks stays gathered from forward to backward.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

CONTAINERS = (nn.ModuleList, nn.ModuleDict)
"""Modules that are never called, so that only calls of their children can gather parameters."""


def shard(module: nn.Module, device: torch.device, processes: int) -> None:
    """Split the parameters of a module over all processes, in place.

    Every process calls this with equal parameters, and makes its optimiser afterwards.  Gradients are means over the
    processes.
    """
    module.to(device)
    mesh = init_device_mesh(device.type, (processes,))

    def along(parameter: nn.Parameter) -> Shard:
        return Shard(axis(tuple(parameter.shape), processes))

    for block in list(blocks(module)):
        fully_shard(block, mesh=mesh, shard_placement_fn=along)
    fully_shard(module, mesh=mesh, shard_placement_fn=along)


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The modules with parameters inside the lists of `module`: the layers of its network, one by one."""
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


def axis(shape: tuple[int, ...], processes: int) -> int:
    """The axis to cut: the first, or if that is smaller than the number of processes, the longest that divides evenly."""
    if shape[0] >= processes:
        return 0
    even = [i for i, n in enumerate(shape) if n % processes == 0]
    return max(even, key=lambda i: shape[i], default=0)


def shard_of(full: Tensor, like: Tensor) -> Tensor:
    """Cut this process's shard from a full tensor, sharded like `like`; without communication.

    Returns `full` itself if `like` is not sharded.
    """
    if not isinstance(like, DTensor):
        return full
    return distribute_tensor(full.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def gather(tensor: Tensor) -> Tensor:
    """The full tensor of which each process holds a shard; all must call this, in the same order.

    A tensor that is not sharded is returned unchanged.
    """
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gather_all(tensors: Mapping[str, Tensor], keep: bool = True) -> dict[str, Tensor]:
    """Full tensors in memory, gathered one after the other on the device; without `keep`, nothing.

    All processes must call this, in the same order.
    """
    kept = {}
    for name, tensor in tensors.items():
        full = gather(tensor.detach())
        if keep:
            kept[name] = full.cpu().contiguous()
    return kept


def local(tensor: Tensor) -> Tensor:
    """The shard of a tensor that this process holds; writing to it changes the tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
