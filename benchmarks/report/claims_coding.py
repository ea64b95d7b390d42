"""Verdicts on codecs and on infilling (C17–C20, C23)."""

from __future__ import annotations

from figures import Results, Verdict, holds_if, paired, shown, value
from published import CODING

SPECIAL = "the bundled codec was trained for one order"
PLANNED_CODING = {"planned-any-order": "any order", "planned-upscale-4": "upscaling by 4"}
"""Results of models of any order coded along planned schedules, and their names."""
TOGETHER = 50
"""The number of calls in which their archives were made."""


def coded(results: Results, name: str, kind: str, calls: int) -> list[float]:
    """Bits per dimension of every item of a planned codec: its code, its file, or the bound of its policy."""
    return list(results[name]["tables"]["bits"][kind][str(calls)])


def c17(r: Results) -> Verdict:
    """C17: Streams are as long as the bound, alone or together."""
    parts, good = [], True
    for name, says in PLANNED_CODING.items():
        if name not in r:
            continue
        above, noise = paired(coded(r, name, "code", TOGETHER), coded(r, name, "bound", TOGETHER))
        extra, _ = paired(coded(r, name, "files", TOGETHER), coded(r, name, "code", TOGETHER))
        apart = value(r, name, f"{TOGETHER} calls, archive") - value(r, name, f"{TOGETHER} calls, files")
        good &= value(r, name, "items that did not come back") == 0
        good &= abs(above) < max(2 * noise, 0.02) and extra < 0.05 and abs(apart) < 0.05
        parts.append(
            f"{says}, {TOGETHER} calls: code length {shown(r, name, f'{TOGETHER} calls, code')}, minus the bound of the policy "
            f"{above:+.4f} ± {noise:.4f}; files minus code {extra:+.3f}, one archive minus files {apart:+.3f}"
        )
    over, size = (value(r, "bundled-coding", k) for k in ("files over code length of the integers", "header"))
    good &= value(r, "bundled-coding", "round trips that failed") == 0 and over - 8 * size / 3072 < 0.02
    parts.append(f"`pictures`: files minus code {over:+.3f}, {over - 8 * size / 3072:+.3f} without header")
    return holds_if(good), f"every file is restored; in bits/dim: {'; '.join(parts)}"


def c18(r: Results) -> Verdict:
    """C18: Few calls suffice for coding."""
    parts, good = [], True
    for name, says in PLANNED_CODING.items():
        if name not in r:
            continue
        few, noise = paired(coded(r, name, "code", 100), coded(r, name, "code", 500))
        good &= few <= 0.05
        lengths = ", ".join(f"{n} calls {shown(r, name, f'{n} calls, code')}" for n in (20, 50, 100))
        parts.append(f"{says}: {lengths}; 100 minus 500 calls on the same images {few:+.3f} ± {noise:.3f}")
    return holds_if(good), f"integer codes, bits/dim: {'; '.join(parts)}"


RANGE_OF_TEN = 3.08
"""The expected range of ten normal variables, in standard deviations."""


def c19(r: Results) -> Verdict:
    """C19: The order matters little: spread below 0.02."""
    name = "bundled-orders"
    spread = value(r, name, "random orders, greatest less least")
    named = ", ".join(f"{n} {value(r, name, n):.3f}" for n in ("bayer", "halton", "checkerboard", "raster"))
    mean = value(r, name, "random orders, mean")
    own = RANGE_OF_TEN * value(r, name, "random orders, standard deviation without chance")
    return holds_if(own < 0.02), (
        f"{r[name]['notes'][0]}: ten random orders span {spread:.3f} around {mean:.3f} bits/dim, {own:.3f} without the part "
        f"that chance adds with so few images; regular orders: {named}"
    )


def c20(r: Results) -> Verdict:
    """C20: Better than IDF++, FLIF, WebP and PNG on single CIFAR-10 images."""
    rows = {row["name"]: row["bits"] for row in r["bundled-coding"]["tables"]["codecs"]}
    ours = rows["ardm -7"]
    rivals = {name: bits for name, bits in rows.items() if not name.startswith("ardm")}
    best = min(rivals, key=lambda n: rivals[n])
    about = r["bundled-coding"]["tables"]["codecs_about"]
    first = "better than every classical codec" if ours < rivals[best] else "not better than every classical codec"
    second = "IDF++ not reached" if ours >= CODING["IDF++"] else "IDF++ reached"
    return holds_if(ours < rivals[best] and ours < CODING["IDF++"]), (
        f"{first}, {second}: {about['data']}, header included, {ours:.3f} bits/dim; {best} {rivals[best]:.3f}, "
        f"WebP {rivals.get('WebP lossless', float('nan')):.3f}, PNG {rivals.get('PNG', float('nan')):.3f}; FLIF and IDF++ "
        f"were not run: {CODING['FLIF']} and {CODING['IDF++']} are the paper's figures on all 10,000; {SPECIAL}{_any_order(r)}"
    )


def _any_order(r: Results) -> str:
    """What models of any order need on the images on which the bundled codec was measured as well."""
    ours = [
        f"{says} {shown(r, name, '100 calls, files')} in 100 calls"
        for name, says in PLANNED_CODING.items()
        if name in r
    ]
    if not ours:
        return ""
    return f"; the first 12: {', '.join(ours)}, the bundled codec {shown(r, 'bundled-coding', 'files')}"


def c23(r: Results) -> Verdict:
    """C23: Any part can be known: infilling without retraining."""
    name = "bundled-filling"
    kept = all(value(r, name, k) == 0 for k in r[name]["figures"] if k.endswith("given values that changed"))
    whole = value(r, name, "nothing given")
    rest = {k.split(":")[0]: value(r, name, k) for k in r[name]["figures"] if k.endswith("the rest, given it")}
    text = ", ".join(f"{k} {v:.2f}" for k, v in rest.items())
    return holds_if(
        kept
    ), f"known values never change; bits per dimension of the rest, given {text}; with nothing known {whole:.2f}"
