"""Build docs/report.md and its plots from the results: python benchmarks/report/page.py

It measures nothing.  A claim without results is listed as not reached, with the command that would measure it.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from before import DATE, FIGURES, VERDICTS
from claims import CLAIMS
from common import RESULTS, read
from density import EARLIER, OTHERS, overrides
from figures import FAILS, HOLDS, UNREACHED, Results, shown
from plots import CURVES, OURS, SETS, draw
from published import ANY_ORDER, AUDIO, CODING, DENSITY, IMAGES, MNIST, SPLITS, TEXT

from ardm.train.recipe import load_recipe

DOCS = Path(__file__).parents[2] / "docs"
MNIST_AIMS = {"random orders": 80.0, "16 orders": 79.0}
"""Nats."""
INTRODUCTION = """# The paper's claims in miniature

After this page you know which of the paper's claims hold for small models trained on a CPU, with the figures and commands.

**These are miniatures.** The paper trains for one to two weeks on four to eight TPUs; here every network is small and was
trained for minutes on a shared CPU core. Such runs rank methods; they do not converge, and their figures are not comparable
to the paper's. If the gap between two methods is smaller than what longer training would change, the verdict says little
either way.

All figures are for test sets; choices were made on validation data. If a run was repeated with more steps, its test set was
measured again. The ± is the standard error of the mean over items. A *bound* is an upper bound on −log p, averaged over
random orders; an *exact* figure belongs to one order.

This page is generated: `python benchmarks/report/run.py all --data FOLDER --runs FOLDER` measures, and
`python benchmarks/report/page.py` writes the page from the results. Seeds, versions, commands and times are in
`benchmarks/report/results/` and in [the last table](#circumstances).
"""
COMPARISONS = """## How to read the next four tables

Each of the next four sections compares training objectives with the same network, steps, batch and learning rate. *Full calls*
is the figure with one network call per value, measured at random steps. The columns of few calls are prices: schedules are
planned on losses of validation items and priced on losses of test items, measured at 24 steps per stage. The row `absorbing`
is absorbing diffusion throughout: 1,000 steps for full calls, its own random steps for few. `any-order` is the paper's
OA-ARDM, `causal` the order-agnostic causal Transformer (as XLNet), and `upscale-N` generates digits of base N.
"""


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def figure(results: Results, name: str, key: str, digits: int = 3) -> str:
    """A figure as text, or a dash if it is missing."""
    return shown(results, name, key, digits) if key in results.get(name, {}).get("figures", {}) else "–"


# --- sections ---------------------------------------------------------------------------------------------------------


def claims(results: Results) -> str:
    """Every claim with its verdict; then its figures and command."""
    verdicts, figures, counts = [], [], Counter[str]()
    named: dict[str, list[str]] = {FAILS: [], UNREACHED: []}
    for claim in CLAIMS:
        verdict, why = claim.verdict(results)
        counts[verdict] += 1
        if verdict in named:
            named[verdict].append(claim.key)
        mark = f"**{verdict}**" if verdict == HOLDS else verdict
        verdicts.append((claim.key, claim.says, mark, claim.paper or "–"))
        figures.append((claim.key, why, f"`{claim.command}`" if claim.command else "–"))
    words = {HOLDS: "hold", FAILS: "do not hold here", UNREACHED: "not reached here"}
    said = [
        f"{counts[v]} {words[v]}" + (f" ({', '.join(named[v])})" if v in named else "") for v in words if v in counts
    ]
    return (
        f"## The claims\n\nOf {len(CLAIMS)} claims: {', '.join(said)}.\n\n"
        + markdown(("", "claim", "verdict", "figure in the paper"), verdicts)
        + "\n### The figures of each claim\n\n"
        + markdown(("", "figures here", "command (`python benchmarks/report/…`)"), figures)
    )


def density(results: Results) -> str:
    """The density benchmark, compared with the literature."""
    have = [s for s in SETS if f"density-{s}" in results]
    text = (
        "## The classic order-agnostic benchmark\n\nNegative log-likelihood in nats, the mean over test items; less is better. "
        "EoNADE's 16 orders correspond to ours.\n\n"
    )
    rows = [[name, *(f"{DENSITY[name][s]:.2f}" for s in SETS)] for name in DENSITY]
    for name, key in OURS.items():
        rows.append([f"**ardm, {name}**", *(figure(results, f"density-{s}", key, 2) for s in SETS)])
    best = [f"{min(DENSITY[n][s] for n in ANY_ORDER):.2f}" for s in SETS]
    rows.append(["best published, any or many orders", *best])
    best_of = {s: min(DENSITY[n][s] for n in ANY_ORDER) for s in have}
    compared, errors = "", ""
    for orders in (16, 128):
        key = f"{orders} orders, all items"
        ours = {s: results[f"density-{s}"]["figures"][key] for s in have}
        ahead = [s for s in have if round(ours[s]["value"], 2) < best_of[s]]
        near = [s for s in ahead if best_of[s] - ours[s]["value"] < 2 * ours[s].get("error", 0.0)]
        compared += (
            f"* {orders} orders: better than the best published any-order figure on {', '.join(ahead) or 'none'}; worse on "
            f"{', '.join(s for s in have if s not in ahead) or 'none'}. Better by less than two of our standard errors: "
            f"{', '.join(near) or 'none'}.\n"
        )
        few = {s: f["gain_error"] for s, f in ours.items() if "gain_error" in f}
        if few:
            errors += (
                f" Standard error of this gain, {orders} orders: {', '.join(f'{s} {e:.2g}' for s, e in few.items())}."
            )
    missing = [s for s in SETS if s not in have]
    text += (
        f"{compared}\n{_former(results, 'density-')}**All figures of the literature in this table are unconfirmed:** they were written "
        "down from memory of Germain et al. 2015 and Uria et al. 2016, and no source that prints them could be read.\n\n"
        + markdown(("", *SETS), rows)
        + (f"\nNot measured: {', '.join(missing)}.\n" if missing else "")
    )
    if have:
        text += "\n![Negative log-likelihood of the density sets, compared with the literature](pictures/report/density.png)\n"
    text += (
        "\n### How it was measured\n\n"
        "* **Networks.** Each set has a small one: a perceptron (`laptop/density`), or for connect4 and ocr_letters, whose columns "
        f"are squares and pixels, a U-Net (`laptop/density-pictures`). {_members(results)}\n"
        "* **Figures.** The mean over random orders is a bound, measured on every test item. *1 order* and the ensembles (−log of "
        "the mean likelihood over fixed random orders) are exact on the items they were measured on. If those are not all test "
        "items, the figure is the mean over random orders of all items minus the gain measured on a few, and its error does not "
        f"include the choice of orders. {_paired(results)}{errors}\n"
        f"* **Splits.** Two loaders of these sets show which splits the literature used: {SPLITS}.\n"
        "* **Test sets.** Settings were chosen on validation items, but the test sets were measured more than once. Earlier runs, "
        f"with settings that validation rejected (16 orders): {'; '.join(f'{s} {found}' for s, found in EARLIER.items())}. The aim "
        "was to beat the best any-order figure on all six sets.\n"
    )
    text += _others(results) + "\n### Binarised MNIST\n\n"
    rows = [[name, f"{found.nats:.2f}", found.orders, found.said] for name, found in MNIST.items()]
    for key in ("random orders", "1 order", "16 orders"):
        rows.append([f"**ardm, {key}**", figure(results, "binarized-mnist", key, 2), "any", "measured here"])
    text += markdown(("nats per image", "", "orders it predicts in", "source"), rows)
    if "binarized-mnist" not in results:
        text += "\nNot measured: `run.py binarized-mnist`.\n"
    else:
        said = [_aimed(results["binarized-mnist"]["figures"][key], key, aim) for key, aim in MNIST_AIMS.items()]
        text += f"\nThe aims: {'; '.join(said)}.\n"
    text += f"\n{_rivals()}\n"
    text += (
        f"\n{_former(results, 'binarized')}"
        'Ours is measured on a fixed Bernoulli sample of the test images, drawn by `data.mnist(binarize="stochastic")`, and '
        "trained on a new sample for every batch. The literature uses one fixed file, a different sample. The mean over random "
        "orders covers all 10,000 test images; the gain of fixed orders over it was measured on a few of them.\n"
    )
    return text


def _members(results: Results) -> str:
    """Which sets have several networks."""
    of = {s: len(results.get(f"density-{s}", {}).get("budget", {}).get("members", ())) for s in SETS}
    many = [f"{n} for {s}" for s, n in of.items() if n > 1]
    if not many:
        return ""
    return (
        f"Sets of few items have several networks, trained separately ({', '.join(many)}); each conditional of the model is the "
        "normalised geometric mean of theirs, so the model is exact along every order. The literature's models are single networks."
    )


REPLACED = "2026-11-28"
"""The day when 128 orders were first compared with 16 on the same items."""


def former(results: Results) -> list[str]:
    """Results of networks that had other settings than their commands give them today."""
    found = []
    for name, result in results.items():
        budget = result["budget"]
        if "recipe" not in budget:
            continue
        now = load_recipe(budget["recipe"], budget["overrides"]).train
        other = (now.steps, now.batch) != (budget["steps"], budget["batch"])
        if name.startswith("density-"):
            other |= [*overrides(name.removeprefix("density-"))[0]] != budget["overrides"]
        found += [name] if other else []
    return found


def _former(results: Results, kind: str) -> str:
    """A warning while results of one kind are those of former settings."""
    names = [name for name in former(results) if name.startswith(kind)]
    if not names:
        return ""
    return f"**Still measured with former settings, which are in `results/`: {', '.join(names)}.** "


def _rivals() -> str:
    """The best published figures of binarised MNIST that a source confirms."""
    confirmed = [(found.nats, name, found.orders) for name, found in MNIST.items() if found.source]
    (free, its), (few, theirs) = (
        min((n, name) for n, name, of in confirmed if of == orders) for orders in ("any", "some")
    )
    return (
        f"Of the published models that predict in any order, the best confirmed figure is {free:.2f} ({its}); trained for a few "
        f"orders alone, {few:.2f} ({theirs})."
    )


def _paired(results: Results) -> str:
    """How the figures of 128 orders came about, which changed on the day `REPLACED`."""
    old = [s for s in SETS if f"density-{s}" in results and results[f"density-{s}"]["date"] < REPLACED]
    kept = f" (for {', '.join(old)} still the mean over random orders minus the gain of 128)" if old else ""
    return f"For 128 orders it is the figure of 16 orders minus what 112 more orders gain on a few items{kept}."


def _aimed(found: Mapping[str, Any], key: str, aim: float) -> str:
    """Whether a figure is below its aim."""
    done = "reached" if found["value"] < aim else "missed"
    return f"{key} below {aim:g} {done} by {abs(aim - found['value']):.2f} ± {found['error']:.2f}"


def changes(results: Results) -> str:
    """What differs from the last report: verdicts and figures that are not what they were."""
    rows = []
    for claim in CLAIMS:
        was, now = VERDICTS[claim.key], claim.verdict(results)[0]
        if was != now:
            rows.append([f"{claim.key}, {claim.says[0].lower()}{claim.says[1:]}", was, now])
    for (name, key, digits), was in FIGURES.items():
        now = figure(results, name, key, digits)
        if was != now:
            rows.append([f"{name}, {key.removesuffix(', all items')}", was, now])
    if not rows:
        return ""
    return f"## What changed since {DATE}\n\n" + markdown(("claim or result", "before", "now"), rows)


def _others(results: Results) -> str:
    """The other sets that were measured."""
    names = [name for name in OTHERS if f"density-{name}" in results]
    if not names:
        return ""
    text = "\n### The other sets\n\nNats per item as above, without a search for settings.\n\n"
    shown_of = ("mean over random orders", "16 orders")
    rows = [[n, *(figure(results, f"density-{n}", OURS[o], 2) for o in shown_of)] for n in names]
    return text + markdown(("", *(f"ardm, {name}" for name in shown_of)), rows)


def comparison(
    results: Results, title: str, unit: str, kind: str, names: Mapping[str, str], calls: Sequence[int], extra: str
) -> str:
    """One modality: several training objectives with the same body and budget, at full and small numbers of calls."""
    rows = []
    for name, paper in names.items():
        key = f"{kind}-{name}"
        if key not in results:
            rows.append([name, *["–"] * (len(calls) + 2), paper, "–"])
            continue
        found = results[key]
        rates = found["tables"].get("rates")
        whole, priced = ("absorbing, 1000 steps", "absorbing") if name == "absorbing" else ("full calls", "planned")
        cells = []
        for n in calls:
            at = "–"
            if rates is not None and n in rates["calls"]:
                at = f"{rates[priced][rates['calls'].index(n)]:.3f}"
            cells.append(at)
        budget = found["budget"]
        spent = f"{budget['steps']:,} × {budget['batch']}, {budget['processor_seconds'] / 60:.1f} min"
        bound = "bound" if found["figures"][whole]["is_bound"] else "exact"
        rows.append([name, shown(results, key, whole), bound, *cells, paper, spent])
    head = ("", "full calls", "", *(f"{n} calls" for n in calls), "paper", "steps × batch, processor")
    return f"## {title}\n\n{unit} {extra}\n\n" + markdown(head, rows)


AIMS = {"rate": 3.6, "rate-text27": 1.93, "rate-fsdd": 7.5}
"""Targets for single items on two cores, in bits per sample, header included."""
DEFAULT = "ardm -7"
"""The default level."""


def coding(results: Results) -> str:
    """Compression of every kind of data, compared with classical codecs."""
    text = "## Compression\n\n"
    if "coding" not in results:
        return text + "Not measured: `run.py coding`. README.md has some figures of `benchmarks/codec_pictures.py`.\n"
    text += (
        "Bits per sample (a character, a value of an image), headers included, measured by `benchmarks/codec_pictures.py` and "
        "`codec_rate.py`. *Together* means one archive for `ardm`, in which each item can be read alone, and one solid stream for "
        "the others, in which none can. PPMd and raw LZMA make bare streams without header, checksum or length.\n"
    )
    for key, found in results["coding"]["tables"].items():
        about = found["about"]
        rows = [
            [
                row["name"] + (f", {row['calls']} calls" if row["calls"] else ""),
                f"{row['bits']:.3f} ± {row['error']:.3f}",
                "–" if row["archive"] is None else f"{row['archive']:.3f}",
            ]
            for row in sorted(found["rows"], key=lambda row: row["bits"])
        ]
        ours = next(row for row in found["rows"] if row["name"] == DEFAULT)
        aim = ""
        if key in AIMS:
            missed = ours["bits"] - AIMS[key]
            verdict = "reached" if missed < 0 else f"missed by {missed:.3f}"
            bare = f", {ours['headerless']:.3f} without headers" if ours["headerless"] else ""
            aim = f" Aim: below {AIMS[key]} as separate files; {verdict} ({ours['bits']:.3f}{bare})."
        text += f"\n### {about['data']}\n\nMeasured {about['date']}.{aim}\n\n"
        text += markdown(("", "separate files", "together"), rows)
    paper = ", ".join(f"{name} {bits}" for name, bits in CODING.items())
    return text + f"\nThe paper's figures for single images, of the whole CIFAR-10 test set: {paper}.\n"


def circumstances(results: Results) -> str:
    """Seed, version, time and hardware of every result."""
    rows = []
    for name, found in results.items():
        budget, machine = found["budget"], found["machine"]
        training, wall = "none", "–"
        if "processor_seconds" in budget:
            training = f"{budget['processor_seconds'] / 60:.1f} min"
            whole = budget["wall_seconds_last"] >= budget["processor_seconds"]  # otherwise the run was resumed
            wall = f"{budget['wall_seconds_last'] / 60:.1f} min" if whole else "–"
        parameters = f"{budget['parameters']:,}" if "parameters" in budget else "–"
        versions = found["versions"]
        where = f"{machine['cpu']}, {machine['threads']} of {machine['cores']} cores"
        command = found["command"].removeprefix("python benchmarks/report/")
        own = [name, f"`{command}`", str(found["seed"]), training, wall, parameters, f"{found['seconds']:.0f} s"]
        rows.append([*own, found["date"], f"torch {versions['torch']}", where])
    head = [
        "result",
        "command",
        "seed",
        "training, processor",
        "training, wall",
        "parameters",
        "measuring, wall",
        "date",
        "version",
        "machine",
    ]
    same = [c for c, column in enumerate(zip(*rows, strict=True)) if len(set(column)) == 1 and len(rows) > 1]
    common = f"All results: {', '.join(f'{head[c]} {rows[0][c]}' for c in same)}. " if same else ""
    kept = [c for c in range(len(head)) if c not in same]
    said = (
        f"## Circumstances\n\n{common}The machine was shared, so wall times exceed what one thread needs. Measuring times include the "
        "training if the same call did both. `coding` copies the results of `benchmarks/codec_pictures.py` and "
        "`codec_rate.py --set NAME`.\n\n"
    )
    return said + markdown([head[c] for c in kept], [[row[c] for c in kept] for row in rows])


def page(results: Results) -> str:
    """The whole page."""
    text_names = {
        "any-order": f"{TEXT['any order']}",
        "one-order": f"{TEXT['one order']}",
        "causal": f"{TEXT['causal, any order']}",
        "upscale-3": "–",
        "absorbing": f"{TEXT['absorbing, 1000 steps']}",
    }
    picture_names = dict.fromkeys(("any-order", "one-order", "causal", "upscale-4", "absorbing"), "–")
    speech_names = {
        "one-order": f"{AUDIO['one order']:.2f}",
        "any-order": f"{AUDIO['any order']:.2f}",
        "any-order-chain": "–",
        "one-order-chain": "–",
        "upscale-256-mixture": "–",
        "upscale-256": f"{AUDIO['upscale 256']:.2f}",
        "upscale-16": f"{AUDIO['upscale 16']:.2f}",
        "upscale-4": f"{AUDIO['upscale 4']:.2f}",
        "absorbing": "–",
    }
    image_names = {
        "any-order": f"{IMAGES['any order']}",
        "upscale-16": "–",
        "upscale-4": f"{IMAGES['upscale 4']}",
        "upscale-2": "–",
        "absorbing": f"{IMAGES['absorbing, 1000 steps']:.2f}",
        "upscale-4-values": "–",
        "any-order-ce": "–",
        "any-order-mixture": "–",
        "upscale-4-mixture": "–",
    }
    parts = [
        INTRODUCTION,
        claims(results),
        density(results),
        COMPARISONS,
        comparison(
            results,
            "Text",
            "Bits per character of 128-character items of 27-letter text (public-domain books); the paper's figures are for text8.",
            "text",
            text_names,
            (5, 10, 20, 50),
            "All rows have the Transformer of `laptop/compare-text`; `upscale-3` writes 27 letters as three digits. "
            "Claims C4 to C11 and C16 are judged by these runs.",
        )
        + _pictures(results, ("text",)),
        comparison(
            results,
            "Speech",
            "Bits per sample of windows of 512 samples of the Free Spoken Digits, 8 kHz; the paper's figures are for SC09, 16 kHz.",
            "speech",
            speech_names,
            (50, 100, 200, 400),
            "All rows have the WaveNet of `laptop/compare-speech`. `any-order`, `one-order` and `absorbing` predict a mixture of "
            "ten logistics; `upscale-256`, `-16`, `-4` a softmax over digits. Two controls separate upscaling from the output "
            "family: `-chain` predicts whole values as two softmaxes of 256, the high byte and the low byte given it, and "
            "`upscale-256-mixture` predicts the mixture digit by digit. There is no causal any-order WaveNet. Claims C13, C14 "
            "and C25 are judged by these runs.",
        )
        + _pictures(results, ("speech", "speech-4")),
        comparison(
            results,
            "Images",
            "Bits per dimension of CIFAR-10 test images.",
            "images",
            image_names,
            (20, 50, 100, 400),
            f"All rows have the small centred U-Net of `laptop/compare-images`. {_former(results, 'images-')}`any-order` predicts a "
            "softmax over 256 values, `upscale-N` a softmax over digits (direct), `-values` blocks of a softmax over values "
            "(data), `-mixture` a mixture of logistics; `-ce` adds the auxiliary term with weight 0.1. A U-Net sees both sides of "
            "a site, so there is no row for one order; small images, below, have one. Claims C12, C15, C22 and C26 are judged by "
            "these runs.",
        )
        + _pictures(results, ("images", "images-4")),
        comparison(
            results,
            "Small images",
            "Bits per pixel of MNIST test images at 14×14, 8 bits.",
            "pictures",
            picture_names,
            (5, 10, 20, 50),
            "All rows have the Transformer over pixels of `laptop/compare-pictures`, with the objectives of the text table.",
        )
        + _pictures(results, ("pictures",)),
        coding(results),
        changes(results),
        circumstances(results),
    ]
    return "\n".join(_wrapped(part.rstrip("\n")) + "\n" for part in parts if part)


def _wrapped(text: str) -> str:
    """The same with paragraphs in lines of at most 120 characters; tables, titles and pictures stay as they are."""
    lines, prose = list[str](), list[str]()
    wrapper = textwrap.TextWrapper(120, break_long_words=False, break_on_hyphens=False)
    for line in [*text.split("\n"), ""]:
        alone = not line or line.startswith(("|", "!", "#"))
        if prose and (alone or line.startswith("* ")):
            wrapper.subsequent_indent = "  " if prose[0].startswith("* ") else ""
            lines += wrapper.wrap(" ".join(prose))
            prose = []
        (lines if alone else prose).append(line.strip())
    return "\n".join(lines[:-1])


def _pictures(results: Results, keys: Sequence[str]) -> str:
    lines = []
    for key in keys:
        name, title, _ = CURVES[key]
        if name in results:
            lines.append(f"\n![{title}: rate against calls, and losses](pictures/report/rates-{key}.png)\n")
    return "".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--docs", type=Path, default=DOCS)
    options = parser.parse_args(arguments)
    results = read(options.results)
    options.docs.mkdir(parents=True, exist_ok=True)
    draw(results, options.docs / "pictures" / "report")
    (options.docs / "report.md").write_text(page(results))
    print(f"{options.docs / 'report.md'}: {len(results)} results")


if __name__ == "__main__":
    main()
