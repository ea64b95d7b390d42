"""Figures of results: values with errors, paired comparisons, and the verdicts that follow from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NOISE = 0.01
"""Bits per dimension by which a plan made on other items may miss the held-out losses of a few dozen items."""
SMALL = 0.2
"""A difference matters little if it is at most this share of the effect that matters."""
HOLDS, FAILS, UNREACHED = "holds", "does not hold here", "not reached here"

Results = Mapping[str, Mapping[str, Any]]
Verdict = tuple[str, str]
"""A verdict, and its figures in words."""


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
