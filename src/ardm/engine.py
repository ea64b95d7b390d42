"""Which model codes a content, and with what it is run: found and loaded when it is needed, and not before."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ardm.content import Content, Kind
from ardm.errors import ModelMissing
from ardm.frames import Models, PartCoder

MODELLED = (Kind.IMAGE, Kind.ARRAY)
"""What a bundled model may suit.  For the rest PyTorch need not even be loaded."""


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
        """What codes this content; None: it is stored.  Raises ArdmError where the model that was named is not there."""
        if self.model is None and content.kind not in MODELLED:
            return None
        try:
            return self._coder
        except ModelMissing:
            if self.model is not None:
                raise
            return None

    @cached_property
    def _coder(self) -> PartCoder[Any]:
        from ardm import codec

        calls = codec.LEVELS[self.level] if self.level is not None else self.calls
        return codec.coder(self.model, calls, self.backend, self.device, self.threads)

    def models(self, identity: str, calls: int) -> PartCoder[Any]:
        """The model of a file; raises ModelMissing."""
        return self._maker(identity, calls)

    @cached_property
    def _maker(self) -> Models:
        from ardm import codec

        own = () if self.model is None or not Path(self.model).exists() else (Path(self.model),)
        return codec.maker(self.backend, self.device, self.threads, (*self.folders, *own))
