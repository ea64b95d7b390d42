"""Which bundled model may code a content, by what it looks like: nothing is loaded for that.  NumPy, no torch."""

from __future__ import annotations

import numpy as np

from ardm.content import Content, Kind

PICTURES, DRAWINGS = "cifar10-codec", "grey28"
TEXT, LETTERS = "english", "text27"
SPEECH = ((12_000, "speech8k"), (24_000, "speech16k"))
"""Rates in samples a second up to which a model is tried."""
TEXT_MOST = 1 << 18
"""Bytes of a text that a model is tried on; classical compressors have learnt more than our windows hold by then."""
DRAWING_MOST = 32
"""Sides of a grey picture that a model of handwriting is tried on."""

_LETTERS = np.zeros(256, dtype=np.bool_)
_LETTERS[[32, *range(97, 123)]] = True
_PRINTED = np.zeros(256, dtype=np.bool_)
_PRINTED[[9, 10, 13, *range(32, 127)]] = True


def suited(content: Content) -> tuple[str, ...]:
    """Names of models worth trying, the likeliest first; none: it is stored.

    Text is what is printable but for a twentieth of it; nothing is tried on texts of more than TEXT_MOST bytes.
    """
    C, H, W = content.shape
    if content.kind == Kind.AUDIO:
        return tuple(name for most, name in SPEECH if content.wide and 0 < content.rate <= most)[:1]
    if content.kind == Kind.BYTES:
        x = content.samples.ravel()
        if not 0 < len(x) <= TEXT_MOST:
            return ()
        if _LETTERS[x].all():
            return (LETTERS, TEXT)
        return (TEXT,) if _PRINTED[x].mean() >= 0.95 else ()
    return (DRAWINGS, PICTURES) if C == 1 < H and max(H, W) <= DRAWING_MOST else (PICTURES,)
