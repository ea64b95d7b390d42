"""Any-order generative models of discrete data, and lossless codecs built on them.

model = ardm.load("cifar10-any-order")       # a bundled model, or a folder of your own
x = ardm.sample(model, items=16, calls=50)   # in any order, with any budget of network calls
ardm.fill(model, x, known)                   # keep what is known, draw the rest
ardm.score(model, x)                         # a bound with its standard error, or exact along a plan
data = ardm.compress(x[0])                   # bytes; ardm.decompress(data) gives every value back
mine = ardm.fit(x, minutes=5)                # a model of your own
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ardm.adaptive import Adaptive, EntropyBudget, FixedNumber, Threshold
    from ardm.api import fill, make_plan, sample, score
    from ardm.bundle import Bundle, load
    from ardm.digits import Digits, Maps, Partial
    from ardm.errors import ArdmError, CodecError
    from ardm.files.items import Codec
    from ardm.files.memory import compress, decompress
    from ardm.files.reading import open_archive
    from ardm.losscurve import LossCurve
    from ardm.model import Model
    from ardm.models.build import build
    from ardm.models.causal import CausalModel
    from ardm.models.config import ModelConfig, preset
    from ardm.models.huggingface import huggingface
    from ardm.models.wrap import wrap
    from ardm.plan import Plan
    from ardm.samplers.guidance import guided
    from ardm.samplers.redraw import refine
    from ardm.samplers.remasking import sample_remasked
    from ardm.samplers.speculative import sample_speculative
    from ardm.schedule import Schedule
    from ardm.train.fit import fit
    from ardm.train.recipe import Recipe, load_recipe

__version__ = version("ardm")

_MODULES = {
    # use a model
    "bundle": "load Bundle",
    "api": "sample fill score make_plan",
    "samplers.guidance": "guided",
    "samplers.redraw": "refine",
    "samplers.remasking": "sample_remasked",
    "samplers.speculative": "sample_speculative",
    "files.memory": "compress decompress",
    "files.items": "Codec",
    "files.reading": "open_archive",
    # the method
    "digits": "Digits Maps Partial",
    "plan": "Plan",
    "adaptive": "Adaptive EntropyBudget FixedNumber Threshold",
    "schedule": "Schedule",
    "losscurve": "LossCurve",
    "model": "Model",
    # make a model
    "models.build": "build",
    "models.config": "ModelConfig preset",
    "models.wrap": "wrap",
    "models.huggingface": "huggingface",
    "models.causal": "CausalModel",
    "train.fit": "fit",
    "train.recipe": "Recipe load_recipe",
    # errors
    "errors": "ArdmError CodecError",
}
"""The modules that public names come from."""
_MODULE = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = [
    "Adaptive",
    "ArdmError",
    "Bundle",
    "CausalModel",
    "Codec",
    "CodecError",
    "Digits",
    "EntropyBudget",
    "FixedNumber",
    "LossCurve",
    "Maps",
    "Model",
    "ModelConfig",
    "Partial",
    "Plan",
    "Recipe",
    "Schedule",
    "Threshold",
    "build",
    "compress",
    "decompress",
    "fill",
    "fit",
    "guided",
    "huggingface",
    "load",
    "load_recipe",
    "make_plan",
    "open_archive",
    "preset",
    "refine",
    "sample",
    "sample_remasked",
    "sample_speculative",
    "score",
    "wrap",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that commands that need no model do not import PyTorch."""
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"ardm.{_MODULE[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
