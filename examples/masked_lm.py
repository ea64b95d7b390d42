"""A masked language model: likelihood of text, value of each further known letter, and the best use of few network calls.

    python examples/masked_lm.py                     # a minute on one core
    python examples/masked_lm.py --network ardm      # the text-tiny preset instead of a transformers network

Trains a tiny masked language model of 27 letters on five chapters of Alice, measures bits per character (a bound over
all orders, and exactly along one) and the loss per step, plans budgets of network calls, and samples with them.  The
network is a ModernBERT of Hugging Face if transformers is installed (pip install transformers).  For a pretrained
model, replace `network` by ardm.huggingface(AutoModelForMaskedLM.from_pretrained(NAME), …).
"""

import argparse
import math
import re
import time
from importlib.util import find_spec
from pathlib import Path

import torch

import ardm
from ardm import likelihood, objective, plan
from ardm.schedule import Schedule, absorbing_cost, cost
from ardm.walk import sample

LETTERS = " abcdefghijklmnopqrstuvwxyz"
K, D = len(LETTERS), 32
MASK = K


def letters(path: Path) -> torch.Tensor:
    """The letters of a text as numbers 0..26; each run of other characters becomes one space."""
    text = re.sub("[^a-z]+", " ", path.read_text().lower())
    return torch.tensor([LETTERS.index(letter) for letter in text])


def network(kind: str) -> ardm.Model:
    """An untrained any-order model of D letters."""
    if kind == "ardm":
        return ardm.build(ardm.preset("text-tiny", shape=(D,), classes=K, width=128, blocks=2, heads=4), seed=0)
    from transformers import ModernBertConfig, ModernBertForMaskedLM

    torch.manual_seed(0)
    config = ModernBertConfig(
        vocab_size=K + 1,
        hidden_size=128,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        pad_token_id=MASK,
        bos_token_id=None,
        eos_token_id=None,
        cls_token_id=None,
        sep_token_id=None,
        attn_implementation="sdpa",
    )
    return ardm.huggingface(ModernBertForMaskedLM(config), MASK, length=D, vocabulary=K)


def texts(items: torch.Tensor) -> list[str]:
    """Items (B, D) as strings."""
    return ["".join(LETTERS[i] for i in item) for item in items.tolist()]


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
default = "huggingface" if find_spec("transformers") else "ardm"
parser.add_argument("--network", choices=("huggingface", "ardm"), default=default)
parser.add_argument("--text", type=Path, default=Path(__file__).parent / "data" / "alice.txt")
parser.add_argument("--steps", type=int, default=300, help="training steps")
options = parser.parse_args()
began = time.perf_counter()
generator = torch.Generator().manual_seed(0)

text = letters(options.text)
split = len(text) * 9 // 10
seen, held = text[:split], text[split:].unfold(0, D, D)[:100]
model = network(options.network)
print(f"{options.network}: {sum(p.numel() for p in model.parameters()):,} parameters, {split:,} training letters")

# Train: one random step of one random order per item; the mean loss is the bound (docs/any-order.md).
optimiser = torch.optim.AdamW(model.parameters(), 3e-3, betas=(0.9, 0.99))
for step in range(options.steps):
    at = torch.randint(len(seen) - D, (64,), generator=generator)
    x = seen[at[:, None] + torch.arange(D)]
    loss = objective.bound_step(model, x, objective.draw(len(x), 1, (D,), generator)).nats.mean()
    for group in optimiser.param_groups:
        group["lr"] = 3e-3 * min(1, (step + 1) / 50) * (1 - step / options.steps)
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    if (step + 1) % max(1, options.steps // 4) == 0:
        print(f"step {step + 1:5}: {float(loss.detach()) / D / math.log(2):.3f} bits per letter in this batch")
model.eval().requires_grad_(False)

# How likely is held-out text?  A bound on −log p over all orders, and the exact −log p along single orders.
print(f"\nany order      {likelihood.bound(model, held, 8, generator)}")
print(f"left to right  {likelihood.exact(model, plan.raster(1, (D,)), held)}")
orders = [plan.shuffled(1, (D,), generator) for _ in range(4)]
print(f"one random     {likelihood.exact(model, orders[0], held)}")
print(f"four random    {likelihood.mixture(model, orders, held)}")

# What is one more known letter worth?  The loss per step: mean nats of a hidden letter, by number of known letters.
curve = likelihood.curve(model, held, 40, generator).monotone()
print("\nknown letters   " + "".join(f"{t:6}" for t in range(0, D, 6)))
print("bits per letter " + "".join(f"{curve[0, t] / math.log(2):6.2f}" for t in range(0, D, 6)))

# Where are few calls best spent?  Dynamic programming over that curve, compared with even steps and with D3PM.
print("\ncalls   planned   even   D3PM   measured on the plan   known before each call")
for calls in (1, 2, 4, 8, 16, D):
    best = Schedule.joint(curve, calls)
    even, diffusion = cost(curve, Schedule.uniform(1, D, calls).starts), absorbing_cost(curve[0], calls)
    measured = likelihood.policy_bound(model, held, best.flat(), 8, generator)
    starts = " ".join(map(str, best.flat()[:12])) + " …" * (calls > 12)
    print(
        f"{calls:5} {best.bits_per_dim():9.3f}{even / D / math.log(2):7.3f}{diffusion / D / math.log(2):7.3f}"
        f"{measured.bits_per_dim:11.3f} ± {measured.bits_per_dim_error:.3f}      {starts}"
    )

# Sample with a budget, and fill in hidden letters.
for calls in (4, D):
    starts = Schedule.joint(curve, calls).flat()
    drawn = sample(model, plan.shuffled(1, (D,), generator).coarsen(starts), model.digits.blank(3, (D,)), generator)
    print(f"\n{calls} calls:", *texts(drawn), sep="\n  ")
given = "alice ______ the rabbit ________"
x = torch.tensor([[max(0, LETTERS.find(letter)) for letter in given]] * 3)
known = torch.tensor([[int(letter != "_") for letter in given]] * 3)
start = model.digits.truncate(x, known)
filled = sample(model, plan.shuffled(1, (D,), generator).given(known[:1]), start, generator)
print(f"\n{given}", *texts(filled), sep="\n  ")
print(f"\n{time.perf_counter() - began:.0f} seconds")
