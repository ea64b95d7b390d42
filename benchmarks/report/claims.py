"""The paper's claims C1 to C26: the statement, the results that test it, and the verdict of their figures.

A verdict follows from results alone: `HOLDS`, `FAILS` ("does not hold here") or `UNREACHED` ("not reached here"), with
the reason.  A claim without results is not reached, and names the command that would measure it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from published import AUDIO, CODING, IMAGES, TEXT

SPECIAL = "the bundled codec was trained for one order"
NOISE = 0.01
"""Bits per dimension by which a plan made on other items may miss the held-out losses of a few dozen items."""
SMALL = 0.2
"""A difference matters little if it is at most this share of the effect that matters."""
HOLDS, FAILS, UNREACHED = "holds", "does not hold here", "not reached here"

Results = Mapping[str, Mapping[str, Any]]
Verdict = tuple[str, str]
"""A verdict, and its figures in words."""


@dataclass(frozen=True)
class Claim:
    """One claim.

    needs: names of the results that it requires.  judge: computes the verdict and its figures from them.
    paper: the paper's figures.  also: further results that it uses if available.
    """

    key: str
    says: str
    needs: tuple[str, ...]
    judge: Callable[[Results], Verdict]
    paper: str = ""
    also: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """The command that measures it."""
        return f"run.py {' '.join(self.needs + self.also)}" if self.needs else ""

    def verdict(self, results: Results) -> Verdict:
        """The verdict on these results."""
        missing = [name for name in self.needs if name not in results]
        if missing:
            return UNREACHED, f"not measured: {', '.join(missing)}"
        return self.judge(results)


def value(results: Results, name: str, key: str) -> float:
    """The value of a figure."""
    return float(results[name]["figures"][key]["value"])


def error(results: Results, name: str, key: str) -> float:
    """The standard error of a figure; 0 if it has none."""
    return float(results[name]["figures"][key].get("error", 0.0))


def shown(results: Results, name: str, key: str, digits: int = 3) -> str:
    """A figure as text, with its standard error."""
    entry = results[name]["figures"][key]
    text = f"{entry['value']:.{digits}f}"
    return f"{text} ± {entry['error']:.{digits}f}" if "error" in entry else text


def at(results: Results, name: str, kind: str, calls: int) -> float:
    """Bits per dimension at a number of calls, from the table of rates: at the nearest measured number."""
    rates = results[name]["tables"]["rates"]
    numbers = rates["calls"]
    return float(rates[kind][min(range(len(numbers)), key=lambda i: abs(numbers[i] - calls))])


def greatest(results: Results, name: str, prefix: str) -> float:
    """The largest of the figures whose key has this prefix."""
    return max(float(f["value"]) for key, f in results[name]["figures"].items() if key.startswith(prefix))


def holds_if(condition: bool) -> str:
    """HOLDS if the condition is true, else FAILS."""
    return HOLDS if condition else FAILS


def plateau(results: Results, *names: str) -> str:
    """Why a network that learned almost nothing from context can neither confirm nor refute a claim; "" if it learned."""
    for name in names:
        losses = [row["bits"] for row in results[name]["tables"]["losses"]]
        fall = max(max(bits) - min(bits) for bits in losses)
        if fall < 0.3:
            return f"{name} was trained too briefly: its losses fall by only {fall:.2f} bits, so every budget does equally well"
    return ""


def paired(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """The mean of a − b over the items that both have, and its standard error."""
    apart = [x - y for x, y in zip(a, b, strict=False)]
    mean = sum(apart) / len(apart)
    return mean, (sum((d - mean) ** 2 for d in apart) / max(len(apart) - 1, 1) / len(apart)) ** 0.5


def difference(results: Results, a: str, b: str) -> tuple[float, float]:
    """Bits per dimension by which result a exceeds b at full calls, with its standard error over common items."""
    above = value(results, a, "full calls") - value(results, b, "full calls")
    one, other = (results[n]["tables"].get("items", ()) for n in (a, b))
    if not one or len(one) != len(other):
        return above, (error(results, a, "full calls") ** 2 + error(results, b, "full calls") ** 2) ** 0.5
    return above, paired(one, other)[1]


def by(results: Results, a: str, b: str) -> str:
    """`difference` in words."""
    above, noise = difference(results, a, b)
    return f"{above:+.3f} ± {noise:.3f}"


def ranked(results: Results, better: str, worse: str) -> tuple[bool | None, str]:
    """Whether one result is below another at full calls (None if within two standard errors), and the figures in words."""
    above, noise = difference(results, better, worse)
    both = " against ".join(shown(results, name, "full calls") for name in (better, worse))
    text = f"{both}, paired difference {by(results, better, worse)}"
    return (None if abs(above) < 2 * noise else above < 0), text


# --- one judge a claim ------------------------------------------------------------------------------------------------


def _c1(r: Results) -> Verdict:
    gap = greatest(r, "enumeration", "greatest difference")
    return holds_if(gap < 1e-9), f"largest difference over all orders, steps and stages: {gap:.1e} nats"


def _c2(r: Results) -> Verdict:
    gap, kinds = greatest(r, "leak", "greatest change"), len(r["leak"]["figures"])
    return holds_if(
        gap == 0
    ), f"largest change of any output when hidden values change, {kinds} kinds of network: {gap:g}"


def _c3(r: Results) -> Verdict:
    figures = r["step-time"]["figures"]
    times = {key: value(r, "step-time", key) for key in figures if key.startswith("S = ")}
    calls = {key.partition(", ")[2]: value(r, "step-time", key) for key in figures if key.startswith("network calls")}
    text = ", ".join(f"{key}: {t:.2f}" for key, t in times.items())
    once = ", ".join(f"{key}: {n:.0f}" for key, n in calls.items())
    good = max(times.values()) < 1.25 and set(calls.values()) == {1.0}
    return holds_if(good), f"network calls per training step, {once}; its time relative to one stage, {text}"


CURVES = ("text-any-order", "bundled-curve")
PLANNED = (
    "bundled-curve",
    "speech-any-order",
    "speech-upscale-4",
    "images-any-order-mixture",
    "images-upscale-4-mixture",
)
"""Further results with rates by number of calls, each planned and priced on different items."""


def _c4(r: Results) -> Verdict:
    if short := plateau(r, *CURVES):
        return UNREACHED, short
    parts, good = [], True
    for name in CURVES:
        rise = value(r, name, "greatest rise from one bin of L_t to the next")
        bits = [row["bits"] for row in r[name]["tables"]["losses"]]
        fall = max(max(b) - min(b) for b in bits)
        good &= rise < 0.1 * fall
        parts.append(
            f"{name}: L_t falls by {fall:.2f} bits over {len(bits[0])} bins and rises by at most {max(rise, 0):.3f} between two; "
            f"isotonic residual of single steps {value(r, name, 'isotonic residual, root mean square'):.3f}"
        )
    return holds_if(good), "; ".join(parts)


def _c5(r: Results) -> Verdict:
    parts, good = [], True
    for name in CURVES:
        key = next(k for k in r[name]["figures"] if k.startswith("difference"))
        good &= abs(value(r, name, key)) < 3 * error(r, name, key)
        parts.append(f"{name}: first minus last quarter of the symbols predicted at once {shown(r, name, key)} bits")
    return holds_if(good), "; ".join(parts)


AGREE = 0.05
"""Bits per dimension within which a plan must cost what the planner expected, on the same items."""


def _c6(r: Results) -> Verdict:
    gap = value(r, "planner", "greatest difference to the best of all")
    name = "text-any-order"
    if short := plateau(r, name):
        return UNREACHED, f"difference from the best of all schedules of 12 sites: {gap:.1e} nats; but {short}"
    worst, best = {}, 0.0
    for own in (name, *(n for n in PLANNED if n in r)):
        rates = r[own]["tables"]["rates"]
        apart = [p - u for p, u in zip(rates["planned"], rates["uniform"], strict=True)]
        worst[own], best = max(apart), min(best, *apart)
    planned, measured = (value(r, name, k) for k in ("20 calls, as planned on held-out losses", "20 calls"))
    good = gap < 1e-9 and max(worst.values()) < NOISE and best < -NOISE and abs(planned - measured) < AGREE
    text = ", ".join(f"{own} {w:+.4f}" for own, w in worst.items())
    return holds_if(good), (
        f"difference from the best of all schedules of 12 sites: {gap:.1e} nats; planned on other items, bits above uniform steps at "
        f"the worst budget: {text} (tolerance {NOISE}), at the best {best:+.3f}; text in 20 calls: planned {planned:.3f}, "
        f"measured {measured:.3f}"
    )


def _c7(r: Results) -> Verdict:
    if short := plateau(r, *CURVES):
        return UNREACHED, short
    parts, good = [], True
    for name in CURVES:
        rates = r[name]["tables"]["rates"]
        text = (
            f"{name}, 20 calls: planned {at(r, name, 'planned', 20):.3f}, absorbing {at(r, name, 'absorbing', 20):.3f}"
        )
        held = max(p - a for p, a in zip(rates["planned"], rates["absorbing"], strict=True))
        text += f", largest difference over all budgets {held:+.4f}"
        good &= held < NOISE
        if "best" in rates:
            same = max(p - a for p, a in zip(rates["best"], rates["absorbing"], strict=True))
            good &= same < 1e-5
            text += f" (planned on the priced losses themselves {same:+.4f})"
        parts.append(text)
    return holds_if(good), "; ".join(parts)


def _c8(r: Results) -> Verdict:
    name = "text-any-order"
    if short := plateau(r, name):
        return UNREACHED, short
    D = r[name]["tables"]["sites"]
    full = value(r, name, "sum of held-out losses")
    text = [f"{D} calls {full:.3f}"]
    last = full
    for steps in (1000, 10000):
        last = value(r, name, f"absorbing, same network, {steps} steps")
        text.append(f"absorbing in {steps} steps {last:.3f}")
    own = ""
    if "text-absorbing" in r:
        own = f"; trained as absorbing diffusion: {shown(r, 'text-absorbing', 'absorbing, 1000 steps')} in 1000 steps"
    return holds_if(last - full < 0.01), "same network: " + ", ".join(text) + own


def _c9(r: Results) -> Verdict:
    ahead, text = ranked(r, "text-any-order", "text-causal")
    if short := plateau(r, "text-any-order"):
        return UNREACHED, f"{text} bits per character, but {short}"
    steps = r["text-any-order"]["budget"]["steps"]
    said = "" if ahead else f", after {steps} steps; the causal one learns from every position of an item in each step"
    return (UNREACHED if ahead is None else holds_if(ahead)), f"{text} bits per character{said}"


def _c10(r: Results) -> Verdict:
    ahead, text = ranked(r, "text-one-order", "text-any-order")
    short = plateau(r, "text-any-order")
    note = f"; {short}, which exaggerates the gap" if short else ""
    return (
        UNREACHED if ahead is None else holds_if(ahead)
    ), f"one order against any order: {text} bits per character{note}"


def _c11(r: Results) -> Verdict:
    name = "text-any-order"
    if short := plateau(r, name):
        return UNREACHED, short
    D = r[name]["tables"]["sites"]
    calls = round(D * 20 / 250)
    gap = at(r, name, "planned", calls) - at(r, name, "planned", D)
    return holds_if(gap <= 0.08), f"{calls} of {D} calls (the same share) cost {gap:+.3f} bits per character"


def _c12(r: Results) -> Verdict:
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
    return holds_if(bool(first) and finer > 0), text


def _c13(r: Results) -> Verdict:
    every = ("one-order", "any-order", "one-order-chain", "any-order-chain", "upscale-256-mixture", "upscale-256", "upscale-16",
             "upscale-4")  # fmt: skip
    bits = {n: value(r, f"speech-{n}", "full calls") for n in every if f"speech-{n}" in r}
    text = ", ".join(f"{n} {shown(r, f'speech-{n}', 'full calls', 2)}" for n in bits)
    missing = [n for n in every if n not in bits]
    best = min((n for n in bits if n in ("upscale-256", "upscale-16", "upscale-4")), key=lambda n: bits[n])
    text += (
        f"; paired differences: as in the paper, {best} minus any-order {by(r, f'speech-{best}', 'speech-any-order')}"
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
    if all(above > 2 * noise for above, noise in apart.values()):
        return FAILS, text
    if any(abs(above) < 2 * noise for above, noise in apart.values()):
        return UNREACHED, f"not distinguishable: {text}"
    return holds_if(all(above < 0 for above, _ in apart.values())), text


def _c14(r: Results) -> Verdict:
    name = "speech-upscale-4"
    S, D = r[name]["tables"]["stages"], r[name]["tables"]["sites"]
    each = max(1, round(D * 50 / 16000))
    full = at(r, name, "planned", S * D)
    few, more = (at(r, name, "planned", S * n) for n in (each, 50))
    return holds_if(few - full <= 0.03), (
        f"{S}×{each} of {S}×{D} calls, the paper's share: {few - full:+.3f} bits per sample above the {full:.3f} of all calls; "
        f"{S}×50, the paper's number of calls but a larger share: {more - full:+.3f}"
    )


def _c15(r: Results) -> Verdict:
    algebra = greatest(r, "parametrisation", "greatest difference")
    names = ("images-upscale-4", "images-upscale-4-values")
    text = ", ".join(f"{n} {shown(r, n, 'full calls')}" for n in names)
    apart, noise = difference(r, *names)
    gain, _ = difference(r, "images-any-order", names[0])
    alike = abs(apart) < 2 * noise or abs(apart) < NOISE
    seen = "negligible" if alike else "significant"
    text += f", paired difference {by(r, *names)}: {seen}, {abs(apart) / abs(gain):.0%} of the gain of upscaling here"
    return holds_if(algebra < 1e-9 and alike), f"algebra: {algebra:.1e} nats; trained alike: {text}"


def _c16(r: Results) -> Verdict:
    ahead, text = ranked(r, "text-upscale-3", "text-any-order")
    if short := plateau(r, "text-any-order"):
        return UNREACHED, f"{text} bits per character, but {short}"
    return holds_if(not ahead), f"27 letters as three digits of base 3: {text} bits per character"


PLANNED_CODING = {"planned-any-order": "any order", "planned-upscale-4": "upscaling by 4"}
"""Results of models of any order coded along planned schedules, and their names."""
TOGETHER = 50
"""The number of calls in which their archives were made."""


def coded(results: Results, name: str, kind: str, calls: int) -> list[float]:
    """Bits per dimension of every item of a planned codec: its code, its file, or the bound of its policy."""
    return list(results[name]["tables"]["bits"][kind][str(calls)])


def _c17(r: Results) -> Verdict:
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
            f"{says}, {TOGETHER} calls: code {shown(r, name, f'{TOGETHER} calls, code')}, above the bound of the policy "
            f"{above:+.4f} ± {noise:.4f}; a file has {extra:.3f} more, an archive of all {apart:+.3f} against files"
        )
    over, size = (value(r, "bundled-coding", k) for k in ("files over code length of the integers", "header"))
    good &= value(r, "bundled-coding", "round trips that failed") == 0 and over - 8 * size / 3072 < 0.02
    parts.append(
        f"`pictures`: a file exceeds its code length by {over:.3f}, {over - 8 * size / 3072:.3f} without header"
    )
    return holds_if(good), f"every file is restored; {'; '.join(parts)} bits/dim"


def _c18(r: Results) -> Verdict:
    parts, good = [], True
    for name, says in PLANNED_CODING.items():
        if name not in r:
            continue
        few, noise = paired(coded(r, name, "code", 100), coded(r, name, "code", 500))
        good &= few <= 0.05
        lengths = ", ".join(f"{n} calls {shown(r, name, f'{n} calls, code')}" for n in (20, 50, 100))
        parts.append(f"{says}: {lengths}; 100 cost {few:+.3f} ± {noise:.3f} more than 500 on the same images")
    return holds_if(good), f"integer codes, bits/dim: {'; '.join(parts)}"


RANGE_OF_TEN = 3.08
"""The expected range of ten normal variables, in standard deviations."""


def _c19(r: Results) -> Verdict:
    name = "bundled-orders"
    spread = value(r, name, "random orders, greatest less least")
    named = ", ".join(f"{n} {value(r, name, n):.3f}" for n in ("bayer", "halton", "checkerboard", "raster"))
    mean = value(r, name, "random orders, mean")
    own = RANGE_OF_TEN * value(r, name, "random orders, standard deviation without chance")
    return holds_if(own < 0.02), (
        f"{r[name]['notes'][0]}: ten random orders span {spread:.3f} around {mean:.3f} bits/dim, {own:.3f} without what few "
        f"images add by chance; regular orders: {named}"
    )


def _c20(r: Results) -> Verdict:
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


def _c21(r: Results) -> Verdict:
    weight = value(r, "continuous-time", "greatest relative difference of a weight")
    loss = value(r, "continuous-time", "greatest difference of the two losses of one network")
    return holds_if(
        max(weight, loss) < 1e-9
    ), f"weights differ by {weight:.1e}, the two losses of one network by {loss:.1e} nats"


def _c22(r: Results) -> Verdict:
    names = ("images-any-order-ce", "images-any-order")
    a, b = (shown(r, n, "full calls") for n in names)
    apart, _ = difference(r, *names)
    text = f"weight 0.1: {a} with it, {b} without, paired difference {by(r, *names)} (tolerance 0.02)"
    return holds_if(abs(apart) < 0.02), text


def _c23(r: Results) -> Verdict:
    name = "bundled-filling"
    kept = all(value(r, name, k) == 0 for k in r[name]["figures"] if k.endswith("given values that changed"))
    whole = value(r, name, "nothing given")
    rest = {k.split(":")[0]: value(r, name, k) for k in r[name]["figures"] if k.endswith("the rest, given it")}
    text = ", ".join(f"{k} {v:.2f}" for k, v in rest.items())
    return holds_if(
        kept
    ), f"known values never change; the rest costs {text} bits per dimension, {whole:.2f} with nothing known"


def _c24(r: Results) -> Verdict:
    name = "bundled-curve"
    rates = r[name]["tables"]["rates"]
    D = rates["calls"][-1]
    numbers = [1, 5, 10, 50, 400, D]
    text = ", ".join(f"{n}: {at(r, name, 'planned', n):.3f}" for n in numbers)
    falls = all(a >= b - NOISE for a, b in zip(rates["planned"], rates["planned"][1:], strict=False))
    return holds_if(falls), f"one model, bits/dim by calls: {text}"


def _c25(r: Results) -> Verdict:
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


def _c26(r: Results) -> Verdict:
    names = ("images-any-order-mixture", "images-upscale-4-mixture")
    D = r[names[0]]["tables"]["sites"]
    full = [at(r, names[0], "planned", D), at(r, names[1], "planned", 4 * D)]
    parts = []
    ahead: list[float] = []
    for calls in (20, 50, 100):
        few = [at(r, names[0], "planned", calls), at(r, names[1], "split", calls), at(r, names[1], "planned", calls)]
        ahead.append(few[0] - few[1])
        parts.append(
            f"{calls} calls: any-order {few[0]:.3f}, upscale-4 {few[1]:.3f}, stages planned jointly {few[2]:.3f}"
        )
    gain = full[0] - full[1]
    text = f"full calls: {full[0]:.3f} and {full[1]:.3f}; " + "; ".join(parts)
    _, noise = difference(r, *names)
    if gain < 2 * noise:
        return (
            UNREACHED,
            f"no significant gain at full calls (± {noise:.2f}), {gain - min(ahead):.2f} worse at few; {text}",
        )
    return holds_if(min(ahead) < gain), text


CLAIMS: tuple[Claim, ...] = (
    Claim("C1", "The training step is an unbiased estimate of the any-order bound", ("enumeration",), _c1),
    Claim("C2", "No causal network is needed, and nothing leaks", ("leak",), _c2),
    Claim("C3", "A training step takes one network call, whatever D and S", ("step-time",), _c3),
    Claim("C4", "L_t does not increase with t", CURVES, _c4),
    Claim("C5", "k symbols generated at once cost k·L_t", CURVES, _c5),
    Claim("C6", "The planner is optimal and beats uniform steps", ("planner", "text-any-order"), _c6),
    Claim("C7", "K planned calls cost no more than absorbing diffusion in K steps", CURVES, _c7,
          f"{TEXT['any order, 20 calls']} against {TEXT['absorbing, 20 steps']}"),
    Claim("C8", "D calls match absorbing diffusion in many more steps", ("text-any-order",), _c8,
          f"{TEXT['any order']} against {TEXT['absorbing, 1000 steps']}"),
    Claim("C9", "Better than the causal order-agnostic Transformer", ("text-any-order", "text-causal"), _c9,
          f"{TEXT['any order']} against {TEXT['causal, any order']}"),
    Claim("C10", "On text a gap to one order remains", ("text-any-order", "text-one-order"), _c10,
          f"{TEXT['any order']} against {TEXT['one order']}"),
    Claim("C11", "20 of 250 calls cost at most 0.08 bits per character", ("text-any-order",), _c11, "0.08"),
    Claim("C12", "Upscaling improves images; base 2 no more than base 4",
          ("images-any-order", "images-upscale-4"), _c12,
          f"{IMAGES['upscale 4']} against {IMAGES['any order']}", ("images-upscale-2", "images-upscale-16")),
    Claim("C13", "Upscaling improves sound greatly, and beats one order",
          ("speech-one-order", "speech-any-order", "speech-upscale-4"), _c13,
          f"{AUDIO['upscale 4']} against {AUDIO['any order']}, one order {AUDIO['one order']}",
          ("speech-any-order-chain", "speech-one-order-chain", "speech-upscale-256-mixture", "speech-upscale-256",
           "speech-upscale-16")),
    Claim("C14", "Upscaled sound keeps its rate at very small budgets", ("speech-upscale-4",), _c14,
          f"{AUDIO['upscale 4, 8 × 50 calls']} against {AUDIO['upscale 4']}"),
    Claim("C15", "Direct and data parametrisation perform alike",
          ("parametrisation", "images-any-order", "images-upscale-4", "images-upscale-4-values"), _c15),
    Claim("C16", "Upscaling does not help text", ("text-any-order", "text-upscale-3"), _c16),
    Claim("C17", "Streams are as long as the bound, alone or together", ("bundled-coding", "planned-any-order"), _c17,
          also=("planned-upscale-4",)),
    Claim("C18", "Few calls suffice for coding", ("planned-any-order",), _c18,
          f"{CODING['any order, 100 calls']} against {CODING['any order, 500 calls']}", ("planned-upscale-4",)),
    Claim("C19", "The order matters little: spread below 0.02", ("bundled-orders",), _c19, "< 0.02"),
    Claim("C20", "Better than IDF++, FLIF, WebP and PNG on single CIFAR-10 images", ("bundled-coding",), _c20,
          f"{CODING['upscale 4, 500 calls']} against {CODING['FLIF']}, {CODING['IDF++']}", tuple(PLANNED_CODING)),
    Claim("C21", "Absorbing diffusion in continuous time is this model", ("continuous-time",), _c21),
    Claim("C22", "The auxiliary term matters little", ("images-any-order", "images-any-order-ce"), _c22),
    Claim("C23", "Any part can be known: infilling without retraining", ("bundled-filling",), _c23),
    Claim("C24", "One model serves any budget of calls", ("bundled-curve",), _c24),
    Claim("C25", "The number of mixture components hardly matters",
          ("speech-any-order", "speech-any-order-30", "speech-any-order-3", "speech-one-order"), _c25),
    Claim("C26", "The gain of upscaling shrinks or breaks at very small budgets",
          ("images-any-order-mixture", "images-upscale-4-mixture"), _c26,
          f"{CODING['upscale 4, 100 calls']} against {CODING['any order, 100 calls']}"),
)  # fmt: skip
"""All claims, in order."""
