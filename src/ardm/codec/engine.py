"""Which model codes a content, and with what it is run: found and loaded when it is needed, and not before."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ardm.codec.frames import Models, PartCoder
from ardm.codec.suits import suited
from ardm.content import Content
from ardm.errors import ModelMissing


@dataclass(frozen=True)
class Engine:
    """Which model codes, and with what it is run; nothing is loaded before it is needed.

    model: a bundled name or a folder, by default what suits the content.  calls, level: network calls, or a level that
    stands for them.  backend, device, threads: as of `codec.coder`.  folders: of more models to decode with.
    """

    model: str | Path | None = None
    calls: int | None = None
    level: int | None = None
    backend: str = "auto"
    device: str = "auto"
    threads: int = 0
    folders: tuple[Path, ...] = ()

    def coder(self, content: Content) -> PartCoder[Any] | None:
        """What codes this content; None: it is stored.  Raises ArdmError where the model that was named is not there.

        Where several bundled models may suit it, the one that needs the fewest bits for it.
        """
        if self.model is not None:
            return self._coder(self.model)
        found = []
        for name in suited(content):
            with suppress(ModelMissing):
                found.append(self._coder(name))
        able = [coder for coder in found if coder.refuses(content) is None]
        return min(able, key=lambda coder: _bits(coder, content)) if len(able) > 1 else next(iter(able or found), None)

    def _coder(self, name: str | Path) -> PartCoder[Any]:
        from ardm.codec import coder as codec

        if name not in self._coders:
            model = codec.model(name)
            calls = self.calls if self.level is None else codec.calls_of(model, self.level)
            self._coders[name] = codec.coder(model, calls, self.backend, self.device, self.threads)
        return self._coders[name]

    @cached_property
    def _coders(self) -> dict[str | Path, PartCoder[Any]]:
        return {}

    def models(self, identity: str, calls: int) -> PartCoder[Any]:
        """The model of a file; raises ModelMissing."""
        return self._maker(identity, calls)

    @cached_property
    def _maker(self) -> Models:
        from ardm.codec import coder as codec

        own = () if self.model is None or not Path(self.model).exists() else (Path(self.model),)
        return codec.maker(self.backend, self.device, self.threads, (*self.folders, *own))


def _bits(coder: PartCoder[Any], content: Content) -> float:
    """What a content of one part takes with a coder, without a header."""
    return float(sum(part.bits for part in next(iter(coder.encode([[content.samples]])))))
