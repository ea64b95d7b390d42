"""Verdicts on the method: its training step, its loss curve, its planner, and absorbing diffusion beside it (C1–C8, C21, C24)."""

from __future__ import annotations

from figures import (
    NOISE,
    UNREACHED,
    Results,
    Verdict,
    at,
    error,
    greatest,
    holds_if,
    plateau,
    shown,
    value,
)


def c1(r: Results) -> Verdict:
    """C1: The training step is an unbiased estimate of the any-order bound."""
    gap = greatest(r, "enumeration", "greatest difference")
    return holds_if(gap < 1e-9), f"largest difference over all orders, steps and stages: {gap:.1e} nats"


def c2(r: Results) -> Verdict:
    """C2: No causal network is needed, and nothing leaks."""
    gap, kinds = greatest(r, "leak", "greatest change"), len(r["leak"]["figures"])
    return holds_if(
        gap == 0
    ), f"largest change of any output when hidden values change, {kinds} kinds of network: {gap:g}"


def c3(r: Results) -> Verdict:
    """C3: A training step takes one network call, whatever D and S."""
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


def c4(r: Results) -> Verdict:
    """C4: L_t does not increase with t."""
    if short := plateau(r, *CURVES):
        return UNREACHED, short
    parts, good = [], True
    for name in CURVES:
        rise = value(r, name, "greatest rise from one bin of L_t to the next")
        bits = [row["bits"] for row in r[name]["tables"]["losses"]]
        fall = max(max(b) - min(b) for b in bits)
        good &= rise < 0.1 * fall
        parts.append(
            f"{name}: L_t falls by {fall:.2f} bits over {len(bits[0])} bins and rises by at most {max(rise, 0):.3f} from one to the next; "
            f"isotonic residual of single steps {value(r, name, 'isotonic residual, root mean square'):.3f}"
        )
    return holds_if(good), "; ".join(parts)


def c5(r: Results) -> Verdict:
    """C5: k symbols generated at once cost k·L_t."""
    parts, good = [], True
    for name in CURVES:
        key = next(k for k in r[name]["figures"] if k.startswith("difference"))
        good &= abs(value(r, name, key)) < 3 * error(r, name, key)
        parts.append(f"{name}: first minus last quarter of the symbols predicted at once {shown(r, name, key)} bits")
    return holds_if(good), "; ".join(parts)


AGREE = 0.05
"""Bits per dimension within which a plan must cost what the planner expected, on the same items."""


def c6(r: Results) -> Verdict:
    """C6: The planner is optimal and beats uniform steps."""
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
        f"difference from the best of all schedules of 12 sites: {gap:.1e} nats; planned on other items, bits minus those of uniform steps "
        f"at the worst budget: {text} (tolerance {NOISE}), at the best {best:+.3f}; text in 20 calls: planned {planned:.3f}, "
        f"measured {measured:.3f}"
    )


def c7(r: Results) -> Verdict:
    """C7: K planned calls cost no more than absorbing diffusion in K steps."""
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


def c8(r: Results) -> Verdict:
    """C8: D calls match absorbing diffusion in many more steps."""
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


def c21(r: Results) -> Verdict:
    """C21: Absorbing diffusion in continuous time is this model."""
    weight = value(r, "continuous-time", "greatest relative difference of a weight")
    loss = value(r, "continuous-time", "greatest difference of the two losses of one network")
    return holds_if(
        max(weight, loss) < 1e-9
    ), f"weights differ by {weight:.1e}, the two losses of one network by {loss:.1e} nats"


def c24(r: Results) -> Verdict:
    """C24: One model serves any budget of calls."""
    name = "bundled-curve"
    rates = r[name]["tables"]["rates"]
    D = rates["calls"][-1]
    numbers = [1, 5, 10, 50, 400, D]
    text = ", ".join(f"{n}: {at(r, name, 'planned', n):.3f}" for n in numbers)
    falls = all(a >= b - NOISE for a, b in zip(rates["planned"], rates["planned"][1:], strict=False))
    return holds_if(falls), f"one model, bits/dim by calls: {text}"
