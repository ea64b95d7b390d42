"""Whether samples of a text model are made of words.

python benchmarks/words.py runs/text-any-order/model --data texts --items 64 --calls 64 --temperature 1.0 0.8

Prints, for samples at each temperature, the share of words that occur in the training split, with its standard error over
the items; the same share for held-out text and, as a floor, for symbols drawn one by one with their frequencies; and some samples.
Words are runs of letters, in lower case; the first and the last of an item may be cut off and do not count.
"""

import argparse
import re

import numpy as np
import torch

import ardm
from ardm import data

SHOWN = 3
"""Samples printed for each temperature."""


def words(text):
    """The words of a text, in lower case."""
    return re.findall(r"[a-z]+", text.lower())


def known(texts, vocabulary):
    """The mean share of words in the vocabulary, over texts, and its standard error."""
    shares = [np.mean([w in vocabulary for w in inner]) for text in texts if (inner := words(text)[1:-1])]
    return f"{100 * np.mean(shares):.1f} ± {100 * np.std(shares) / len(shares) ** 0.5:.1f} %"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", required=True, help="the folder that the model was trained on")
    parser.add_argument("--items", type=int, default=64)
    parser.add_argument("--calls", type=int, default=64)
    parser.add_argument("--order", default="random")
    parser.add_argument("--temperature", type=float, nargs="+", default=[1.0, 0.8])
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    bundle = ardm.load(options.model)
    symbols, length = bundle.symbols, bundle.model.shape[0]
    train, test = (
        data.load("text", options.data, part, length=length, symbols=symbols, stride=length)
        for part in ("train", "test")
    )

    def decode(rows):
        return [symbols.text(row.tolist()) for row in rows]

    vocabulary = set(words("".join(decode(train.items))))
    generator = np.random.default_rng(options.seed)
    pick = generator.choice(len(test), min(options.items, len(test)), replace=False)
    print(f"held-out text: {known(decode(test.items[pick]), vocabulary)} of its words occur in the training text")
    counts = np.bincount(train.items.flatten(), minlength=symbols.classes)
    alone = generator.choice(symbols.classes, (options.items, length), p=counts / counts.sum())
    print(f"{symbols.unit}s drawn one by one: {known(decode(alone), vocabulary)}")
    for temperature in options.temperature:
        drawn = ardm.sample(
            bundle, options.items, options.calls, order=options.order, seed=options.seed, temperature=temperature
        )
        print(f"\nsamples in {options.calls} calls, temperature {temperature:g}: {known(decode(drawn), vocabulary)}")
        for text in decode(drawn[:SHOWN]):
            print(f"  {' '.join(text.split())}")


if __name__ == "__main__":
    with torch.no_grad():
        main()
