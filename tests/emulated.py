"""An emulated accelerator: tensors are computed on the CPU, and some are labelled as lying on a device that is not there.

Inside the mode, a tensor made with `device=`, moved there, or computed from one that lies there, says that it lies there.
As on real devices,

- two tensors on different devices do not meet, in operations or as indices, but for host tensors of no dimension;
- a generator draws on its own device only;
- NumPy reads host tensors only;
- mps holds no float64.

`waits` counts where the host waits for the device: a value read, a shape that depends on values (nonzero, masks, unique),
and a copy between host and device that is not declared non_blocking.  CUDA waits at all of these, also at
`torch.tensor(…, device="cuda")`.
"""

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

GPU, MPS, HOST = torch.device("cuda", 0), torch.device("mps", 0), torch.device("cpu")
READS = {"tolist", "item", "__bool__", "__int__", "__float__", "__index__", "__contains__", "__format__", "__repr__"}
BY_VALUE = {
    "aten::nonzero", "aten::_local_scalar_dense", "aten::masked_select", "aten::equal", "aten::is_nonzero",
    "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive", "aten::repeat_interleave", "aten::bincount",
}  # fmt: skip
"""Operations whose result, or its shape, the host must see."""
FROM_HOST = {"tensor", "as_tensor", "new_tensor"}
MOVES = {"to", "cpu", "copy_", "type_as", "__set__", "_has_compatible_shallow_copy_type"}
INDEXING = {"__getitem__", "__setitem__", "index_put", "index_put_"}


def generator_on(device):
    """A generator that claims to lie on an emulated device."""
    return type("Generator", (torch.Generator,), {"device": torch.device(device)})()


class ByValue(TorchDispatchMode):
    """Counts operations of `BY_VALUE`, and indexing by masks, wherever PyTorch runs them."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name().split(".")[0]
        masks = name in ("aten::index", "aten::index_put", "aten::index_put_") and any(
            i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]
        )
        self.count += name in BY_VALUE or masks
        return function(*args, **(kwargs or {}))


class Emulated(TorchFunctionMode):
    """The emulation, for the modules that lie on `device` to begin with."""

    def __init__(self, *modules, device=GPU):
        super().__init__()
        self.device, self.where, self.waits, self._nested = device, WeakTensorKeyDictionary(), 0, 0
        for module in modules:
            for tensor in (*module.parameters(), *module.buffers()):
                self.where[tensor] = device

    def put(self, *tensors):
        """Label tensors as lying on the device."""
        for tensor in tensors:
            self.where[tensor] = self.device

    def device_of(self, tensor):
        return self.where.get(tensor, HOST)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), getattr(function, "__name__", str(function))
        if name == "_parse_to":  # only reads the arguments of Module.to
            return function(*args, **kwargs)
        if function == torch.Tensor.device.__get__:
            return self.device_of(args[0])
        if function == torch.Tensor.is_cuda.__get__:
            return self.device_of(args[0]).type == "cuda"
        given = args[:1] if name == "__deepcopy__" else (args, kwargs)  # not its memory of other tensors
        tensors = [t for t in tree_leaves(given) if isinstance(t, torch.Tensor)]
        there = {self.device_of(t) for t in tensors if t.ndim or self.device_of(t) != HOST}
        if name in ("numpy", "__array__") and there - {HOST}:
            raise TypeError(f"can't convert a tensor on {self.device} to numpy: use Tensor.cpu()")
        target, args = self._target(name, args, kwargs)
        if len(there) > 1 and name not in MOVES:
            found = [(tuple(t.shape), self.device_of(t)) for t in tensors]
            raise RuntimeError(f"{name}: expected all tensors to be on the same device, but found {found}")
        label = target or (self.device if there - {HOST} else HOST)
        given = kwargs.get("generator")
        if given is not None and given.device.type != label.type:
            raise RuntimeError(f"{name}: expected a generator on {label}, got one on {given.device}")
        self._count_copies(name, args, kwargs, there, label)
        with ByValue() as seen:
            out = function(*args, **kwargs)
        self.waits += seen.count if there - {HOST} and name not in READS else 0
        out = (
            out.clone()
            if isinstance(out, torch.Tensor) and any(out is t for t in tensors) and label not in there
            else out
        )
        if name == "__set__":  # parameter.data = …
            self.where[args[0]] = self.device_of(args[1]) if isinstance(args[1], torch.Tensor) else HOST
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                if label.type == "mps" and tensor.dtype in (torch.float64, torch.complex128):
                    raise TypeError(f"{name}: the MPS framework doesn't support float64")
                self.where[tensor] = label
        return out

    def _count_copies(self, name, args, kwargs, there, label):
        """Count values read by the host, and copies that wait."""
        crossing = there and label not in there and name in {"to", "cpu", "copy_", "type_as"}
        filled = name in FROM_HOST and label != HOST and not isinstance(args[0], torch.Tensor)
        listed = name in INDEXING and label != HOST and any(isinstance(i, (list, tuple)) for i in _indices(args[1]))
        read = name in READS and bool(there - {HOST})
        self.waits += read or filled or listed or (bool(crossing) and not kwargs.get("non_blocking"))

    def _target(self, name, args, kwargs):
        """The device that a call names, and its arguments without it."""
        if name == "cpu":
            return HOST, args
        named = kwargs.pop("device", None)
        if name == "to":
            named = self._parsed(args[1:], kwargs) or named
            args = args[:1]
            if kwargs.get("dtype") is None:
                kwargs.update(dtype=args[0].dtype, copy=True)  # not the tensor itself, which would move with it
        if name == "copy_":
            return self.device_of(args[0]), args
        if name == "as_tensor" and named is None and isinstance(args[0], torch.Tensor):
            named = self.device_of(args[0])
        found = None if named is None else torch.device(named)
        return (self.device if found is not None and found.type == self.device.type else found), args

    def _parsed(self, given, kwargs):
        """The device among the positional arguments of Tensor.to; the others become keywords."""
        named, flags = None, ["non_blocking", "copy"]
        for a in given:
            if isinstance(a, (torch.device, str)):
                named = a
            elif isinstance(a, torch.dtype):
                kwargs["dtype"] = a
            elif isinstance(a, torch.Tensor):
                named, kwargs["dtype"] = self.device_of(a), a.dtype
            elif a is not None:
                kwargs[flags.pop(0)] = a
        return named


def _indices(index):
    return index if isinstance(index, tuple) else (index,)
