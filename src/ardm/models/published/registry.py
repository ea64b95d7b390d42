"""Which architecture a folder holds, and its weights read from safetensors.  No code of others is run, no pickle is read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ardm.errors import ArdmError, cause, out_of_memory
from ardm.exact.stores import Claims, claims
from ardm.inputs import number
from ardm.model import Model
from ardm.models.build import Unfilled
from ardm.models.published import dream, evodiff, llada, mdlm, nanodd
from ardm.models.published.settings import is_tied, tie
from ardm.models.tokens import refuse_longer
from ardm.models.weights import refuse_shapes
from ardm.precision import pytorch_defaults

MAX_JSON = 1 << 24
"""The largest size in bytes of a JSON file."""
INDEX = "model.safetensors.index.json"
"""The file that says which of several weight files holds a tensor."""
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".tar", ".pkl")
"""Endings of pickles, which can run code when they are read."""
PICKLED = {
    "rupspace/nanoDD-D3PM-text8": "ckpt.pt",
    "rupspace/nanoDD-D3PM-openwebtext": "ckpt.pt",
}
"""Repositories of the hub that hold a pickle only."""
CONVERT = "convert it to safetensors (docs/checkpoints.md, 'Weights that are pickles')"
Make = Callable[[Mapping[str, Any], Mapping[str, Any], int, int], tuple[Model, dict[str, Any]]]


@dataclass(frozen=True)
class Architecture:
    """A kind of published checkpoint.

    types: `model_type` in its config.json.  keys: settings by which one without a `model_type` is recognised.
    make: (config.json, tokenizer_config.json, length or 0, number of tensors) → the model without weights, and what its card
    says.  names: published names of tensors as regular expressions, and ours, replaced in this order.
    """

    types: tuple[str, ...]
    keys: tuple[str, ...]
    make: Make
    names: tuple[tuple[str, str], ...]

    def renamed(self, name: str) -> str:
        """Our name of a tensor."""
        for theirs, ours in self.names:
            name = re.sub(theirs, ours, name)
        return name


ARCHITECTURES = {
    "MDLM": Architecture(("mdlm",), ("hidden_dim", "cond_dim", "time_conditioning"), mdlm.make, mdlm.NAMES),
    "LLaDA": Architecture(("llada",), ("d_model", "mlp_hidden_size", "mask_token_id"), llada.make, llada.NAMES),
    "Dream": Architecture(("Dream", "dream"), ("hidden_size", "mask_token_id", "use_mrope"), dream.make, dream.NAMES),
    "EvoDiff": Architecture(("evodiff",), ("d_embed", "d_model", "kernel_size", "r"), evodiff.make, evodiff.NAMES),
    "nanoDD": Architecture(("nanodd",), ("n_embed", "n_cond", "T"), nanodd.make, nanodd.NAMES),
}
"""All architectures by name.  To add one: a file with `make` and `NAMES` in this folder, and a row here."""
UNUSED = re.compile(r"(^|\.)(inv_freq|betas|alpha_bars)$")
"""Tensors that are functions of the settings."""


def refuse_pickled(name: str) -> None:
    """Raise ArdmError for a name on the hub that is known to hold no safetensors."""
    if name in PICKLED:
        raise ArdmError(f"{name} publishes its weights as a pickle only ({PICKLED[name]}): download and {CONVERT}")


def recognised(folder: Path) -> str | None:
    """The name of the architecture of a folder; None: it is a model of ardm, or nothing is known of it.

    Raises ArdmError for a config.json of another project, and for weights that are pickles only.
    """
    path = folder / "config.json"
    values = _json(path) if path.is_file() else {}
    if "ardm" in values:
        return None
    kind = values.get("model_type")
    for name, known in ARCHITECTURES.items():
        if kind in known.types or (kind is None and all(key in values for key in known.keys)):
            return name
    pickles = pickles_in(folder)
    if pickles and not [*folder.glob("*.safetensors"), *folder.glob("*/*.safetensors")]:
        raise ArdmError(
            f"{folder} holds its weights as a pickle ({pickles[0]}), which can run code when read: {CONVERT}"
        )
    if kind is not None:
        raise ArdmError(
            f"{folder} holds a model of type {kind!r}; ardm.load reads its own models and those of {', '.join(ARCHITECTURES)}. "
            "For a masked language model of transformers use ardm.huggingface"
        )
    return None


def load(folder: Path, name: str, length: int | None = None) -> tuple[Model, dict[str, Any]]:
    """Load a published checkpoint of a known architecture; returns the model and what its card says.

    length: of an item; None: the longest that the model was trained on.  Weights keep the dtype of the files.
    Raises ArdmError where a file is missing, damaged or of another architecture.
    """
    known, files = ARCHITECTURES[name], weight_files(folder)
    values, extra = _json(folder / "config.json"), folder / "tokenizer_config.json"
    asked = 0 if length is None else number(length, "length")
    held = {
        tensor: (path, shape) for path in files for tensor, shape in claims(path).items() if not UNUSED.search(tensor)
    }
    model, card = _sketched(known, values, _json(extra) if extra.is_file() else {}, asked, len(held))
    body: Any = model.body
    refuse_longer(number(model.shape[0], "config.json: the length") + len(body.before), body.longest)
    names = {known.renamed(key): key for key in held}
    own: Claims = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    if is_tied(model):
        del own["head.out.weight"]
    found = {ours: _trimmed(held[theirs][1]) for ours, theirs in names.items()}
    found.update({theirs: () for theirs in held if names[known.renamed(theirs)] != theirs})  # a second one of that name
    refuse_shapes({key: _trimmed(shape) for key, shape in own.items()}, found, str(folder))
    _fill(model, {known.renamed(k): v.reshape(own[known.renamed(k)]) for k, v in _tensors(files) if k in held})
    return model.eval().requires_grad_(False), {"architecture": name, **card}


def _sketched(
    known: Architecture, values: Mapping[str, Any], tokens: Mapping[str, Any], length: int, tensors: int
) -> tuple[Model, dict[str, Any]]:
    """What `known.make` makes, with next to no memory for weights.  Raises ArdmError for sizes that cannot be built."""
    try:
        with pytorch_defaults(), torch.device("cpu"), torch.random.fork_rng(devices=[]), Unfilled():
            return known.make(values, tokens, length, tensors)
    except ArdmError:
        raise
    except (RuntimeError, TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
        raise ArdmError(f"a model of these sizes cannot be built: {str(error).splitlines()[0]}") from None


def _fill(model: Model, weights: dict[str, Tensor]) -> None:
    """Give a model without weights these, without a copy."""
    tied = is_tied(model)
    wrong = [key for key, value in weights.items() if not value.is_floating_point()]
    if wrong:
        raise ArdmError(
            f"the weights are quantised ({wrong[0]} is of {weights[wrong[0]].dtype}): use the original ones"
        )
    model.load_state_dict(weights, strict=False, assign=True)
    if tied:
        tie(model)


def _trimmed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without last axes of size 1: a convolution of one place is a linear layer."""
    return _trimmed(shape[:-1]) if shape and shape[-1] == 1 else shape


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder.  Raises ArdmError where one is missing, or there are pickles only."""
    single, index = folder / "model.safetensors", folder / INDEX
    if single.is_file():
        return [single]
    listed = _json(index).get("weight_map") if index.is_file() else None
    names = sorted({str(name) for name in listed.values()}) if isinstance(listed, dict) else []
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise ArdmError(f"{folder} is not complete: it has no {name}, which {INDEX} names; fetch it again")
    if not names:
        pickles = pickles_in(folder)
        found = f", but a pickle ({pickles[0]}): {CONVERT}" if pickles else f": if its weights are a pickle, {CONVERT}"
        raise ArdmError(f"{folder} holds no weights as safetensors{found}")
    return [folder / name for name in names]


def pickles_in(folder: Path) -> list[str]:
    """The names of the files of a folder that are pickles by their endings."""
    return sorted(p.name for p in folder.iterdir() if p.suffix in PICKLES)


def _tensors(files: list[Path]) -> list[tuple[str, Tensor]]:
    try:
        return [entry for path in files for entry in load_file(path, device="cpu").items()]
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        if out_of_memory(error):
            raise MemoryError from error
        raise ArdmError(f"{files[0].parent} is not a readable model: {cause(error)}") from None


def _json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.  Raises ArdmError where it holds none, or is too large."""
    if path.stat().st_size > MAX_JSON:
        raise ArdmError(f"{path} has more than {MAX_JSON} bytes")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArdmError(f"{path.parent} is not a readable model: {path.name}: {cause(error)}") from None
    if not isinstance(values, dict):
        raise ArdmError(f"{path.parent} is not a readable model: {path.name} holds no settings")
    return values
