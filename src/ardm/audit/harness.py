"""A text model for the lm-evaluation-harness: exact log-likelihoods from left to right, and greedy continuations.

    from ardm.audit.harness import harness
    lm_eval.simple_evaluate(harness(ardm.load("runs/text/model")), tasks=["lambada_openai"])

The context is known, the continuation is revealed token by token, and what follows stays hidden, so that an any-order model
gives log p(continuation | context) exactly, without a Monte-Carlo estimate.  Only `harness` imports lm_eval
(`pip install lm-eval`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from ardm import api, inputs
from ardm.digits import Sites
from ardm.errors import ArdmError
from ardm.precision import finely

CHUNK = 64
"""States of a network call."""
MOST = 256
"""Tokens that are generated where a task does not say how many."""


class Requests:
    """The three requests of the harness, answered by a model of whole tokens (shape (D,), one digit a token).

    encode, decode: between text and ids; default: the symbols of a text bundle.
    Raises ArdmError for other models, and for bundles that do not say what their values mean.
    """

    def __init__(
        self,
        model: Any,
        encode: Callable[[str], Sequence[int]] | None = None,
        decode: Callable[[list[int]], str] | None = None,
    ) -> None:
        super().__init__()
        bundle = api.bundle_of(model)
        if len(bundle.model.shape) != 1 or len(bundle.model.digits) != 1:
            raise ArdmError(
                f"the harness takes models of sequences of whole tokens; got items {tuple(bundle.model.shape)} "
                f"of {len(bundle.model.digits)} digits"
            )
        if (encode is None) != (decode is None) or (encode is None and bundle.symbols is None):
            raise ArdmError("say what the ids mean: give both encode (text to ids) and decode (ids to text)")
        self._model, self._length = bundle.model, int(bundle.model.shape[0])
        own = bundle.symbols
        if encode is None and decode is None and own is not None:
            encode = lambda text: own.encode(text.encode())[0].tolist()  # noqa: E731
            decode = lambda ids: own.decode(ids).decode("utf-8", "replace")  # noqa: E731
        assert encode is not None and decode is not None  # noqa: PT018
        self._encode, self._decode = encode, decode

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """For each (context, continuation): log p(continuation | context) in nats, and whether greedy decoding gives it."""
        return [self._score(*self._pair(*request.args[:2])) for request in requests]

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """For each (text,): its log-likelihood in nats, each token given at least half a window before it."""
        return [self._score([], list(self._encode(request.args[0])))[0] for request in requests]

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """For each (context, settings): greedy text up to the first of settings["until"], or max_gen_toks tokens."""
        return [self._generate(*request.args[:2]) for request in requests]

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Ids of both; the continuation is encoded behind its context."""
        before = list(self._encode(context)) if context else []
        return before, list(self._encode(context + continuation))[len(before) :]

    def _score(self, before: list[int], ids: list[int]) -> tuple[float, bool]:
        """log p(ids | before), in windows if they are longer than an item; whether each id is the most likely."""
        size = len(ids) if len(ids) <= self._length else max(1, self._length // 2)
        total, greedy = 0.0, True
        for a in range(0, len(ids), size or 1):
            window, known = ids[a : a + size], before + ids[:a]
            known = known[max(0, len(known) - (self._length - len(window))) :]
            nats, best = self._window(known, window)
            total, greedy = total - nats, greedy and best
        return total, greedy

    @torch.no_grad()
    def _window(self, known: list[int], ids: list[int]) -> tuple[float, bool]:
        """Nats of ids that follow `known` in one item; whether each is the most likely."""
        x = torch.tensor(known + ids + [0] * (self._length - len(known) - len(ids)), device="cpu")
        x = inputs.items(x, self._model)
        nats, best = 0.0, True
        for places in torch.arange(len(known), len(known) + len(ids), device=x.device).split(CHUNK):
            logp = self._next(x, places)
            true = x[0, places]
            nats -= float(logp.gather(1, true[:, None]).sum())
            best = best and bool((logp.argmax(1) == true).all())
        return nats, best

    def _next(self, x: Tensor, places: Tensor) -> Tensor:
        """(n, K): log-probabilities at places (n,) of x (1, D), each given all that lies before it; float64."""
        D = x.shape[1]
        depth = (torch.arange(D, device=x.device) < places[:, None]).long()
        state = self._model.digits.truncate(x.expand(len(places), D), depth)
        sites = Sites(torch.arange(len(places), device=x.device) * D + places, D)
        return finely(self._model(state)[sites]).log_softmax(-1)

    @torch.no_grad()
    def _generate(self, context: str, settings: dict[str, Any]) -> str:
        ids, made = list(self._encode(context)), list[int]()
        stops = settings.get("until") or []
        stops = [stops] if isinstance(stops, str) else [stop for stop in stops if stop]
        text = ""
        for _ in range(int(settings.get("max_gen_toks", MOST))):
            known = (ids + made)[-(self._length - 1) :] if self._length > 1 else []
            x = torch.tensor(known + [0] * (self._length - len(known)), device="cpu")
            x = inputs.items(x, self._model)
            made.append(int(self._next(x, torch.tensor([len(known)], device=x.device)).argmax()))
            text = self._decode(made)
            ends = [text.index(stop) for stop in stops if stop in text]
            if ends:
                return text[: min(ends)]
        return text


def harness(
    model: Any,
    encode: Callable[[str], Sequence[int]] | None = None,
    decode: Callable[[list[int]], str] | None = None,
) -> Any:
    """The model as an `lm_eval.api.model.LM`; arguments and errors: see `Requests`.

    Raises ArdmError where lm_eval is not installed.
    """
    try:
        base = import_module("lm_eval.api.model").LM
    except ImportError:
        raise ArdmError("the lm-evaluation-harness is not installed: pip install lm-eval") from None
    return type("ArdmLM", (Requests, base), {})(model, encode, decode)
