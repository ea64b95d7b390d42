"""A pretended device: tensors are computed on the CPU, and some are labelled as being on a GPU.

Under the mode, a tensor made with `device=GPU`, moved there, or computed from one that lies there, says that it lies there;
two tensors on different devices cannot meet, as in PyTorch: but for numbers of no dimension, and indices from the host.
`waits` counts the reads of a value, which wait for a real GPU.
"""

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

GPU, HOST = torch.device("cuda", 0), torch.device("cpu")
READS = {
    "tolist",
    "item",
    "__bool__",
    "__int__",
    "__float__",
    "__index__",
    "nonzero",
    "unique",
    "equal",
    "is_nonzero",
    "any_read",
}
HOST_ONLY = {"numpy", "__array__"}


class Generator(torch.Generator):
    """A generator that claims to be on the pretended GPU."""

    device = GPU


class Pretended(TorchFunctionMode):
    def __init__(self, *modules):
        super().__init__()
        self.where, self.waits = WeakTensorKeyDictionary(), 0
        for module in modules:
            for tensor in (*module.parameters(), *module.buffers()):
                self.where[tensor] = GPU

    def device_of(self, tensor):
        return self.where.get(tensor, HOST)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), getattr(function, "__name__", str(function))
        if function == torch.Tensor.device.__get__:
            return self.device_of(args[0])
        if function == torch.Tensor.is_cuda.__get__:
            return self.device_of(args[0]) == GPU
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        there = {self.device_of(t) for t in tensors if t.ndim or self.device_of(t) == GPU}
        if name in HOST_ONLY and GPU in there:
            raise TypeError("can't convert a GPU tensor to numpy: use Tensor.cpu()")
        if name in READS and GPU in there:
            self.waits += 1
        target, args = self._target(name, args, kwargs)
        if name in ("__getitem__", "__setitem__", "index_put", "index_put_") and self.device_of(args[0]) == GPU:
            there = {GPU}
        if len(there) > 1 and name not in ("to", "cpu", "copy_", "__get__", "type_as"):
            raise RuntimeError(
                f"{name}: expected all tensors to be on the same device, but found {[(tuple(t.shape), self.device_of(t)) for t in tensors]}"
            )
        given = kwargs.get("generator")
        if given is not None and given.device.type != (target or next(iter(there), HOST)).type:
            raise RuntimeError(f"{name}: expected a generator on {target or there}, got one on {given.device}")
        out = function(*args, **kwargs)
        out = out.clone() if name == "cpu" else out  # not the tensor itself, which would move with it
        label = target or (GPU if GPU in there else HOST)
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.where[tensor] = label
        return out

    def _target(self, name, args, kwargs):
        """The device that a call names, and its arguments without it."""
        if name == "cpu":
            return HOST, args
        named = kwargs.pop("device", None)
        if name == "to":
            found = [a for a in args[1:] if isinstance(a, (torch.device, str))]
            named = found[0] if found else named
            args = tuple(a for a in args if not isinstance(a, (torch.device, str)))
            others = [a for a in args[1:] if isinstance(a, torch.Tensor)]
            named = self.device_of(others[0]) if others else named
            if len(args) == 1 and not kwargs:
                kwargs["dtype"], kwargs["copy"] = args[0].dtype, True
        return (None if named is None else torch.device(named)), args
