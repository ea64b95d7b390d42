"""Verdicts on trained models of text, images and sound: orders, upscaling, heads (C9–C16, C22, C25, C26)."""

from __future__ import annotations

from figures import (
    NOISE,
    SMALL,
    UNREACHED,
    Results,
    Verdict,
    at,
    by,
    difference,
    greatest,
    holds_if,
    plateau,
    ranked,
    shown,
    value,
)


def c9(r: Results) -> Verdict:
    """C9: Better than the causal order-agnostic Transformer."""
    ahead, text = ranked(r, "text-any-order", "text-causal")
    if short := plateau(r, "text-any-order"):
        return UNREACHED, f"{text} bits per character, but {short}"
    steps = r["text-any-order"]["budget"]["steps"]
    said = "" if ahead else f", after {steps} steps; the causal one learns from every position of an item in each step"
    return (UNREACHED if ahead is None else holds_if(ahead)), f"{text} bits per character{said}"


def c10(r: Results) -> Verdict:
    """C10: On text a gap to one order remains."""
    ahead, text = ranked(r, "text-one-order", "text-any-order")
    short = plateau(r, "text-any-order")
    note = f"; {short}, which exaggerates the gap" if short else ""
    return (
        UNREACHED if ahead is None else holds_if(ahead)
    ), f"one order against any order: {text} bits per character{note}"


def c11(r: Results) -> Verdict:
    """C11: 20 of 250 calls cost at most 0.08 bits per character."""
    name = "text-any-order"
    if short := plateau(r, name):
        return UNREACHED, short
    D = r[name]["tables"]["sites"]
    calls = round(D * 20 / 250)
    gap = at(r, name, "planned", calls) - at(r, name, "planned", D)
    return holds_if(gap <= 0.08), f"{calls} of {D} calls (the same share) cost {gap:+.3f} bits per character"


def c12(r: Results) -> Verdict:
    """C12: Upscaling improves images; base 2 no more than base 4."""
    names = [n for n in ("any-order", "upscale-16", "upscale-4", "upscale-2") if f"images-{n}" in r]
    text = ", ".join(f"{n} {shown(r, f'images-{n}', 'full calls')}" for n in names)
    if "images-any-order-mixture" in r and "images-upscale-4-mixture" in r:
        a, b = (shown(r, f"images-{n}-mixture", "full calls") for n in ("any-order", "upscale-4"))
        text += f"; with a mixture of logistics for both: any-order {a}, upscale-4 {b}"
    text += f"; paired differences: upscale-4 minus any-order {by(r, 'images-upscale-4', 'images-any-order')}"
    first, _ = ranked(r, "images-upscale-4", "images-any-order")
    if "upscale-2" not in names:
        half = "the first half holds" if first else "the first half does not hold here"
        return UNREACHED, f"{half}: {text}; upscale-2 not measured"
    finer, noise = difference(r, "images-upscale-2", "images-upscale-4")
    text += f", upscale-2 minus upscale-4 {finer:+.3f} ± {noise:.3f}"
    if first is None or (first and abs(finer) < 2 * noise):
        half = "neither half is clear" if first is None else "the first half holds, the second is within the noise"
        return UNREACHED, f"{half}: {text}"
    if first and finer < 0:
        text = f"the first half holds, base 2 gains even more: {text}"
    return holds_if(bool(first) and finer > 0), text


def c13(r: Results) -> Verdict:
    """C13: Upscaling improves sound greatly, and beats one order."""
    every = ("one-order", "any-order", "one-order-chain", "any-order-chain", "upscale-256-mixture", "upscale-256", "upscale-16",
             "upscale-4")  # fmt: skip
    bits = {n: value(r, f"speech-{n}", "full calls") for n in every if f"speech-{n}" in r}
    text = ", ".join(f"{n} {shown(r, f'speech-{n}', 'full calls', 2)}" for n in bits)
    missing = [n for n in every if n not in bits]
    best = min((n for n in bits if n in ("upscale-256", "upscale-16", "upscale-4")), key=lambda n: bits[n])
    text += (
        f"; paired differences: as in the paper, {best} minus any-order {by(r, f'speech-{best}', 'speech-any-order')}, "
        f"minus one-order {by(r, f'speech-{best}', 'speech-one-order')}"
    )
    families = [n for n in ("any-order-chain", "one-order-chain") if n in bits] or ["any-order", "one-order"]
    apart = {n: difference(r, f"speech-{best}", f"speech-{n}") for n in families}
    text += f"; with softmaxes of 256 on both sides, {best} " if families[0].endswith("chain") else f"; {best} "
    text += ", ".join(f"minus {n} {above:+.3f} ± {noise:.3f}" for n, (above, noise) in apart.items())
    if "any-order-chain" in bits:
        text += (
            f"; softmaxes instead of the mixture, without stages: {by(r, 'speech-any-order-chain', 'speech-any-order')}"
        )
    text += f"; not measured: {', '.join(missing)}" if missing else ""
    if any(abs(above) < 2 * noise for above, noise in apart.values()):
        return UNREACHED, f"not distinguishable: {text}"
    beaten = [n for n, (above, _) in apart.items() if above < 0]
    if len(beaten) == 1:
        other = next(n for n in apart if n not in beaten)
        text = f"with one family of outputs for all it beats {beaten[0]}, but not {other}: {text}"
    return holds_if(len(beaten) == len(apart)), text


def c14(r: Results) -> Verdict:
    """C14: Upscaled sound keeps its rate at very small budgets."""
    name = "speech-upscale-4"
    S, D = r[name]["tables"]["stages"], r[name]["tables"]["sites"]
    each = max(1, round(D * 50 / 16000))
    full = at(r, name, "planned", S * D)
    few, more = (at(r, name, "planned", S * n) for n in (each, 50))
    return holds_if(few - full <= 0.03), (
        f"{S}×{each} of {S}×{D} calls, the paper's share: {few - full:+.3f} bits per sample above the {full:.3f} of all calls; "
        f"{S}×50, the paper's number of calls but a larger share: {more - full:+.3f}"
    )


def c15(r: Results) -> Verdict:
    """C15: Direct and data parametrisation perform alike."""
    algebra = greatest(r, "parametrisation", "greatest difference")
    names = ("images-upscale-4", "images-upscale-4-values")
    text = ", ".join(f"{n} {shown(r, n, 'full calls')}" for n in names)
    apart, noise = difference(r, *names)
    gain, _ = difference(r, "images-any-order", names[0])
    alike = abs(apart) < 2 * noise or abs(apart) < NOISE
    seen = "negligible" if alike else "significant"
    text += f", paired difference {by(r, *names)}: {seen}, {abs(apart) / abs(gain):.0%} of the gain of upscaling here"
    return holds_if(algebra < 1e-9 and alike), f"algebra: {algebra:.1e} nats; trained alike: {text}"


def c16(r: Results) -> Verdict:
    """C16: Upscaling does not help text."""
    ahead, text = ranked(r, "text-upscale-3", "text-any-order")
    if short := plateau(r, "text-any-order"):
        return UNREACHED, f"{text} bits per character, but {short}"
    return holds_if(not ahead), f"27 letters as three digits of base 3: {text} bits per character"


def c22(r: Results) -> Verdict:
    """C22: The auxiliary term matters little."""
    names = ("images-any-order-ce", "images-any-order")
    a, b = (shown(r, n, "full calls") for n in names)
    apart, _ = difference(r, *names)
    text = f"weight 0.1: {a} with it, {b} without, paired difference {by(r, *names)} (tolerance 0.02)"
    return holds_if(abs(apart) < 0.02), text


def c25(r: Results) -> Verdict:
    """C25: The number of mixture components hardly matters."""
    bits = {
        n: value(r, f"speech-{m}", "full calls")
        for n, m in ((3, "any-order-3"), (10, "any-order"), (30, "any-order-30"))
    }
    text = ", ".join(f"{n} components {b:.2f}" for n, b in bits.items())
    few, many = "speech-any-order-3", "speech-any-order-30"
    apart, noise = difference(r, few, many)
    gain, _ = difference(r, "speech-any-order", "speech-one-order")
    seen = "significant" if abs(apart) > 2 * noise else "not significant"
    text += (
        f" bits per sample; paired difference of 3 minus 30 {by(r, few, many)}: {seen}, {abs(apart) / abs(gain):.0%} of the gap "
        "between any order and one order"
    )
    if noise > SMALL * abs(gain):
        return UNREACHED, f"{text}: measured on too few windows to distinguish them"
    return holds_if(max(bits.values()) - min(bits.values()) < SMALL * abs(gain)), text


def c26(r: Results) -> Verdict:
    """C26: The gain of upscaling shrinks or breaks at very small budgets."""
    parts, verdicts = [], []
    for heads, end in (("softmaxes for both", ""), ("a mixture of logistics for both", "-mixture")):
        names = f"images-any-order{end}", f"images-upscale-4{end}"
        gain, fewest, text = _gains(r, *names)
        clear = gain > 2 * difference(r, *names)[1]
        verdicts += [fewest < gain] if clear else []
        parts.append(f"{heads}, {text}" + ("" if clear else ": upscaling gains nothing that could shrink"))
    return (holds_if(all(verdicts)) if verdicts else UNREACHED), "; ".join(parts)


def _gains(r: Results, plain: str, upscaled: str) -> tuple[float, float, str]:
    """What upscaling gains at full calls, the least it gains at few, and a sentence that says both, in bits/dim."""
    D = r[plain]["tables"]["sites"]
    gain = at(r, plain, "planned", D) - at(r, upscaled, "planned", 4 * D)
    few = {calls: at(r, plain, "planned", calls) - at(r, upscaled, "planned", calls) for calls in (20, 50, 100)}
    said = ", ".join(f"{less:+.3f} in {calls} calls" for calls, less in few.items())
    return gain, min(few.values()), f"any order minus upscaling by 4: {gain:+.3f} bits/dim in all calls, {said}"
