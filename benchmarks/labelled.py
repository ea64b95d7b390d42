"""Whether samples of a class show the class: a small classifier, trained on real digits, reads them.

python benchmarks/labelled.py runs/mnist/model --data data --calls 50 784 --each 20 --scale 0 1

The classifier is a convolutional network, trained here for a few passes over the 50,000 training digits of the split
"fit" (none of which the test set has), and tested on the 10,000 test digits.  For every number of calls
and scale of guidance it prints the share of the samples that it recognises as their label, with the standard error.  The
picture has a row for each label: eight samples for each scale, side by side, in the first number of calls.
"""

import argparse
import math
from itertools import product
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import ardm
from ardm import data
from ardm.media.pictures import sheet, to_image

ROOT = Path(__file__).parents[1]


def classifier(x, labels, passes, seed=0):
    """A network of three convolutions that reads digits (B, 1, 28, 28) in 0..255."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 49, 10)),
    )
    steps, batch = passes * len(x) // 128, 128
    optimiser = torch.optim.AdamW(net.parameters(), 2e-3)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        pick = torch.randint(len(x), (batch,), generator=generator)
        loss = F.cross_entropy(net(x[pick].float() / 255), labels[pick])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate.step()
    return net.eval()


def recognised(net, x, labels):
    """The share of items that are read as their label, and its standard error."""
    with torch.no_grad():
        read = torch.cat([net(part.float() / 255).argmax(1) for part in x.split(500)])
    share = (read == labels).double().mean().item()
    return share, math.sqrt(share * (1 - share) / len(x))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a class-conditional model of MNIST")
    parser.add_argument("--data", required=True)
    parser.add_argument("--calls", type=int, nargs="+", default=[50], help="network calls for a batch of samples")
    parser.add_argument("--each", type=int, default=20, help="samples of each label")
    parser.add_argument("--scale", type=float, nargs="+", default=[0.0], help="of guidance; 0: none")
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "pictures" / "mnist-samples.png")
    options = parser.parse_args()
    train, test = (data.load("mnist", options.data, part) for part in ("fit", "test"))
    net = classifier(train.items, train.labels.long(), options.passes)
    share, error = recognised(net, test.items, test.labels)
    print(f"real test digits: {100 * share:.2f} ± {100 * error:.2f} %", flush=True)
    bundle, labels, shown = ardm.load(options.model), torch.arange(10).repeat(options.each), []
    for calls, scale in product(options.calls, options.scale):
        model = ardm.guided(bundle, scale) if scale else bundle
        drawn = ardm.sample(model, len(labels), calls, seed=1, context=labels)
        share, error = recognised(net, drawn, labels)
        print(f"samples in {calls} calls, guidance {scale:g}: {100 * share:.1f} ± {100 * error:.1f} %", flush=True)
        if calls == options.calls[0]:
            shown.append(drawn.view(options.each, 10, 1, 28, 28)[:8])
    rows = torch.cat(shown).transpose(0, 1)  # a row for each label
    sheet([to_image(x, 256, 2) for x in rows.flatten(0, 1)], columns=rows.shape[1], gap=0).save(options.picture)


if __name__ == "__main__":
    main()
