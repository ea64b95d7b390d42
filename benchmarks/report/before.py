"""What the last report said, so that the page can say what changed.

VERDICTS: of the claims.  FIGURES: by result, key and digits.  Replace both, and DATE, when the next round of work begins.
"""

from __future__ import annotations

DATE = "21 November 2026"
_FAILED, _UNREACHED = ("C11", "C14", "C15", "C19", "C20"), ("C12", "C13", "C26")
VERDICTS = {
    **{f"C{n}": "holds" for n in range(1, 27)},
    **dict.fromkeys(_FAILED, "does not hold here"),
    **dict.fromkeys(_UNREACHED, "not reached here"),
}
_ORDERS = ("random orders, all items", "16 orders, all items", "128 orders, all items")
_DENSITY = {
    "adult": ("13.31 ± 0.04", "13.09 ± 0.04", "13.08 ± 0.04"),
    "connect4": ("11.93 ± 0.03", "11.71 ± 0.03", "11.74 ± 0.03"),
    "dna": ("79.44 ± 0.30", "78.84 ± 0.13", "78.74 ± 0.30"),
    "mushrooms": ("9.93 ± 0.07", "9.60 ± 0.01", "9.60 ± 0.08"),
    "nips": ("273.34 ± 0.61", "272.32 ± 0.61", "272.19 ± 0.62"),
    "ocr_letters": ("25.49 ± 0.13", "24.51 ± 0.15", "24.45 ± 0.18"),
}
_IMAGES = {
    "any-order": "5.305 ± 0.069",
    "upscale-16": "5.078 ± 0.125",
    "upscale-4": "4.989 ± 0.111",
    "upscale-2": "4.822 ± 0.103",
    "absorbing": "5.302 ± 0.069",
    "upscale-4-values": "5.036 ± 0.106",
    "any-order-ce": "5.303 ± 0.069",
    "any-order-mixture": "5.021 ± 0.099",
    "upscale-4-mixture": "4.946 ± 0.107",
}
FIGURES = {
    **{(f"density-{s}", key, 2): was for s, row in _DENSITY.items() for key, was in zip(_ORDERS, row, strict=True)},
    ("binarized-mnist", "random orders", 2): "81.84 ± 0.33",
    ("binarized-mnist", "16 orders", 2): "80.53 ± 0.43",
    **{(f"images-{name}", "full calls", 3): was for name, was in _IMAGES.items()},
}
