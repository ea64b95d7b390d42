"""A trained model, and its folder: config.json, model.safetensors, curve.safetensors.  No pickle is ever read.

The identity of a model is the first 8 bytes of the SHA-256 of its configuration and weights.  A compressed file holds it,
so that no other model decodes the file.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from torch import Tensor

from ardm.atomic import replacing, scratch_folder
from ardm.errors import ArdmError, cause, out_of_memory
from ardm.exact.device import pick
from ardm.exact.model import NAME, CodecModel
from ardm.exact.model import load as load_codec
from ardm.losscurve import LossCurve
from ardm.model import Model
from ardm.models import hub
from ardm.models.build import build, readable
from ardm.models.config import ModelConfig
from ardm.models.context import Condition
from ardm.models.published import registry
from ardm.models.weights import fit_weights, refuse_foreign, refuse_size
from ardm.orders import OrderConfig
from ardm.precision import has_bf16, pytorch_defaults
from ardm.schema import Schema
from ardm.settings import from_values
from ardm.symbols import BYTES, LETTERS, TOKENIZER, Letters, Symbols, of_values

FORMAT = 1
CURVE, ORDER = "curve.safetensors", "order.safetensors"
OWN = ("model.safetensors", CURVE, ORDER, TOKENIZER, "config.json")
"""The files of a model folder."""
MAX_SETTINGS, MAX_CURVE, MAX_TOKENIZER = 1 << 24, 1 << 28, 1 << 28
"""The largest sizes in bytes of config.json, of the loss curve, and of a tokenizer."""
NEEDS = "needs_label"
"""The key in config.json for whether a class-conditional model needs a label.  Without it the recipe decides."""
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
"""The dtypes that weights may have."""
LITTLE = 0.002
"""Bits per dimension that bfloat16 may cost where it is chosen automatically."""


@dataclass(frozen=True)
class Bundle:
    """A model with its configuration, order, loss curve and card.

    config: rebuilds the network.  order: the plan that it is specialised on, or "random" for an any-order model.
    curve: the losses L_t of an any-order model.  card: recipe, data, licence, figures.
    codec: its codec model, if `ardm.fit` or `ardm export` made one of these weights; `save` writes it beside the weights,
    and `ardm.compress` takes it.  tokenizer: the text of tokenizer.json, for a model of text by tokens.
    ranks: (*shape), the order that a model of any order codes along, the first site 0 (`ardm plan --orders`); None: the
    usual one.
    """

    model: Model
    config: ModelConfig
    order: OrderConfig = field(default_factory=OrderConfig)
    curve: LossCurve | None = None
    card: Mapping[str, Any] = field(default_factory=dict)
    codec: CodecModel | None = None
    tokenizer: str = ""
    ranks: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        """Require labels of a class-conditional model whose recipe shows that it never trained without them."""
        condition, recipe = self._condition, self.card.get("recipe")
        if condition is not None and isinstance(recipe, dict):
            labelled = bool(recipe.get("data", {}).get("labels"))
            condition.required = labelled and not recipe.get("train", {}).get("label_dropout", 0.0)
        self._refuse_curve()
        self._refuse_ranks()

    def __repr__(self) -> str:
        config, weights = self.config, sum(p.numel() for p in self.model.parameters())
        one = config.causal in ("single", "wave")
        order = f"order {self.order.order}" if self.order.fixed else "one order" if one else "any order"
        has = [name for name in ("curve", "codec", "ranks") if getattr(self, name) is not None]
        with_ = f", with {', '.join(has)}" if has else ""
        return f"Bundle({self.name!r}: {weights:,} weights, {tuple(self.model.shape)} of {config.classes} values, {order}{with_})"

    @property
    def _condition(self) -> Condition | None:
        """The label layer of a class-conditional model."""
        found = getattr(getattr(self.model, "body", None), "condition", None)
        return found if self.config.labels and isinstance(found, Condition) else None

    @cached_property
    def identity(self) -> str:
        """16 hex digits that change with any weight, and with any setting that is not the default."""
        digest = hashlib.sha256(_canonical({"model": _chosen(self.config), "order": _chosen(self.order)}))
        for name, value in sorted(self.model.state_dict().items()):
            array = value.detach().to("cpu", torch.float32).contiguous().numpy()
            digest.update(f"{name}:{array.shape}".encode() + array.astype("<f4").tobytes())
        if self.ranks is not None:
            digest.update(b"ranks" + self.ranks.astype("<i4").tobytes())
        return digest.hexdigest()[:16]

    @property
    def name(self) -> str:
        """The name on the card."""
        return str(self.card.get("name", "unnamed"))

    @cached_property
    def symbols(self) -> Symbols | None:
        """What the values of a text model stand for; None for other models, and where nothing is known of them."""
        named, source = self.card.get("symbols"), self._data
        if isinstance(named, dict):
            return of_values(named, self.tokenizer)
        if self.content != "text" or self._is_array:
            return None
        letters = LETTERS if source.get("alphabet") == "27" or source.get("name") == "text8" else BYTES
        return Letters(self.config.end, letters) if self.config.classes == len(letters) + self.config.end else None

    @property
    def alphabet(self) -> bytes:
        """The letters of a text model, as codec models hold them; empty where values are bytes, or others."""
        own = self.symbols
        return own.alphabet if isinstance(own, Letters) and own.alphabet != BYTES else b""

    def encode(self, texts: str | Sequence[str]) -> Tensor:
        """Texts as items (B, D) int64, each with its end behind it if the model knows one.

        Raises ArdmError where the model is of no text, and for a text that is too long, or too short without an end.
        """
        own, length = self._text, int(self.model.shape[0])
        rows = [own.item(text, length) for text in ([texts] if isinstance(texts, str) else texts)]
        return torch.tensor(rows, dtype=torch.long, device="cpu").view(-1, length)

    def decode(self, x: Tensor) -> list[str]:
        """The texts of items (B, D) or of one item, each up to its end."""
        return [self._text.text(row) for row in (x[None] if x.ndim == 1 else x).tolist()]

    @property
    def _text(self) -> Symbols:
        if self.symbols is None:
            raise ArdmError(f"{self.name} does not say what text its values stand for")
        return self.symbols

    @property
    def schema(self) -> Schema | None:
        """The names of columns and values of a model trained on a CSV; else None."""
        named = self.card.get("schema")
        return Schema.from_values(named) if isinstance(named, dict) else None

    @property
    def content(self) -> str:
        """The kind of its items: "image", "text", "audio" or "table"."""
        if len(self.config.shape) == 3:
            return "image"
        if self.config.columns or self.config.trunk == "mlp":
            return "table"
        return "audio" if self.config.trunk in ("wavenet", "lattice") else "text"

    @property
    def written(self) -> str:
        """The kind of file for samples: `content`, or "array" if it was trained on arrays that are not images."""
        return "array" if self._is_array and self.content in ("text", "audio") else self.content

    @property
    def _is_array(self) -> bool:
        """Whether it was trained on plain integers, of which nothing else is known."""
        source = self._data
        known = self.card.get("rate") or source.get("alphabet") or self.card.get("symbols")
        return (source.get("name") in ("array", "memory") or "architecture" in self.card) and not known

    @property
    def longest(self) -> int:
        """The largest number of network calls for an item: one per digit."""
        return len(self.model.digits) * self.config.sites

    @property
    def _data(self) -> Mapping[str, Any]:
        recipe = self.card.get("recipe")
        return recipe.get("data", {}) if isinstance(recipe, dict) else {}

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Bundle:
        """The same model on another device, in another dtype, or both; this bundle stays as it is.

        device: "auto" is CUDA if there is one, otherwise the CPU.  dtype: of the weights; in bfloat16 and float16, first and
        last layers, likelihoods and draws still compute in float32 or better (`precision`).  Other weights are another model:
        `identity` changes with them.
        Raises ArdmError for a device that is not there or holds no values, and for a dtype that weights do not have.
        """
        return self._placed(copy.deepcopy(self.model), device, dtype)

    def with_precision(self, precision: str = "auto") -> Bundle:
        """The same model and weights, computing in another precision; this bundle stays as it is.

        precision: "float32", the dtype of the weights; "bf16": the network multiplies in bfloat16 and adds in float32, with
        its ends, the distributions and all sums of nats in float32 or wider; "auto": bf16 where it costs fewer than
        `LITTLE` bits per dimension (`api.bf16_loss`, recorded on the card as "bf16_loss"), weights are in float32, and the device
        is faster in it, otherwise float32.  The model then is that function, in drawing and in scoring: likelihoods stay exact.
        """
        if precision not in ("auto", "float32", "bf16"):
            raise ArdmError(f"precision is auto, float32 or bf16; got {precision!r}")
        bf16 = self._prefers_bf16 if precision == "auto" else precision == "bf16"
        if bf16 == self.model.bf16:
            return self
        return replace(self, model=self.model.with_bf16(bf16))

    @property
    def _prefers_bf16(self) -> bool:
        first, loss = next(self.model.parameters(), None), self.card.get("bf16_loss")
        little = isinstance(loss, (int, float)) and abs(loss) < LITTLE
        return little and first is not None and first.dtype == torch.float32 and has_bf16(first.device)

    def _placed(self, model: Model, device: torch.device | str | None, dtype: torch.dtype | None) -> Bundle:
        """The bundle of `model`, which is moved and cast in place."""
        if dtype is not None and dtype not in FLOATS:
            raise ArdmError(f"dtype is one of {', '.join(map(str, FLOATS))}; got {dtype!r}")
        there = None if device is None else pick(str(device))
        made = replace(self, model=model.to(device=there, dtype=dtype))
        if made._condition is not None and self._condition is not None:
            made._condition.required = self._condition.required
        return made

    def save(self, folder: str | Path) -> Path:
        """Write the folder atomically; an existing one keeps its other files, such as an exported codec model.

        Raises ArdmError for what `load` could not read: a network that the configuration does not build (`ardm.wrap`), or a
        card that JSON cannot hold; and where `folder` is a file.
        """
        if not isinstance(folder, (str, os.PathLike)):
            raise ArdmError(f"a folder is named by a str or a Path; got {type(folder).__name__}")
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise ArdmError(f"{folder} is a file; a model is saved as a folder")
        refuse_foreign(self.model, self.config)
        try:
            json.dumps(dict(self.card))
        except (TypeError, ValueError) as error:
            raise ArdmError(
                f"the card cannot be saved: {error}; use strings, numbers, lists and dictionaries"
            ) from None
        with replacing(folder.resolve(), OWN if self.codec is None else (*OWN, NAME)) as new:
            save_file(
                {k: v.detach().cpu().contiguous().clone() for k, v in self.model.state_dict().items()},
                new / "model.safetensors",
            )
            if self.curve is not None:
                save_arrays(dict(self.curve.state()), new / CURVE)
            if self.ranks is not None:
                save_arrays({"ranks": self.ranks.astype(np.int32)}, new / ORDER)
            values = {
                "ardm": FORMAT,
                "identity": self.identity,
                "model": asdict(self.config),
                "order": asdict(self.order),
                "card": dict(self.card),
            }
            if self._condition is not None:  # not in the card, which may be replaced
                values[NEEDS] = self._condition.required
            (new / "config.json").write_text(json.dumps(values, indent=2) + "\n")
            if self.codec is not None:
                self.codec.save(new / NAME)
            if self.tokenizer:
                (new / TOKENIZER).write_text(self.tokenizer, encoding="utf-8")
        return folder

    def push_to_hub(
        self, name: str, private: bool | None = None, token: str | None = None, revision: str | None = None
    ) -> str:
        """Upload the model, its page and its codec model, if any, to the Hugging Face hub; returns the address of the commit.

        name: "owner/name", created if it does not exist; `ardm.load(name)` reads it.  The page (README.md) shows the card:
        data, licence, figures, and "summary" and "datasets" if it has them.
        private: of a new repository.  token: None: the one of `hf auth login`.  revision: the branch.
        Raises ArdmError as `save`, and where the hub refuses or cannot be reached.
        """
        with scratch_folder() as folder:
            path = self.save(folder / "model")
            size = sum(p.numel() for p in self.model.parameters())
            about = {"parameters": f"{size:,}", "identity": f"`{self.identity}`", "items": str(self.config.shape)}
            text = hub.page(self.card, self.content, name, about, self.codec is not None)
            (path / "README.md").write_text(text, encoding="utf-8")
            return hub.upload(path, name, private, token, revision, f"{self.name}, {self.identity}")

    def _refuse_curve(self) -> None:
        """Raise ArdmError for a loss curve whose number of stages is not the model's."""
        stages = len(self.model.digits)
        if self.curve is not None and self.curve.stages != stages:
            raise ArdmError(
                f"the model has {stages} stage{'s' * (stages > 1)}, and its loss curve {self.curve.stages}: measure one of this "
                "model (likelihood.curve), or give none"
            )

    def _refuse_ranks(self) -> None:
        """Raise ArdmError for ranks that are no order of the items of a model of any order."""
        shape, ranks = tuple(self.model.shape), self.ranks
        if ranks is None:
            return
        if self.order.fixed or self.config.causal:
            raise ArdmError("the model has an order of its own; only a model of any order takes ranks")
        if ranks.shape != shape or not np.array_equal(np.sort(ranks, axis=None), np.arange(ranks.size)):
            raise ArdmError(f"the ranks of items {shape} are each of 0..{math.prod(shape) - 1} once; got {ranks.shape}")


def bundled() -> list[str]:
    """The names of the models in the package."""
    assets = resources.files("ardm") / "assets"
    return sorted(p.name for p in assets.iterdir() if (p / "config.json").is_file()) if assets.is_dir() else []


def load(
    name_or_path: str | Path,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    *,
    revision: str | None = None,
    precision: str = "auto",
    length: int | None = None,
) -> Bundle:
    """Load a model by bundled name, by folder, or by "owner/name" on the Hugging Face hub (needs huggingface_hub).

    Published checkpoints of MDLM, LLaDA, Dream, EvoDiff and nanoDD are models of any order, too: docs/checkpoints.md.
    device: where it computes, see `Bundle.to`; default the CPU.  dtype: of its weights; default that of the file.
    revision: of a model on the hub: a branch, tag or commit; None: its main branch.
    precision: in which it computes, see `Bundle.with_precision`.
    length: of an item of a published checkpoint; None: the length that it was trained on.
    Raises ArdmError where there is none, where a file of it is missing, damaged or foreign, and for what `Bundle.to` refuses.
    """
    if not isinstance(name_or_path, (str, os.PathLike)):
        raise ArdmError(f"a model is named by a str or a Path; got {type(name_or_path).__name__}")
    folder = Path(name_or_path)
    if revision is not None and (folder.is_dir() or str(name_or_path) in bundled()):
        raise ArdmError(f"revision is for models on the hub, and {name_or_path} is not: leave it out")
    if str(name_or_path) in bundled():
        folder = Path(str(resources.files("ardm") / "assets" / str(name_or_path)))
    elif not folder.is_dir():
        if str(name_or_path).count("/") == 1 and not str(name_or_path).startswith((".", "/")):
            registry.refuse_pickled(str(name_or_path))
            folder = hub.download(str(name_or_path), revision)
        else:
            raise ArdmError(
                f"there is no float model {str(name_or_path)!r}: give a folder, or one of {', '.join(bundled())}; "
                "`ardm models` lists codec models, which `ardm sample` also takes"
            )
    theirs = registry.recognised(folder)
    if theirs is None and length is not None:
        raise ArdmError(f"{name_or_path} has items of one length: leave length out")
    read = _read(folder) if theirs is None else _published(folder, theirs, str(name_or_path), length)
    placed = read if device is None and dtype is None else read._placed(read.model, device, dtype)
    return placed.with_precision(precision)


def _published(folder: Path, kind: str, name: str, length: int | None) -> Bundle:
    """The bundle of a published checkpoint; its tokenizer.json, if it has one, says what its values stand for."""
    model, card = registry.load(folder, kind, length)
    path, text = folder / TOKENIZER, ""
    if path.is_file() and path.stat().st_size <= MAX_TOKENIZER:
        text = path.read_text(encoding="utf-8")
        card["symbols"] = {"kind": "tokens", "sha256": hashlib.sha256(text.encode()).hexdigest()}
    config: Any = model.body.config
    return Bundle(model, config, card={"name": name, **card}, tokenizer=text)


def _read(folder: Path) -> Bundle:
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            within = folder / "model"
            hint = f"; did you mean {within}?" if (within / name).is_file() else ""
            raise ArdmError(f"{folder} is not a model: it has no {name}{hint}")
    curve_file, order_file, tokens = folder / CURVE, folder / ORDER, folder / TOKENIZER
    for path, most in {
        folder / "config.json": MAX_SETTINGS, curve_file: MAX_CURVE, order_file: MAX_CURVE, tokens: MAX_TOKENIZER
    }.items():  # fmt: skip
        if path.is_file() and path.stat().st_size > most:
            raise ArdmError(f"{folder} is not a readable model: {path.name} has more than {most} bytes")
    try:
        values = json.loads((folder / "config.json").read_text())
        if values["ardm"] != FORMAT:
            raise ArdmError(
                f"{folder} was written in model format {values['ardm']}; this version of ardm reads {FORMAT}"
            )
        saved = from_values(ModelConfig, values["model"], "model.")
        config = readable(saved)  # a model may have been saved with settings of other trunks
        order = from_values(OrderConfig, values["order"], "order.")
        refuse_size(folder / "model.safetensors", config)
        weights = load_file(folder / "model.safetensors")
        curve = LossCurve.from_state(load_arrays(curve_file)) if curve_file.is_file() else None
        ranks = load_arrays(order_file)["ranks"].astype(np.int64) if order_file.is_file() else None
        tokenizer = tokens.read_text(encoding="utf-8") if tokens.is_file() else ""
    except ArdmError:
        raise
    except (
        OSError, KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError, SafetensorError
    ) as error:  # fmt: skip
        if out_of_memory(error):
            raise MemoryError from error
        raise ArdmError(f"{folder} is not a readable model: {cause(error)}") from None
    with pytorch_defaults(), torch.device("cpu"):  # whatever torch.set_default_device says
        model = build(config)
        fit_weights(model, weights, str(folder))
    bundle = Bundle(
        model.eval().requires_grad_(False), config, order, curve, values.get("card", {}), None, tokenizer, ranks
    )
    if bundle._condition is not None and isinstance(values.get(NEEDS), bool):
        bundle._condition.required = values[NEEDS]
    if values.get("identity") not in (bundle.identity, replace(bundle, config=saved).identity):
        raise ArdmError(f"{folder} is damaged: its weights or settings are not those that were saved; fetch it again")
    return _with_codec(bundle, folder / NAME)


def _with_codec(bundle: Bundle, path: Path) -> Bundle:
    """The bundle with the codec model in its folder, if that was made of these weights; a damaged one is left out.

    `ardm.compress(x, model=folder)` says what is wrong with it.
    """
    codec = None
    with suppress(ArdmError):
        codec = load_codec(path) if path.is_file() else None
    if codec is None or codec.card.get("of") != bundle.identity:
        return bundle
    made = replace(bundle, codec=codec)
    if made._condition is not None and bundle._condition is not None:
        made._condition.required = bundle._condition.required
    return made


def _chosen(config: ModelConfig | OrderConfig) -> dict[str, Any]:
    """The settings that are not the defaults, so that a setting added later changes no identity."""
    return {f.name: getattr(config, f.name) for f in fields(config) if getattr(config, f.name) != f.default}


def _canonical(values: Any) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
