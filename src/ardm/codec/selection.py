"""Which model codes what; nothing is loaded until it is needed.

    suited(content, level)     → the names of bundled models worth trying, by what the content looks like
    Engine(...).coder(content) → the coder of the model that needs the fewest bits

NumPy, no torch until a network runs.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ardm.codec.header import short
from ardm.codec.regions import Models, PartCoder
from ardm.content import Content, Kind
from ardm.errors import ModelMissing
from ardm.exact.planned import Steps

if TYPE_CHECKING:
    from ardm.codec.model_coder import ModelCoder
    from ardm.exact.model import CodecModel

GREY = "grey"
"""The model of grey pictures."""
TEXT, LETTERS = "english", "text27"
SPEECH = ((12_000, "speech8k"), (24_000, "speech16k"))
"""The highest rate, in samples per second, at which each model is tried."""
TEXT_MOST = 1 << 18
"""The most bytes of a text on which a model is tried; in longer ones classical compressors learn more."""
GREY_MOST = 1 << 16
"""The most pixels of a grey picture that is coded by each model of pictures, to keep the smaller result."""

_LETTERS = np.zeros(256, dtype=np.bool_)
_LETTERS[[32, *range(97, 123)]] = True
_PRINTED = np.zeros(256, dtype=np.bool_)
_PRINTED[[9, 10, 13, *range(32, 127)]] = True


def suited(content: Content, level: int | None = None) -> tuple[str, ...]:
    """The names of models worth trying, the most likely first; none: the content is stored.

    level: 1 to 9, which chooses the size of the model of pictures; None: the default.
    Text means at least 95 % printable bytes, and at most TEXT_MOST of them.
    """
    C, H, W = content.shape
    if content.kind == Kind.AUDIO:
        return tuple(name for most, name in SPEECH if content.is_16bit and 0 < content.rate <= most)[:1]
    if content.kind == Kind.BYTES:
        x = content.samples.ravel()
        if not 0 < len(x) <= TEXT_MOST:
            return ()
        if _LETTERS[x].all():
            return (LETTERS, TEXT)
        return (TEXT,) if _PRINTED[x].mean() >= 0.95 else ()
    from ardm.codec import registry

    pictures = registry.pictures(registry.DEFAULT_LEVEL if level is None else level)
    if C > 1 or H == 1:
        return (pictures,)
    return (GREY, pictures) if H * W <= GREY_MOST else (GREY,)


def known_name(identity: str) -> str:
    """The name of the bundled model whose identity begins so, or the first digits of the identity."""
    from ardm.codec import registry

    known = (name for name in registry.bundled() if registry.model(name).identity.startswith(identity))
    return next(known, short(identity)) if identity else ""


@dataclass(frozen=True)
class Engine:
    """Chooses the model for a content, and how it runs; loads nothing before it is needed.

    model: a bundled name, a folder, or a model that is loaded; by default what suits the content.  calls: network calls, for models that have
    several numbers of them.  level: 1 to 9 instead: the size of the model of pictures, the calls of others.
    backend, device, threads: as in `registry.coder`.  folders: of further models to decode with.
    """

    model: str | Path | CodecModel | None = None
    calls: int | None = None
    level: int | None = None
    backend: str = "auto"
    device: str = "auto"
    threads: int = 0
    folders: tuple[Path, ...] = ()

    def coder(self, content: Content) -> PartCoder[Any] | None:
        """The coder of a content; None: it is stored.  Raises ArdmError where the model that was named is missing.

        Of several bundled models that suit the content, the one that needs the fewest bits; it keeps the symbols it has
        encoded, so that coding the content next costs nothing.
        """
        found = self.coders(content)
        able = [coder for coder in found if coder.refuses(content) is None]
        if len(able) < 2:
            return next(iter(able or found), None)
        best = min(able, key=lambda coder: coder.measure(content))
        for other in able:
            if other is not best:
                other.forget()
        return best

    def coders(self, content: Content) -> list[ModelCoder]:
        """The coder of the model that was named, or those of the bundled models that suit the content.

        Raises ArdmError where the one that was named is missing.
        """
        if self.model is not None:
            return [self._coder(self.model)]
        found = []
        for name in suited(content, self.level):
            with suppress(ModelMissing):
                found.append(self._coder(name))
        return found

    def _coder(self, name: str | Path | CodecModel) -> ModelCoder:
        from ardm.codec import registry

        key = name if isinstance(name, (str, Path)) else id(name)
        if key not in self._coders:
            model = registry.model(name)
            calls = self.calls if self.level is None else registry.calls_of(model, self.level)
            self._coders[key] = registry.coder(model, calls, self.backend, self.device, self.threads)
        return self._coders[key]

    @cached_property
    def _coders(self) -> dict[str | Path | int, ModelCoder]:
        return {}

    def name_of(self, identity: str) -> str:
        """The name of the model of this identity that has coded here; else the first digits of the identity."""
        names = (coder.model.name for coder in self._coders.values() if coder.identity == identity)
        return next(names, short(identity))

    def models(self, identity: str, steps: Steps) -> PartCoder[Any]:
        """The coder that a file names; raises ModelMissing.  A bare file names none ("", steps): `model` made it."""
        return self._maker(identity, steps)

    @cached_property
    def _maker(self) -> Models:
        from ardm.codec import registry

        named = () if self.model is None else (self.model,)
        return registry.maker(self.backend, self.device, self.threads, (*named, *self.folders))
